package host

import (
	"context"
	"fmt"
	"sync"

	"github.com/asynkron/protoactor-go/actor"
	"github.com/distkit/distkit-go/internal/foreign"
)

// replies are on their way to Proto.Actor senders, which are not ours: Proto.Actor
// runs a sender's mailbox, its dispatcher and the subscribers of its events on the
// goroutine that sends to it. So each sender that has something to come has a queue
// of its own, and one that blocks delays itself only.
type replies struct {
	host *Host
	mu   sync.Mutex
	to   map[recipient]*outbox
}

// recipient is an actor, as its PIDs name it.
type recipient struct{ address, id string }

// outbox is what one sender has to get.
type outbox struct {
	queue *foreign.Queue[any]
	left  int // guarded by replies.mu
}

// send answers a sender. It never blocks.
func (r *replies) send(to *actor.PID, message any) {
	name := recipient{to.Address, to.Id}
	r.mu.Lock()
	defer r.mu.Unlock()
	box := r.to[name]
	if box == nil {
		box = &outbox{}
		box.queue = foreign.NewQueue(func(message any) { r.deliver(box, name, to, message) }, 0, nil)
		r.to[name] = box
	}
	box.left++
	box.queue.Put(message)
}

// deliver sends a reply. A sender that panics on receiving is its own affair.
func (r *replies) deliver(box *outbox, name recipient, to *actor.PID, message any) {
	defer func() {
		if reason := recover(); reason != nil {
			r.host.supervisor.observer.ActorPanicked(to.Id, fmt.Errorf("panic on receiving a reply: %v", reason))
		}
		r.mu.Lock()
		defer r.mu.Unlock()
		if box.left--; box.left == 0 {
			delete(r.to, name)
		}
	}()
	r.host.system.Root.Send(to, message)
}

// wait returns when all replies have been delivered, or ctx ends.
func (r *replies) wait(ctx context.Context) {
	r.mu.Lock()
	boxes := make([]*outbox, 0, len(r.to))
	for _, box := range r.to {
		boxes = append(boxes, box)
	}
	r.mu.Unlock()
	for _, box := range boxes {
		box.queue.Wait(ctx)
	}
}
