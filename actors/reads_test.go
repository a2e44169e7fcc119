package actors

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/distkit/distkit-go/internal/fakeredis"
	"github.com/distkit/distkit-go/internal/redisio"
	"github.com/distkit/distkit-go/internal/redistest"
	"github.com/distkit/distkit-go/internal/verb"
	"github.com/stretchr/testify/require"
)

// How long lax keys wait for reads, to the moment.

// get reads a lax counter, and says how long that took.
func (s *sim) get(t *testing.T, key string) (n int64, took time.Duration) {
	t.Helper()
	from := s.now()
	result := s.Lax().Do(context.Background(), key, get)
	require.NoError(t, result.Err)
	return result.N, s.now() - from
}

// seen has a key known, with a value that grows old, and lets that happen.
func (s *sim) seen(t *testing.T, key string, n int64) {
	t.Helper()
	s.redis.Set(laxCounters, key, n)
	got, _ := s.get(t, key)
	require.Equal(t, n, got)
	s.pass(2 * lag)
	s.forget()
}

func TestRead_isAskedForOnce_byAllWhoWait(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := newSim(t, nil)
		s.redis.Set(laxCounters, "a", 7)
		var answers []<-chan verb.Result
		for range 3 {
			answers = append(answers, asked(t, &s.Lax().Shards, "a", get))
		}
		for _, answer := range answers {
			require.Equal(t, verb.Result{N: 7, Old: 7}, <-answer)
		}
		require.Equal(t, latency, s.now())
		require.Len(t, s.attempts(redisio.Read), 1)
		_, took := s.get(t, "a")
		require.Zero(t, took, "the view is young")
		s.until(latency + lag/2)
		_, took = s.get(t, "a")
		require.Zero(t, took)
		s.until(2*lag + 2*latency)
		_, took = s.get(t, "a")
		require.Equal(t, latency, took, "it is not")
	})
}

// Whoever waits for a read that hangs does so for RefreshWait, counted from the
// first who asked. From then on, until Redis answers somebody, nobody waits.
func TestRefreshWait_isExact(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := newSim(t, nil)
		s.seen(t, "c", 3)
		s.seen(t, "a", 1)
		s.seen(t, "b", 2)
		goOn := make(chan struct{})
		s.hold(redisio.Read, goOn)
		first := asked(t, &s.Lax().Shards, "a", get)
		s.pass(wait / 3)
		n, took := s.get(t, "b")
		require.EqualValues(t, 2, n)
		require.Equal(t, wait-wait/3, took)
		require.EqualValues(t, 1, (<-first).N)
		for _, key := range []string{"a", "b"} {
			_, took = s.get(t, key)
			require.Zero(t, took, "Redis is away")
		}
		require.Len(t, s.attempts(redisio.Read), 1)

		s.redis.Set(laxCounters, "a", 100)
		close(goOn)
		s.pass(2 * latency) // also for b, which asked later
		require.Len(t, s.attempts(redisio.Read), 2)
		view, err := s.Lax().View(context.Background(), "a")
		require.NoError(t, err)
		require.EqualValues(t, 100, view.N)
		_, took = s.get(t, "c")
		require.Equal(t, latency, took, "Redis is back, and somebody waits for it again")
	})
}

// A key never seen before has no view to answer from: it waits within its context.
func TestRefreshWait_isNotForAKeyNeverSeen(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := newSim(t, nil)
		s.set(only(redisio.Read, fakeredis.LoseRequest))
		from := s.now()
		result := s.Lax().Do(within(t, 5*time.Second), "a", get)
		require.ErrorIs(t, result.Err, verb.ErrNotApplied)
		require.ErrorIs(t, result.Err, context.DeadlineExceeded)
		require.ErrorContains(t, result.Err, "the request was lost")
		require.Equal(t, 5*time.Second, s.now()-from)
		answer := asked(t, &s.Lax().Shards, "a", inc(1))
		s.set(nil)
		require.EqualValues(t, 1, (<-answer).N)
	})
}

// A read hangs, and Redis counts as away until a flush shows that it is not: who
// needs the same key's value then waits for the read that hangs, but again not
// longer than RefreshWait.
func TestRefreshWait_boundsTheWaitForAReadThatHangs(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := newSim(t, nil)
		require.NoError(t, s.Lax().Clear(context.Background())) // which opens a lane
		s.seen(t, "a", 1)
		goOn := make(chan struct{})
		s.hold(redisio.Read, goOn)
		_, took := s.get(t, "a")
		require.Equal(t, wait, took)
		_, took = s.get(t, "a")
		require.Zero(t, took)
		require.NoError(t, s.Lax().Add("b", 1))
		_, err := s.Flush(context.Background())
		require.NoError(t, err)
		_, took = s.get(t, "a")
		require.Equal(t, wait, took)
		close(goOn)
	})
}

