package distkit_test

import (
	"context"
	"fmt"
	"log/slog"
	"testing"
	"time"

	"github.com/distkit/distkit-go"
	"github.com/distkit/distkit-go/internal/line"
	"github.com/distkit/distkit-go/internal/redistest"
	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"
)

func TestHealth_saysWhatIsWrong(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	admin := redistest.NewClient(t, &redis.Options{Addr: server.Addr})
	f := fixtureOn(t, redistest.NewClient(t, &redis.Options{Addr: server.Addr, MaxRetries: -1, DialerRetries: 1, ReadTimeout: 200 * time.Millisecond}),
		distkit.WithBackoff(time.Millisecond, time.Millisecond))
	require.NoError(t, f.Health(f.ctx), "a System that is new")
	require.Zero(t, admin.DBSize(f.ctx).Val(), "asking leaves something behind")

	require.NoError(t, admin.ConfigSet(f.ctx, "maxmemory", "1").Err())
	requireOnce(t, errorAt(f.Health(f.ctx), 0), "strict counters: ", "OOM", "raise its maxmemory")
	requireOnce(t, errorAt(f.Health(f.ctx), 1), "lax counters: ", "OOM")
	require.NoError(t, admin.ConfigSet(f.ctx, "maxmemory", "0").Err())
	require.NoError(t, f.Health(f.ctx))

	require.NoError(t, admin.ReplicaOf(f.ctx, "127.0.0.1", "1").Err())
	require.ErrorContains(t, f.Health(f.ctx), "READONLY")
	require.NoError(t, admin.ReplicaOf(f.ctx, "NO", "ONE").Err())
	require.NoError(t, f.Health(f.ctx))

	require.NoError(t, admin.Set(f.ctx, f.prefix+":strict_counter", "text", 0).Err())
	require.ErrorIs(t, f.Health(f.ctx), distkit.ErrWrongType)
	require.NoError(t, admin.Del(f.ctx, f.prefix+":strict_counter").Err())

	server.Pause(t)
	short, cancel := context.WithTimeout(f.ctx, 50*time.Millisecond)
	defer cancel()
	require.ErrorIs(t, f.Health(short), context.DeadlineExceeded)
	server.Resume(t)
	require.NoError(t, f.Health(f.ctx))

	require.NoError(t, f.Shutdown(f.ctx))
	require.ErrorIs(t, f.Health(f.ctx), distkit.ErrClosed)
	require.ErrorIs(t, (*distkit.System)(nil).Health(f.ctx), distkit.ErrClosed)
}

// errorAt is one of the errors that were joined.
func errorAt(err error, at int) error {
	joined, ok := err.(interface{ Unwrap() []error })
	if !ok {
		return err
	}
	return joined.Unwrap()[at]
}

func TestStats_ofAnOutage(t *testing.T) {
	t.Parallel()
	line := &line.Line{}
	f := fixtureOn(t, redistest.NewClient(t, line.Lead(*redistest.Options(t))),
		distkit.WithBackoff(20*time.Millisecond, 50*time.Millisecond), distkit.WithAllowedLag(never))
	require.Equal(t, distkit.Stats{MaxPending: 1_000_000}, f.Stats())
	line.Down(true)
	events := recordEvents(t, f.System)
	f.Strict().PID(keyA).Send(distkit.Inc{N: 1})
	await[distkit.WriterFailed](t, events)
	for i := range 3 {
		require.NoError(t, f.Lax().Add(distkit.MustKey(fmt.Sprint("k", i)), 1))
		require.NoError(t, f.Lax().Add(distkit.MustKey(fmt.Sprint("k", i)), 1))
	}
	stats := f.Stats()
	require.Equal(t, 4, stats.Pending)
	require.Equal(t, 1, stats.Strict.Resident)
	require.Equal(t, 3, stats.Lax.Resident)
	require.Equal(t, 3, stats.Lax.Queued)
	require.ErrorContains(t, stats.Strict.Failing, "refused")
	require.WithinRange(t, stats.Strict.FailingSince, time.Now().Add(-time.Minute), time.Now())
	require.Error(t, f.Health(f.ctx))
	line.Down(false)
	await[distkit.WriterRecovered](t, events)
	f.flush(t)
	stats = f.Stats()
	require.Zero(t, stats.Pending)
	require.NoError(t, stats.Strict.Failing)
	require.Zero(t, stats.Strict.FailingSince)
	require.NoError(t, f.Health(f.ctx))
}

// Of an outage in which all callers gave up, Health is the first to see the end.
func TestHealth_afterAnOutageInWhichAllGaveUp(t *testing.T) {
	t.Parallel()
	line := &line.Line{}
	line.Down(true)
	f := fixtureOn(t, redistest.NewClient(t, line.Lead(*redistest.Options(t))), distkit.WithBackoff(20*time.Millisecond, 50*time.Millisecond))
	short, cancel := context.WithTimeout(f.ctx, 50*time.Millisecond)
	defer cancel()
	_, err := f.Strict().Inc(short, keyA, 1)
	requireNotApplied(t, err, context.DeadlineExceeded)
	require.Error(t, f.Health(f.ctx))
	line.Down(false)
	require.Eventually(t, func() bool { return f.Health(f.ctx) == nil }, 10*time.Second, time.Millisecond)
	require.NoError(t, f.Stats().Strict.Failing)
}

