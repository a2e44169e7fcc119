package main

import (
	"github.com/asynkron/protoactor-go/actor"
	"github.com/distkit/distkit-go"
)

// mailroom is the shop's own Proto.Actor actor: the buyers tell it of each
// purchase, it issues the tickets and mails them, and counts both by the
// counters' PIDs. It waits for nothing and learns nothing; yet nothing that it
// counts may be missing in the end, also what it sent during the outage.
type mailroom struct {
	mails distkit.PID
}

// purchase is what a buyer was told that they got.
type purchase struct {
	tickets *actor.PID // the counter of the show's tickets
	seats   int64
}

// closeBooks comes last; done is closed when all before it is counted.
type closeBooks struct{ done chan<- struct{} }

func (m *mailroom) Receive(ctx actor.Context) {
	switch message := ctx.Message().(type) {
	case purchase:
		m.onPurchase(ctx, message)
	case closeBooks:
		close(message.done)
	}
}

func (m *mailroom) onPurchase(ctx actor.Context, p purchase) {
	ctx.Send(p.tickets, distkit.Inc{N: p.seats}) // as any actor sends to any other
	m.mails.Send(distkit.Inc{N: 1})              // the same without Proto.Actor's context
}
