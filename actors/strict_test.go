package actors

import (
	"context"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/distkit/distkit-go/internal/fakeredis"
	"github.com/distkit/distkit-go/internal/ledger"
	"github.com/distkit/distkit-go/internal/redisio"
	"github.com/distkit/distkit-go/internal/verb"
	"github.com/stretchr/testify/require"
)

// The strict writer: who travels with whom, who may still withdraw, and what the
// end of an attempt means to each.

// opened is a sim whose strict lane has had its first batch: "a" is 1.
func opened(t *testing.T) *sim {
	t.Helper()
	s := newSim(t, nil)
	require.EqualValues(t, 1, s.Strict().Do(context.Background(), "a", inc(1)).N)
	require.Len(t, s.attempts(redisio.Open), 1)
	s.forget()
	return s
}

// do carries out a strict operation, from now on.
func (s *sim) do(ctx context.Context, key string, o verb.Op) <-chan verb.Result {
	answer := make(chan verb.Result, 1)
	go func() { answer <- s.Strict().Do(ctx, key, o) }()
	return answer
}

func TestStrict_whatComesMeanwhile_isTheNextBatch(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := opened(t)
		goOn := make(chan struct{})
		s.hold(redisio.Apply, goOn)
		first := asked(t, s.Strict(), "a", inc(1))
		s.pass(latency)
		var answers []<-chan verb.Result
		for range 50 {
			answers = append(answers, asked(t, s.Strict(), "a", inc(1)))
		}
		s.pass(time.Second)
		require.Len(t, s.attempts(redisio.Apply), 1)
		close(goOn)
		require.EqualValues(t, 2, (<-first).N)
		for i, answer := range answers {
			require.EqualValues(t, 3+i, (<-answer).N, "in the order in which they came")
		}
		applied := s.attempts(redisio.Apply)
		require.Len(t, applied, 2)
		require.Len(t, applied[1].ops, 50)
		require.Equal(t, []int64{2, 3}, []int64{applied[0].seq, applied[1].seq})
		require.Equal(t, applied[0].writer, applied[1].writer)
	})
}

func TestStrict_batchesAreBounded_andBatchCallsNotSplit(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := opened(t)
		goOn := make(chan struct{})
		s.hold(redisio.Apply, goOn)
		first := asked(t, s.Strict(), "a", inc(1))
		s.pass(latency)
		var calls sync.WaitGroup
		for c, size := range []int{700, 600, 1, 2300} { // the last is cut by itself
			calls.Go(func() {
				ops := make([]verb.Keyed, size)
				for i := range ops {
					ops[i] = keyed("k"+strconv.Itoa(c), inc(1))
				}
				for i, r := range s.Strict().DoAll(context.Background(), ops) {
					if r.Err != nil || r.N != int64(i+1) {
						t.Errorf("operation %d of %d: %v", i, size, r)
					}
				}
			})
			s.pass(latency)
		}
		close(goOn)
		require.NoError(t, (<-first).Err)
		calls.Wait()
		var sizes []int
		for _, a := range s.attempts(redisio.Apply) {
			sizes = append(sizes, len(a.ops))
		}
		require.Equal(t, []int{1, 701, 600, 1000, 1000, 300}, sizes) // the single call goes first
	})
}

func TestStrict_queued_mayWithdraw_inFlightNot(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := opened(t)
		goOn := make(chan struct{})
		s.set(func(c *redisio.Call) fakeredis.Fate {
			if c.Seq == 2 && c.Leave() { // it is on its way
				<-goOn
			}
			return fakeredis.Deliver
		})
		inFlight := s.do(within(t, wait), "a", inc(10))
		s.pass(latency)
		queued, stays := s.do(within(t, wait), "a", inc(100)), s.do(context.Background(), "a", inc(1000))
		r := <-queued
		require.ErrorIs(t, r.Err, verb.ErrNotApplied)
		require.ErrorIs(t, r.Err, context.DeadlineExceeded)
		r = <-inFlight
		require.ErrorIs(t, r.Err, verb.ErrOutcomeUnknown)
		require.ErrorIs(t, r.Err, context.DeadlineExceeded)
		require.Empty(t, stays)
		close(goOn)
		require.EqualValues(t, 1011, (<-stays).N)
		require.EqualValues(t, 1011, s.value(strictCounters, "a"))
		require.Empty(t, s.told(), "all of it is as it should be")
	})
}

