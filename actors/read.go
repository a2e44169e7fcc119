package actors

import (
	"context"
	"math/rand/v2"
	"time"

	"github.com/distkit/distkit-go/internal/host"
	"github.com/distkit/distkit-go/internal/ledger"
	"github.com/distkit/distkit-go/internal/redisio"
	"github.com/distkit/distkit-go/internal/verb"
)

// read carries out reads that go past the spaces, within ctx. Where Redis cannot be
// reached it makes one attempt after the other, unless it is to make one only.
func (e *Engine) read(ctx context.Context, calls []*redisio.Call, again bool) error {
	backoff := host.Backoff{Min: e.cfg.BackoffMin, Max: e.cfg.BackoffMax}
	var trouble error
	for attempt := 1; ; attempt++ {
		ended := make(chan struct{})
		go func() { // the client library does not heed the context while it reads
			defer close(ended) // whatever a hook of the client does
			e.cfg.redis.Send(ctx, calls)
		}()
		if err := e.await(ctx, ended); err != nil {
			return verb.Hint(err, trouble)
		}
		trouble = nil
		for _, call := range calls {
			switch ledger.OfRead(call) {
			case ledger.Refuse:
				return call.Err
			case ledger.Thaw:
				trouble = call.Err
			case ledger.Pending, ledger.Done, ledger.Again, ledger.Keep, ledger.Unknown:
			}
		}
		if trouble == nil || !again {
			return trouble
		}
		pause := make(chan struct{})
		timer := time.AfterFunc(backoff.Delay(attempt, rand.Float64()), func() { close(pause) })
		err := e.await(ctx, pause)
		timer.Stop()
		if err != nil {
			return verb.Hint(err, trouble)
		}
	}
}

// await waits for done, for the end of ctx, or for that of the engine.
func (e *Engine) await(ctx context.Context, done <-chan struct{}) error {
	select {
	case <-done:
	case <-ctx.Done():
	case <-e.life.Done():
		return verb.ErrClosed
	}
	return ctx.Err()
}
