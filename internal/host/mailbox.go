package host

import (
	"sync"
	"sync/atomic"

	"github.com/asynkron/protoactor-go/actor"
	"github.com/distkit/distkit-go/internal/verb"
)

// Mailbox is the queue of one of our actors. It differs from Proto.Actor's
// default in these ways:
//
//   - Increments that nobody waits for (Add) fold: those that follow each other
//     become one, so that senders who outrun the actor cost no memory. While the
//     actor is sure to get another message anyway (lazy), they do not even wake
//     it: the actor takes their sum before that message. Nor do they take mu: they
//     add to fast, which whoever takes mu closes and empties.
//   - An actor at rest may have published a value that increments are added to. While
//     it has, callers get it, and those who add what it comes to (Value, AddAndTell),
//     without mu and without waking the actor: fast tells them.
//   - A caller that finds the actor idle runs it on its own goroutine (Inline),
//     at most inlineBudget messages, and hands the rest to another. Such an
//     actor's handlers never block and never run user code.
//   - It can refuse operations (Close), and everything (sleep), so that no
//     message is ever left behind in a stopped actor unseen.
//   - What a stopped actor did not handle can be taken out (Drain).
//
// mu guards every field below it. It is never held while a message is handled.
// Whoever sets running handles messages until none is left.
type Mailbox struct {
	*Group
	invoker actor.MessageInvoker // set before the mailbox is opened

	fast      adder         // increments added without mu, open while they would only fold into sum
	uses      atomic.Uint32 // who has yet to learn that it has told something
	mu        sync.Mutex
	opened    bool  // the actor has been spawned: messages are handled
	running   bool  // a goroutine is in run
	suspended bool  // between a failure and the restart, and after the stop
	closed    bool  // operations are refused
	asleep    bool  // everything is refused: the actor leaves memory
	lazy      bool  // increments wait for the next message
	folding   bool  // sum holds increments, older than all that is queued
	published bool  // value is what the actor holds; the actor's while it runs
	idle      uint8 // sweeps since the last message
	sum       int64
	value     int64
	backlog   *backlog // what is queued; nil when that is nothing
}

// Group is what mailboxes of actors that stop together have in common.
type Group struct {
	Inline bool           // callers run the actors
	gone   sync.WaitGroup // actors that have not stopped
}

// backlog is a mailbox's queues while they hold something.
type backlog struct {
	system Fifo[any]
	user   Fifo[any] // increments between other messages are *Increments
}

var backlogs = sync.Pool{New: func() any { return new(backlog) }}

type (
	// Increments is the sum of increments that follow each other in a queue.
	Increments struct{ N int64 }
	// Folded tells the actor to take the increments that the mailbox holds.
	Folded struct{}
)

// inlineBudget bounds how many messages a caller handles for others before a
// goroutine takes over.
const inlineBudget = 32

// Offered is what became of an operation offered to a mailbox.
type Offered uint8

// What may become of it.
const (
	Taken    Offered = iota
	Refused          // operations are refused for good
	Sleeping         // the actor is leaving memory: its key will have another
)

var _ actor.Mailbox = (*Mailbox)(nil)

// Offer enqueues an operation.
func (m *Mailbox) Offer(message any) Offered {
	m.lock()
	if o := m.admit(); o != Taken {
		m.mu.Unlock()
		return o
	}
	m.enqueue(message)
	return Taken
}

// lock takes mu, and with it what was added without.
func (m *Mailbox) lock() {
	m.mu.Lock()
	if n := m.fast.close(); n != 0 {
		m.sum += n
		m.folding, m.idle = true, 0
	}
}

// reopen lets callers do without mu what only folds and tells; mu is held.
func (m *Mailbox) reopen() {
	if m.queued() > 0 || !m.opened || m.suspended || m.closed || m.asleep {
		return
	}
	var what int64
	if m.lazy && within(m.sum) {
		what = adding
	}
	if !m.running && m.published {
		if value, ok := verb.Add(m.value, m.sum); ok && within(value) {
			m.fast.open(value, what|telling)
			return
		}
	}
	if what != 0 && m.folding { // else an increment makes a difference to the actor
		m.fast.open(0, what)
	}
}

