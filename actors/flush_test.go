package actors

import (
	"context"
	"fmt"
	"math"
	"testing"
	"time"

	"github.com/distkit/distkit-go/internal/fakeredis"
	"github.com/distkit/distkit-go/internal/ledger"
	"github.com/distkit/distkit-go/internal/redisio"
	"github.com/distkit/distkit-go/internal/verb"
	"github.com/stretchr/testify/require"
)

// The flush coordinator: when changes leave, what a Flush waits for, and what it
// lists.

// lane is a sim whose lax lane has had its first batch, so that the next goes at
// once.
func lane(t *testing.T) *sim {
	t.Helper()
	s := newSim(t, nil)
	require.NoError(t, s.Lax().Clear(context.Background()))
	s.forget()
	return s
}

// applied are when batches were sent, and how many operations they had.
func (s *sim) applied() (at []time.Duration, sizes []int) {
	for _, a := range s.attempts(redisio.Apply) {
		at, sizes = append(at, a.at), append(sizes, len(a.ops))
	}
	return at, sizes
}

func (s *sim) mustFlush(t *testing.T) {
	t.Helper()
	left, err := s.Flush(context.Background())
	require.NoError(t, err)
	require.Empty(t, left)
}

func TestTick_comesAllowedLagAfterTheFirstChange(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := lane(t)
		for range 3 {
			start := s.now()
			require.NoError(t, s.Lax().Add("a", 1))
			s.pass(lag / 2)
			require.NoError(t, s.Lax().Add("b", 1))
			s.until(start + lag - 1)
			at, _ := s.applied()
			require.Empty(t, at)
			s.pass(1)
			at, sizes := s.applied()
			require.Equal(t, []time.Duration{start + lag}, at)
			require.Equal(t, []int{2}, sizes)

			// What comes meanwhile, or soon after, goes when that long has passed again.
			s.pass(latency / 2)
			require.NoError(t, s.Lax().Add("a", 1))
			s.pass(lag / 2)
			require.NoError(t, s.Lax().Add("b", 1))
			s.until(start + 2*lag)
			at, sizes = s.applied()
			require.Equal(t, []time.Duration{start + lag, start + 2*lag}, at)
			require.Equal(t, []int{2, 2}, sizes)

			s.pass(time.Minute)
			at, _ = s.applied()
			require.Len(t, at, 2, "nothing is sent when there is nothing")
			s.forget()
		}
		require.EqualValues(t, 6, s.value(laxCounters, "a"))
		require.EqualValues(t, 6, s.value(laxCounters, "b"))
		require.Empty(t, s.told())
	})
}

// A flush that hangs does not keep the next from its time, as far as there may be
// two at once.
func TestTick_waitsForNoRoundThatHangs(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := lane(t)
		goOn := make(chan struct{})
		s.hold(redisio.Apply, goOn)
		start := s.now()
		for i, key := range []string{"a", "b", "c"} {
			s.until(start + time.Duration(i)*lag)
			require.NoError(t, s.Lax().Add(key, 1))
		}
		s.pass(10 * lag)
		at, _ := s.applied()
		require.Equal(t, []time.Duration{start + lag, start + 2*lag + latency}, at, "the second on a lane that it had to open")
		close(goOn)
		s.pass(2 * latency)
		at, _ = s.applied()
		require.Len(t, at, 3)
		for _, key := range []string{"a", "b", "c"} {
			require.EqualValues(t, 1, s.value(laxCounters, key))
		}
	})
}

func TestRounds_areBounded(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := lane(t)
		const keys = 7000
		goOn := make(chan struct{})
		s.hold(redisio.Apply, goOn)
		for i := range keys {
			require.NoError(t, s.Lax().Add(fmt.Sprint("k", i), int64(i+1)))
		}
		flush := begin(s.Flush, context.Background())
		s.pass(10 * lag)
		_, sizes := s.applied()
		require.Len(t, sizes, 2, "two rounds are under way, of which the first calls are held")
		close(goOn)
		s.pass(20 * latency)
		require.True(t, flush.over())
		require.NoError(t, flush.err)
		_, sizes = s.applied()
		sum := 0
		for _, size := range sizes {
			require.LessOrEqual(t, size, 500)
			sum += size
		}
		require.Equal(t, keys, sum)
		require.Len(t, sizes, 14)
		for i := range keys {
			require.EqualValues(t, i+1, s.value(laxCounters, fmt.Sprint("k", i)))
		}
	})
}

