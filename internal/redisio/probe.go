package redisio

import "context"

// Probe asks Redis, within ctx, whether a batch would be carried out at a container, by
// one that is empty. It changes nothing.
func Probe(ctx context.Context, s Sender, at *Container) error {
	call := &Call{Task: Bare, At: at}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		if s.Send(ctx, []*Call{call}); call.Class == NoScript {
			call.Text = true
			s.Send(ctx, []*Call{call})
		}
	}()
	select {
	case <-ended:
		return call.Err
	case <-ctx.Done():
		return ctx.Err()
	}
}
