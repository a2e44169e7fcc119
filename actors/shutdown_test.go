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
	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"
)

// A Shutdown whose context has ended strikes at every stage that work can be at: what
// was accepted is in Redis, or it is told, and not both. Who still waits is answered.

// stages are the steps that the work passes, and how often.
func stages(t *testing.T) map[string]int {
	s := &steps{passes: map[string]int{}}
	bubble(t, func(t *testing.T) {
		l := newLedgerOfAll(t, func(cfg *Config) { cfg.failAt = s.failPoint })
		l.work()
		left, err := l.Shutdown(context.Background())
		require.NoError(t, err)
		require.Empty(t, left)
		l.check(t, nil)
	})
	return s.passes
}

func TestShutdown_contextEnded_whileAnActorIsAtAStep_addsUp(t *testing.T) {
	for step, passes := range stages(t) {
		for pass := 1; pass <= min(passes, 3); pass++ {
			bubble(t, func(t *testing.T) {
				reached, goOn := make(chan struct{}), make(chan struct{})
				var mu sync.Mutex
				seen := 0
				l := newLedgerOfAll(t, func(cfg *Config) {
					cfg.failAt = func(passed string) {
						if passed != step {
							return
						}
						mu.Lock()
						seen++
						here := seen == pass
						mu.Unlock()
						if here {
							close(reached)
							<-goOn
						}
					}
				})
				l.shutDownAt(t, reached, func() { close(goOn) }, func() {})
			})
			if t.Failed() {
				t.Fatalf("at %q, pass %d", step, pass)
			}
		}
	}
}

// An actor that has panicked waits for its restart, which does not come.
func TestShutdown_contextEnded_whileAnActorWaitsForItsRestart_addsUp(t *testing.T) {
	for step, passes := range stages(t) {
		for pass := 1; pass <= min(passes, 3); pass++ {
			bubble(t, func(t *testing.T) {
				var mu sync.Mutex
				seen, reached := 0, make(chan struct{})
				var l *ledgerOfAll
				l = newLedgerOfAll(t, func(cfg *Config) {
					cfg.BackoffMin, cfg.BackoffMax = 24*time.Hour, 24*time.Hour
					cfg.failAt = func(passed string) {
						if passed != step || l.closed.Load() { // what Shutdown itself does is no actor's
							return
						}
						mu.Lock()
						defer mu.Unlock()
						if seen++; seen == pass+1 {
							close(reached)
						}
						if seen >= pass {
							panic("a bug at " + step)
						}
					}
				})
				l.shutDownAt(t, reached, func() {}, func() {})
			})
			if t.Failed() {
				t.Fatalf("at %q, pass %d", step, pass)
			}
		}
	}
}

// An attempt at a call hangs, before it is written or after, or Redis has gone away
// at it in one of several ways.
func TestShutdown_contextEnded_whileACallIsUnderWay_addsUp(t *testing.T) {
	calls := 0
	bubble(t, func(t *testing.T) {
		l := newLedgerOfAll(t, nil)
		l.work()
		_, err := l.Shutdown(context.Background())
		require.NoError(t, err)
		calls = len(l.attempts(redisio.Open, redisio.Apply, redisio.Read))
	})
	require.Greater(t, calls, 20)
	const hangsBefore, hangsAfter = "hangs before it is written", "hangs after it was written"
	ways := map[string]fakeredis.Fate{
		hangsBefore: fakeredis.Deliver, hangsAfter: fakeredis.Deliver, "unreachable": fakeredis.Unreachable,
		"reply lost": fakeredis.LoseReply, "request lost": fakeredis.LoseRequest, "late": fakeredis.Delay, "busy": fakeredis.Busy,
	}
	for way, fate := range ways {
		for at := 1; at <= calls; at += 1 + at/12 {
			bubble(t, func(t *testing.T) {
				reached, goOn := make(chan struct{}), make(chan struct{})
				l := newLedgerOfAll(t, nil)
				seen := 0
				l.set(func(c *redisio.Call) fakeredis.Fate {
					l.mu.Lock()
					seen++
					now := seen
					l.mu.Unlock()
					switch {
					case now == at:
						close(reached)
						fallthrough
					case now > at:
						if way == hangsAfter {
							c.Leave()
						}
						if fate == fakeredis.Deliver {
							<-goOn
						}
						return fate
					default:
						return fakeredis.Deliver
					}
				})
				l.shutDownAt(t, reached, func() {}, func() { close(goOn) })
			})
			if t.Failed() {
				t.Fatalf("%s, call %d", way, at)
			}
		}
	}
}