// A Flush waits for all that a key has: what is in flight, Dels behind it, and what
// came after those. It does not wait for what comes later.
func TestFlush_waitsForAllOfAKey_andNothingLater(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := lane(t)
		steps := make(chan struct{})
		s.set(func(c *redisio.Call) fakeredis.Fate {
			if c.Task == redisio.Apply {
				<-steps
			}
			return fakeredis.Deliver
		})
		next := func() {
			steps <- struct{}{}
			s.pass(latency)
		}
		require.NoError(t, s.Lax().Add("a", 1))
		s.pass(lag)
		require.NoError(t, s.Lax().Add("a", 2)) // behind what is in flight
		first := asked(t, &s.Lax().Shards, "a", del)
		require.NoError(t, s.Lax().Add("a", 4))
		second := asked(t, &s.Lax().Shards, "a", del)
		require.NoError(t, s.Lax().Add("a", 8))
		s.pass(latency)
		flush := begin(s.Flush, context.Background())
		require.NoError(t, s.Lax().Add("a", 16)) // of after the Flush, but folded into what it waits for
		require.NoError(t, s.Lax().Add("late", 1))
		for _, want := range []int{1, 2, 3} { // the flight, two Dels
			require.False(t, flush.over())
			next()
			_, sizes := s.applied()
			require.GreaterOrEqual(t, len(sizes), want)
		}
		require.EqualValues(t, 3, (<-first).N)
		require.EqualValues(t, 4, (<-second).N)
		require.False(t, flush.over())
		next()
		for !flush.over() {
			next()
		}
		require.NoError(t, flush.err)
		require.EqualValues(t, 24, s.value(laxCounters, "a"))
		close(steps)
		s.mustFlush(t)
		require.EqualValues(t, 1, s.value(laxCounters, "late"))
	})
}

// A Flush does not wait for the tick, nor for Flushes before it.
func TestFlush_goesAtOnce(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := lane(t)
		require.NoError(t, s.Lax().Add("a", 1))
		from := s.now()
		s.mustFlush(t)
		require.Equal(t, latency, s.now()-from)
		from = s.now()
		s.mustFlush(t)
		require.Zero(t, s.now()-from, "there is nothing")

		goOn := make(chan struct{})
		s.hold(redisio.Apply, goOn)
		require.NoError(t, s.Lax().Add("a", 1))
		one := begin(s.Flush, context.Background())
		s.set(nil)
		require.NoError(t, s.Lax().Add("b", 1))
		two := begin(func(ctx context.Context) ([]Unflushed, error) { return s.Flush(ctx) }, context.Background())
		s.pass(2 * latency)
		require.False(t, one.over())
		require.False(t, two.over(), "it waits for a as well")
		require.EqualValues(t, 1, s.value(laxCounters, "b"))
		close(goOn)
		s.pass(latency)
		require.True(t, one.over() && two.over())
	})
}

// Flushes given up while Redis is away, many of them, cost nothing, and those that
// wait on end when all is in.
func TestFlush_givenUp_leavesTheChangesToTheNext(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := lane(t)
		s.set(all(fakeredis.Unreachable))
		require.NoError(t, s.Lax().Add("a", 5))
		waits := begin(s.Flush, context.Background())
		for range 50 {
			require.NoError(t, s.Lax().Add("b", 1))
			left, err := s.Flush(within(t, wait))
			require.ErrorIs(t, err, context.DeadlineExceeded)
			require.Empty(t, left, "nothing was refused")
		}
		require.False(t, waits.over())
		require.Zero(t, s.value(laxCounters, "a"))
		s.set(nil)
		s.pass(5 * time.Second)
		require.True(t, waits.over())
		require.NoError(t, waits.err)
		require.EqualValues(t, 5, s.value(laxCounters, "a"))
		require.EqualValues(t, 50, s.value(laxCounters, "b"))
		require.Zero(t, running("github.com/distkit/distkit-go/actors/internal/lax.(*Space).Flush"))
		require.Empty(t, s.outagesAside())
	})
}

