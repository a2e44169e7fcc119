package actors

import (
	"context"
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

// Clears of lax counters, each held when its round is frozen while others act.
// Reads are held until the test lets them go.

type clears struct {
	*sim
	frozen, goOn, reads chan struct{}
}

func newClears(t *testing.T) *clears {
	c := &clears{frozen: make(chan struct{}), goOn: make(chan struct{}), reads: make(chan struct{})}
	c.sim = newSim(t, func(cfg *Config) {
		cfg.failAt = func(step string) {
			if step == "coordinator: frozen" {
				c.frozen <- struct{}{}
				<-c.goOn
			}
		}
	})
	c.hold(redisio.Read, c.reads)
	return c
}

// begin asks for a Clear, which has its place behind those asked for before.
func (c *clears) begin() <-chan error { return c.clearing(&c.Lax().Shards) }

// behind makes changes of a key that wait behind an operation whose read is held:
// 5, then 7 in its place, then one more if it is 7.
func (c *clears) behind(t *testing.T, key string) {
	lax := c.Lax()
	require.NoError(t, lax.Send(key, incIf(1, verb.Eq, 3)))
	require.NoError(t, lax.Add(key, 5))
	require.NoError(t, lax.Send(key, verb.Op{Kind: verb.Set, N: 7}))
	require.NoError(t, lax.Send(key, incIf(1, verb.Eq, 7)))
}

func (c *clears) freeze() { <-c.frozen; c.goOn <- struct{}{} }

// foreign says whether the container is of another type; if not, it has a counter
// that nobody asks for.
func (c *clears) foreign(foreign bool) {
	c.redis.Edit(func(s *fakeredis.State) {
		s.Containers[laxCounters] = fakeredis.Hash{Foreign: foreign, Fields: map[string]string{"other": "1"}}
	})
}

func (c *clears) end(t *testing.T) {
	close(c.reads)
	over := make(chan struct{})
	go func() {
		for {
			select {
			case <-c.frozen:
				c.goOn <- struct{}{}
			case <-over:
				return
			}
		}
	}()
	left, err := c.Shutdown(context.Background())
	close(over)
	require.NoError(t, err)
	require.Empty(t, left)
}

func TestClear_wipesWhatWaitsBehindARead(t *testing.T) {
	bubble(t, func(t *testing.T) {
		c := newClears(t)
		one := c.begin()
		<-c.frozen
		c.behind(t, "a")
		two := c.begin()
		c.goOn <- struct{}{}
		c.freeze()
		require.NoError(t, <-one)
		require.NoError(t, <-two)
		c.end(t)
		_, found := c.redis.Get(laxCounters, "a")
		require.False(t, found)
		require.Empty(t, c.told(), "whatever was conditional is part of what was wiped")
	})
}

func TestClear_refused_leavesWhatWaitedBehindARead(t *testing.T) {
	bubble(t, func(t *testing.T) {
		c := newClears(t)
		c.begin()
		<-c.frozen
		c.behind(t, "a")
		refused := c.begin()
		c.goOn <- struct{}{}
		<-c.frozen
		c.foreign(true)
		c.goOn <- struct{}{}
		require.ErrorIs(t, <-refused, verb.ErrWrongType)
		<-c.frozen // what the Clear did not wipe goes to Redis
		c.foreign(false)
		c.goOn <- struct{}{}
		c.end(t)
		require.EqualValues(t, 7, c.value(laxCounters, "a"))
		told := c.told()
		require.Len(t, told, 2, "conditions that nobody has looked at: %#v", told)
		for _, event := range told {
			require.Equal(t, "a", event.(messageRefused).key)
			require.ErrorIs(t, event.(messageRefused).err, verb.ErrNotApplied)
			require.ErrorIs(t, event.(messageRefused).err, verb.ErrWrongType)
		}
	})
}

// A bug strikes while what a refused Clear had dropped is put back: it comes back
// all the same, and a Flush that waits for it ends.
func TestClear_refused_panicOnTelling_losesNothing(t *testing.T) {
	bubble(t, func(t *testing.T) {
		c := newClears(t)
		c.bug = panicsOnce[messageRefused]()
		c.begin()
		<-c.frozen
		c.behind(t, "a")
		flush := begin(c.Flush, context.Background())
		refused := c.begin()
		c.goOn <- struct{}{}
		<-c.frozen
		c.foreign(true)
		c.goOn <- struct{}{}
		require.ErrorIs(t, <-refused, verb.ErrWrongType)
		<-c.frozen
		c.foreign(false)
		require.False(t, flush.over())
		c.goOn <- struct{}{}
		c.pass(latency)
		require.True(t, flush.over())
		require.NoError(t, flush.err)
		require.EqualValues(t, 7, c.value(laxCounters, "a"))
		require.Contains(t, c.told(), actorPanicked{"panic: a bug"})
		c.end(t)
	})
}

// A key has a Del on its way when a Clear wipes what the Del would have; Redis
// goes away, and a Shutdown is given up: the changes are listed.
func TestClear_unsettledAtShutdown_listsWhatItDropped(t *testing.T) {
	for fate, outcome := range map[fakeredis.Fate]error{
		fakeredis.Unreachable: verb.ErrNotApplied,
		fakeredis.LoseRequest: verb.ErrOutcomeUnknown, // for all that we know
		fakeredis.LoseReply:   verb.ErrOutcomeUnknown,
	} {
		bubble(t, func(t *testing.T) {
			c := newClears(t)
			c.begin()
			<-c.frozen
			require.NoError(t, c.Lax().Add("a", 5))
			require.NoError(t, c.Lax().Send("a", del))
			c.behind(t, "b")
			clear := c.begin()
			c.goOn <- struct{}{}
			<-c.frozen
			c.set(all(fate))
			c.goOn <- struct{}{}
			c.pass(10 * wait) // it has been tried again and again
			left, err := c.Shutdown(ended())
			close(c.reads)
			require.ErrorIs(t, err, context.Canceled)
			require.Len(t, left, 2)
			for i, n := range []int64{5, 7} {
				require.Equal(t, []string{"a", "b"}[i], left[i].Key)
				require.Equal(t, n, left[i].N)
				require.ErrorIs(t, left[i].Err, outcome, "fate %v", fate)
			}
			require.ErrorIs(t, <-clear, outcome, "fate %v", fate)
		})
	}
}

// A key that is new while a Clear is on its way is not read until the Clear is
// over: what it read could be of before, and it would not know.
func TestClear_onItsWay_newKeysAreReadAfterIt(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := newSim(t, nil)
		s.redis.Set(laxCounters, "a", 7)
		goOn := make(chan struct{})
		s.hold(redisio.Apply, goOn)
		cleared := s.clearing(&s.Lax().Shards)
		s.pass(latency) // its lane is opened
		require.Len(t, s.attempts(redisio.Apply), 1)
		answer := asked(t, &s.Lax().Shards, "a", get)
		s.pass(wait / 2)
		require.Empty(t, s.attempts(redisio.Read))
		close(goOn)
		require.NoError(t, <-cleared)
		require.Equal(t, verb.Result{Absent: true}, <-answer)
	})
}

