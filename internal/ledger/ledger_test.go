package ledger

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/distkit/distkit-go/internal/fakeredis"
	"github.com/distkit/distkit-go/internal/redisio"
	"github.com/distkit/distkit-go/internal/verb"
	"github.com/stretchr/testify/require"
)

// What is told to be lost, and which lanes there are. Time is virtual; a round trip
// takes a second.

const container = "p:strict_counter"

// process is a writer and the Redis it writes to.
type process struct {
	*Book
	redis *fakeredis.Redis
}

func newProcess(redis *fakeredis.Redis) *process {
	redis.Latency = time.Second
	return &process{&Book{At: redisio.NewContainer("p", "strict_counter"), Lifetime: 24 * time.Hour}, redis}
}

// drive makes attempts at a batch until there is something else to do than another.
func (p *process) drive(t *testing.T, b *Batch) Verdict {
	t.Helper()
	for attempts := 0; ; attempts++ {
		require.Less(t, attempts, 10)
		b.Sending()
		p.redis.Send(context.Background(), []*redisio.Call{&b.Call})
		if verdict := b.Ended(); verdict != Again {
			return verdict
		}
	}
}

// do carries out a batch, and returns what was lost.
func (p *process) do(t *testing.T, kind verb.Kind, key string) *Loss {
	t.Helper()
	b := p.NewBatch([]verb.Keyed{{Key: key, Op: verb.Op{Kind: kind, N: 1}}}, nil, nil)
	require.Equal(t, Done, p.drive(t, b), "%v", b.Err)
	b.Release()
	return b.Loss
}

func (p *process) inc(t *testing.T) *Loss { t.Helper(); return p.do(t, verb.Inc, "a") }

// virtual runs a test of a process in virtual time.
func virtual(t *testing.T, f func(t *testing.T, p *process)) {
	t.Helper()
	t.Parallel()
	synctest.Test(t, func(t *testing.T) { f(t, newProcess(fakeredis.New())) })
}

func TestLoss_ofTheCounters_isToldOnce(t *testing.T) {
	virtual(t, func(t *testing.T, p *process) {
		for range 3 {
			require.Nil(t, p.inc(t))
		}
		time.Sleep(time.Minute)
		require.Nil(t, p.inc(t))
		seen := time.Now().Add(-time.Second) // when that was sent
		time.Sleep(time.Minute)
		p.redis.DropContainer(container)
		require.Equal(t, &Loss{Reason: CountersGone, Acknowledged: 4, Since: seen}, p.inc(t))
		require.Nil(t, p.inc(t))
		p.redis.DropContainer(container)
		require.Equal(t, int64(2), p.inc(t).Acknowledged, "since it was last lost")
		require.Nil(t, p.inc(t))
	})
}

func TestLoss_ofTheCounters_isToldOnce_thoughSeveralBatchesShowIt(t *testing.T) {
	virtual(t, func(t *testing.T, p *process) {
		require.Nil(t, p.inc(t))
		dels := []verb.Keyed{{Key: "a", Op: verb.Op{Kind: verb.Del}}}
		first, second := p.NewBatch(dels, nil, nil), p.NewBatch(dels, nil, nil)
		p.redis.DropContainer(container)
		first.Sending()
		second.Sending()
		require.Equal(t, redisio.Open, second.Task)
		p.redis.Send(t.Context(), []*redisio.Call{&first.Call, &second.Call})
		require.Equal(t, Done, first.Ended())
		require.Equal(t, CountersGone, first.Loss.Reason)
		require.Equal(t, Again, second.Ended())
		require.Equal(t, Done, p.drive(t, second))
		require.Nil(t, second.Loss)
	})
}

// A deletion that finds nothing does not explain why.
func TestLoss_foundByADeletion_isTold(t *testing.T) {
	virtual(t, func(t *testing.T, p *process) {
		for _, kind := range []verb.Kind{verb.Del, verb.Clear} {
			other := newProcess(p.redis)
			require.Nil(t, p.inc(t))
			require.Nil(t, other.inc(t))
			p.redis.DropContainer(container)
			require.Equal(t, CountersGone, p.do(t, kind, "a").Reason)
			require.Equal(t, CountersGone, other.inc(t).Reason)
		}
	})
}