// setText makes a lax counter one that is no number.
func (s *sim) setText(key, text string) {
	s.redis.Edit(func(now *fakeredis.State) { now.Containers[laxCounters].Fields[key] = text })
}

// What Redis refuses of a key is set aside: a Flush that waits for it lists it, an
// event tells of it, and so does the next reply of the key.
func TestFlush_listsWhatRedisRefuses(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := lane(t)
		s.redis.Set(laxCounters, "most", math.MaxInt64)
		s.setText("text", "x")
		require.NoError(t, s.Lax().Add("most", 5))
		require.NoError(t, s.Lax().Send("text", verb.Op{Kind: verb.Dec, N: 7}))
		require.NoError(t, s.Lax().Add("good", 1))
		one := begin(s.Flush, context.Background())
		two := begin(s.Flush, context.Background())
		s.pass(latency)
		require.True(t, one.over() && two.over())
		want := []Unflushed{{Key: "most", N: 5, Err: verb.Overflows}, {Key: "text", N: -7, Err: verb.NotInteger}}
		require.Equal(t, want, one.left)
		require.Equal(t, want, two.left)
		require.ElementsMatch(t, []any{
			changeRefused{"most", 5, false, verb.Overflows}, changeRefused{"text", -7, false, verb.NotInteger},
		}, s.told())
		require.EqualValues(t, 1, s.value(laxCounters, "good"))
		set := verb.Op{Kind: verb.Set, N: 3}
		r := s.Lax().Do(context.Background(), "text", set)
		require.ErrorIs(t, r.Err, verb.ErrNotApplied)
		require.ErrorIs(t, r.Err, verb.ErrNotInteger)
		require.EqualValues(t, 3, s.Lax().Do(context.Background(), "text", set).N, "it is told once")
		s.mustFlush(t)
		require.EqualValues(t, 3, s.value(laxCounters, "text"))
	})
}

// A Del that Redis refuses puts back what it had dropped, and its caller knows.
func TestDel_refused_putsBackWhatItDropped(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := lane(t)
		s.redis.Set(laxCounters, "a", 100)
		require.NoError(t, s.Lax().Add("a", 5))
		s.set(only(redisio.Apply, fakeredis.Refuse))
		gone := asked(t, &s.Lax().Shards, "a", del)
		require.NoError(t, s.Lax().Add("a", 10))
		flush := begin(s.Flush, context.Background())
		s.pass(2 * latency)
		r := <-gone
		require.ErrorIs(t, r.Err, verb.ErrNotApplied)
		require.ErrorContains(t, r.Err, "NOPERM")
		require.False(t, flush.over(), "it waits for what came back")
		s.set(nil)
		s.pass(time.Second)
		require.True(t, flush.over())
		require.NoError(t, flush.err)
		require.Empty(t, flush.left)
		require.EqualValues(t, 115, s.value(laxCounters, "a"))
		require.Empty(t, s.outagesAside())
	})
}

// While memory is full increments wait until there is some, and Dels go.
func TestFullMemory_dels_goAtOnce_incrementsWait(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := lane(t)
		s.redis.Set(laxCounters, "gone", 7)
		s.redis.SetFull(true)
		require.NoError(t, s.Lax().Add("a", 5))
		s.pass(10 * lag)
		require.EqualValues(t, 7, s.Lax().Do(context.Background(), "gone", del).N)
		require.Zero(t, s.value(laxCounters, "a"))
		s.redis.SetFull(false)
		s.mustFlush(t)
		require.EqualValues(t, 5, s.value(laxCounters, "a"))
		require.Empty(t, s.outagesAside())
	})
}

