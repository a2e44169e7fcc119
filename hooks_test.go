package distkit_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync/atomic"
	"testing"
	"time"

	"github.com/distkit/distkit-go"
	"github.com/distkit/distkit-go/internal/line"
	"github.com/distkit/distkit-go/internal/redistest"
	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"
)

// What hooks of the user's client may do: an operation is still carried out once,
// and said to be when it was.

// hook is a hook around scripts: the rest passes.
type hook func(ctx context.Context, cmd redis.Cmder, next redis.ProcessHook) error

func (hook) DialHook(next redis.DialHook) redis.DialHook { return next }

func (h hook) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		if cmd.Name() != "eval" && cmd.Name() != "evalsha" {
			return next(ctx, cmd)
		}
		return h(ctx, cmd, next)
	}
}

func (h hook) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		return h(ctx, cmds[0], func(ctx context.Context, _ redis.Cmder) error { return next(ctx, cmds) })
	}
}

// hooked is a System whose client goes by a line and has a hook, and has counted.
func hooked(t *testing.T, kind string, h hook) (*fixture, distkit.Counter, *line.Line) {
	t.Helper()
	line := &line.Line{}
	client := redistest.NewClient(t, line.Lead(*redistest.Options(t)))
	f := fixtureOn(t, client, distkit.WithBackoff(time.Millisecond, 10*time.Millisecond))
	c := f.counters()[kind]
	_, err := c.Inc(f.ctx, keyA, 1)
	require.NoError(t, err)
	f.flush(t)
	client.AddHook(h)
	f.client = redistest.Client(t) // the tests look past the hook
	return f, c, line
}

// A hook that repeats what has failed, as a user's own retries do, sends a batch
// several times at one attempt: the first copy was applied though the last was not
// even written, or was refused.
func TestHooks_thatRepeatAfterALostReply(t *testing.T) {
	t.Parallel()
	for _, kind := range []string{"strict_counter", "lax_counter"} {
		for _, refused := range []bool{false, true} {
			t.Run(fmt.Sprint(kind, " refused ", refused), func(t *testing.T) {
				t.Parallel()
				var line *line.Line
				var attempts atomic.Int32
				f, c, line := hooked(t, kind, func(ctx context.Context, cmd redis.Cmder, next redis.ProcessHook) error {
					err := next(ctx, cmd)
					for n := 0; err != nil && n < 3; n++ {
						if attempts.Add(1) > 20 {
							line.Down(false)
						}
						if err = next(ctx, cmd); refused && attempts.Load() <= 20 {
							err = noPermission{} // as the reply to the last copy
						}
					}
					return err
				})
				line.Lose(1)
				line.Down(!refused)
				_, err := c.Inc(f.ctx, keyA, 10)
				require.NoError(t, err)
				f.flush(t)
				_, err = c.Inc(f.ctx, keyB, 100)
				require.NoError(t, err)
				f.flush(t)
				require.Equal(t, "11", f.stored(t, kind, keyA))
				require.Equal(t, "100", f.stored(t, kind, keyB))
			})
		}
	}
}

// noPermission is a refusal of Redis's.
type noPermission struct{}

func (noPermission) Error() string { return "NOPERM this user has no permissions" }
func (noPermission) RedisError()   {}