func TestLoss_ofAllThatRedisHas_isThatOfTheCounters(t *testing.T) {
	virtual(t, func(t *testing.T, p *process) {
		require.Nil(t, p.inc(t))
		require.Nil(t, p.inc(t))
		p.redis.Restore(fakeredis.New().Snapshot())
		loss := p.inc(t)
		require.Equal(t, CountersGone, loss.Reason)
		require.EqualValues(t, 2, loss.Acknowledged)
		require.Nil(t, p.inc(t))
	})
}

func TestLoss_ofTheLedgerAlone_isToldOnlyOfABatchInDoubt(t *testing.T) {
	virtual(t, func(t *testing.T, p *process) {
		require.Nil(t, p.inc(t))
		p.redis.DropLedgers()
		require.Nil(t, p.inc(t))
		p.redis.Fate = func(*redisio.Call) fakeredis.Fate { return fakeredis.LoseReply }
		b := p.NewBatch([]verb.Keyed{{Key: "a", Op: verb.Op{Kind: verb.Inc, N: 1}}}, nil, nil)
		require.Equal(t, Keep, p.drive(t, b))
		p.redis.DropLedgers()
		p.redis.Fate = nil
		require.Equal(t, Unknown, p.drive(t, b))
		require.Equal(t, LedgerGone, b.Loss.Reason)
		require.ErrorIs(t, b.Err, errLedgerGone)
		require.Nil(t, p.inc(t), "the counters are there")
	})
}

func TestLoss_byARollback_saysHowMuch(t *testing.T) {
	virtual(t, func(t *testing.T, p *process) {
		for range 2 {
			require.Nil(t, p.inc(t))
		}
		stale := p.redis.Snapshot()
		for range 3 {
			require.Nil(t, p.inc(t))
		}
		seen := time.Now().Add(-time.Second)
		p.redis.Restore(stale)
		require.Equal(t, &Loss{Reason: RolledBack, Acknowledged: 5, Found: 2, Since: seen}, p.inc(t))
		n, _ := p.redis.Get(container, "a")
		require.EqualValues(t, 3, n)
		require.Nil(t, p.inc(t))
	})
}

// Counters that somebody has deleted are not lost.
func TestLoss_isNoneOfWhatWasDeleted(t *testing.T) {
	virtual(t, func(t *testing.T, p *process) {
		other := newProcess(p.redis)
		for _, empty := range []func(){
			func() { require.Nil(t, p.do(t, verb.Clear, "")) },
			func() { require.Nil(t, p.do(t, verb.Del, "a")) },
			func() { require.Nil(t, other.do(t, verb.Clear, "")) },
			func() { require.Nil(t, other.do(t, verb.Del, "a")) },
			func() { require.Nil(t, other.do(t, verb.Clear, "")); p.redis.DropLedgers() },
			func() { require.Nil(t, other.do(t, verb.Clear, "")); time.Sleep(6 * 24 * time.Hour) },
			func() { // and then again, by the other, who knows of it
				require.Nil(t, other.do(t, verb.Clear, ""))
				require.Nil(t, other.inc(t))
				require.Nil(t, other.do(t, verb.Clear, ""))
			},
		} {
			require.Nil(t, p.inc(t))
			require.Nil(t, other.inc(t))
			time.Sleep(time.Minute)
			empty()
			time.Sleep(time.Minute)
			require.Nil(t, p.inc(t))
			require.Nil(t, other.inc(t))
		}
	})
}

// A deletion that we have seen the counters after says nothing of their loss.
func TestLoss_afterADeletionThatIsOver_isTold(t *testing.T) {
	virtual(t, func(t *testing.T, p *process) {
		other := newProcess(p.redis)
		require.Nil(t, p.inc(t))
		require.Nil(t, other.do(t, verb.Clear, ""))
		require.Nil(t, other.inc(t))
		require.Nil(t, p.inc(t))
		time.Sleep(time.Minute)
		p.redis.DropContainer(container)
		loss := p.inc(t)
		require.NotNil(t, loss)
		require.Equal(t, CountersGone, loss.Reason)
	})
}