// inDoubt has the changes that come leave, and lose their reply or never arrive; then
// the ledgers vanish: nobody will ever know.
func (s *sim) inDoubt(fate fakeredis.Fate) {
	s.set(only(redisio.Apply, fate))
	s.pass(lag + latency)
	s.redis.DropLedgers()
	s.set(nil)
}

// A change of which nobody will ever know whether Redis has it is set aside, with an
// event, and listed by the Flush that waits for it as unknown.
func TestFlush_listsWhatNobodyWillKnow(t *testing.T) {
	for _, fate := range []fakeredis.Fate{fakeredis.LoseReply, fakeredis.LoseRequest} {
		bubble(t, func(t *testing.T) {
			s := lane(t)
			require.NoError(t, s.Lax().Add("a", 5))
			require.NoError(t, s.Lax().Send("b", verb.Op{Kind: verb.Set, N: 9}))
			s.set(only(redisio.Apply, fate))
			flush := begin(s.Flush, context.Background())
			s.inDoubt(fate)
			require.NoError(t, s.Lax().Add("a", 1)) // of after it
			s.pass(time.Second)
			require.True(t, flush.over())
			require.NoError(t, flush.err)
			require.Len(t, flush.left, 2)
			for i, want := range []Unflushed{{Key: "a", N: 5}, {Key: "b", N: 9, Assign: true}} {
				got := flush.left[i]
				require.ErrorIs(t, got.Err, verb.ErrOutcomeUnknown)
				require.NotErrorIs(t, got.Err, verb.ErrNotApplied)
				got.Err = nil
				require.Equal(t, want, got)
			}
			told := s.outagesAside()
			require.Equal(t, dataLost{"lax", ledger.LedgerGone}, told[0])
			require.Len(t, told, 3)
			for _, event := range told[1:] {
				require.ErrorIs(t, event.(changeRefused).err, verb.ErrOutcomeUnknown)
			}
			s.mustFlush(t)
			want := int64(1)
			if fate == fakeredis.LoseReply {
				want = 6
			}
			require.Equal(t, want, s.value(laxCounters, "a"), "it goes on with what came later, from what Redis has")
			r := s.Lax().Do(context.Background(), "a", get)
			require.ErrorIs(t, r.Err, verb.ErrNotApplied, "the reply itself is not applied")
			require.ErrorContains(t, r.Err, "outcome unknown")
			require.Equal(t, want, s.Lax().Do(context.Background(), "a", get).N)
		})
	}
}

// A Del of which nobody will ever know does not bring back what it had dropped: that
// is told, as unknown.
func TestDel_unknown_tellsWhatItDropped(t *testing.T) {
	for _, fate := range []fakeredis.Fate{fakeredis.LoseReply, fakeredis.LoseRequest} {
		bubble(t, func(t *testing.T) {
			s := lane(t)
			s.redis.Set(laxCounters, "a", 100)
			s.redis.Set(laxCounters, "other", 1) // lest the container goes with it
			require.NoError(t, s.Lax().Add("a", 5))
			s.set(only(redisio.Apply, fate))
			gone := asked(t, &s.Lax().Shards, "a", del)
			flush := begin(s.Flush, context.Background())
			s.inDoubt(fate)
			r := <-gone
			require.ErrorIs(t, r.Err, verb.ErrOutcomeUnknown)
			s.pass(time.Second)
			require.True(t, flush.over())
			require.NoError(t, flush.err)
			require.Len(t, flush.left, 1)
			require.EqualValues(t, 5, flush.left[0].N)
			require.ErrorIs(t, flush.left[0].Err, verb.ErrOutcomeUnknown)
			told := s.outagesAside()
			require.Len(t, told, 2)
			require.Equal(t, dataLost{"lax", ledger.LedgerGone}, told[0])
			require.EqualValues(t, 5, told[1].(changeRefused).n)
			s.mustFlush(t)
			_, found := s.redis.Get(laxCounters, "a")
			require.Equal(t, fate == fakeredis.LoseRequest, found)
			if found {
				require.EqualValues(t, 100, s.value(laxCounters, "a"), "without the 5")
			}
		})
	}
}