// Until a batch is written, while a connection is being made, callers may withdraw
// from it: it goes without them.
func TestStrict_loaded_mayWithdraw_untilItIsWritten(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := opened(t)
		goOn := make(chan struct{})
		s.hold(redisio.Apply, goOn)
		gone, stays := s.do(within(t, wait), "a", inc(100)), s.do(context.Background(), "a", inc(1000))
		r := <-gone
		require.ErrorIs(t, r.Err, verb.ErrNotApplied)
		require.Empty(t, stays)
		close(goOn)
		require.EqualValues(t, 1001, (<-stays).N)
		require.EqualValues(t, 1001, s.value(strictCounters, "a"))
		for _, a := range s.attempts(redisio.Apply) {
			require.EqualValues(t, 2, a.seq, "nothing was applied before")
		}
	})
}

// A batch in doubt goes again as it is, whatever its callers do, until the answer
// shows what became of it. What came later waits behind it.
func TestStrict_inDoubt_goesAgainAsItIs_andKeepsTheOrder(t *testing.T) {
	for _, fate := range []fakeredis.Fate{fakeredis.LoseReply, fakeredis.LoseRequest, fakeredis.Delay} {
		bubble(t, func(t *testing.T) {
			s := opened(t)
			goOn := make(chan struct{})
			s.hold(redisio.Apply, goOn)
			s.do(context.Background(), "b", inc(1))
			s.pass(latency)
			gone := s.do(within(t, wait), "a", verb.Op{Kind: verb.Set, N: 50})
			s.pass(latency)
			stays := s.do(context.Background(), "a", inc(1))
			s.pass(latency)
			s.forget()
			s.set(only(redisio.Apply, fate))
			close(goOn)
			s.pass(2 * latency) // the two are one batch
			behind := s.do(context.Background(), "a", verb.Op{Kind: verb.Set, N: 7})
			r := <-gone
			require.ErrorIs(t, r.Err, verb.ErrOutcomeUnknown)
			require.ErrorContains(t, r.Err, "last from Redis: fakeredis: ")
			s.pass(10 * wait)
			require.Empty(t, stays)
			require.Empty(t, behind)
			s.set(nil)
			s.pass(time.Second)
			s.redis.Arrive()
			result := <-stays
			require.NoError(t, result.Err)
			require.EqualValues(t, 51, result.N)
			require.EqualValues(t, 7, (<-behind).N)
			require.EqualValues(t, 7, s.value(strictCounters, "a"))
			applied := s.attempts(redisio.Apply)
			last := len(applied) - 1
			require.Len(t, applied[0].ops, 2)
			for _, a := range applied[1:last] {
				require.Equal(t, [3]any{applied[0].seq, applied[0].nonce, applied[0].ops}, [3]any{a.seq, a.nonce, a.ops})
			}
			require.Greater(t, last, 3)
			require.Len(t, applied[last].ops, 1)
			require.Equal(t, applied[0].seq+1, applied[last].seq)
			told := s.outages()
			require.Equal(t, writerFailed{"strict", 1}, told[0])
			require.Equal(t, writerRecovered{"strict", len(told) - 1}, told[len(told)-1])
			require.Empty(t, s.told())
		})
	}
}

// A batch that surely was not applied is thawed: who does not want to wait withdraws,
// and the others go with what came meanwhile, in the order in which they came.
func TestStrict_notApplied_isThawed(t *testing.T) {
	for _, fate := range []fakeredis.Fate{fakeredis.Unreachable, fakeredis.Busy} {
		bubble(t, func(t *testing.T) {
			s := opened(t)
			s.redis.Latency = 0 // its context ends between two attempts, not within one
			s.set(all(fate))
			gone := s.do(within(t, wait), "a", inc(100))
			s.pass(latency)
			stays := s.do(context.Background(), "a", verb.Op{Kind: verb.Set, N: 50})
			s.pass(latency)
			behind := s.do(context.Background(), "a", inc(1))
			r := <-gone
			require.ErrorIs(t, r.Err, verb.ErrNotApplied)
			require.ErrorIs(t, r.Err, context.DeadlineExceeded)
			require.ErrorContains(t, r.Err, "last from Redis: ")
			s.set(nil)
			require.EqualValues(t, 50, (<-stays).N)
			require.EqualValues(t, 51, (<-behind).N)
			applied := s.attempts(redisio.Apply)
			last := applied[len(applied)-1]
			require.EqualValues(t, 2, last.seq)
			require.Len(t, last.ops, 2, "in one batch")
			require.Empty(t, s.outagesAside())
		})
	}
}