// Hooks that do not let a batch through: it is not applied, and its callers are
// told so.
func TestHooks_thatLetNothingThrough(t *testing.T) {
	t.Parallel()
	for name, h := range map[string]hook{
		"fails": func(context.Context, redis.Cmder, redis.ProcessHook) error { return errors.New("no") },
		"fails as if the connection were lost": func(context.Context, redis.Cmder, redis.ProcessHook) error {
			return io.EOF
		},
		"does nothing": func(context.Context, redis.Cmder, redis.ProcessHook) error { return nil },
		"makes up an answer": func(_ context.Context, cmd redis.Cmder, _ redis.ProcessHook) error {
			cmd.(interface{ SetVal(any) }).SetVal("A1 1 11")
			return nil
		},
		"panics": func(context.Context, redis.Cmder, redis.ProcessHook) error { panic("hook") },
		"panics over what it has seen": func(_ context.Context, cmd redis.Cmder, _ redis.ProcessHook) error {
			panic(fmt.Sprint(cmd.Args(), cmd.String()))
		},
	} {
		for _, kind := range []string{"strict_counter", "lax_counter"} {
			t.Run(kind+" "+name, func(t *testing.T) {
				t.Parallel()
				var off atomic.Bool
				f, c, line := hooked(t, kind, func(ctx context.Context, cmd redis.Cmder, next redis.ProcessHook) error {
					if off.Load() {
						return next(ctx, cmd)
					}
					return h(ctx, cmd, next)
				})
				before := line.Scripts()
				short, cancel := context.WithTimeout(f.ctx, 100*time.Millisecond)
				defer cancel()
				_, err := c.Inc(short, keyA, 10)
				want := "3"
				if kind == "strict_counter" {
					require.ErrorIs(t, err, distkit.ErrNotApplied)
				} else {
					require.NoError(t, err, "it is counted here")
					require.Error(t, f.Flush(short), "and cannot be written")
					want = "13"
				}
				require.Equal(t, before, line.Scripts())
				require.Equal(t, "1", f.stored(t, kind, keyA))

				off.Store(true)
				_, err = c.Inc(f.ctx, keyA, 2)
				require.NoError(t, err)
				f.flush(t)
				require.Equal(t, want, f.stored(t, kind, keyA))
			})
		}
	}
}

// Hooks that take the answer away: the batch is sent again, and is applied once.
func TestHooks_thatHideTheAnswer(t *testing.T) {
	t.Parallel()
	for name, h := range map[string]hook{
		"fails": func(ctx context.Context, cmd redis.Cmder, next redis.ProcessHook) error {
			return errors.Join(next(ctx, cmd), errors.New("no"))
		},
		"forgets it": func(ctx context.Context, cmd redis.Cmder, next redis.ProcessHook) error {
			err := next(ctx, cmd)
			cmd.(interface{ SetVal(any) }).SetVal(nil)
			return err
		},
		"panics": func(ctx context.Context, cmd redis.Cmder, next redis.ProcessHook) error {
			_ = next(ctx, cmd)
			panic("hook")
		},
	} {
		for _, kind := range []string{"strict_counter", "lax_counter"} {
			t.Run(kind+" "+name, func(t *testing.T) {
				t.Parallel()
				var seen atomic.Int32
				f, c, _ := hooked(t, kind, func(ctx context.Context, cmd redis.Cmder, next redis.ProcessHook) error {
					if seen.Add(1) > 3 {
						return next(ctx, cmd)
					}
					return h(ctx, cmd, next)
				})
				for i := range int64(5) {
					got, err := c.Inc(f.ctx, keyA, 1)
					require.NoError(t, err)
					require.Equal(t, 2+i, got)
					f.flush(t)
				}
				require.Equal(t, "6", f.stored(t, kind, keyA))
			})
		}
	}
}

// A hook that wraps errors, as those that trace do, does not hide what they are:
// a Redis that has forgotten the script is told it again.
func TestHooks_thatWrapErrors(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	client := redistest.NewClient(t, &redis.Options{Addr: server.Addr})
	client.AddHook(hook(func(ctx context.Context, cmd redis.Cmder, next redis.ProcessHook) error {
		if err := next(ctx, cmd); err != nil {
			return fmt.Errorf("my hook: %w", err)
		}
		return nil
	}))
	f := fixtureOn(t, client, distkit.WithBackoff(time.Millisecond, 10*time.Millisecond))
	for kind, c := range f.counters() {
		for i := range int64(3) {
			got, err := c.Inc(f.ctx, keyA, 1)
			require.NoError(t, err)
			require.Equal(t, 1+i, got)
			f.flush(t)
			require.NoError(t, f.client.ScriptFlush(f.ctx).Err())
		}
		require.Equal(t, "3", f.stored(t, kind, keyA))
	}
}
