package distkit_test

import (
	"context"
	"testing"
	"time"

	"github.com/distkit/distkit-go"
	"github.com/distkit/distkit-go/internal/line"
	"github.com/distkit/distkit-go/internal/redistest"
	"github.com/stretchr/testify/require"
)

// What is told of what Redis has lost, and what is not.

// ledgers are the names of the ledgers of a kind.
func (f *fixture) ledgers(t *testing.T, kind string) []string {
	t.Helper()
	names, err := f.client.Keys(f.ctx, f.prefix+":writer:{"+f.prefix+":"+kind+"}:*").Result()
	require.NoError(t, err)
	require.NotEmpty(t, names)
	return names
}

// inc adds 1 to a counter and has it written.
func (f *fixture) inc(t *testing.T, c distkit.Counter, key distkit.Key) {
	t.Helper()
	_, err := c.Inc(f.ctx, key, 1)
	require.NoError(t, err)
	f.flush(t)
}

func TestLedgerGone_notInDoubt_isNoLoss(t *testing.T) {
	t.Parallel()
	both(t, func(t *testing.T, f *fixture, c distkit.Counter, kind string) {
		events := recordEvents(t, f.System)
		for range 3 {
			f.inc(t, c, keyA)
			require.NoError(t, f.client.Del(f.ctx, f.ledgers(t, kind)...).Err())
		}
		f.inc(t, c, keyA)
		require.Equal(t, "4", f.stored(t, kind, keyA))
		require.NoError(t, f.Shutdown(f.ctx))
		require.Empty(t, events.all())
	})
}

func TestLedgerGone_inDoubt_isUnknownAndNeverAppliedAgain(t *testing.T) {
	t.Parallel()
	both(t, func(t *testing.T, f *fixture, _ distkit.Counter, kind string) {
		options := redistest.Options(t)
		line := &line.Line{}
		options = line.Lead(*options)
		system := f.on(t, redistest.NewClient(t, options), distkit.WithBackoff(100*time.Millisecond, 100*time.Millisecond))
		c := map[string]distkit.Counter{"strict_counter": system.Strict(), "lax_counter": system.Lax()}[kind]
		events := recordEvents(t, system)
		_, err := c.Inc(f.ctx, keyA, 1)
		require.NoError(t, err)
		require.NoError(t, system.Flush(f.ctx))

		line.LoseEvery(1)
		told := make(chan error, 1)
		go func() {
			_, err := c.Inc(f.ctx, keyA, 10)
			told <- err
		}()
		await[distkit.WriterFailed](t, events)
		require.NoError(t, f.client.Del(f.ctx, f.ledgers(t, kind)...).Err())
		line.LoseEvery(0)

		lost := await[distkit.DataLost](t, events)
		require.Equal(t, distkit.LedgerGone, lost.Reason)
		if kind == "strict_counter" {
			require.ErrorIs(t, <-told, distkit.ErrOutcomeUnknown)
		} else {
			require.NoError(t, <-told)
			aside := await[distkit.ChangeRefused](t, events)
			require.Equal(t, keyA, aside.Key)
			require.EqualValues(t, 10, aside.N)
			require.ErrorIs(t, aside.Err, distkit.ErrOutcomeUnknown)
		}
		require.Equal(t, "11", f.stored(t, kind, keyA))
		_, err = c.Inc(f.ctx, keyB, 1) // it goes on
		require.NoError(t, err)
		require.NoError(t, system.Shutdown(f.ctx))
		require.Equal(t, "11", f.stored(t, kind, keyA))
		require.Equal(t, "1", f.stored(t, kind, keyB))
	})
}

func TestCountersGone_isToldEveryTime(t *testing.T) {
	t.Parallel()
	both(t, func(t *testing.T, f *fixture, c distkit.Counter, kind string) {
		events := recordEvents(t, f.System)
		for range 3 {
			f.inc(t, c, keyA)
			f.inc(t, c, keyB)
			require.NoError(t, f.client.Del(f.ctx, f.prefix+":"+kind).Err()) // or an eviction
			f.inc(t, c, keyC)
			lost := await[distkit.DataLost](t, events)
			require.Equal(t, distkit.CountersGone, lost.Reason)
			require.Positive(t, lost.Acknowledged)
			require.WithinDuration(t, time.Now(), lost.Since, time.Minute)
			events.clear()
		}
		require.NoError(t, f.client.Del(f.ctx, append(f.ledgers(t, kind), f.prefix+":"+kind)...).Err()) // or FLUSHALL
		f.inc(t, c, keyC)
		require.Equal(t, distkit.CountersGone, await[distkit.DataLost](t, events).Reason)
	})
}