// outagesAside takes the events that are not of outages.
func (s *sim) outagesAside() []any {
	s.outages()
	return s.told()
}

func TestStrict_refused_failsAtOnce(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := newSim(t, nil)
		s.set(all(fakeredis.Refuse)) // the opening of the lane too
		r := s.Strict().Do(context.Background(), "a", inc(1))
		require.ErrorIs(t, r.Err, verb.ErrNotApplied)
		require.ErrorContains(t, r.Err, "NOPERM")
		s.set(only(redisio.Apply, fakeredis.NoMemory))
		for i, r := range s.Strict().DoAll(context.Background(), []verb.Keyed{keyed("a", inc(1)), keyed("b", inc(1))}) {
			require.ErrorIs(t, r.Err, verb.ErrNotApplied, "%d", i)
			require.ErrorContains(t, r.Err, "OOM")
		}
		require.NoError(t, s.Strict().Send("a", inc(1)))
		s.pass(latency)
		refused := s.told()
		require.Len(t, refused, 1)
		require.ErrorContains(t, refused[0].(messageRefused).err, "OOM")
		s.set(nil)
		require.EqualValues(t, 1, s.Strict().Do(context.Background(), "a", inc(1)).N)
		require.Empty(t, s.told(), "Redis was never lost")
		require.Len(t, s.attempts(redisio.Open), 2)
	})
}

// Where memory is full, what can only free some is carried out all the same.
func TestStrict_fullMemory_takesDels(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := opened(t)
		s.redis.SetFull(true)
		require.ErrorContains(t, s.Strict().Do(context.Background(), "a", inc(1)).Err, "OOM")
		require.EqualValues(t, 1, s.Strict().Do(context.Background(), "a", get).N)
		require.EqualValues(t, 1, s.Strict().Do(context.Background(), "a", del).N)
		require.NoError(t, s.Strict().Clear(context.Background()))
		s.redis.SetFull(false)
		require.Empty(t, s.told())
	})
}

// Reads alone travel as a plain read, which is never in doubt: it may go again as
// often as it takes, and its callers may withdraw to the end.
func TestStrict_reads_areNeverUnknown(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := opened(t)
		s.redis.Set(strictCounters, "b", 7)
		results := s.Strict().DoAll(context.Background(), []verb.Keyed{keyed("a", get), keyed("b", get), keyed("c", get)})
		require.Equal(t, []verb.Result{{N: 1}, {N: 7}, {Absent: true}}, results)
		require.Len(t, s.attempts(redisio.Read), 1)
		require.Empty(t, s.attempts(redisio.Open, redisio.Apply))

		for _, fate := range []fakeredis.Fate{fakeredis.LoseReply, fakeredis.LoseRequest, fakeredis.Delay, fakeredis.Unreachable, fakeredis.Busy} {
			s.set(all(fate))
			gone, stays := s.do(within(t, wait), "a", get), s.do(context.Background(), "b", get)
			r := <-gone
			require.ErrorIs(t, r.Err, verb.ErrNotApplied, "fate %v", fate)
			require.ErrorIs(t, r.Err, context.DeadlineExceeded)
			require.Empty(t, stays)
			s.set(nil)
			require.Equal(t, verb.Result{N: 7}, <-stays)
		}
		s.set(all(fakeredis.Refuse))
		require.ErrorIs(t, s.Strict().Do(context.Background(), "a", get).Err, verb.ErrNotApplied)
		s.set(nil)

		goOn := make(chan struct{})
		s.hold(redisio.Read, goOn)
		gone, stays := s.do(within(t, wait), "a", get), s.do(context.Background(), "b", get)
		require.ErrorIs(t, (<-gone).Err, verb.ErrNotApplied, "it is on its way, and withdraws")
		close(goOn)
		require.Equal(t, verb.Result{N: 7}, <-stays)
		require.Empty(t, s.attempts(redisio.Open, redisio.Apply))
		require.Empty(t, s.outagesAside())
	})
}

