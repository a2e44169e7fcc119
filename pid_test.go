package distkit_test

import (
	"context"
	"log/slog"
	"net"
	"sync/atomic"
	"testing"
	"time"

	"github.com/asynkron/protoactor-go/actor"
	"github.com/distkit/distkit-go"
	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"
)

// countingHook counts the commands that a client sends.
type countingHook struct{ commands atomic.Int64 }

func (h *countingHook) DialHook(next redis.DialHook) redis.DialHook {
	return func(ctx context.Context, network, addr string) (net.Conn, error) { return next(ctx, network, addr) }
}

func (h *countingHook) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		h.commands.Add(1)
		return next(ctx, cmd)
	}
}

func (h *countingHook) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		h.commands.Add(int64(len(cmds)))
		return next(ctx, cmds)
	}
}

func TestPID_request_answersEveryMessage(t *testing.T) {
	t.Parallel()
	both(t, func(t *testing.T, f *fixture, c distkit.Counter, _ string) {
		pid := c.PID(keyA)
		for _, step := range []struct {
			message distkit.Message
			want    distkit.Reply
		}{
			{distkit.Inc{N: 5}, distkit.Value{N: 5}},
			{distkit.Dec{N: 2}, distkit.Value{N: 3}},
			{distkit.Get{}, distkit.Value{N: 3}},
			{distkit.Set{N: 9}, distkit.Value{N: 9}},
			{distkit.IncIf{If: distkit.Eq(9), N: 1}, distkit.Change{Old: 9, New: 10, Applied: true}},
			{distkit.SetIf{If: distkit.Lt(10), N: 1}, distkit.Change{Old: 10, New: 10}},
			{distkit.Del{}, distkit.Value{N: 10}},
		} {
			got, err := pid.Request(f.ctx, step.message)
			require.NoError(t, err)
			require.Equal(t, step.want, got)

			future := f.ActorSystem().Root.RequestFuture(c.PID(keyB).Actor(), step.message, time.Minute)
			reply, err := future.Result()
			require.NoError(t, err)
			require.Equal(t, step.want, reply, "Proto.Actor code gets the same reply")
		}
	})
}

func TestPID_failures_areReplies(t *testing.T) {
	t.Parallel()
	both(t, func(t *testing.T, f *fixture, c distkit.Counter, kind string) {
		require.NoError(t, f.client.HSet(f.ctx, f.prefix+":"+kind, "a", "text").Err())
		for _, bad := range []struct {
			message any
			cause   error
		}{
			{distkit.Inc{N: 1}, distkit.ErrNotInteger},
			{distkit.IncIf{N: 1}, distkit.ErrNotApplied},
			{&distkit.Inc{N: 1}, distkit.ErrNotApplied}, // a pointer
			{"hello", distkit.ErrNotApplied},
		} {
			reply, err := f.ActorSystem().Root.RequestFuture(c.PID(keyA).Actor(), bad.message, time.Minute).Result()
			require.NoError(t, err)
			require.IsType(t, distkit.Failure{}, reply)
			requireNotApplied(t, reply.(distkit.Failure).Err, bad.cause)
			if m, ok := bad.message.(distkit.Message); ok {
				_, err = c.PID(keyA).Request(f.ctx, m)
				requireNotApplied(t, err, bad.cause)
			}
		}
		_, err := c.PID(distkit.Key{}).Request(f.ctx, distkit.Get{})
		requireNotApplied(t, err, distkit.ErrInvalidKey)
	})
}

func TestPID_send_countsFromAnotherActor(t *testing.T) {
	t.Parallel()
	both(t, func(t *testing.T, f *fixture, c distkit.Counter, kind string) {
		pid, done := c.PID(keyA), make(chan struct{})
		root := f.ActorSystem().Root
		sender := root.Spawn(actor.PropsFromFunc(func(ctx actor.Context) {
			switch ctx.Message().(type) {
			case int:
				ctx.Send(pid.Actor(), distkit.Inc{N: 1})
				pid.Send(distkit.Inc{N: 1})
			case string:
				ctx.Request(pid.Actor(), distkit.Get{})
			case distkit.Value:
				if ctx.Message() != (distkit.Value{N: 2000}) {
					t.Errorf("got %v", ctx.Message())
				}
				close(done)
			}
		}))
		for range 1000 {
			root.Send(sender, 1)
		}
		root.Send(sender, "ask")
		<-done
		root.Stop(sender)
		f.flush(t)
		require.Equal(t, "2000", f.stored(t, kind, keyA))
	})
}

func TestPID_needsNoRedis_andUsersCannotStopIt(t *testing.T) {
	t.Parallel()
	both(t, func(t *testing.T, f *fixture, c distkit.Counter, _ string) {
		pid := c.PID(keyA).Actor()
		require.Equal(t, pid, c.PID(keyA).Actor())
		root := f.ActorSystem().Root
		root.Stop(pid)
		root.Poison(pid)
		reply, err := root.RequestFuture(pid, distkit.Inc{N: 1}, time.Minute).Result()
		require.NoError(t, err)
		require.Equal(t, distkit.Value{N: 1}, reply)
	})
}

func TestPID_send_reportsWhatNobodyHears(t *testing.T) {
	t.Parallel()
	both(t, func(t *testing.T, f *fixture, c distkit.Counter, _ string) {
		events := recordEvents(t, f.System)
		c.PID(distkit.Key{}).Send(distkit.Inc{N: 1})
		require.ErrorIs(t, await[distkit.MessageRefused](t, events).Err, distkit.ErrInvalidKey)
	})
}

func TestWithActorSystem_staysRunning(t *testing.T) {
	t.Parallel()
	system := actor.NewActorSystem(actor.WithLoggerFactory(func(*actor.ActorSystem) *slog.Logger {
		return slog.New(slog.DiscardHandler)
	}))
	defer system.Shutdown()
	f := newFixture(t, distkit.WithActorSystem(system))
	second := newFixture(t, distkit.WithActorSystem(system))
	require.Same(t, system, f.ActorSystem())
	f.Strict().PID(keyA).Actor()
	_, err := f.Strict().Inc(f.ctx, keyA, 1)
	require.NoError(t, err)
	_, err = f.Lax().Inc(f.ctx, keyA, 1)
	require.NoError(t, err)
	require.NoError(t, f.Shutdown(f.ctx))

	require.False(t, system.IsStopped())
	got, err := second.Strict().Inc(f.ctx, keyA, 1)
	require.NoError(t, err)
	require.EqualValues(t, 1, got)
	require.NoError(t, second.Shutdown(f.ctx))
	left := 0
	for _, bucket := range system.ProcessRegistry.LocalPIDs.LocalPIDs {
		left += bucket.Count()
	}
	require.Equal(t, 2, left, "only Proto.Actor's own processes stay: event stream and dead letters")
}