// The same, with a Redis that is real.
func TestClear_onItsWay_aNewKeyKnowsNothingOfBefore(t *testing.T) {
	t.Parallel()
	client := redistest.Client(t)
	prefix, h := redistest.Prefix(t, client), newFlushHeld(t)
	e, ctx := newEngine(t, silent{}, client, prefix)
	require.NoError(t, client.HSet(ctx, prefix+":lax_counter", "a", 7).Err())
	client.AddHook(h)
	h.hold.Store(true)
	cleared := make(chan error, 1)
	go func() { cleared <- e.Lax().Clear(ctx) }()
	<-h.flushing
	answer := asked(t, &e.Lax().Shards, "a", get)
	require.Zero(t, h.reads.Load())
	h.letGo()
	require.NoError(t, <-cleared)
	result := <-answer
	require.NoError(t, result.Err)
	require.Zero(t, result.N)
}

// A Del is on its way when a Clear overtakes it, and drops what the Del had; Redis
// refuses the Clear and not the Del, which has it again.
func TestClear_refused_givesTheDelItsDropsBack(t *testing.T) {
	bubble(t, func(t *testing.T) {
		c := newClears(t)
		c.begin()
		<-c.frozen
		require.NoError(t, c.Lax().Add("a", 5))
		gone := asked(t, &c.Lax().Shards, "a", del)
		refused := c.begin()
		c.goOn <- struct{}{}
		<-c.frozen
		c.foreign(true)
		c.goOn <- struct{}{}
		require.ErrorIs(t, <-refused, verb.ErrWrongType)
		<-c.frozen // the Del, or a flush of nothing before it
		c.foreign(false)
		c.redis.Set(laxCounters, "a", 100)
		c.goOn <- struct{}{}
		c.end(t)
		result := <-gone
		require.NoError(t, result.Err)
		require.EqualValues(t, 105, result.N)
		_, found := c.redis.Get(laxCounters, "a")
		require.False(t, found)
	})
}

// Clears that wait while one is on its way travel together, and only those whose
// callers still wait.
func TestClear_thoseThatWait_areOneRound(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := newSim(t, nil)
		goOn := make(chan struct{})
		s.hold(redisio.Apply, goOn)
		one := s.clearing(&s.Lax().Shards)
		given := make(chan error, 1)
		ctx := within(t, wait)
		go func() { given <- s.Lax().Clear(ctx) }()
		two, three := s.clearing(&s.Lax().Shards), s.clearing(&s.Lax().Shards)
		require.NoError(t, s.Lax().Add("a", 5)) // of before two and three
		err := <-given
		require.ErrorIs(t, err, verb.ErrNotApplied)
		require.ErrorIs(t, err, context.DeadlineExceeded)
		close(goOn)
		for _, cleared := range []<-chan error{one, two, three} {
			require.NoError(t, <-cleared)
		}
		_, err = s.Flush(context.Background())
		require.NoError(t, err)
		require.Len(t, s.attempts(redisio.Apply), 2)
		require.Zero(t, s.value(laxCounters, "a"))
	})
}

// holdsFirst is a go-redis hook that holds the first script calls that apply
// something until the channel is closed.
type holdsFirst struct {
	readsHeld
	calls, held *atomic.Int64
}

func (h holdsFirst) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		if applies(cmd) && h.calls.Add(1) <= 2 {
			h.held.Add(1)
			<-h.readsHeld
		}
		return next(ctx, cmd)
	}
}

// As many rounds are under way as may be, and hang: a Del goes out beside them.
func TestDel_waitsForNoRoundThatHangs(t *testing.T) {
	t.Parallel()
	client := redistest.Client(t)
	prefix := redistest.Prefix(t, client)
	e, ctx := newEngine(t, silent{}, client, prefix)
	require.NoError(t, client.HSet(ctx, prefix+":lax_counter", "gone", 7).Err())
	h := holdsFirst{make(readsHeld), new(atomic.Int64), new(atomic.Int64)}
	client.AddHook(h)
	for i := range int64(2) {
		require.NoError(t, e.Lax().Add(string(rune('a'+i)), 1))
		require.Eventually(t, func() bool { return h.held.Load() == i+1 }, 30*time.Second, time.Millisecond)
	}
	result := e.Lax().Do(ctx, "gone", del)
	close(h.readsHeld)
	require.NoError(t, result.Err)
	require.EqualValues(t, 7, result.N)
}