// Who waits for the result of a change in flight waits for RefreshWait as well, and
// then Redis counts as away for others.
func TestRefreshWait_boundsTheWaitForAFlushThatHangs(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := newSim(t, nil)
		s.seen(t, "b", 2)
		s.seen(t, "a", 1)
		goOn := make(chan struct{})
		s.hold(redisio.Apply, goOn)
		require.NoError(t, s.Lax().Add("a", 1))
		s.pass(lag + 2*latency)
		require.Len(t, s.attempts(redisio.Apply), 1)
		n, took := s.get(t, "a")
		require.EqualValues(t, 2, n)
		require.Equal(t, wait, took)
		_, took = s.get(t, "b")
		require.Zero(t, took)
		s.pass(2 * latency)
		_, took = s.get(t, "a")
		require.Equal(t, wait, took, "b's read has shown that Redis is there")
		close(goOn)
	})
}

// The result of a flush comes while the actor of its key is busy, and behind the end
// of the key's patience: Redis has answered by then, and does not count as away.
func TestAway_isNotSaid_whenRedisHasAnsweredMeanwhile(t *testing.T) {
	bubble(t, func(t *testing.T) {
		busy, goOn := make(chan struct{}), make(chan struct{})
		s := newSim(t, func(cfg *Config) {
			cfg.failAt = func(step string) {
				if step == "lax key: folding" {
					close(busy)
					<-goOn
				}
			}
		})
		s.seen(t, "b", 2)
		s.seen(t, "a", 1)
		flush := make(chan struct{})
		s.hold(redisio.Apply, flush)
		require.NoError(t, s.Lax().Send("a", verb.Op{Kind: verb.Dec, N: 1}))
		s.pass(lag + 2*latency)
		waits := asked(t, &s.Lax().Shards, "a", get)
		s.pass(wait / 2)
		require.NoError(t, s.Lax().Add("a", 0)) // which waits for the next message:
		ctx, cancel := context.WithCancel(context.Background())
		go s.Lax().Do(ctx, "a", get)
		<-busy
		cancel()
		s.pass(wait)
		close(flush)
		s.pass(2 * latency)
		require.Empty(t, waits)
		close(goOn)
		require.EqualValues(t, 0, (<-waits).N)
		_, took := s.get(t, "b")
		require.Equal(t, latency, took, "there is no reason not to wait")
	})
}

// A key that calls go on using is read every half AllowedLag, so that none of them
// waits, and for a second after the last of them.
func TestWatch_keyInUse_isReadEveryHalfLag_untilASecondAfterItsLastUse(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := newSim(t, nil)
		s.seen(t, "a", 1)
		_, took := s.get(t, "a")
		require.Equal(t, latency, took, "the first call that finds the view too old")
		next := s.now() + lag/2
		for range 100 {
			s.pass(lag / 4)
			_, took = s.get(t, "a")
			require.Zero(t, took)
		}
		last := s.now()
		s.pass(time.Minute)
		reads := s.attempts(redisio.Read)[1:]
		for _, read := range reads {
			require.Equal(t, next, read.at)
			next += lag / 2
		}
		require.InDelta(t, last+time.Second, reads[len(reads)-1].at, float64(lag/2))
	})
}

// What a watched key learns is in its view, which nobody has to ask for.
func TestWatch_keyInUse_isReadAheadOfItsCalls(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := newSim(t, nil)
		s.seen(t, "a", 1)
		s.get(t, "a")
		s.redis.Set(laxCounters, "a", 1000)
		s.pass(lag/2 + latency)
		view, err := s.Lax().View(context.Background(), "a")
		require.NoError(t, err)
		require.EqualValues(t, 1000, view.N)
		require.Equal(t, latency, view.Age, "it is as old as the question")
	})
}

