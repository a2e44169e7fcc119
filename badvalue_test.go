package distkit_test

import (
	"context"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/distkit/distkit-go"
	"github.com/distkit/distkit-go/internal/redistest"
	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"
)

// requireNotApplied checks the class and the cause of a failure.
func requireNotApplied(t testing.TB, err, cause error) {
	t.Helper()
	require.ErrorIs(t, err, distkit.ErrNotApplied)
	require.NotErrorIs(t, err, distkit.ErrOutcomeUnknown)
	require.ErrorIs(t, err, cause)
}

func TestCounter_badFields_failAloneInABatch(t *testing.T) {
	t.Parallel()
	both(t, func(t *testing.T, f *fixture, c distkit.Counter, kind string) {
		text, full := distkit.MustKey("text"), distkit.MustKey("full")
		require.NoError(t, f.client.HSet(f.ctx, f.prefix+":"+kind, "text", "forty two !O", "full", math.MaxInt64).Err())

		got, err := c.IncAll(f.ctx,
			distkit.Update{Key: keyA, N: 1}, distkit.Update{Key: text, N: 1},
			distkit.Update{Key: full, N: 1}, distkit.Update{Key: keyB, N: 2})
		var batch *distkit.BatchError
		require.ErrorAs(t, err, &batch)
		require.ErrorIs(t, err, distkit.ErrPartlyApplied)
		require.NotErrorIs(t, err, distkit.ErrNotApplied, "calling again would count twice")
		require.NotErrorIs(t, err, distkit.ErrOutcomeUnknown)
		require.ErrorIs(t, err, distkit.ErrOverflow)
		require.ErrorIs(t, err, distkit.ErrNotInteger)
		require.NoError(t, batch.Errs[0])
		requireNotApplied(t, batch.Errs[1], distkit.ErrNotInteger)
		requireNotApplied(t, batch.Errs[2], distkit.ErrOverflow)
		require.NoError(t, batch.Errs[3])
		require.Equal(t, []int64{1, 0, 0, 2}, got)

		// Where nothing was applied the call can be made again.
		_, err = c.GetAll(f.ctx, keyA, text)
		requireNotApplied(t, err, distkit.ErrNotInteger)
		_, err = c.IncAllIf(f.ctx, distkit.UpdateIf{Key: keyA, If: distkit.Lt(0), N: 1}, distkit.UpdateIf{Key: text, If: distkit.Always(), N: 1})
		requireNotApplied(t, err, distkit.ErrNotInteger)

		for name, do := range map[string]func() error{
			"get":   func() error { _, err := c.Get(f.ctx, text); return err },
			"dec":   func() error { _, err := c.Dec(f.ctx, text, 1); return err },
			"incIf": func() error { _, err := c.IncIf(f.ctx, text, distkit.Always(), 1); return err },
			"setIf": func() error { _, err := c.SetIf(f.ctx, text, distkit.Eq(0), 1); return err },
			"del":   func() error { _, err := c.Del(f.ctx, text); return err },
		} {
			err := do()
			require.Error(t, err, name)
			requireNotApplied(t, err, distkit.ErrNotInteger)
		}
		f.flush(t)
		require.Equal(t, "1", f.stored(t, kind, keyA))
		require.Equal(t, "2", f.stored(t, kind, keyB))
		require.Equal(t, "forty two !O", f.stored(t, kind, text))
		require.Equal(t, "9223372036854775807", f.stored(t, kind, full))

		set, err := c.Set(f.ctx, text, 7)
		require.NoError(t, err, "an assignment repairs the field")
		require.EqualValues(t, 7, set)
		f.flush(t)
		require.Equal(t, "7", f.stored(t, kind, text))
	})
}

