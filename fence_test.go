package distkit_test

import (
	"context"
	"encoding"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/distkit/distkit-go"
	"github.com/distkit/distkit-go/internal/redistest"
	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"
)

// copies is a go-redis hook that keeps a copy of every script call, as a slow
// network might, and can lose one.
type copies struct {
	mu   sync.Mutex
	kept [][]any
	lose func() // called instead of sending the next call; then it is told EOF
}

func (*copies) DialHook(next redis.DialHook) redis.DialHook {
	return func(ctx context.Context, network, addr string) (net.Conn, error) { return next(ctx, network, addr) }
}

func (c *copies) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		if cmd.Name() == "evalsha" || cmd.Name() == "eval" {
			var args []any
			for _, arg := range cmd.Args() {
				switch arg := arg.(type) {
				case *string:
					args = append(args, *arg)
				case *int64:
					args = append(args, *arg)
				case *uint64:
					args = append(args, *arg)
				case fmt.Stringer: // the number, that learns when it is written
					args = append(args, arg.String())
				default:
					args = append(args, arg)
				}
			}
			c.mu.Lock()
			c.kept = append(c.kept, args)
			lose := c.lose
			c.lose = nil
			c.mu.Unlock()
			if lose != nil {
				for _, arg := range cmd.Args() { // as if it were written, and slow to arrive
					if m, ok := arg.(encoding.BinaryMarshaler); ok {
						_, _ = m.MarshalBinary()
					}
				}
				lose()
				cmd.SetErr(io.EOF)
				return io.EOF
			}
		}
		return next(ctx, cmd)
	}
}

func (*copies) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return next
}

// Redis falls back to a state before a batch whose answer was lost, and then
// copies of that batch and of those before it arrive after all. The batch has
// been sent again under a fresh number by then: it must not count twice.
func TestLedgerLost_lateCopies_applyOnce(t *testing.T) {
	t.Parallel()
	both(t, func(t *testing.T, f *fixture, _ distkit.Counter, kind string) {
		hook := &copies{}
		direct := f.client
		f.client = redistest.NewClient(t, redistest.Options(t))
		f.client.AddHook(hook)
		system := f.another(t, distkit.WithBackoff(time.Millisecond, 2*time.Millisecond), distkit.WithAllowedLag(time.Millisecond))
		f.client = direct
		events := recordEvents(t, system)
		c := distkit.Counter(system.Strict())
		if kind == "lax_counter" {
			c = system.Lax()
		}
		inc := func() {
			_, err := c.Inc(f.ctx, keyA, 1)
			require.NoError(t, err)
			require.NoError(t, system.Flush(f.ctx))
		}
		inc()
		ledger := f.ledgers(t, kind)[0]
		then := f.client.Get(f.ctx, ledger).Val()
		inc()
		hook.mu.Lock()
		hook.lose = func() { // the failover, after the batch has left
			if err := errors.Join(f.client.Set(f.ctx, ledger, then, time.Hour).Err(), f.client.HSet(f.ctx, f.prefix+":"+kind, "a", 1).Err()); err != nil {
				t.Error(err)
			}
		}
		hook.mu.Unlock()
		inc() // the second is lost with Redis's memory
		require.Equal(t, distkit.RolledBack, await[distkit.DataLost](t, events).Reason)
		require.Equal(t, "2", f.stored(t, kind, keyA))

		hook.mu.Lock()
		late := hook.kept
		hook.mu.Unlock()
		for _, args := range late {
			_ = f.client.Do(f.ctx, args...).Err() // a fence, an opening or a script not known are among them
		}
		require.Equal(t, "2", f.stored(t, kind, keyA))
		inc()
		require.Equal(t, "3", f.stored(t, kind, keyA))
	})
}
