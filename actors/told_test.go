package actors

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/distkit/distkit-go/internal/fakeredis"
	"github.com/distkit/distkit-go/internal/redisio"
	"github.com/distkit/distkit-go/internal/redistest"
	"github.com/distkit/distkit-go/internal/verb"
	"github.com/stretchr/testify/require"
)

// What a lax key at rest has published callers are told without its actor. The other
// tests of views and changes meet it too; these are of what it must not change.

// served counts the calls that a lax key's actor has served.
type served struct{ atomic.Int64 }

func (n *served) config(cfg *Config) {
	cfg.failAt = func(step string) {
		if step == "lax key: serving" {
			n.Add(1)
		}
	}
}

func TestTold_withoutTheActor_whileTheViewIsFresh(t *testing.T) {
	bubble(t, func(t *testing.T) {
		var actor served
		s := newSim(t, actor.config)
		s.redis.Set(laxCounters, "a", 100)
		s.get(t, "a")
		s.redis.Set(laxCounters, "a", 1000) // by another process
		actor.Store(0)
		for range 5 {
			n, _ := s.get(t, "a")
			require.EqualValues(t, 100, n)
		}
		require.Zero(t, actor.Load(), "it is told")
		require.Equal(t, verb.Result{N: 101, Old: 100, Applied: true}, s.Lax().Do(context.Background(), "a", inc(1)))
		require.EqualValues(t, 1, actor.Load(), "somebody has to say that there is a change")
		for i := range int64(5) {
			require.EqualValues(t, 102+i, s.Lax().Do(context.Background(), "a", inc(1)).N)
		}
		n, ok := s.Lax().Told("a", verb.Dec, 3)
		require.True(t, ok)
		require.EqualValues(t, 103, n)
		require.EqualValues(t, 1, actor.Load(), "which has been said")
		s.mustFlush(t)
		require.EqualValues(t, 1003, s.value(laxCounters, "a"))
		n, _ = s.get(t, "a")
		require.EqualValues(t, 1003, n)
		s.redis.Set(laxCounters, "a", 2000)
		require.NoError(t, s.Lax().Add("a", 1))
		s.mustFlush(t)
		n, _ = s.get(t, "a")
		require.EqualValues(t, 2001, n, "who is told wants to know what others count")
		require.EqualValues(t, 1, actor.Load())
	})
}

// As long as callers are told, the key counts as used: it is read ahead, so that no
// caller ever waits, and what others count is seen.
func TestTold_countsAsUse(t *testing.T) {
	for _, passivation := range []time.Duration{100 * time.Millisecond, time.Hour} {
		bubble(t, func(t *testing.T) {
			s := newSim(t, func(cfg *Config) { cfg.Passivation = passivation })
			s.seen(t, "a", 0)
			s.pass(2 * lag)
			s.get(t, "a") // the one that finds it too old, and waits
			for i := range int64(3000) {
				s.redis.Set(laxCounters, "a", i)
				s.pass(time.Millisecond)
				n, took := s.get(t, "a")
				require.Zero(t, took, "after %d ms", i)
				require.GreaterOrEqual(t, n, i-int64(lag/time.Millisecond)-2)
			}
		})
	}
}

func TestTold_notWhenTooOld(t *testing.T) {
	for _, staleness := range []time.Duration{0, lag / 2, 10 * lag} {
		bubble(t, func(t *testing.T) {
			s := newSim(t, func(cfg *Config) { cfg.MaxStaleness = staleness })
			s.redis.Set(laxCounters, "a", 100)
			s.get(t, "a")
			s.set(all(fakeredis.Unreachable))
			from, limit := s.now()-latency/2, lag
			if staleness > 0 {
				limit = min(limit, staleness)
			}
			for range 50 {
				s.pass(lag / 4)
				_, told := s.Lax().Told("a", verb.Get, 0)
				require.Equal(t, s.now()-from <= limit, told)
				if staleness == 0 || s.now()-from <= staleness {
					continue
				}
				require.ErrorIs(t, s.Lax().Do(context.Background(), "a", inc(1)).Err, verb.ErrStale)
			}
			s.set(nil)
		})
	}
}

// An error that the next reply is to tell comes before anything is told.
func TestTold_notBeforeARefusal(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := newSim(t, nil)
		s.seen(t, "a", 1)
		require.NoError(t, s.Lax().Do(context.Background(), "a", inc(1)).Err)
		s.setText("a", "text")
		s.pass(lag + 2*latency)
		require.NotEmpty(t, s.events)
		s.setText("a", "7")
		s.pass(5 * lag) // it is read ahead
		require.NotEmpty(t, s.attempts(redisio.Read))
		_, told := s.Lax().Told("a", verb.Get, 0)
		require.False(t, told)
		require.ErrorIs(t, s.Lax().Do(context.Background(), "a", inc(1)).Err, verb.ErrNotInteger)
	})
}

