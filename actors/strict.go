package actors

import (
	"github.com/asynkron/protoactor-go/actor"
	"github.com/distkit/distkit-go/internal/op"
)

// strictCell is what outlives an incarnation of a strict key actor.
type strictCell struct {
	cell
	writer  *strictWriterCell
	current *request // to be forwarded; left behind by a panic
}

// quiet implements keyCell: what was forwarded is the writer's.
func (*strictCell) quiet() bool { return true }

// strictKey is the actor of one strict counter: it takes the key's operations
// one by one and forwards each to the writer, which answers the caller.
type strictKey struct {
	*strictCell // nil until it is started
	keys        *keyspace[*strictCell]
}

// Receive implements actor.Actor.
func (a *strictKey) Receive(ctx actor.Context) {
	switch message := ctx.Message().(type) {
	case *actor.Started:
		a.strictCell = a.keys.named(ctx.Self())
	case *request:
		a.onRequest(message)
	case *barrier:
		message.pass(nil)
	case *actor.Restarting:
		a.onRestarting()
	}
}

func (a *strictKey) onRequest(r *request) {
	a.current = r
	a.writer.failAt.at("strict key: before forward")
	a.current = nil // from here on it is the writer's, and soon another operation's
	forward(r, a.writer)
	a.writer.failAt.at("strict key: after forward")
}

// onRestarting answers the operation that a panic kept from being forwarded.
func (a *strictKey) onRestarting() {
	if r := a.current; r != nil {
		a.current = nil
		r.fail(op.NotApplied(errPanicked))
	}
}

// forward hands a request to the writer; a batch call when it has passed the
// last of its key actors, so that it keeps the order of each key.
func forward(r *request, writer *strictWriterCell) {
	if r.parts == nil || r.arrivals.Add(-1) == 0 {
		writer.submit(r)
	}
}