func TestCounter_notCanonicalFields_areNotIntegers(t *testing.T) {
	t.Parallel()
	both(t, func(t *testing.T, f *fixture, c distkit.Counter, kind string) {
		for _, text := range []string{"", " 1", "1 ", "+1", "007", "-0", "1.0", "1e3", "0x1", "9223372036854775808", "-9223372036854775809", strings.Repeat("9", 400)} {
			require.NoError(t, f.client.HSet(f.ctx, f.prefix+":"+kind, "a", text).Err())
			_, err := c.Get(f.ctx, keyA)
			require.Error(t, err, "%q", text)
			requireNotApplied(t, err, distkit.ErrNotInteger)
		}
	})
}

func TestCounter_wrongType(t *testing.T) {
	t.Parallel()
	both(t, func(t *testing.T, f *fixture, c distkit.Counter, kind string) {
		container := f.prefix + ":" + kind
		require.NoError(t, f.client.Set(f.ctx, container, "not a hash", 0).Err())
		_, err := c.Inc(f.ctx, keyA, 1)
		requireNotApplied(t, err, distkit.ErrWrongType)
		_, err = c.Get(f.ctx, keyA)
		requireNotApplied(t, err, distkit.ErrWrongType)
		_, err = c.Del(f.ctx, keyA)
		requireNotApplied(t, err, distkit.ErrWrongType)
		requireNotApplied(t, c.Clear(f.ctx), distkit.ErrWrongType)
		require.Equal(t, "not a hash", f.client.Get(f.ctx, container).Val(), "another's value is left alone")

		require.NoError(t, f.client.Del(f.ctx, container).Err())
		got, err := c.Inc(f.ctx, keyA, 1)
		require.NoError(t, err)
		require.EqualValues(t, 1, got)
	})
}

func TestCounter_invalidArguments(t *testing.T) {
	t.Parallel()
	both(t, func(t *testing.T, f *fixture, c distkit.Counter, _ string) {
		_, err := c.Inc(f.ctx, distkit.Key{}, 1)
		requireNotApplied(t, err, distkit.ErrInvalidKey)
		_, err = c.GetAll(f.ctx, keyA, distkit.Key{})
		requireNotApplied(t, err, distkit.ErrInvalidKey)
		require.ErrorContains(t, err, "operation 1")
		_, err = c.IncIf(f.ctx, keyA, distkit.Cond{}, 1)
		requireNotApplied(t, err, distkit.ErrNotApplied)
		require.ErrorContains(t, err, "Always, Eq, Ne, Lt, Le, Gt or Ge")
		_, err = c.SetAllIf(f.ctx, distkit.UpdateIf{Key: keyA, N: 1})
		require.ErrorContains(t, err, "operation 0")
		//nolint:staticcheck // a nil context is the point
		_, err = c.Get(nil, keyA)
		require.ErrorContains(t, err, "context is nil")

		ended, cancel := context.WithCancel(f.ctx)
		cancel()
		_, err = c.Inc(ended, keyA, 1)
		requireNotApplied(t, err, context.Canceled)
		_, err = c.IncAll(ended, distkit.Update{Key: keyA, N: 1})
		requireNotApplied(t, err, context.Canceled)
		requireNotApplied(t, c.Clear(ended), context.Canceled)

		got, err := c.Get(f.ctx, keyA)
		require.NoError(t, err)
		require.Zero(t, got, "none of it was applied")
	})
}