// Every message that comes before a call has its effect in what the call is told.
func TestTold_inOrder(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := newSim(t, nil)
		lax, ctx := s.Lax(), context.Background()
		s.seen(t, "a", 100)
		want := int64(100)
		for i := range int64(500) {
			switch i % 7 {
			case 0:
				want = 10 * i
				require.NoError(t, lax.Do(ctx, "a", verb.Op{Kind: verb.Set, N: want}).Err)
			case 1:
				require.NoError(t, lax.Add("a", i))
				want += i
			case 2:
				require.NoError(t, lax.Send("a", verb.Op{Kind: verb.Set, N: -i}))
				want = -i
			case 3:
				require.Equal(t, want, lax.Do(ctx, "a", del).N)
				want = 0
			case 4:
				results := lax.DoAll(ctx, []verb.Keyed{
					{Key: "a", Op: inc(1)}, {Key: "a", Op: verb.Op{Kind: verb.Set, N: i}}, {Key: "a", Op: inc(2)}, {Key: "a", Op: get}})
				for at, n := range []int64{want + 1, i, i + 2, i + 2} {
					require.NoError(t, results[at].Err)
					require.Equal(t, n, results[at].N)
				}
				want = i + 2
			case 5:
				s.pass(lag)
			}
			require.Equal(t, want, lax.Do(ctx, "a", get).N, "%d", i)
			want++
			require.Equal(t, want, lax.Do(ctx, "a", inc(1)).N, "%d", i)
		}
		s.mustFlush(t)
		require.Equal(t, want, s.value(laxCounters, "a"))
	})
}

// Many add at once and are told, while the key is flushed, asked, read and put to
// sleep: each is told its own place, and Redis has them all.
func TestTold_eachItsOwn(t *testing.T) {
	t.Parallel()
	client := redistest.Client(t)
	cfg := testConfig(silent{})
	cfg.Client, cfg.Prefix, cfg.AllowedLag = client, redistest.Prefix(t, client), time.Millisecond
	e := New(cfg)
	t.Cleanup(func() { _, _ = e.Shutdown(context.Background()) })
	ctx := context.Background()
	const goroutines, each = 8, 3000
	var told [goroutines * each]atomic.Int32
	var done sync.WaitGroup
	over := make(chan struct{})
	for _, other := range []func() error{
		func() error { _, err := e.Flush(ctx); return err },
		func() error { _, err := e.Lax().View(ctx, "a"); return err },
		func() error { return e.Lax().Add("a", 0) },
	} {
		done.Go(func() {
			for {
				select {
				case <-over:
					return
				default:
					if err := other(); err != nil {
						t.Error(err)
						return
					}
				}
			}
		})
	}
	var adding sync.WaitGroup
	for range goroutines {
		adding.Go(func() {
			last := int64(0)
			for range each {
				r := e.Lax().Do(ctx, "a", inc(1))
				if r.Err != nil || r.N <= last || r.N > goroutines*each {
					t.Error(errors.Join(r.Err, errors.New("out of order")))
					return
				}
				last = r.N
				told[r.N-1].Add(1)
			}
		})
	}
	adding.Wait()
	close(over)
	done.Wait()
	for at := range told {
		require.EqualValues(t, 1, told[at].Load(), "%d", at+1)
	}
	left, err := e.Flush(ctx)
	require.NoError(t, err)
	require.Empty(t, left)
	n, err := client.HGet(ctx, cfg.Prefix+":lax_counter", "a").Int64()
	require.NoError(t, err)
	require.EqualValues(t, goroutines*each, n)
}

// What is told counts as accepted: a Shutdown whose context ends lists it.
func TestTold_isListedByAShutdownInVain(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := newSim(t, nil)
		s.seen(t, "a", 1)
		require.NoError(t, s.Lax().Do(context.Background(), "a", inc(1)).Err)
		n, ok := s.Lax().Told("a", verb.Inc, 40)
		require.True(t, ok)
		require.EqualValues(t, 42, n)
		s.set(only(redisio.Apply, fakeredis.Unreachable))
		ctx, cancel := context.WithTimeout(context.Background(), 10*lag)
		defer cancel()
		left, err := s.Shutdown(ctx)
		require.ErrorIs(t, err, context.DeadlineExceeded)
		require.Len(t, left, 1)
		require.EqualValues(t, 41, left[0].N)
		_, ok = s.Lax().Told("a", verb.Inc, 1)
		require.False(t, ok)
	})
}