// Own deletions, too, reset what is known: nothing is lost of what is not there.
func TestLoss_isNoneWhileThereIsNothing(t *testing.T) {
	virtual(t, func(t *testing.T, p *process) {
		require.Nil(t, p.inc(t))
		require.Nil(t, p.do(t, verb.Clear, ""))
		require.Nil(t, p.do(t, verb.Get, "a"))
		p.redis.Edit(func(s *fakeredis.State) { clear(s.Marks) })
		require.Nil(t, p.do(t, verb.Get, "a"))
		p.redis.DropLedgers()
		require.Nil(t, p.inc(t))
	})
}

// While the keys are being moved no mark is left, and a batch may go without a
// ledger; its own writer knows all the same that it has emptied the container.
func TestLoss_isNoneOfWhatWasDeletedWithoutAMark(t *testing.T) {
	virtual(t, func(t *testing.T, p *process) {
		require.Nil(t, p.inc(t))
		for _, refused := range []int{1, 2} { // without the mark, and without the ledger
			p.free, p.lanes = nil, nil
			p.redis.Fate = func(c *redisio.Call) fakeredis.Fate {
				if c.Task == redisio.Apply && refused > 0 {
					refused--
					return fakeredis.Migrate
				}
				return fakeredis.Deliver
			}
			require.Nil(t, p.do(t, verb.Clear, ""))
			require.Nil(t, p.inc(t))
			require.Nil(t, p.inc(t))
		}
	})
}

// A replayed batch: the container was there when it was applied, and is not now.
func TestLoss_betweenABatchAndItsAnswer_isTold(t *testing.T) {
	virtual(t, func(t *testing.T, p *process) {
		p.redis.Fate = func(c *redisio.Call) fakeredis.Fate {
			if c.Task == redisio.Apply {
				return fakeredis.LoseReply
			}
			return fakeredis.Deliver
		}
		b := p.NewBatch([]verb.Keyed{{Key: "a", Op: verb.Op{Kind: verb.Inc, N: 1}}}, nil, nil)
		require.Equal(t, Keep, p.drive(t, b))
		sent := b.Sent()
		p.redis.DropContainer(container)
		p.redis.Fate = nil
		require.Equal(t, Done, p.drive(t, b))
		require.Equal(t, CountersGone, b.Loss.Reason)
		require.Equal(t, sent, b.Sent())
		b.Release()
		require.Nil(t, p.inc(t))

		// Somebody else has deleted it meanwhile.
		p.redis.Fate = func(*redisio.Call) fakeredis.Fate { return fakeredis.LoseReply }
		b = p.NewBatch([]verb.Keyed{{Key: "a", Op: verb.Op{Kind: verb.Inc, N: 1}}}, nil, nil)
		require.Equal(t, Keep, p.drive(t, b))
		p.redis.Fate = nil
		require.Nil(t, newProcess(p.redis).do(t, verb.Clear, ""))
		require.Equal(t, Done, p.drive(t, b))
		require.Nil(t, b.Loss)
	})
}

func TestLanes_oneBatchEachAtATime_andAreUsedAgain(t *testing.T) {
	virtual(t, func(t *testing.T, p *process) {
		first, second := p.NewBatch(nil, nil, nil), p.NewBatch(nil, nil, nil)
		require.NotEqual(t, first.Writer, second.Writer)
		require.NotEqual(t, first.Nonce, second.Nonce)
		require.Equal(t, Done, p.drive(t, first))
		first.Release()
		third := p.NewBatch(nil, nil, nil)
		require.Equal(t, first.Writer, third.Writer)
		require.EqualValues(t, 2, third.Seq)
		require.Equal(t, first.Nonce, third.Previous)
		require.Equal(t, redisio.Apply, third.Task, "it is open")
		require.Len(t, p.lanes, 2)
		require.Equal(t, Done, p.drive(t, third))
		require.Equal(t, Done, p.drive(t, second))
		third.Release()
		second.Release()
		require.Len(t, p.free, 2)
	})
}

