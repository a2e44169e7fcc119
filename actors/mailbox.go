package actors

import (
	"sync"

	"github.com/asynkron/protoactor-go/actor"
)

// mailbox is the queue of one of our actors. It differs from Proto.Actor's
// default in these ways:
//
//   - It can be sealed: operations offered from then on are refused, so that
//     no message is ever left behind in a stopped actor unseen. What belongs
//     to work already accepted still enters.
//   - With inline set, a caller that finds the actor idle runs it on its own
//     goroutine, at most inlineBudget messages, and hands the rest to another.
//     Such an actor's handlers never block and never run user code.
//   - With folds set, consecutive increments that nobody waits for become one
//     message, so that senders who outrun the actor cost no memory.
//   - What a stopped actor did not handle can be taken out (drain).
//
// mu guards every field below it. It is never held while a message is handled.
type mailbox struct {
	inline  bool
	folds   bool                 // increments that nobody waits for fold into the one before
	gone    *sync.WaitGroup      // told when the actor has stopped
	invoker actor.MessageInvoker // set before the first message is handled

	mu        sync.Mutex
	user      fifo[any]
	system    fifo[any]
	running   bool // a goroutine is in run
	suspended bool // between a failure and the restart
	sealed    bool // operations are refused
}

// inlineBudget bounds how many messages a caller handles for others before a
// goroutine takes over.
const inlineBudget = 32

var _ actor.Mailbox = (*mailbox)(nil)

// offer enqueues an operation, or reports false if the mailbox is sealed.
func (m *mailbox) offer(message any) bool {
	m.mu.Lock()
	if m.sealed {
		m.mu.Unlock()
		return false
	}
	if m.folds && m.user.len() > 0 && foldInto(*m.user.last(), message) {
		m.mu.Unlock()
		return true
	}
	m.user.push(message)
	m.wake()
	return true
}

// PostUserMessage enqueues a message that is never refused.
func (m *mailbox) PostUserMessage(message any) {
	m.mu.Lock()
	m.user.push(message)
	m.wake()
}

// PostSystemMessage enqueues a lifecycle message; it goes before user messages.
func (m *mailbox) PostSystemMessage(message any) {
	m.mu.Lock()
	m.system.push(message)
	m.wake()
}

// RegisterHandlers implements actor.Mailbox. The dispatcher is not used: see inline.
func (m *mailbox) RegisterHandlers(invoker actor.MessageInvoker, _ actor.Dispatcher) {
	m.mu.Lock()
	m.invoker = invoker
	m.mu.Unlock()
}

// Start implements actor.Mailbox.
func (m *mailbox) Start() {}

// UserMessageCount implements actor.Mailbox.
func (m *mailbox) UserMessageCount() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.user.len()
}

// seal refuses operations from now on.
func (m *mailbox) seal() {
	m.mu.Lock()
	m.sealed = true
	m.mu.Unlock()
}

// busy reports whether a message is being handled or waits to be.
func (m *mailbox) busy() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.running || m.user.len() > 0
}

// drain takes out the user messages that a stopped actor did not handle.
func (m *mailbox) drain() []any {
	m.mu.Lock()
	defer m.mu.Unlock()
	var left []any
	for m.user.len() > 0 {
		left = append(left, m.user.pop())
	}
	return left
}

// wake is entered with mu held and releases it. It sees to it that somebody
// runs the actor.
func (m *mailbox) wake() {
	if m.running || m.invoker == nil {
		m.mu.Unlock()
		return
	}
	m.running = true
	m.mu.Unlock()
	if m.inline {
		m.run(inlineBudget)
	} else {
		go m.run(0)
	}
}

// run handles messages until none is left, or, with a budget above 0, hands
// over to a goroutine when the budget is spent. Its caller has set running.
func (m *mailbox) run(budget int) {
	for handled := 0; ; handled++ {
		if budget > 0 && handled == budget {
			go m.run(0)
			return
		}
		m.mu.Lock()
		var message any
		system := m.system.len() > 0
		switch {
		case system:
			message = m.system.pop()
		case m.user.len() > 0 && !m.suspended:
			message = m.user.pop()
		default:
			m.running = false
			m.mu.Unlock()
			return
		}
		m.mu.Unlock()
		m.handle(message, system)
	}
}

// handle invokes one message. A panic becomes a failure that the supervisor
// decides on; it never passes on to the goroutine that runs the mailbox.
func (m *mailbox) handle(message any, system bool) {
	defer func() {
		if reason := recover(); reason != nil {
			m.invoker.EscalateFailure(reason, message)
		}
	}()
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
		if system {
			m.invoker.InvokeSystemMessage(message)
		} else {
			m.invoker.InvokeUserMessage(message)
		}
	}
}

func (m *mailbox) setSuspended(suspended bool) {
	m.mu.Lock()
	m.suspended = suspended
	m.mu.Unlock()
}

// fifo is a first-in, first-out queue over one slice.
type fifo[T any] struct {
	items []T
	head  int
}

func (q *fifo[T]) len() int { return len(q.items) - q.head }

func (q *fifo[T]) push(item T) { q.items = append(q.items, item) }

// peek is the oldest item; the queue must not be empty.
func (q *fifo[T]) peek() *T { return &q.items[q.head] }

// last is the newest item; the queue must not be empty.
func (q *fifo[T]) last() *T { return &q.items[len(q.items)-1] }

func (q *fifo[T]) pop() T {
	var zero T
	item := q.items[q.head]
	q.items[q.head] = zero
	q.head++
	switch {
	case q.head == len(q.items):
		q.items, q.head = q.items[:0], 0
		if cap(q.items) > 64 { // a burst's memory goes back
			q.items = nil
		}
	case q.head >= 1024 && q.head*2 >= len(q.items): // a queue that never empties stays small
		kept := copy(q.items, q.items[q.head:])
		clear(q.items[kept:])
		q.items, q.head = q.items[:kept], 0
	}
	return item
}
