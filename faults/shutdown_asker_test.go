// An actor of a user's that asks counters and waits for their replies, while
// the System is shut down.
package faults_test

import (
	"errors"
	"time"

	"github.com/asynkron/protoactor-go/actor"
	"github.com/distkit/distkit-go"
)

// shutdownAsker counts the replies to its requests; each adds 1 to one strict
// counter.
type shutdownAsker struct {
	pid     *actor.PID
	system  *actor.ActorSystem
	account *serverAccount

	waiting   int
	foreign   []any // replies of no kind that is documented
	answered  chan struct{}
	stopped   chan struct{}
	unsettled []error // failures of no class
}

// shutdownAsk makes the actor send its requests; sent is closed when it has.
type shutdownAsk struct {
	to   *actor.PID
	n    int
	sent chan struct{}
}

// ask starts such an actor, and returns when its requests are on their way.
func (c *shutdownCase) ask() {
	a := &shutdownAsker{
		system: c.system.ActorSystem(), account: c.book.strict[shutdownStrict[1].String()],
		answered: make(chan struct{}), stopped: make(chan struct{}),
	}
	a.pid = a.system.Root.Spawn(actor.PropsFromProducer(func() actor.Actor { return a }))
	message := shutdownAsk{c.system.Strict().PID(shutdownStrict[1]).Actor(), 1 + c.rng.IntN(10), make(chan struct{})}
	a.system.Root.Send(a.pid, message)
	<-message.sent
	c.asking = a
}

// Receive implements actor.Actor.
func (a *shutdownAsker) Receive(ctx actor.Context) {
	switch m := ctx.Message().(type) {
	case shutdownAsk:
		a.waiting = m.n
		for range m.n {
			ctx.Request(m.to, distkit.Inc{N: 1})
		}
		close(m.sent)
	case distkit.Value:
		a.onReply(nil)
	case distkit.Failure:
		a.onReply(m.Err)
	case *actor.Stopped:
		close(a.stopped)
	case *actor.Started, *actor.Stopping:
	default:
		a.foreign = append(a.foreign, m)
		a.onReply(nil)
	}
}

func (a *shutdownAsker) onReply(err error) {
	switch {
	case err == nil:
		a.account.applied.Add(1)
	case errors.Is(err, distkit.ErrOutcomeUnknown):
		a.account.unknown.Add(1)
	case !errors.Is(err, distkit.ErrNotApplied):
		a.unsettled = append(a.unsettled, err)
	}
	if a.waiting--; a.waiting == 0 {
		close(a.answered)
	}
}

// end waits for the last reply, stops the actor and looks at what it got.
func (a *shutdownAsker) end(book *shutdownBook) {
	select {
	case <-a.answered:
	case <-time.After(serverPatience / 2):
	}
	a.system.Root.Stop(a.pid)
	<-a.stopped
	if a.waiting != 0 || len(a.foreign) > 0 || len(a.unsettled) > 0 {
		book.run.Violation("%s: of an actor's requests %d had no reply; others had %v, %v", book.name, a.waiting, a.foreign, a.unsettled)
	}
}
