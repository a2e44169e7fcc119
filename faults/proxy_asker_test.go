package faults_test

import (
	"math/rand/v2"
	"time"

	"github.com/asynkron/protoactor-go/actor"
	"github.com/distkit/distkit-go"
)

// proxyAsker is an actor of a user's with an awkward mailbox or dispatcher, that asks one
// counter a few times at once and dawdles over the replies: those that come meanwhile
// find its mailbox full, or run it on the goroutine that brings them.
type proxyAsker struct {
	to      *actor.PID
	changes []int64
	dawdles time.Duration
	replied func(change int64, reply any)
	done    chan struct{}
}

// Receive implements actor.Actor. Replies of one counter come in the order of the
// requests.
func (a *proxyAsker) Receive(ctx actor.Context) {
	switch m := ctx.Message().(type) {
	case *actor.Started:
		for _, n := range a.changes {
			ctx.Request(a.to, distkit.Inc{N: n})
		}
	case distkit.Reply:
		a.replied(a.changes[0], m)
		if a.changes = a.changes[1:]; len(a.changes) == 0 {
			close(a.done)
			return
		}
		time.Sleep(a.dawdles)
	}
}

// ask has such an actor ask a counter, and notes its replies.
func (l *load) ask(rng *rand.Rand, to *actor.PID, told *told, k int) {
	a := &proxyAsker{to: to, dawdles: time.Duration(rng.IntN(1000)) * time.Microsecond, done: make(chan struct{})}
	for range 1 + rng.IntN(8) {
		a.changes = append(a.changes, step(rng, k))
	}
	a.replied = func(change int64, reply any) {
		switch reply := reply.(type) {
		case distkit.Value:
			l.note("ask", told.of(reply.N, change, nil))
		case distkit.Failure:
			l.note("ask", told.of(0, change, reply.Err))
		default:
			l.run.Violation("an actor was answered %T", reply)
		}
	}
	actors := l.system.ActorSystem().Root
	pid := actors.Spawn(actor.PropsFromProducer(func() actor.Actor { return a }, stormProps[rng.IntN(len(stormProps))]...))
	select {
	case <-a.done:
	case <-time.After(patience):
		l.run.Violation("an actor waits for replies that do not come")
	}
	_ = actors.StopFuture(pid).Wait()
}
