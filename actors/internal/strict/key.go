package strict

import (
	"github.com/distkit/distkit-go/internal/barrier"
	"github.com/distkit/distkit-go/internal/host"
	"github.com/distkit/distkit-go/internal/request"
	"github.com/distkit/distkit-go/internal/verb"
)

// key is a strict counter at work: its actor takes the key's operations one by one
// and forwards each to the writer, which answers the caller.
type key struct {
	host.Key
	writer  *writer
	current *request.Request // to be forwarded; left behind by a panic
}

// Quiet implements host.Cell: what was forwarded is the writer's.
func (*key) Quiet() bool { return true }

// Receive implements host.Receiver.
func (k *key) Receive(message any) {
	switch message := message.(type) {
	case *request.Request:
		k.onRequest(message)
	case *barrier.Barrier:
		message.Pass(nil)
	case host.Restarting:
		k.onRestarting()
	}
}

func (k *key) onRequest(r *request.Request) {
	k.current = r
	k.writer.failAt.At("strict key: before forward")
	k.current = nil // from here on it is the writer's, and soon another operation's
	k.writer.forward(r)
	k.writer.failAt.At("strict key: after forward")
}

// onRestarting answers the operation that a panic kept from being forwarded.
func (k *key) onRestarting() {
	if r := k.current; r != nil {
		k.current = nil
		err := verb.NotApplied(request.ErrPanicked)
		k.writer.report(r, err)
		r.Fail(err)
	}
}