func TestLanes_thatAreGivenUp_areNotUsedAgain(t *testing.T) {
	virtual(t, func(t *testing.T, p *process) {
		require.Nil(t, p.inc(t))
		p.redis.Fate = func(*redisio.Call) fakeredis.Fate { return fakeredis.LoseReply }
		b := p.NewBatch(nil, nil, nil)
		require.Equal(t, Keep, p.drive(t, b))
		p.redis.DropLedgers()
		p.redis.Fate = nil
		require.Equal(t, Unknown, p.drive(t, b))
		b.Release()
		require.Empty(t, p.free)
		require.Empty(t, p.lanes)
		require.NotEqual(t, b.Writer, p.NewBatch(nil, nil, nil).Writer)
	})
}

func TestLanes_oneIsGivenUp_theOthersStay(t *testing.T) {
	virtual(t, func(t *testing.T, p *process) {
		var batches []*Batch
		for range 3 {
			batches = append(batches, p.NewBatch(nil, nil, nil))
			require.Equal(t, Done, p.drive(t, batches[len(batches)-1]))
		}
		for _, b := range batches {
			b.Release()
		}
		p.redis.Edit(func(s *fakeredis.State) { delete(s.Ledgers, p.At.Ledger(batches[1].Writer)) })
		batches = []*Batch{p.NewBatch(nil, nil, nil), p.NewBatch(nil, nil, nil), p.NewBatch(nil, nil, nil)}
		gone := batches[1].Writer
		for _, b := range batches {
			require.Equal(t, Done, p.drive(t, b))
			b.Release()
		}
		require.Len(t, p.lanes, 2, "a free one has taken its place")
		require.ElementsMatch(t, p.lanes, p.free)
		for _, l := range p.lanes {
			require.NotEqual(t, gone, l.id)
		}
	})
}

// Redis fell back to before a lane was opened: that lane's ledger is just missing,
// and an older one tells.
func TestLanes_openedAfterWhatIsLeft_anOlderOneTells(t *testing.T) {
	virtual(t, func(t *testing.T, p *process) {
		inc := []verb.Keyed{{Key: "a", Op: verb.Op{Kind: verb.Inc, N: 1}}}
		require.Nil(t, p.inc(t))
		stale := p.redis.Snapshot()
		old, fresh := p.NewBatch(inc, nil, nil), p.NewBatch(inc, nil, nil)
		for _, b := range []*Batch{old, fresh} {
			require.Equal(t, Done, p.drive(t, b))
			b.Release()
		}
		p.redis.Restore(stale)
		b := p.NewBatch(inc, nil, nil)
		require.Equal(t, fresh.Writer, b.Writer)
		require.Equal(t, Done, p.drive(t, b))
		require.Equal(t, RolledBack, b.Loss.Reason)
		require.EqualValues(t, 2, b.Loss.Acknowledged)
		require.EqualValues(t, 1, b.Loss.Found)
	})
}

func TestLanes_thatAreFenced_areNotUsedAgain(t *testing.T) {
	virtual(t, func(t *testing.T, p *process) {
		require.Nil(t, p.inc(t))
		stale := p.redis.Snapshot()
		require.Nil(t, p.inc(t))
		p.redis.Fate = func(*redisio.Call) fakeredis.Fate { return fakeredis.Delay }
		b := p.NewBatch([]verb.Keyed{{Key: "a", Op: verb.Op{Kind: verb.Inc, N: 1}}}, nil, nil)
		fenced := b.Writer
		require.Equal(t, Keep, p.drive(t, b))
		p.redis.Restore(stale)
		p.redis.Fate = nil
		require.Equal(t, Done, p.drive(t, b))
		require.Equal(t, RolledBack, b.Loss.Reason)
		require.NotEqual(t, fenced, b.Writer)
		b.Release()
		require.Len(t, p.lanes, 1)
		require.Equal(t, 1, p.redis.Arrive())
		n, _ := p.redis.Get(container, "a")
		require.EqualValues(t, 2, n, "the late copy does not pass")
	})
}