// The key is at work when the answer to what it has in flight comes, and that waits
// in its mailbox when everything is stopped: it is known what became of the change.
func TestShutdown_contextEnded_answerInTheMailbox_isTakenIn(t *testing.T) {
	for _, deletes := range []bool{false, true} {
		bubble(t, func(t *testing.T) {
			busy, goOn := make(chan struct{}), make(chan struct{})
			var armed atomic.Bool
			s := newSim(t, func(cfg *Config) {
				cfg.failAt = func(step string) {
					if step == "lax key: claimed" && armed.CompareAndSwap(true, false) {
						close(busy)
						<-goOn
					}
				}
			})
			require.NoError(t, s.Lax().Clear(context.Background()))
			s.redis.Set(laxCounters, "a", 100)
			require.EqualValues(t, 100, s.Lax().Do(context.Background(), "a", get).N)
			answers := make(chan struct{})
			s.set(func(c *redisio.Call) fakeredis.Fate { // it is carried out, and the answer takes long
				if c.Task == redisio.Apply {
					c.Leave()
					<-answers
				}
				return fakeredis.Deliver
			})
			var gone <-chan verb.Result
			if deletes {
				gone = asked(t, &s.Lax().Shards, "a", del)
			} else {
				require.NoError(t, s.Lax().Add("a", 5))
			}
			s.pass(lag)
			armed.Store(true)
			go func() { _, _ = s.Lax().View(context.Background(), "a") }() // the key is at work ...
			<-busy
			close(answers)
			s.pass(10 * latency) // ... when the answer comes
			down := begin(s.Shutdown, ended())
			close(goOn)
			<-down.done
			require.Empty(t, down.left)
			if deletes {
				require.Equal(t, verb.Result{N: 100, Old: 100}, <-gone)
				_, found := s.redis.Get(laxCounters, "a")
				require.False(t, found)
			} else {
				require.EqualValues(t, 105, s.value(laxCounters, "a"))
			}
		})
	}
}

// A hot key has a backlog when a Shutdown has hardly any time: what is in Redis and
// what is listed add up to what was taken.
func TestShutdown_contextEnded_withABacklog_addsUp(t *testing.T) {
	t.Parallel()
	client := redistest.Client(t)
	for range 5 {
		prefix := redistest.Prefix(t, client)
		e, ctx := newEngineAt(t, silent{}, client, prefix, nil)
		var taken atomic.Int64
		var sending sync.WaitGroup
		for range 8 {
			sending.Go(func() {
				for range 3000 {
					if e.Lax().Send("a", verb.Op{Kind: verb.Dec, N: -1}) == nil {
						taken.Add(1)
					}
				}
			})
		}
		sending.Wait()
		left, err := e.Shutdown(ended())
		not, unknown := int64(0), int64(0)
		for _, u := range left {
			if errors.Is(u.Err, verb.ErrOutcomeUnknown) {
				unknown += u.N
			} else {
				not += u.N
			}
		}
		if err == nil {
			require.Zero(t, not+unknown)
		}
		stored := func() int64 {
			n, err := client.HGet(ctx, prefix+":lax_counter", "a").Int64()
			if err != nil && !errors.Is(err, redis.Nil) {
				t.Error(err)
			}
			return n
		}
		// What is listed as unknown may still be on its way.
		require.Eventually(t, func() bool {
			missing := taken.Load() - stored()
			return missing == not || missing == not+unknown
		}, 10*time.Second, time.Millisecond, "taken %d, not applied %d, unknown %d", taken.Load(), not, unknown)
		require.LessOrEqual(t, taken.Load()-stored(), not+unknown)
	}
}