// Beyond the bound what nobody waits for is refused, and told; what is pending is
// written when Redis is back, and then there is room again.
func TestMaxPending_boundsWhatWaitsForRedis(t *testing.T) {
	t.Parallel()
	line := &line.Line{}
	f := fixtureOn(t, redistest.NewClient(t, line.Lead(*redistest.Options(t))),
		distkit.WithBackoff(20*time.Millisecond, 50*time.Millisecond), distkit.WithMaxPending(10))
	events := recordEvents(t, f.System)
	line.Down(true)
	for i := range 5 {
		require.NoError(t, f.Lax().Add(distkit.MustKey(fmt.Sprint("k", i)), 1))
	}
	require.Eventually(t, func() bool { return f.Stats().Pending == 5 }, 10*time.Second, time.Millisecond)
	for range 5 {
		f.Strict().PID(keyA).Send(distkit.Inc{N: 1})
	}
	require.Equal(t, 10, f.Stats().Pending)

	other := distkit.MustKey("other")
	requireNotApplied(t, f.Lax().Add(other, 1), distkit.ErrOverloaded)
	_, err := f.Lax().Set(f.ctx, other, 1)
	requireNotApplied(t, err, distkit.ErrOverloaded)
	_, err = f.Lax().SetAll(f.ctx, distkit.Update{Key: other, N: 1}, distkit.Update{Key: distkit.MustKey("k0"), N: 5})
	require.ErrorIs(t, err, distkit.ErrPartlyApplied)
	require.NoError(t, f.Lax().Add(distkit.MustKey("k1"), 1), "it folds")
	f.Strict().PID(keyA).Send(distkit.Inc{N: 1})
	refused := await[distkit.MessageRefused](t, events)
	requireNotApplied(t, refused.Err, distkit.ErrOverloaded)
	for pid, messages := range map[distkit.PID][]distkit.Message{
		f.Strict().PID(keyA):               {distkit.Inc{N: 1}, distkit.Get{}},
		f.Lax().PID(other):                 {distkit.Inc{N: 1}, distkit.Del{}, distkit.Get{}},
		f.Lax().PID(distkit.MustKey("k0")): {distkit.Del{}},
	} {
		for _, message := range messages { // whose sender is not held up while it waits
			reply, err := f.ActorSystem().Root.RequestFuture(pid.Actor(), message, time.Minute).Result()
			require.NoError(t, err)
			require.IsType(t, distkit.Failure{}, reply)
			requireNotApplied(t, reply.(distkit.Failure).Err, distkit.ErrOverloaded)
		}
	}
	require.Equal(t, 10, f.Stats().Pending)
	require.Equal(t, 10, await[distkit.Overloaded](t, events).MaxPending)
	require.ErrorIs(t, f.Health(f.ctx), distkit.ErrOverloaded)

	line.Down(false)
	n, err := f.Strict().Inc(f.ctx, keyA, 1) // behind the messages
	require.NoError(t, err)
	require.EqualValues(t, 6, n)
	f.flush(t)
	require.Zero(t, f.Stats().Pending)
	require.NoError(t, f.Health(f.ctx))
	require.NoError(t, f.Lax().Add(other, 1))
	f.flush(t)
	require.Equal(t, map[string]string{"k0": "5", "k1": "2", "k2": "1", "k3": "1", "k4": "1", "other": "1"},
		redistest.Client(t).HGetAll(f.ctx, f.prefix+":lax_counter").Val())
}

// Systems share an actor system, which the last of them shuts down.
func TestSystems_shareAnActorSystem(t *testing.T) {
	t.Parallel()
	logger := slog.New(slog.DiscardHandler)
	one, other := newFixture(t, distkit.WithLogger(logger)), newFixture(t, distkit.WithLogger(logger))
	require.Same(t, one.ActorSystem(), other.ActorSystem())
	require.NoError(t, one.Shutdown(one.ctx))
	require.NoError(t, one.Shutdown(one.ctx))
	_, err := other.Strict().Inc(other.ctx, keyA, 1)
	require.NoError(t, err)
	require.False(t, other.ActorSystem().IsStopped())
	require.NoError(t, other.Shutdown(other.ctx))
	require.True(t, other.ActorSystem().IsStopped())
	third := newFixture(t, distkit.WithLogger(logger))
	require.NotSame(t, other.ActorSystem(), third.ActorSystem())
	third.ActorSystem().Shutdown() // by its user
	_, err = third.Strict().Inc(third.ctx, keyA, 1)
	require.NoError(t, err)
	require.NoError(t, third.Shutdown(third.ctx))
}