// Ledgers of lanes of which late copies may be about have to live on.
func TestRetire_isOfLanesThatWereNeverInDoubt(t *testing.T) {
	virtual(t, func(t *testing.T, p *process) {
		require.Empty(t, p.Retire())
		certain, doubted, unopened := p.NewBatch(nil, nil, nil), p.NewBatch(nil, nil, nil), p.NewBatch(nil, nil, nil)
		require.Equal(t, Done, p.drive(t, certain))
		p.redis.Fate = func(c *redisio.Call) fakeredis.Fate {
			if c.Task == redisio.Apply {
				return fakeredis.LoseReply
			}
			return fakeredis.Deliver
		}
		require.Equal(t, Keep, p.drive(t, doubted))
		p.redis.Fate = func(*redisio.Call) fakeredis.Fate { return fakeredis.Unreachable }
		require.Equal(t, Thaw, p.drive(t, unopened))
		p.redis.Fate = nil
		require.Equal(t, Done, p.drive(t, doubted), "it has been answered since, but late copies may be about")
		for _, b := range []*Batch{certain, doubted, unopened} {
			b.Release()
		}
		calls := p.Retire()
		require.Len(t, calls, 1)
		require.Equal(t, certain.Writer, calls[0].Writer)
		require.Equal(t, redisio.Retire, calls[0].Task)
		p.redis.Send(t.Context(), calls)
		time.Sleep(2 * time.Minute)
		p.redis.Send(t.Context(), calls) // which has what is over its time go
		held := p.redis.Snapshot().Ledgers
		require.NotContains(t, held, p.At.Ledger(certain.Writer))
		require.Contains(t, held, p.At.Ledger(doubted.Writer))
	})
}

// A clone of a process, with all that it knows, writes to the same lane.
func TestClone_takesALaneOfItsOwn(t *testing.T) {
	virtual(t, func(t *testing.T, p *process) {
		require.Nil(t, p.inc(t))
		copied, book := *p.lanes[0], *p.Book
		book.lanes, book.free = []*lane{&copied}, []*lane{&copied}
		clone := &process{&book, p.redis}
		for range 3 {
			require.Nil(t, p.inc(t))
			require.Nil(t, clone.inc(t))
		}
		n, _ := p.redis.Get(container, "a")
		require.EqualValues(t, 7, n)
		require.NotEqual(t, p.lanes[0].id, clone.lanes[0].id)
	})
}

// A Clear on purpose, a batch of which the answer is lost, and another one that sees
// what that has made: the replay tells of no loss.
func TestReplay_afterAClearOnPurpose_alarmsNobody(t *testing.T) {
	t.Parallel()
	for _, onPurpose := range []bool{true, false} {
		synctest.Test(t, func(t *testing.T) {
			redis, at := fakeredis.New(), redisio.NewContainer("p", "lax_counter")
			book := &Book{At: at, Lifetime: time.Hour}
			send := func(b *Batch) Verdict {
				for {
					time.Sleep(time.Second)
					b.Sending()
					redis.Send(t.Context(), []*redisio.Call{&b.Call})
					if v := b.Ended(); v != Again {
						return v
					}
				}
			}
			inc := func() *Batch {
				return book.NewBatch([]verb.Keyed{{Key: "a", Op: verb.Op{Kind: verb.Inc, N: 1}}}, nil, nil)
			}
			first := inc()
			require.Equal(t, Done, send(first))
			first.Release()
			time.Sleep(time.Second)
			redis.DropContainer(at.Name)
			if onPurpose {
				redis.Edit(func(now *fakeredis.State) { now.Marks[at.Name] = time.Now() })
			}
			doubted := inc()
			redis.Fate = func(c *redisio.Call) fakeredis.Fate {
				if c.Task == redisio.Apply && c.Nonce == doubted.Nonce {
					return fakeredis.LoseReply
				}
				return fakeredis.Deliver
			}
			require.Equal(t, Keep, send(doubted))
			redis.Fate = nil
			second := inc()
			require.Equal(t, Done, send(second))
			require.Nil(t, second.Loss)
			require.Equal(t, Done, send(doubted))
			require.True(t, doubted.Replayed)
			require.Equal(t, onPurpose, doubted.Loss == nil)
		})
	}
}