// admit says whether operations are taken; mu is held.
func (m *Mailbox) admit() Offered {
	switch {
	case m.asleep:
		return Sleeping
	case m.closed:
		return Refused
	default:
		m.idle = 0
		return Taken
	}
}

// Post enqueues a message that belongs to work already accepted; false if the
// actor is asleep, and so has nothing to do with any.
func (m *Mailbox) Post(message any) bool {
	m.lock()
	if m.asleep {
		m.mu.Unlock()
		return false
	}
	m.idle = 0
	m.enqueue(message)
	return true
}

// PostQuietly is Post for a message that an actor can do without: it does not keep the
// actor awake.
func (m *Mailbox) PostQuietly(message any) {
	m.lock()
	if m.asleep {
		m.mu.Unlock()
		return
	}
	m.enqueue(message)
}

// enqueue is entered with mu held and releases it. An idle actor handles the
// message at once, without a queue.
func (m *Mailbox) enqueue(message any) {
	if !m.Inline || !m.rests() || m.suspended {
		m.push(message)
		m.wake()
		return
	}
	m.running = true
	m.mu.Unlock()
	m.handle(message, false)
	m.run(inlineBudget - 1)
}

// rests reports whether nothing is handled or waits to be; mu is held.
func (m *Mailbox) rests() bool {
	return m.opened && !m.running && !m.folding && m.backlog == nil
}

// queued is how many user messages wait, the folded increments aside; mu is held.
func (m *Mailbox) queued() int {
	if m.backlog == nil {
		return 0
	}
	return m.backlog.user.Len()
}

func (m *Mailbox) push(message any) { m.queue().user.Push(message) }

func (m *Mailbox) queue() *backlog {
	if m.backlog == nil {
		m.backlog = backlogs.Get().(*backlog)
	}
	return m.backlog
}

// PostUserMessage implements actor.Mailbox.
func (m *Mailbox) PostUserMessage(message any) {
	if message != (unlisted{}) {
		m.Post(message)
	}
}

// PostSystemMessage enqueues a lifecycle message; it goes before user messages.
func (m *Mailbox) PostSystemMessage(message any) {
	m.lock()
	m.queue().system.Push(message)
	m.wake()
}

// RegisterHandlers implements actor.Mailbox. The dispatcher is not used: see Group.Inline.
func (m *Mailbox) RegisterHandlers(invoker actor.MessageInvoker, _ actor.Dispatcher) {
	m.invoker = invoker
}

// Start implements actor.Mailbox.
func (m *Mailbox) Start() {}

// open lets the actor, which has been spawned, handle what there is.
func (m *Mailbox) open() {
	m.lock()
	m.opened = true
	m.wake()
}

// UserMessageCount implements actor.Mailbox.
func (m *Mailbox) UserMessageCount() int {
	m.lock()
	defer m.mu.Unlock()
	if m.folding {
		return m.queued() + 1
	}
	return m.queued()
}

// Close refuses operations from now on.
func (m *Mailbox) Close() {
	m.lock()
	m.closed = true
	m.mu.Unlock()
}

// doze counts a sweep that finds the actor without a message since the one
// before, and reports whether that makes it so many in a row.
func (m *Mailbox) doze(sweeps uint8) bool {
	m.lock()
	defer m.mu.Unlock()
	if m.Used(BySweep) {
		m.idle = 0
	}
	m.idle = min(m.idle+1, sweeps)
	return m.idle == sweeps
}

// sleep refuses everything from now on, if there has been no message since doze
// and quiet says that the actor, whose state it may read, holds nothing.
func (m *Mailbox) sleep(quiet func() bool) bool {
	m.lock()
	defer m.mu.Unlock()
	if m.idle == 0 || !m.rests() || m.suspended || m.closed || !quiet() {
		return false
	}
	m.asleep = true
	return true
}

// awaken ends a sleep; false if it was over.
func (m *Mailbox) awaken() bool {
	m.lock()
	defer m.mu.Unlock()
	if !m.asleep {
		return false
	}
	m.asleep, m.opened, m.suspended, m.idle = false, false, false, 0
	return true
}