// Reads of strict counters are under way when everything is stopped: they change
// nothing, and so were not applied, though the attempt goes on.
func TestShutdown_contextEnded_strictReadUnderWay_isNotApplied(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := opened(t)
		goOn := make(chan struct{})
		s.hold(redisio.Read, goOn)
		var answers []<-chan verb.Result
		for range 3 {
			answers = append(answers, s.do(context.Background(), "a", get))
			s.pass(latency)
		}
		_, err := s.Shutdown(ended())
		require.ErrorIs(t, err, context.Canceled)
		for _, answer := range answers {
			r := <-answer
			require.ErrorIs(t, r.Err, verb.ErrNotApplied)
			require.ErrorIs(t, r.Err, verb.ErrClosed)
		}
		close(goOn)
	})
}

// Everything that was accepted is written before a Shutdown with enough time ends,
// and the ledgers that nobody needs any more live for a minute.
func TestShutdown_writesEverything_andRetiresItsLedgers(t *testing.T) {
	bubble(t, func(t *testing.T) {
		l := newLedgerOfAll(t, nil)
		worked := make(chan struct{})
		go func() { l.work(); close(worked) }()
		time.Sleep(3 * lag)
		left, err := l.Shutdown(context.Background())
		require.NoError(t, err)
		require.Empty(t, left)
		<-worked
		l.check(t, nil)
		require.NotZero(t, l.accepted["own0"])
		require.Zero(t, l.unknown)
		held := len(l.redis.Snapshot().Ledgers)
		require.GreaterOrEqual(t, held, 2)
		require.Len(t, l.attempts(redisio.Retire), held)
		time.Sleep(time.Minute + time.Second)
		for range 20 {
			_, err = l.Shutdown(ended())
			require.NoError(t, err, "it is over")
		}
		l.redis.Edit(func(now *fakeredis.State) {
			for _, ledger := range now.Ledgers {
				require.False(t, ledger.Expires.After(time.Now()))
			}
		})
	})
}

// A second Shutdown waits for the first, within its own context; who still flushes is
// told that it is over.
func TestShutdown_again_waitsForTheFirst(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := lane(t)
		s.set(all(fakeredis.Unreachable))
		require.NoError(t, s.Lax().Add("a", 5))
		flush := begin(s.Flush, context.Background())
		ctx, cancel := context.WithCancel(context.Background())
		first := begin(s.Shutdown, ctx)
		second := begin(s.Shutdown, context.Background())
		_, err := s.Shutdown(within(t, wait))
		require.ErrorIs(t, err, context.DeadlineExceeded)
		_, err = s.Flush(context.Background())
		require.ErrorIs(t, err, verb.ErrClosed)
		require.Error(t, s.Lax().Add("a", 1))
		require.False(t, first.over() || second.over() || flush.over())
		cancel()
		require.True(t, first.over() && second.over() && flush.over())
		require.ErrorIs(t, flush.err, verb.ErrClosed)
		require.Empty(t, flush.left)
		for _, down := range []*flushing{first, second} {
			require.ErrorIs(t, down.err, context.Canceled)
			require.Len(t, down.left, 1)
			require.EqualValues(t, 5, down.left[0].N)
			require.ErrorIs(t, down.left[0].Err, verb.ErrNotApplied)
			require.ErrorContains(t, down.left[0].Err, "unreachable")
		}
	})
}

// A lane of which a late copy may be about keeps its ledger.
func TestShutdown_lanesInDoubt_keepTheirLedgers(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := opened(t)
		s.set(only(redisio.Apply, fakeredis.Delay))
		answer := s.do(context.Background(), "a", inc(1))
		s.pass(latency)
		s.set(nil)
		require.EqualValues(t, 2, (<-answer).N)
		_, err := s.Shutdown(context.Background())
		require.NoError(t, err)
		require.Empty(t, s.attempts(redisio.Retire))
		require.Equal(t, 1, s.redis.Arrive())
		require.EqualValues(t, 2, s.value(strictCounters, "a"), "the late copy finds its ledger")
	})
}