// The same of a Clear: its caller knows, and each key tells what it had dropped, to
// the Flushes of before and after it.
func TestClear_unknown_tellsWhatItDropped(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := lane(t)
		s.redis.Set(laxCounters, "other", 1)
		goOn := make(chan struct{})
		s.hold(redisio.Apply, goOn)
		require.NoError(t, s.Lax().Add("c", 1))
		s.pass(lag) // a round is under way, for which the Clear waits
		require.NoError(t, s.Lax().Add("a", 5))
		require.NoError(t, s.Lax().Add("b", 7))
		s.pass(latency)
		cleared := s.clearing(&s.Lax().Shards)
		flushes := []*flushing{begin(s.Flush, context.Background())}
		s.set(only(redisio.Apply, fakeredis.LoseRequest))
		close(goOn)
		s.pass(latency)
		flushes = append(flushes, begin(s.Flush, context.Background()))
		s.inDoubt(fakeredis.LoseRequest)
		require.ErrorIs(t, <-cleared, verb.ErrOutcomeUnknown)
		s.pass(time.Second)
		for _, flush := range flushes {
			require.True(t, flush.over())
			require.NoError(t, flush.err)
			require.Len(t, flush.left, 2)
			for i, want := range []int64{5, 7} {
				require.Equal(t, want, flush.left[i].N)
				require.ErrorIs(t, flush.left[i].Err, verb.ErrOutcomeUnknown)
			}
		}
		require.Len(t, s.outagesAside(), 3)
		s.mustFlush(t)
		require.Zero(t, s.value(laxCounters, "a"))
	})
}

// What is in doubt goes again as it is; what came meanwhile goes behind it, in the
// order of each key, and beside it, of other keys.
func TestFlush_inDoubt_goesAgainAsItIs(t *testing.T) {
	for _, fate := range []fakeredis.Fate{fakeredis.LoseReply, fakeredis.LoseRequest, fakeredis.Delay} {
		bubble(t, func(t *testing.T) {
			s := lane(t)
			s.set(only(redisio.Apply, fate))
			require.NoError(t, s.Lax().Add("a", 5))
			s.pass(lag + latency)
			require.NoError(t, s.Lax().Send("a", verb.Op{Kind: verb.Set, N: 7}))
			require.NoError(t, s.Lax().Add("a", 1))
			s.pass(10 * wait)
			view, err := s.Lax().View(within(t, wait), "a")
			require.NoError(t, err)
			require.EqualValues(t, 8, view.N, "keys go on")
			s.set(nil)
			s.pass(2 * time.Second)
			s.redis.Arrive()
			s.mustFlush(t)
			require.EqualValues(t, 8, s.value(laxCounters, "a"))
			applied := s.attempts(redisio.Apply)
			last := len(applied) - 1
			for _, a := range applied[1:last] {
				require.Equal(t, [3]any{applied[0].seq, applied[0].nonce, applied[0].ops}, [3]any{a.seq, a.nonce, a.ops})
			}
			require.Greater(t, last, 3)
			require.Empty(t, s.outagesAside())
		})
	}
}

// A bug strikes between the making of a round and its first attempt: the next
// incarnation makes that attempt, on the lanes that the round has.
func TestFlush_panicBeforeTheFirstAttempt_leavesTheLaneAsItWas(t *testing.T) {
	bubble(t, func(t *testing.T) {
		frozen := 0
		s := newSim(t, func(cfg *Config) {
			cfg.failAt = func(step string) {
				if step == "coordinator: frozen" {
					if frozen++; frozen == 2 {
						panic("a bug")
					}
				}
			}
		})
		for range 3 {
			require.NoError(t, s.Lax().Add("a", 1))
			s.mustFlush(t)
		}
		require.EqualValues(t, 3, s.value(laxCounters, "a"))
		require.Equal(t, []any{actorPanicked{"panic: a bug"}}, s.told())
		require.Len(t, s.attempts(redisio.Open), 1)
		require.Len(t, s.attempts(redisio.Apply), 3)
	})
}
