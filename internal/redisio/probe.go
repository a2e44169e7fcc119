package redisio

import (
	"context"

	"github.com/distkit/distkit-go/internal/verb"
)

// Probe asks Redis, within ctx, whether a batch would be carried out at a container, by
// one that is empty, and whether the container is one, by a read. It changes nothing, and
// does not learn whether each command is permitted.
func Probe(ctx context.Context, s Sender, at *Container) error {
	call := &Call{Task: Bare, At: at}
	read := &Call{Task: Read, At: at, Ops: []verb.Keyed{{Op: verb.Op{Kind: verb.Get}}}}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		if s.Send(ctx, []*Call{call, read}); call.Class == NoScript {
			call.Text = true
			s.Send(ctx, []*Call{call})
		}
	}()
	select {
	case <-ended:
		if call.Err == nil && read.Status == Done {
			return read.Results[0].Err
		}
		return call.Err
	case <-ctx.Done():
		return ctx.Err()
	}
}