// A read that nobody waits for fails: it goes again, and Redis does not count as
// away for good.
func TestWatch_readFails_goesAgain(t *testing.T) {
	const backoff = 2 * time.Millisecond // before the key is to be read the next time
	bubble(t, func(t *testing.T) {
		s := newSim(t, func(c *Config) { c.BackoffMin, c.BackoffMax = backoff, backoff })
		s.seen(t, "b", 2)
		s.seen(t, "c", 3)
		s.seen(t, "a", 1)
		s.get(t, "a")
		s.forget()
		s.set(only(redisio.Read, fakeredis.LoseReply))
		s.pass(lag/2 + latency)
		require.Len(t, s.attempts(redisio.Read), 1)
		require.Equal(t, []any{writerFailed{"lax", 1}}, s.outages())
		_, took := s.get(t, "b")
		require.Zero(t, took, "Redis is away")
		s.set(nil)
		s.pass(backoff + latency)
		again := s.attempts(redisio.Read)[1:]
		require.True(t, slices.ContainsFunc(again, func(a attempt) bool {
			return slices.ContainsFunc(a.ops, func(o verb.Keyed) bool { return o.Key == "a" })
		}), "what nobody waits for is given up: %v", again)
		require.Equal(t, []any{writerRecovered{"lax", 1}}, s.outages())
		_, took = s.get(t, "c")
		require.NotZero(t, took, "it is not any more")
	})
}

// A read that nobody waits for hangs: who asks for one meanwhile waits for
// RefreshWait and no longer.
func TestWatch_readHangs_callsWaitForRefreshWaitOnly(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := newSim(t, nil)
		s.seen(t, "a", 1)
		s.get(t, "a")
		s.forget()
		goOn := make(chan struct{})
		s.hold(redisio.Read, goOn)
		s.pass(2 * lag)
		require.Len(t, s.attempts(redisio.Read), 1)
		_, took := s.get(t, "a")
		require.Equal(t, wait, took)
		require.Len(t, s.attempts(redisio.Read), 1)
		close(goOn)
	})
}

// However many keys ask, those that travel together are bounded, by calls and by
// trips, and all are answered.
func TestTrips_areBounded(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := newSim(t, nil)
		const keys = 7500
		ops := make([]verb.Keyed, keys)
		for i := range ops {
			ops[i] = keyed(fmt.Sprint("k", i), get)
		}
		s.redis.Set(laxCounters, "k7499", 7)
		goOn := make(chan struct{})
		s.hold(redisio.Read, goOn)
		first := asked(t, &s.Lax().Shards, "first", get)
		s.pass(latency)
		results := make(chan []verb.Result)
		go func() { results <- s.Lax().DoAll(context.Background(), ops) }()
		s.pass(latency)
		require.Len(t, s.attempts(redisio.Read), 1, "one trip is under way at most")
		close(goOn)
		require.NoError(t, (<-first).Err)
		all := <-results
		require.Equal(t, verb.Result{N: 7, Old: 7}, all[keys-1])
		trips := map[time.Duration]int{}
		for _, call := range s.attempts(redisio.Read)[1:] {
			require.LessOrEqual(t, len(call.ops), redisio.MaxReads)
			trips[call.at] += len(call.ops)
		}
		require.Len(t, trips, 3)
		total := 0
		for _, size := range trips {
			require.LessOrEqual(t, size, 3*redisio.MaxReads)
			total += size
		}
		require.Equal(t, keys, total)
	})
}

// The same, once, with a Redis that is real.
func TestWatch_ofARealRedis_readsAhead(t *testing.T) {
	t.Parallel()
	client, ctx := redistest.Client(t), context.Background()
	cfg := testConfig(silent{})
	cfg.Client, cfg.Prefix, cfg.AllowedLag = client, redistest.Prefix(t, client), 10*time.Millisecond
	e := New(cfg)
	t.Cleanup(func() { _, _ = e.Shutdown(ctx) })
	require.NoError(t, e.Lax().Do(ctx, "a", get).Err)
	require.Eventually(t, func() bool {
		view, err := e.Lax().View(ctx, "a") // which asks for nothing
		return err == nil && view.Age > cfg.AllowedLag
	}, 30*time.Second, time.Millisecond)
	require.NoError(t, e.Lax().Do(ctx, "a", get).Err)
	require.NoError(t, client.HSet(ctx, cfg.Prefix+":lax_counter", "a", 1000).Err())
	require.Eventually(t, func() bool {
		view, err := e.Lax().View(ctx, "a")
		return err == nil && view.N == 1000
	}, 30*time.Second, time.Millisecond)
}

