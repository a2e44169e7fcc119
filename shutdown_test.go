package distkit_test

import (
	"context"
	"errors"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/distkit/distkit-go"
	"github.com/distkit/distkit-go/internal/redistest"
	"github.com/stretchr/testify/require"
)

func TestShutdown_writesEverythingAccepted(t *testing.T) {
	t.Parallel()
	f := newFixture(t, distkit.WithAllowedLag(never))
	for i := range 100 {
		require.NoError(t, f.Lax().Add(distkit.MustKey(strconv.Itoa(i)), int64(i)))
		f.Strict().PID(keyA).Send(distkit.Inc{N: 1})
	}
	require.NoError(t, f.Shutdown(f.ctx))
	require.Equal(t, "100", f.stored(t, "strict_counter", keyA))
	for i := 1; i < 100; i++ {
		require.Equal(t, strconv.Itoa(i), f.stored(t, "lax_counter", distkit.MustKey(strconv.Itoa(i))))
	}
	ledgers, err := f.client.Keys(f.ctx, f.prefix+":writer:*").Result()
	require.NoError(t, err)
	require.Len(t, ledgers, 2)
	for _, ledger := range ledgers {
		left := f.client.PTTL(f.ctx, ledger).Val()
		require.Positive(t, left, "late copies of a batch must find the ledger")
		require.LessOrEqual(t, left, time.Minute)
	}
}

func TestShutdown_duringCalls_acceptsOrRefusesEachOne(t *testing.T) {
	t.Parallel()
	both(t, func(t *testing.T, _ *fixture, _ distkit.Counter, kind string) {
		for range 20 {
			f := newFixture(t)
			c := f.counters()[kind]
			var applied atomic.Int64
			var callers sync.WaitGroup
			started := make(chan struct{}, 8)
			for range 8 {
				callers.Go(func() {
					for i := 0; ; i++ {
						if i == 5 {
							started <- struct{}{}
						}
						_, err := c.Inc(f.ctx, keyA, 1)
						if err != nil {
							if !errors.Is(err, distkit.ErrClosed) || !errors.Is(err, distkit.ErrNotApplied) {
								t.Errorf("got %v", err)
							}
							return
						}
						applied.Add(1)
					}
				})
			}
			for range 8 {
				<-started
			}
			require.NoError(t, f.Shutdown(f.ctx))
			callers.Wait()
			require.Equal(t, strconv.FormatInt(applied.Load(), 10), f.stored(t, kind, keyA))
		}
	})
}

func TestShutdown_redisGone_listsExactlyWhatIsMissing(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t, redistest.Durable...)
	f := fixtureOn(t, redistest.NewClient(t, patient(server.Addr)), distkit.WithAllowedLag(never))
	require.NoError(t, f.Lax().Add(keyA, 1))
	_, err := f.Lax().Get(f.ctx, keyB)
	require.NoError(t, err)
	f.flush(t)
	server.Kill(t)
	require.NoError(t, f.Lax().Add(keyA, 5))
	require.NoError(t, f.Lax().Add(keyC, -3))
	_, err = f.Lax().Set(f.ctx, keyB, 9)
	require.NoError(t, err)
	waiting := make(chan error, 1)
	go func() {
		_, err := f.Strict().Inc(f.ctx, keyA, 1)
		waiting <- err
	}()

	ctx, cancel := context.WithTimeout(f.ctx, 300*time.Millisecond)
	defer cancel()
	err = f.Shutdown(ctx)
	var left *distkit.UnflushedError
	require.ErrorAs(t, err, &left)
	require.ErrorIs(t, err, context.DeadlineExceeded)
	require.Len(t, left.Changes, 3)
	for i, want := range []distkit.Unflushed{{Key: keyA, N: 5}, {Key: keyB, N: 9, Assigned: true}, {Key: keyC, N: -3}} {
		got := left.Changes[i]
		require.Error(t, got.Err)
		got.Err = nil
		require.Equal(t, want, got)
	}
	err = <-waiting
	require.Error(t, err, "no caller waits for ever")
	require.NotEqual(t, errors.Is(err, distkit.ErrNotApplied), errors.Is(err, distkit.ErrOutcomeUnknown), "%v", err)

	again := f.Shutdown(f.ctx)
	require.ErrorAs(t, again, &left)
	require.Len(t, left.Changes, 3, "a second call tells the same")
}

func TestShutdown_contextAlreadyEnded_stopsAtOnce(t *testing.T) {
	t.Parallel()
	f := newFixture(t, distkit.WithAllowedLag(never))
	_, err := f.Lax().Get(f.ctx, keyA)
	require.NoError(t, err)
	require.NoError(t, f.Lax().Add(keyA, 5))
	ended, cancel := context.WithCancel(f.ctx)
	cancel()
	err = f.Shutdown(ended)
	if err == nil { // the flush was quicker than the look at the context
		require.Equal(t, "5", f.stored(t, "lax_counter", keyA))
	} else {
		var left *distkit.UnflushedError
		require.ErrorAs(t, err, &left)
		require.ErrorIs(t, err, context.Canceled)
		if len(left.Changes) == 0 { // it was written between the look and the stop
			require.Equal(t, "5", f.stored(t, "lax_counter", keyA))
		} else {
			require.Len(t, left.Changes, 1)
			require.EqualValues(t, 5, left.Changes[0].N)
		}
	}
	require.ErrorIs(t, f.Lax().Add(keyA, 1), distkit.ErrClosed)
}

func TestShutdown_concurrently_isHarmless(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	require.NoError(t, f.Lax().Add(keyA, 1))
	var callers sync.WaitGroup
	for range 8 {
		callers.Go(func() {
			if err := f.Shutdown(f.ctx); err != nil {
				t.Error(err)
			}
		})
		callers.Go(func() {
			if err := f.Flush(f.ctx); err != nil && !errors.Is(err, distkit.ErrClosed) {
				t.Error(err)
			}
		})
	}
	callers.Wait()
	require.Equal(t, "1", f.stored(t, "lax_counter", keyA))
}