func TestNewSystem_badOptions_sayWhatIsAllowed(t *testing.T) {
	t.Parallel()
	client := redis.NewClient(&redis.Options{Addr: "127.0.0.1:1"})
	defer func() { require.NoError(t, client.Close()) }()
	for says, opt := range map[string]distkit.Option{
		"WithPrefix: distkit: not applied": distkit.WithPrefix(distkit.Key{}),
		"closes no hash tag":               distkit.WithPrefix(distkit.MustKey("a}b")),
		"the least is 1ms":                 distkit.WithAllowedLag(0),
		"WithRefreshWait: -1ns":            distkit.WithRefreshWait(-1),
		"WithMaxStaleness: -1ns":           distkit.WithMaxStaleness(-1),
		"WithPassivation: -1ns":            distkit.WithPassivation(-1),
		"WithMaxPending: 0 is too few":     distkit.WithMaxPending(0),
		"WithReplicas: 0 replicas":         distkit.WithReplicas(0, time.Second),
		"at least 1ms":                     distkit.WithReplicas(1, 0),
		"no less than the ReadTimeout":     distkit.WithReplicas(1, time.Hour),
		"WithBackoff: 0s to 1s":            distkit.WithBackoff(0, time.Second),
		"WithBackoff: 1s to 1ms":           distkit.WithBackoff(time.Second, time.Millisecond),
		"actor system is nil":              distkit.WithActorSystem(nil),
		"logger is nil":                    distkit.WithLogger(nil),
		"Option is nil":                    nil,
	} {
		_, err := distkit.NewSystem(client, opt)
		require.ErrorContains(t, err, says)
	}
	_, err := distkit.NewSystem(nil, distkit.WithAllowedLag(0))
	require.ErrorContains(t, err, "client is nil")
	require.ErrorContains(t, err, "WithAllowedLag", "all errors are told at once")
}

func TestSystem_zeroAndClosed_giveErrClosed(t *testing.T) {
	t.Parallel()
	closed := newFixture(t)
	require.NoError(t, closed.Shutdown(closed.ctx))
	require.NoError(t, closed.Shutdown(closed.ctx), "a second call is harmless")
	var zero distkit.System
	ctx := context.Background()
	for name, s := range map[string]*distkit.System{"zero": &zero, "nil": nil, "closed": closed.System} {
		for _, c := range []distkit.Counter{s.Strict(), s.Lax(), &distkit.StrictCounter{}, &distkit.LaxCounter{}} {
			_, err := c.Inc(ctx, keyA, 1)
			requireNotApplied(t, err, distkit.ErrClosed)
			_, err = c.GetAll(ctx, keyA)
			requireNotApplied(t, err, distkit.ErrClosed)
			requireNotApplied(t, c.Clear(ctx), distkit.ErrClosed)
			pid := c.PID(keyA)
			pid.Send(distkit.Inc{N: 1})
			_, err = pid.Request(ctx, distkit.Get{})
			requireNotApplied(t, err, distkit.ErrClosed)
			require.NotNil(t, pid.Actor())
		}
		requireNotApplied(t, s.Lax().Add(keyA, 1), distkit.ErrClosed)
		_, err := s.Lax().View(ctx, keyA)
		requireNotApplied(t, err, distkit.ErrClosed)
		s.Subscribe(func(distkit.Event) {})()
		if name != "closed" {
			require.ErrorIs(t, s.Flush(ctx), distkit.ErrClosed)
			require.NoError(t, s.Shutdown(ctx))
			require.Nil(t, s.ActorSystem())
		}
	}
	var pid distkit.PID
	pid.Send(distkit.Inc{N: 1})
	_, err := pid.Request(ctx, distkit.Get{})
	requireNotApplied(t, err, distkit.ErrClosed)
	require.NotNil(t, pid.Actor())
}

func TestPrefix_withHashTag_worksOnOneNode(t *testing.T) {
	t.Parallel()
	client := redistest.Client(t)
	f := fixtureOn(t, client)
	f.prefix = "{" + f.prefix + "}tagged"
	system := f.another(t)
	_, err := system.Strict().Inc(f.ctx, keyA, 3)
	require.NoError(t, err)
	require.Equal(t, "3", f.stored(t, "strict_counter", keyA))
	require.NoError(t, system.Shutdown(f.ctx))
	ledgers, err := client.Keys(f.ctx, f.prefix+":writer:{"+f.prefix+":strict_counter}:*").Result()
	require.NoError(t, err)
	require.Len(t, ledgers, 1)
}