// awake reports whether it does not sleep.
func (m *Mailbox) awake() bool {
	m.lock()
	defer m.mu.Unlock()
	return !m.asleep
}

// Empty reports whether no message waits and quiet says that the actor, whose
// state it may read, holds nothing.
func (m *Mailbox) Empty(quiet func() bool) bool {
	m.lock()
	defer m.mu.Unlock()
	return m.rests() && quiet()
}

// Busy reports whether a message is being handled or waits to be.
func (m *Mailbox) Busy() bool {
	m.lock()
	defer m.mu.Unlock()
	return !m.rests()
}

// SetLazy says whether the actor is sure to get another message, for which
// increments can wait.
func (m *Mailbox) SetLazy(lazy bool) {
	m.lock()
	m.lazy = lazy
	m.mu.Unlock()
}

// Take hands the folded increments to the actor; 0 if a panic had it ask twice.
func (m *Mailbox) Take() int64 {
	m.lock()
	defer m.mu.Unlock()
	n := m.sum
	m.folding, m.sum = false, 0
	return n
}

// Drain takes out the user messages that a stopped actor did not handle.
func (m *Mailbox) Drain() []any {
	m.lock()
	defer m.mu.Unlock()
	var left []any
	if m.folding {
		left = append(left, &Increments{m.sum})
		m.folding = false
	}
	for m.queued() > 0 {
		left = append(left, m.backlog.user.Pop())
	}
	return left
}

// wake is entered with mu held and releases it. It sees to it that somebody
// runs the actor.
func (m *Mailbox) wake() {
	if m.running || !m.opened {
		m.mu.Unlock()
		return
	}
	m.running = true
	m.mu.Unlock()
	if m.Inline {
		m.run(inlineBudget)
	} else {
		go m.run(0)
	}
}

// run handles messages until none is left, or, with a budget above 0, hands
// over to a goroutine when the budget is spent. Its caller has set running.
func (m *Mailbox) run(budget int) {
	for handled := 0; ; handled++ {
		m.lock()
		message, system := m.next()
		if message == nil {
			m.running = false
			m.reopen()
			m.mu.Unlock()
			return
		}
		m.mu.Unlock()
		m.handle(message, system)
		if budget > 0 && handled == budget {
			go m.run(0)
			return
		}
	}
}

// next takes the message to be handled next off the queues, nil if there is
// none; mu is held. The folded increments stay until the actor takes them.
func (m *Mailbox) next() (message any, system bool) {
	b := m.backlog
	switch {
	case !m.opened: // who ran the actor before is still here
		return nil, false
	case b != nil && b.system.Len() > 0:
		return b.system.Pop(), true
	case m.suspended:
		return nil, false
	case m.folding && (m.queued() > 0 || !m.lazy):
		return Folded{}, false
	case m.queued() > 0:
		message = b.user.Pop()
		if i, ok := message.(*Increments); ok {
			m.folding, m.sum = true, i.N
			return Folded{}, false
		}
		return message, false
	case b != nil:
		m.backlog = nil
		backlogs.Put(b)
	}
	return nil, false
}

// handle invokes one message. A panic becomes a failure that the supervisor
// decides on; it never passes on to the goroutine that runs the mailbox.
func (m *Mailbox) handle(message any, system bool) {
	defer func() {
		if reason := recover(); reason != nil {
			m.invoker.EscalateFailure(reason, message)
		}
	}()
	if !system {
		m.invoker.InvokeUserMessage(message)
		return
	}
	switch message.(type) {
	case *actor.SuspendMailbox:
		m.setSuspended(true)
	case *actor.ResumeMailbox:
		m.setSuspended(false)
	case *actor.Stop:
		m.invoker.InvokeSystemMessage(message)
		m.setSuspended(true) // a stopped actor swallows messages: they stay for drain
		m.gone.Done()        // our actors have no children to wait for
	default:
		m.invoker.InvokeSystemMessage(message)
	}
}

func (m *Mailbox) setSuspended(suspended bool) {
	m.lock()
	m.suspended = suspended
	m.mu.Unlock()
}
