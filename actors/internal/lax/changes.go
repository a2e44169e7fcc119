package lax

import (
	"errors"
	"fmt"
	"time"

	"github.com/distkit/distkit-go/internal/barrier"
	"github.com/distkit/distkit-go/internal/fold"
	"github.com/distkit/distkit-go/internal/host"
	"github.com/distkit/distkit-go/internal/request"
	"github.com/distkit/distkit-go/internal/verb"
)

// How a lax key's changes leave for Redis, and what becomes of them.
//
//	open ── gather ──► flight ── landing ──► in Redis, or set aside (refused)
//	Del  ── urgent ──┘                  └──► a Del or Clear refused puts back what it dropped

// del queues a Del: it reaches Redis at once, after what is in flight.
func (k *key) del(r *request.Request) {
	open, behind := k.takeOpen()
	m := &mutation{Change: fold.Change{Kind: fold.Remove}, request: r, dropped: fold.Changes(nil).Then(open), barrier: behind}
	k.more().dels = append(k.more().dels, m)
	k.sendNext(false)
}

// sendNext hands the next change to the coordinator if none is in flight: for the flush
// that is to begin now, if late.
func (k *key) sendNext(late bool) {
	switch {
	case k.flight != nil:
	case len(k.dels()) > 0:
		k.takeOff(k.queues.dels[0])
		k.queues.dels = k.queues.dels[1:]
		k.at.urgent(k, k.flight)
	default:
		k.Box.SetLazy(k.dirty)
		k.markDirty(late)
	}
}

// markDirty has the coordinator gather what is open, unless it is to be done
// anyway when the change in flight has landed: at the next tick, or now.
func (k *key) markDirty(now bool) {
	if !k.dirty && k.open.Kind != fold.Nothing && k.flight == nil && len(k.dels()) == 0 {
		k.dirty = true
		k.Box.SetLazy(true) // a gather will come
		k.at.markDirty(k, now || k.behind != nil)
	}
}

// takeOff freezes a change that is on its way to Redis from now on.
func (k *key) takeOff(m *mutation) {
	k.flight, k.flown = m, k.at.clock.Now()
	k.Box.SetLazy(true) // its landing will come
}

// totalsEvery is how old the view of a key that is only added to gets, give or
// take a flush.
const totalsEvery = time.Second

// attach makes a Flush wait for everything that the key has accepted.
func (k *key) attach(b *barrier.Barrier) {
	k.recall(b)
	switch {
	case k.open.Kind != fold.Nothing:
		k.behind = k.behind.And(b)
		k.at.flushNow()
	case len(k.dels()) > 0:
		last := k.queues.dels[len(k.queues.dels)-1]
		last.barrier = last.barrier.And(b)
	case k.flight != nil:
		k.flight.barrier = k.flight.barrier.And(b)
	default:
		b.Pass(nil)
	}
}

// takeOpen freezes what is open, and the Flush that waits for it.
func (k *key) takeOpen() (c fold.Change, behind *barrier.Barrier) {
	c, behind = k.open, k.behind
	k.open, k.behind = fold.Change{}, nil
	return c, behind
}

// onGather freezes what is pending and puts it into the round.
func (k *key) onGather(s *slot) {
	if s.gathered { // before a panic
		return
	}
	k.at.failAt.At("lax key: gathering")
	if len(s.round.wipes) > 0 {
		k.gatherWipe(s)
	} else {
		k.dirty = false
		if k.flight == nil && len(k.dels()) == 0 && k.open.Kind != fold.Nothing {
			s.mutation.Change, s.mutation.barrier = k.takeOpen()
			k.takeOff(&s.mutation)
			k.wanted = k.Box.Used(host.ByGather) || k.wanted
			if s.mutation.silent = k.known && !k.wanted && k.flown-k.seen < totalsEvery; k.known && k.wanted {
				s.aged = k.flown - k.seen
			}
			k.wanted = false
		} else {
			k.Box.SetLazy(k.flight != nil) // or nothing more is on its way here
		}
	}
	if b := s.cover; b != nil {
		s.cover = nil
		k.onMessage(b)
	}
	k.at.failAt.At("lax key: gathered")
	s.gathered = true
	k.at.arrive(s.round)
}

// gatherWipe drops what is pending for a Clear, which takes effect here. A Del
// not yet sent stays, as one that comes after the Clear; so do parked operations
// that somebody waits for.
func (k *key) gatherWipe(s *slot) {
	m := &s.mutation
	if m.Kind == fold.Wipe { // before a panic
		return
	}
	m.Kind = fold.Wipe
	if k.flight != nil {
		m.dropped, k.flight.dropped = k.flight.dropped, nil
	}
	for _, d := range k.dels() {
		m.dropped = m.dropped.Then(d.dropped...)
		d.dropped = nil
	}
	open, behind := k.takeOpen()
	m.dropped, m.barrier = m.dropped.Then(open), behind
	k.dropParked(m)
	if k.flight == nil {
		k.takeOff(m)
	} else {
		k.more().wiping = m
	}
}