// Beside a change a read is one of its batch.
func TestStrict_readsBesideAChange_areOfItsBatch(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := opened(t)
		ops := []verb.Keyed{keyed("a", get), keyed("a", inc(1)), keyed("a", get)}
		require.Equal(t, []verb.Result{{N: 1}, {N: 2}, {N: 2}}, s.Strict().DoAll(context.Background(), ops))
		require.Len(t, s.attempts(redisio.Apply), 1)
		require.Empty(t, s.attempts(redisio.Read))
	})
}

// A batch is in doubt when its ledger vanishes: it is not sent any more, and its
// callers are told that nobody will know. It counts for nobody else.
func TestStrict_ledgerGoneInDoubt_isUnknown(t *testing.T) {
	for _, fate := range []fakeredis.Fate{fakeredis.LoseReply, fakeredis.LoseRequest} {
		bubble(t, func(t *testing.T) {
			s := opened(t)
			s.set(only(redisio.Apply, fate))
			doubt := s.do(context.Background(), "a", inc(10))
			s.pass(latency)
			behind := s.do(context.Background(), "b", inc(1))
			s.pass(latency)
			s.redis.DropLedgers()
			s.set(nil)
			r := <-doubt
			require.ErrorIs(t, r.Err, verb.ErrOutcomeUnknown)
			require.EqualValues(t, 1, (<-behind).N)
			want := int64(1)
			if fate == fakeredis.LoseReply {
				want = 11
			}
			require.Equal(t, want, s.value(strictCounters, "a"))
			require.Equal(t, []any{dataLost{"strict", ledger.LedgerGone}}, s.outagesAside())
		})
	}
}

// A bug strikes between the making of a batch and its first attempt: the next
// incarnation makes that attempt, on the lane that the batch has.
func TestStrict_panicBeforeTheFirstAttempt_leavesTheLaneAsItWas(t *testing.T) {
	bubble(t, func(t *testing.T) {
		var armed atomic.Bool
		s := newSim(t, func(cfg *Config) {
			cfg.failAt = func(step string) {
				if step == "strict writer: loaded" && armed.CompareAndSwap(true, false) {
					panic("a bug")
				}
			}
		})
		for n := int64(1); n <= 4; n++ {
			s.pass(latency) // it has looked for more after the batch before
			armed.Store(n == 3)
			require.EqualValues(t, n, s.Strict().Do(context.Background(), "a", inc(1)).N)
		}
		require.Equal(t, []any{actorPanicked{"panic: a bug"}}, s.told())
		require.Len(t, s.attempts(redisio.Open), 1)
		applied := s.attempts(redisio.Apply)
		require.Len(t, applied, 4)
		for i, a := range applied {
			require.EqualValues(t, i+1, a.seq)
			require.Equal(t, applied[0].writer, a.writer)
		}
	})
}

// A Clear comes after what was sent to any key before it, and before what comes later.
func TestStrict_clear_keepsItsPlace(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := opened(t)
		goOn := make(chan struct{})
		s.hold(redisio.Apply, goOn)
		for _, key := range []string{"a", "b", "c"} {
			require.NoError(t, s.Strict().Add(key, 10))
		}
		cleared := s.clearing(s.Strict())
		for _, key := range []string{"a", "b"} {
			require.NoError(t, s.Strict().Add(key, 100))
		}
		close(goOn)
		require.NoError(t, <-cleared)
		s.pass(10 * latency)
		require.EqualValues(t, 100, s.value(strictCounters, "a"))
		require.EqualValues(t, 100, s.value(strictCounters, "b"))
		require.Zero(t, s.value(strictCounters, "c"))
	})
}