// A view older than the user allows is no answer, even while Redis is away; what needs
// no view goes on.
func TestMaxStaleness_olderViews_areNoAnswer(t *testing.T) {
	bubble(t, func(t *testing.T) {
		const allowed = wait + lag
		s := newSim(t, func(cfg *Config) { cfg.MaxStaleness = allowed })
		s.redis.Set(laxCounters, "a", 7)
		s.get(t, "a")
		seen := s.now() - latency
		s.set(all(fakeredis.Unreachable))
		s.pass(2 * lag)
		s.get(t, "a") // which finds out that Redis is away
		s.until(seen + allowed)
		n, _ := s.get(t, "a")
		require.EqualValues(t, 7, n, "it is as old as it may be")
		s.pass(1)
		for _, o := range []verb.Op{get, inc(1), incIf(1, verb.Always, 0)} {
			r := s.Lax().Do(context.Background(), "a", o)
			require.ErrorIs(t, r.Err, verb.ErrNotApplied)
			require.ErrorIs(t, r.Err, verb.ErrStale)
			require.ErrorContains(t, r.Err, "unreachable")
		}
		require.NoError(t, s.Lax().Add("a", 1))
		view, err := s.Lax().View(context.Background(), "a")
		require.NoError(t, err)
		require.EqualValues(t, 8, view.N)
		require.Greater(t, view.Age, allowed)
		set := s.Lax().Do(context.Background(), "a", verb.Op{Kind: verb.Set, N: 3})
		require.NoError(t, set.Err)
		n, took := s.get(t, "a")
		require.EqualValues(t, 3, n, "an assignment does not depend on what was read")
		require.Zero(t, took)
		s.set(nil)
		s.pass(2 * time.Second)
		s.mustFlush(t)
		n, _ = s.get(t, "a")
		require.EqualValues(t, 3, n)
	})
}

// A read brings no value: who needs one fails, in its turn; what stands between goes
// on.
func TestRead_bringsNoValue_failsWhoNeedsOne(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := lane(t)
		s.redis.Set(laxCounters, "other", 1)
		s.setText("text", "x")
		goOn := make(chan struct{})
		s.hold(redisio.Read, goOn)
		lax := &s.Lax().Shards
		reads := asked(t, lax, "text", get)
		require.NoError(t, lax.Send("text", incIf(1, verb.Always, 0)))
		require.NoError(t, lax.Add("text", 5))
		sets := asked(t, lax, "text", verb.Op{Kind: verb.Set, N: 7})
		adds := asked(t, lax, "text", inc(1))
		flush := begin(s.Flush, context.Background())
		s.pass(latency)
		require.Empty(t, sets, "it keeps its place")
		close(goOn)
		require.Equal(t, verb.NotInteger, (<-reads).Err)
		require.EqualValues(t, 7, (<-sets).N)
		require.EqualValues(t, 8, (<-adds).N)
		s.pass(10 * latency)
		require.True(t, flush.over())
		require.NoError(t, flush.err)
		require.Empty(t, flush.left)
		require.EqualValues(t, 8, s.value(laxCounters, "text"))
		require.Equal(t, []any{messageRefused{"text", verb.NotInteger}}, s.told())
	})
}

// Redis refuses the read as such: who needs a value is told why, and the next one asks
// again.
func TestRead_refused_isTold(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := newSim(t, nil)
		s.redis.Set(laxCounters, "a", 7)
		s.set(all(fakeredis.Refuse))
		r := s.Lax().Do(context.Background(), "a", get)
		require.ErrorIs(t, r.Err, verb.ErrNotApplied)
		require.ErrorContains(t, r.Err, "NOPERM")
		_, err := s.Lax().View(context.Background(), "a")
		require.ErrorContains(t, err, "NOPERM")
		s.set(nil)
		n, _ := s.get(t, "a")
		require.EqualValues(t, 7, n)
		require.Empty(t, s.told())
	})
}

// A caller that gives up on a read leaves its place to those behind it.
func TestRead_callerGivesUp_thoseBehindItGoOn(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := newSim(t, nil)
		goOn := make(chan struct{})
		s.hold(redisio.Read, goOn)
		gone := make(chan verb.Result, 1)
		ctx := within(t, wait)
		go func() { gone <- s.Lax().Do(ctx, "a", get) }()
		s.pass(latency)
		set := asked(t, &s.Lax().Shards, "a", verb.Op{Kind: verb.Set, N: 5})
		s.pass(latency)
		require.Empty(t, set)
		r := <-gone
		require.ErrorIs(t, r.Err, verb.ErrNotApplied)
		require.EqualValues(t, 5, (<-set).N, "Redis has not answered yet")
		close(goOn)
	})
}