// dropParked drops, for a Clear, the parked operations that nobody waits for:
// they were accepted before it.
func (k *key) dropParked(m *mutation) {
	for range k.waiting() {
		message := k.queues.parked.Pop()
		switch p := message.(type) {
		case *host.Increments:
			m.dropped = m.dropped.Then(fold.Change{Kind: fold.Add, N: p.N})
			continue
		case *request.Request:
			switch {
			case p.Answered():
			case p.Op.Kind.Conditional() || p.Op.Kind == verb.Del:
				m.unserved = append(m.unserved, p)
				p.Drop()
				continue
			default:
				p.Drop()
				c, _ := fold.Of(p.Op, 0, true)
				m.dropped = m.dropped.Then(c)
				continue
			}
		}
		k.queues.parked.Push(message)
	}
}

// onLanding learns the fate of a change, and goes on.
func (k *key) onLanding(s *slot) {
	k.land(s)
	k.at.failAt.At("lax key: settled")
	k.sendNext(s.late)
	k.serveParked(!s.result.Silent) // after a total any view will do: it is one flush old at most
	if !s.taken {
		s.taken = true
		s.round.release() // the slot is not ours any more
	}
}

// land takes in the fate of a change. It can be repeated after a panic: each step
// leaves nothing to do for the next time.
func (k *key) land(s *slot) {
	m, err := s.flight(), s.result.Err
	k.at.failAt.At("lax key: settling")
	if k.flight == m {
		k.flight, k.landed = nil, s.step
		if !s.result.Silent { // else whoever waits goes on to wait for a read
			k.endPatience()
		}
		switch {
		case err != nil:
			k.known = false
		case s.result.Silent:
			k.remote = m.Over(k.remote)
		default:
			k.remote, k.known, k.seen = s.result.N, true, s.sent
		}
		k.exists = m.Leaves(k.exists)
		if m.Kind == fold.Remove {
			k.remote = 0
		}
	}
	k.at.failAt.At("lax key: landed")
	if k.queues != nil && k.queues.wiping == m {
		k.queues.wiping = nil
	}
	if m.request != nil {
		r := m.request
		m.request = nil
		if err == nil {
			total := m.dropped.Over(s.result.N)
			s.result = verb.Result{N: total, Old: total}
		}
		r.Settle(s.result)
	}
	switch {
	case err == nil:
		m.pass(nil)
	case m.Kind != fold.Remove && m.Kind != fold.Wipe:
		k.setAside(m, err)
	case errors.Is(err, verb.ErrOutcomeUnknown):
		k.forget(m, err)
	default:
		k.restore(m, err)
	}
}

// forget sets aside what a Del or Clear had dropped of which nobody will know
// whether it was carried out.
func (k *key) forget(m *mutation, err error) {
	for len(m.unserved) > 0 {
		m.unserved = m.unserved[1:]
		k.at.observer.MessageRefused(k.at.window, k.Name, err)
	}
	for len(m.dropped) > 0 {
		c := m.dropped[0]
		m.dropped = m.dropped[1:]
		k.giveUp(m, c, err)
	}
	m.pass(nil)
}

// giveUp sets aside a change that a Del or Clear had dropped.
func (k *key) giveUp(of *mutation, c fold.Change, err error) {
	u := k.unflushed(c, err)
	of.barrier.Note(u)
	if of.barrier == nil || k.dirty { // a Flush of before this may come yet, with the gather
		k.remember(u)
	}
	k.setAside(&mutation{Change: c}, err)
}

// maxForgotten bounds how many changes set aside a key remembers for the next Flush.
// All are told as events.
const maxForgotten = 1000

// remember keeps a change that was set aside for the next Flush to tell of.
func (k *key) remember(u *barrier.Unflushed) {
	if q := k.more(); len(q.forgotten) < maxForgotten {
		q.forgotten = append(q.forgotten, *u)
	}
}

// setAside takes a change that is not in Redis, or not known to be, out of the
// count: it is reported to the observer, to the next reply of the key and to a
// Flush that waits.
func (k *key) setAside(m *mutation, err error) {
	c := m.Change
	if c.Kind == fold.Nothing { // reported before a panic
		return
	}
	k.more().refused = fmt.Errorf("redis refused an earlier change of %q by %d: %w", k.Name, c.Amount(), err)
	if errors.Is(err, verb.ErrOutcomeUnknown) { // of that change, not of the operation that is told of it
		k.queues.refused = fmt.Errorf("an earlier change of %q by %d is set aside: %v", k.Name, c.Amount(), err)
	}
	m.pass(k.unflushed(c, err))
	m.Change = fold.Change{}
	k.at.observer.ChangeRefused(k.at.window, k.Name, c.Amount(), c.Kind == fold.Assign, err)
}

