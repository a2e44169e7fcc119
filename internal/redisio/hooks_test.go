package redisio_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"testing"

	"github.com/distkit/distkit-go/internal/line"
	"github.com/distkit/distkit-go/internal/redisio"
	"github.com/distkit/distkit-go/internal/redistest"
	"github.com/distkit/distkit-go/internal/verb"
	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"
)

// What hooks of the user's client may do to a call, and what is to be made of it.

// hooked is a fixture whose client goes by a line and has a hook.
func hooked(t *testing.T, h hook) (*fixture, *line.Line) {
	t.Helper()
	admin, l := redistest.Client(t), &line.Line{}
	client := connected(t, l, *redistest.Options(t))
	f := fixtureOn(t, client, admin)
	f.open(t)
	f.done(t, f.batch(1, inc("a", 1)))
	client.AddHook(h)
	return f, l
}

// repeat is a hook that sends a command that failed again, at most twice; between
// is called before it does.
func repeat(between func(n int)) hook {
	return func(ctx context.Context, cmd redis.Cmder, next redis.ProcessHook) error {
		err := next(ctx, cmd)
		for n := 0; err != nil && n < 2; n++ {
			between(n)
			err = next(ctx, cmd)
		}
		return err
	}
}

func TestHook_thatRepeatsAfterALostReply(t *testing.T) {
	t.Parallel()
	refuse := func(admin *redis.Client, rule string) {
		admin.Do(context.Background(), "acl", "setuser", "u", rule)
	}
	for name, spoil := range map[string]func(l *line.Line, admin *redis.Client, off bool){
		"and cannot connect": func(l *line.Line, _ *redis.Client, off bool) { l.Down(off) },
		"and is refused": func(_ *line.Line, admin *redis.Client, off bool) {
			refuse(admin, map[bool]string{true: "-eval", false: "+eval"}[off])
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := redistest.Start(t)
			admin := redistest.NewClient(t, &redis.Options{Addr: server.Addr})
			require.NoError(t, admin.Do(t.Context(), "acl", "setuser", "u", "on", ">p", "~*", "+@all").Err())
			l := &line.Line{}
			client := connected(t, l, redis.Options{Addr: server.Addr, Username: "u", Password: "p"})
			f := fixtureOn(t, client, admin)
			f.open(t)
			broken := true
			client.AddHook(repeat(func(int) { spoil(l, admin, broken) }))
			l.Lose(1)
			c := f.batch(1, inc("a", 5))
			f.send(c)
			require.Equal(t, redisio.Unknown, c.Class, "the first copy has arrived: %v", c.Err)
			require.Equal(t, "5", f.stored()["a"])

			broken = false
			spoil(l, admin, false)
			for c.Class != redisio.Answered && f.ctx.Err() == nil { // the pool tries to connect on its own, from time to time
				f.send(c)
			}
			require.Equal(t, redisio.Done, c.Status, "%v", c.Err)
			require.True(t, c.Replayed)
			require.Equal(t, "5", f.stored()["a"])
		})
	}
}

func TestHook_thatRepeatsUntilItWorks(t *testing.T) {
	t.Parallel()
	f, l := hooked(t, repeat(func(int) {}))
	l.Lose(2)
	c := f.done(t, f.batch(2, inc("a", 5)))
	require.True(t, c.Replayed)
	require.True(t, c.Repeated, "copies are about of which nobody has heard")
	require.Equal(t, "6", f.stored()["a"])
}

// A batch without a ledger would be applied by each copy.
func TestHook_thatRepeats_doesNotRepeatABareBatch(t *testing.T) {
	t.Parallel()
	f, l := hooked(t, repeat(func(int) {}))
	l.Lose(1)
	c := f.call(redisio.Bare, inc("a", 5))
	f.send(c)
	require.Equal(t, redisio.Unknown, c.Class)
	require.Equal(t, "6", f.stored()["a"])
}

// Redis that does not know the script is told it, though of the first copies of
// the call nobody knows.
func TestHook_thatRepeatsWhatIsRefused_doesNotKeepTheScriptFromRedis(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	client := redistest.NewClient(t, &redis.Options{Addr: server.Addr})
	client.AddHook(repeat(func(int) {}))
	f := fixtureOn(t, client, client)
	c := f.call(redisio.Open)
	c.Text = false
	for attempts := 0; c.Class != redisio.Answered || c.Status == redisio.None; attempts++ {
		require.Less(t, attempts, 2, "%v", c.Err)
		f.send(c)
	}
	require.Equal(t, redisio.Opened, c.Status)
}

func TestHook_thatWrapsErrors_doesNotHideWhatRedisSays(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	client := redistest.NewClient(t, &redis.Options{Addr: server.Addr})
	client.AddHook(hook(func(ctx context.Context, cmd redis.Cmder, next redis.ProcessHook) error {
		if err := next(ctx, cmd); err != nil {
			return fmt.Errorf("my hook: %w", err)
		}
		return nil
	}))
	f := fixtureOn(t, client, client)
	c := f.call(redisio.Open)
	c.Text = false
	f.send(c)
	require.Equal(t, redisio.NoScript, c.Class, "%v", c.Err)
	require.NoError(t, client.Set(t.Context(), f.at.Name, "text", 0).Err())
	read := f.done(t, f.call(redisio.Read, op(verb.Get, "a", 0)))
	require.Equal(t, []verb.Result{{Err: verb.WrongType}}, read.Results)
}

