package host

import "github.com/distkit/distkit-go/internal/verb"

// What callers do at a mailbox without waking its actor: they add increments, which fold,
// and learn what the actor has published.

// Publish has callers told the value, with what is added to it: increments then make
// no other difference to the actor. It is for the actor, as the last that it does with
// a message; it then says with each whether there is such a value.
func (m *Mailbox) Publish(value int64) { m.published, m.value = true, value }

// Retract takes back what was published.
func (m *Mailbox) Retract() { m.published = false }

// Value is what the actor has published, with what was added since; false if that can
// only be learned by a message.
func (m *Mailbox) Value() (int64, bool) {
	value, ok := m.fast.tell()
	if ok {
		m.use()
	}
	return value, ok
}

// AddAndTell is Add of an increment whose sender learns what it comes to; false if that
// takes a message.
func (m *Mailbox) AddAndTell(n int64) (int64, bool) {
	if n == 0 { // it would leave no trace
		return 0, false
	}
	value, ok := m.fast.addAndTell(n)
	if ok {
		m.use()
	}
	return value, ok
}

// Who learns that something was told.
const (
	BySweep = 1 << iota
	ByRead
	ByGather
	byAll = 1<<iota - 1
)

func (m *Mailbox) use() {
	if m.uses.Load() != byAll {
		m.uses.Store(byAll)
	}
}

// Used reports whether it has told something since the same was asked before.
func (m *Mailbox) Used(by uint32) bool {
	return m.uses.Load()&by != 0 && m.uses.And(^by)&by != 0
}

// Add enqueues an increment that nobody waits for. It folds into the one before.
func (m *Mailbox) Add(n int64) Offered {
	if m.fast.add(n) {
		return Taken
	}
	m.lock()
	if o := m.admit(); o != Taken {
		m.mu.Unlock()
		return o
	}
	switch {
	case m.queued() > 0:
		last, ok := (*m.backlog.user.Last()).(*Increments)
		if !ok || !FoldInto(&last.N, n) {
			m.push(&Increments{n})
		}
	case !m.folding:
		m.folding, m.sum = true, n
	case !FoldInto(&m.sum, n):
		m.push(&Increments{n})
	}
	if m.lazy && m.queued() == 0 {
		m.reopen()
		m.mu.Unlock()
		return Taken
	}
	m.wake()
	return Taken
}

// FoldInto adds n to a sum of increments; false if that is no int64.
func FoldInto(sum *int64, n int64) bool {
	folded, ok := verb.Add(*sum, n)
	if ok {
		*sum = folded
	}
	return ok
}