func (k *key) unflushed(c fold.Change, err error) *barrier.Unflushed {
	return &barrier.Unflushed{Window: k.at.window, Key: k.Name, N: c.Amount(), Assign: c.Kind == fold.Assign, Err: err}
}

// recall tells a Flush that has come to the key what it has set aside until then.
func (k *key) recall(b *barrier.Barrier) {
	if k.queues == nil {
		return
	}
	for i := range k.queues.forgotten {
		b.Note(&k.queues.forgotten[i])
	}
	k.queues.forgotten = nil
}

// restore puts back what a refused Del or Clear had dropped, before the
// changes that came after it. What had not been decided by then is refused too.
func (k *key) restore(m *mutation, err error) {
	for len(m.unserved) > 0 {
		m.unserved = m.unserved[1:]
		k.at.observer.MessageRefused(k.at.window, k.Name, err)
	}
	var first *mutation // the Del that comes next
	if f := k.flight; f != nil && f.Kind == fold.Remove {
		first = f
	} else if dels := k.dels(); len(dels) > 0 {
		first = dels[0]
	}
	if first != nil {
		first.dropped, first.barrier = m.dropped.Then(first.dropped...), m.barrier.And(first.barrier)
		m.dropped, m.barrier = nil, nil
		return
	}
	open, later := k.takeOpen()
	m.dropped, m.barrier = m.dropped.Then(open), m.barrier.And(later)
	for len(m.dropped) > 1 { // together they are no int64
		c := m.dropped[0]
		m.dropped = m.dropped[1:]
		k.giveUp(m, c, verb.NotApplied(verb.ErrOverflow))
	}
	if len(m.dropped) == 0 {
		m.pass(nil)
		return
	}
	k.open, k.behind = m.dropped[0], m.barrier
	m.dropped, m.barrier = nil, nil
}

// remains lists what a stopped key still holds, unhandled being the rest of its
// mailbox, and answers everybody who waits for it.
func (k *key) remains(unhandled []any) []barrier.Unflushed {
	var left []barrier.Unflushed
	note := func(c fold.Change, err error) {
		if c.Counts() {
			left = append(left, *k.unflushed(c, err))
		}
	}
	k.endServing()
	if k.current != nil && k.lands { // it was left by a panic, and it is known what became of it
		k.land(k.current)
	}
	for _, message := range unhandled {
		if told, ok := message.(landing); ok {
			k.land(told.slot)
		}
	}
	if k.queues != nil {
		left = append(left, k.queues.forgotten...)
		k.queues.forgotten = nil
	}
	notApplied := verb.NotApplied(verb.Hint(verb.ErrClosed, k.at.lastTrouble()))
	under := []*mutation{k.flight}
	if k.queues != nil {
		under = append(under, k.queues.wiping)
	}
	for _, m := range under {
		if m == nil {
			continue
		}
		err := notApplied
		if m.ambiguous {
			err = verb.Unknown(verb.Hint(request.ErrStopped, k.at.lastTrouble()))
		}
		note(m.Change, err)
		for _, c := range m.dropped {
			note(c, err)
		}
		for range m.unserved {
			k.at.observer.MessageRefused(k.at.window, k.Name, err)
		}
		if m.request != nil {
			m.request.Settle(verb.Result{Err: err})
		}
	}
	for _, d := range k.dels() {
		for _, c := range d.dropped {
			note(c, notApplied)
		}
		d.request.Settle(verb.Result{Err: notApplied})
	}
	note(k.open, notApplied)
	for k.waiting() > 0 {
		unhandled = append(unhandled, k.queues.parked.Pop())
	}
	for _, message := range unhandled {
		switch m := message.(type) {
		case *host.Increments:
			note(fold.Change{Kind: fold.Add, N: m.N}, notApplied)
		case *request.Request:
			k.abandon(m, notApplied, note)
		}
	}
	return left
}

// abandon fails an operation that was not handled. A change that nobody waits
// for is noted.
func (k *key) abandon(r *request.Request, err error, note func(fold.Change, error)) {
	switch c, applies := fold.Of(r.Op, 0, true); {
	case r.Answered():
	case r.Op.Kind.Conditional() || r.Op.Kind == verb.Del:
		k.at.observer.MessageRefused(k.at.window, k.Name, err)
	case applies:
		note(c, err)
	}
	r.Fail(err)
}