// The batch that finds the counters gone leaves none either, and its reply is lost: what it
// answers when it comes again must not be taken for what a Del leaves.
func TestCountersGone_foundByABatchThatComesAgain_isTold(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	line := &line.Line{}
	system := f.on(t, redistest.NewClient(t, line.Lead(*redistest.Options(t))))
	strict, events := system.Strict(), recordEvents(t, system)
	for _, leavesNone := range []func() error{
		func() error { _, err := strict.IncIf(f.ctx, keyA, distkit.Ge(1), -1); return err },
		func() error {
			_, err := strict.Apply(f.ctx, steps(on(keyB, distkit.Inc{N: 1}), on(keyA, distkit.IncIf{If: distkit.Ge(1), N: -1})))
			return err
		},
	} {
		for range 2 {
			_, err := strict.Inc(f.ctx, keyA, 1)
			require.NoError(t, err)
		}
		require.NoError(t, f.client.Del(f.ctx, f.prefix+":strict_counter").Err()) // or an eviction
		line.Lose(1)
		require.NoError(t, leavesNone())
		require.Zero(t, f.client.Exists(f.ctx, f.prefix+":strict_counter").Val())
		require.Equal(t, distkit.CountersGone, await[distkit.DataLost](t, events).Reason)
		events.clear()
	}

	// A Del of the last one whose reply is lost alarms nobody.
	f.inc(t, strict, keyA)
	line.Lose(1)
	_, err := strict.Del(f.ctx, keyA)
	require.NoError(t, err)
	f.inc(t, strict, keyA)
	require.NoError(t, system.Shutdown(f.ctx))
	for _, e := range events.all() {
		_, lost := e.(distkit.DataLost)
		require.False(t, lost, "%v", e)
	}
}

func TestRolledBack_isTold(t *testing.T) {
	t.Parallel()
	both(t, func(t *testing.T, f *fixture, c distkit.Counter, kind string) {
		events := recordEvents(t, f.System)
		f.inc(t, c, keyA)
		ledger := f.ledgers(t, kind)[0]
		then := f.client.Get(f.ctx, ledger).Val()
		f.inc(t, c, keyA)
		f.inc(t, c, keyA)
		require.NoError(t, f.client.Set(f.ctx, ledger, then, time.Hour).Err()) // a failover to a replica that was behind
		require.NoError(t, f.client.HSet(f.ctx, f.prefix+":"+kind, "a", 1).Err())
		f.inc(t, c, keyB)
		lost := await[distkit.DataLost](t, events)
		require.Equal(t, distkit.RolledBack, lost.Reason)
		require.EqualValues(t, 3, lost.Acknowledged)
		require.EqualValues(t, 1, lost.Found)
	})
}

func TestEmptiedOnPurpose_alarmsNobody(t *testing.T) {
	t.Parallel()
	both(t, func(t *testing.T, f *fixture, c distkit.Counter, kind string) {
		other := f.another(t)
		counters := map[string]distkit.Counter{"strict_counter": other.Strict(), "lax_counter": other.Lax()}
		events, others := recordEvents(t, f.System), recordEvents(t, other)
		for _, empty := range []func(context.Context) error{
			c.Clear,
			func(ctx context.Context) error { _, err := c.Del(ctx, keyA); return err },
		} {
			f.inc(t, c, keyA)
			_, err := counters[kind].Inc(f.ctx, keyA, 1)
			require.NoError(t, err)
			require.NoError(t, other.Flush(f.ctx))
			require.NoError(t, empty(f.ctx))
			_, err = counters[kind].Inc(f.ctx, keyA, 1) // the other System finds it gone
			require.NoError(t, err)
			require.NoError(t, other.Flush(f.ctx))
			require.NoError(t, empty(f.ctx))
			f.inc(t, c, keyA) // and so do we
		}
		require.NoError(t, f.Shutdown(f.ctx))
		require.NoError(t, other.Shutdown(f.ctx))
		require.Empty(t, events.all())
		require.Empty(t, others.all())
	})
}