// Hooks that answer in Redis's place: the call has not left, and is not applied.
func TestHook_thatDoesNotLetTheCallThrough(t *testing.T) {
	t.Parallel()
	for name, h := range map[string]hook{
		"fails by itself": func(context.Context, redis.Cmder, redis.ProcessHook) error {
			return errors.New("no")
		},
		"fails as if the connection were lost": func(context.Context, redis.Cmder, redis.ProcessHook) error {
			return io.EOF
		},
		"does nothing": func(context.Context, redis.Cmder, redis.ProcessHook) error {
			return nil
		},
		"makes up an answer": func(_ context.Context, cmd redis.Cmder, _ redis.ProcessHook) error {
			cmd.(interface{ SetVal(any) }).SetVal("A1 1 6")
			return nil
		},
		"panics": func(context.Context, redis.Cmder, redis.ProcessHook) error {
			panic("hook")
		},
		"looks at the arguments, and panics": func(_ context.Context, cmd redis.Cmder, _ redis.ProcessHook) error {
			panic(fmt.Sprint(cmd.Args(), cmd.String(), cmd.Name(), cmd.FullName()))
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f, l := hooked(t, h)
			before := l.Scripts()
			for _, task := range []redisio.Task{redisio.Apply, redisio.Bare, redisio.Open, redisio.Fence, redisio.Read, redisio.Scan} {
				c := f.batch(2, inc("a", 5))
				c.Task = task
				f.send(c)
				require.Equal(t, redisio.NotYet, c.Class, "%v", c.Err)
				require.Error(t, c.Err)
				require.False(t, c.HasLeft())
				require.Empty(t, c.Results)
			}
			require.Equal(t, before, l.Scripts(), "nothing was written")
			require.Equal(t, "1", f.stored()["a"])
		})
	}
}

// Hooks that spoil an answer that has come.
func TestHook_thatHidesTheAnswer_leavesItUnknown(t *testing.T) {
	t.Parallel()
	for name, h := range map[string]hook{
		"fails after all": func(ctx context.Context, cmd redis.Cmder, next redis.ProcessHook) error {
			return errors.Join(next(ctx, cmd), errors.New("no"))
		},
		"swallows the error": func(ctx context.Context, cmd redis.Cmder, next redis.ProcessHook) error {
			_ = next(ctx, cmd)
			cmd.(interface{ SetVal(any) }).SetVal(nil)
			return nil
		},
		"makes up another answer": func(ctx context.Context, cmd redis.Cmder, next redis.ProcessHook) error {
			err := next(ctx, cmd)
			cmd.(interface{ SetVal(any) }).SetVal("OK")
			return err
		},
		"joins errors": func(ctx context.Context, cmd redis.Cmder, next redis.ProcessHook) error {
			return errors.Join(errors.New("NOPERM"), redis.TxFailedErr, next(ctx, cmd))
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			on := true
			f, _ := hooked(t, func(ctx context.Context, cmd redis.Cmder, next redis.ProcessHook) error {
				if !on {
					return next(ctx, cmd)
				}
				return h(ctx, cmd, next)
			})
			c := f.batch(2, inc("a", 5))
			f.send(c)
			require.Equal(t, redisio.Unknown, c.Class, "%v", c.Err)
			require.True(t, c.HasLeft())
			require.Equal(t, "6", f.stored()["a"])
			on = false
			require.True(t, f.done(t, c).Replayed)
		})
	}
}

func TestHook_thatPanicsAfterTheAnswer_hasNoSay(t *testing.T) {
	t.Parallel()
	f, _ := hooked(t, func(ctx context.Context, cmd redis.Cmder, next redis.ProcessHook) error {
		_ = next(ctx, cmd)
		panic("hook")
	})
	c := f.done(t, f.batch(2, inc("a", 5)))
	require.False(t, c.Replayed)
	require.Equal(t, "6", f.stored()["a"])
}

// Hooks that look at a call, as those that log and trace do, do not make it leave.
func TestHook_thatLooksAtArguments_doesNotMakeTheCallLeave(t *testing.T) {
	t.Parallel()
	l := &line.Line{}
	client := redistest.NewClient(t, l.Lead(*redistest.Options(t)))
	client.AddHook(hook(func(ctx context.Context, cmd redis.Cmder, next redis.ProcessHook) error {
		for range 3 {
			_ = fmt.Sprint(cmd.Args()...) + fmt.Sprintf("%v %+v %s %q %#v", cmd.Args(), cmd.Args(), cmd, cmd, cmd.Args())
		}
		return next(ctx, cmd)
	}))
	f, n := fixtureOn(t, client, redistest.Client(t)), int64(0)
	c := f.batch(1)
	c.Gather = func() []verb.Keyed { n++; return []verb.Keyed{inc("a", n)} }
	l.Down(true)
	f.send(c)
	require.Equal(t, redisio.NotYet, c.Class, "%v", c.Err)
	require.False(t, c.HasLeft())
	require.GreaterOrEqual(t, n, int64(9), "each look gathers anew")

	l.Down(false)
	f.open(t)
	f.done(t, c)
	require.True(t, c.HasLeft())
	require.Equal(t, []verb.Keyed{inc("a", n)}, c.Ops)
	require.Equal(t, fmt.Sprint(n), f.stored()["a"], "what was gathered last")
}