// Those who withdraw from a queue that does not move leave it.
func TestStrict_withdrawn_doNotFillTheQueue(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := opened(t)
		goOn := make(chan struct{})
		s.hold(redisio.Apply, goOn)
		first := asked(t, s.Strict(), "a", inc(1))
		s.pass(latency)
		ctx, cancel := context.WithCancel(context.Background())
		var given sync.WaitGroup
		for range 5000 {
			given.Go(func() {
				if r := s.Strict().Do(ctx, "a", inc(1)); r.Err == nil {
					t.Error("it was withdrawn")
				}
			})
		}
		s.pass(latency)
		cancel()
		given.Wait()
		last := asked(t, s.Strict(), "a", inc(1))
		close(goOn)
		require.EqualValues(t, 2, (<-first).N)
		require.EqualValues(t, 3, (<-last).N)
		require.True(t, slices.ContainsFunc(s.attempts(redisio.Apply), func(a attempt) bool { return len(a.ops) == 1 && a.seq == 3 }))
	})
}

// blockOnce is a fail point that stops who first passes a step until it is let go.
func blockOnce(step string) (at func(string), reached, goOn chan struct{}) {
	reached, goOn = make(chan struct{}), make(chan struct{})
	var once sync.Once
	return func(passed string) {
		if passed == step {
			once.Do(func() { close(reached); <-goOn })
		}
	}, reached, goOn
}

// A Clear passes the actors that have work, so that it comes behind that.
func TestStrict_clear_passesTheKeysThatAreBusy(t *testing.T) {
	bubble(t, func(t *testing.T) {
		at, reached, goOn := blockOnce("strict key: before forward")
		s := newSim(t, func(cfg *Config) { cfg.failAt = at })
		before := s.do(context.Background(), "a", inc(5))
		<-reached
		cleared := s.clearing(s.Strict())
		after := asked(t, s.Strict(), "a", inc(7))
		s.pass(wait)
		require.Empty(t, s.attempts(redisio.Open), "all of it waits for the key")
		close(goOn)
		require.EqualValues(t, 5, (<-before).N)
		require.NoError(t, <-cleared)
		require.EqualValues(t, 7, (<-after).N)
		require.EqualValues(t, 7, s.value(strictCounters, "a"))
	})
}

// The space is closed while a batch call is on its way through its keys: nothing of
// it is applied.
func TestStrict_closedWithinABatchCall_appliesNothingOfIt(t *testing.T) {
	bubble(t, func(t *testing.T) {
		at, reached, goOn := blockOnce("strict key: before forward")
		s := newSim(t, func(cfg *Config) { cfg.failAt = at })
		results := make(chan []verb.Result, 1)
		go func() {
			results <- s.Strict().DoAll(context.Background(), []verb.Keyed{keyed("a", inc(1)), keyed("b", inc(1))})
		}()
		<-reached
		down := begin(s.Shutdown, ended())
		close(goOn)
		for _, r := range <-results {
			require.ErrorIs(t, r.Err, verb.ErrNotApplied)
			require.ErrorIs(t, r.Err, verb.ErrClosed)
		}
		<-down.done
		require.Empty(t, s.redis.Snapshot().Containers)
	})
}

// A caller that withdraws just when its call is about to be written keeps that from
// leaving: which is no outage, and holds up nobody.
func TestWithdrawn_asItLeaves_isNoOutage(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := newSim(t, nil)
		require.NoError(t, s.Strict().Do(context.Background(), "a", inc(1)).Err)
		ctx, leave := context.WithCancel(context.Background())
		left := make(chan verb.Result)
		s.set(func(*redisio.Call) fakeredis.Fate {
			if ctx.Err() == nil {
				leave()
				require.ErrorIs(t, (<-left).Err, verb.ErrNotApplied)
			}
			return fakeredis.Deliver
		})
		go func() { left <- s.Strict().Do(ctx, "a", inc(1)) }()
		synctest.Wait()
		from := s.now()
		require.EqualValues(t, 2, s.Strict().Do(context.Background(), "a", inc(1)).N)
		require.LessOrEqual(t, s.now()-from, 2*latency, "it waits for a restart")
		require.Empty(t, s.outages())
	})
}
