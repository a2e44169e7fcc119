package actors

import (
	"context"
	"runtime"
	"sync/atomic"
	"testing"
	"time"

	"github.com/distkit/distkit-go/internal/op"
	"github.com/distkit/distkit-go/internal/redistest"
	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"
)

// Clears of the lax kind, each held when its round is frozen while others act.
// Reads are held until the test lets them go.

type clears struct {
	*Engine
	frozen, goOn, reads chan struct{}
}

// readsHeld is a go-redis hook that holds reads until the channel is closed.
type readsHeld chan struct{}

func (h readsHeld) DialHook(next redis.DialHook) redis.DialHook { return next }

func (h readsHeld) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		if cmd.Name() == "hmget" {
			<-h
		}
		return next(ctx, cmd)
	}
}

func (h readsHeld) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return next
}

func newClears(t *testing.T, observer Observer, client *redis.Client, prefix string) (*clears, context.Context) {
	c := &clears{frozen: make(chan struct{}), goOn: make(chan struct{}), reads: make(chan struct{})}
	client.AddHook(readsHeld(c.reads))
	e, ctx := newEngineAt(t, observer, client, prefix, func(step string) {
		if step == "coordinator: frozen" {
			c.frozen <- struct{}{}
			<-c.goOn
		}
	})
	c.Engine = e
	return c, ctx
}

// begin asks for a Clear, which has its place behind those asked for before.
func (c *clears) begin() *request {
	r := &request{op: op.Op{Kind: op.Clear}, done: make(chan struct{}, 1)}
	c.flush.wipe(r)
	return r
}

// behind makes changes of a key that wait behind an operation whose read is held:
// 5, then 7 in its place, then one more if it is 7.
func (c *clears) behind(t *testing.T, key string) {
	for _, o := range []op.Op{
		{Kind: op.IncIf, N: 1, If: op.Cond{Cmp: op.Eq, N: 3}}, {Kind: op.Inc, N: 5}, {Kind: op.Set, N: 7},
		{Kind: op.IncIf, N: 1, If: op.Cond{Cmp: op.Eq, N: 7}},
	} {
		require.True(t, c.Send(Lax, key, o))
	}
}

func (c *clears) pass() { <-c.frozen; c.goOn <- struct{}{} }

func (c *clears) end(ctx context.Context, t *testing.T) {
	close(c.reads)
	go func() {
		for range c.frozen {
			c.goOn <- struct{}{}
		}
	}()
	_, err := c.Shutdown(ctx)
	require.NoError(t, err)
	close(c.frozen)
}

func TestClear_wipesWhatWaitsBehindARead(t *testing.T) {
	t.Parallel()
	client := redistest.Client(t)
	prefix, told := redistest.Prefix(t, client), &bug{}
	c, ctx := newClears(t, told, client, prefix)
	one := c.begin()
	<-c.frozen
	c.behind(t, "a")
	two := c.begin()
	c.goOn <- struct{}{}
	c.pass()
	for _, r := range []*request{one, two} {
		result, _ := r.await(ctx, c.flush.lastTrouble)
		require.NoError(t, result.Err)
	}
	c.end(ctx, t)
	require.ErrorIs(t, client.HGet(ctx, prefix+":lax_counter", "a").Err(), redis.Nil)
	require.Zero(t, told.message.Load())
}

func TestClear_refused_leavesWhatWaitedBehindARead(t *testing.T) {
	t.Parallel()
	client := redistest.Client(t)
	prefix, told := redistest.Prefix(t, client), &refusals{}
	c, ctx := newClears(t, told, client, prefix)
	c.begin()
	<-c.frozen
	c.behind(t, "a")
	refused := c.begin()
	c.goOn <- struct{}{}
	<-c.frozen
	require.NoError(t, client.Set(ctx, prefix+":lax_counter", "no hash", 0).Err())
	c.goOn <- struct{}{}
	result, _ := refused.await(ctx, c.flush.lastTrouble)
	require.ErrorIs(t, result.Err, op.ErrWrongType)
	<-c.frozen // what the Clear did not wipe goes to Redis
	require.NoError(t, client.Del(ctx, prefix+":lax_counter").Err())
	c.goOn <- struct{}{}
	c.end(ctx, t)
	require.Equal(t, "7", client.HGet(ctx, prefix+":lax_counter", "a").Val())
	require.Len(t, told.errs, 2, "conditions that nobody has looked at")
	for _, err := range told.errs {
		require.ErrorIs(t, err, op.ErrNotApplied)
		require.ErrorIs(t, err, op.ErrWrongType)
	}
}

// A key has a Del on its way when a Clear wipes what the Del would have; Redis
// goes away, and a Shutdown is given up: the changes are listed.
func TestClear_unsettledAtShutdown_listsWhatItDropped(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	client := redistest.NewClient(t, &redis.Options{Addr: server.Addr, DialerRetries: 1})
	c, _ := newClears(t, &refusals{}, client, "p")
	defer close(c.reads)
	c.begin()
	<-c.frozen
	require.True(t, c.Send(Lax, "a", op.Op{Kind: op.Inc, N: 5}))
	require.True(t, c.Send(Lax, "a", op.Op{Kind: op.Del}))
	c.behind(t, "b")
	c.begin()
	c.goOn <- struct{}{}
	<-c.frozen
	server.Kill(t)
	c.goOn <- struct{}{}
	ended, cancel := context.WithCancel(context.Background())
	cancel()
	left, err := c.Shutdown(ended)
	require.ErrorIs(t, err, context.Canceled)
	require.Len(t, left, 2)
	for i, n := range []int64{5, 7} {
		require.Equal(t, []string{"a", "b"}[i], left[i].Key)
		require.Equal(t, n, left[i].N)
		require.ErrorIs(t, left[i].Err, op.ErrNotApplied)
	}
}

// refusals is an Observer that keeps what is told of operations nobody waits for.
type refusals struct {
	silent
	errs []error // of one key, whose actor tells
}

func (r *refusals) MessageRefused(_ string, err error) { r.errs = append(r.errs, err) }

// A key that is new while a Clear is on its way is not read until the Clear is
// over: what it read could be of before, and it would not know.
func TestClear_onItsWay_newKeysAreReadAfterIt(t *testing.T) {
	t.Parallel()
	client := redistest.Client(t)
	prefix, h := redistest.Prefix(t, client), &flushHeld{flushing: make(chan struct{}), goOn: make(chan struct{})}
	e, ctx := newEngine(t, silent{}, client, prefix)
	require.NoError(t, client.HSet(ctx, prefix+":lax_counter", "a", 7).Err())
	client.AddHook(h)
	t.Cleanup(h.letGo)
	h.hold.Store(true)
	cleared := make(chan error, 1)
	go func() { cleared <- e.Clear(ctx, Lax) }()
	<-h.flushing
	get := newCall("a", op.Op{Kind: op.Get})
	require.True(t, e.offer(Lax, "a", get))
	require.Eventually(t, func() bool { // the coordinator has looked
		e.flush.mu.Lock()
		defer e.flush.mu.Unlock()
		return !e.flush.woken
	}, 30*time.Second, time.Millisecond)
	for range 1000 {
		runtime.Gosched()
		require.Zero(t, h.reads.Load())
	}
	h.letGo()
	require.NoError(t, <-cleared)
	result, _ := get.await(ctx, e.trouble(Lax))
	require.NoError(t, result.Err)
	require.Zero(t, result.N)
}

// A Del is on its way when a Clear overtakes it, and drops what the Del had; Redis
// refuses the Clear and not the Del, which has it again.
func TestClear_refused_givesTheDelItsDropsBack(t *testing.T) {
	t.Parallel()
	client := redistest.Client(t)
	prefix := redistest.Prefix(t, client)
	c, ctx := newClears(t, silent{}, client, prefix)
	c.begin()
	<-c.frozen
	require.True(t, c.Send(Lax, "a", op.Op{Kind: op.Inc, N: 5}))
	del := newCall("a", op.Op{Kind: op.Del})
	require.True(t, c.offer(Lax, "a", del))
	refused := c.begin()
	c.goOn <- struct{}{}
	<-c.frozen
	require.NoError(t, client.Set(ctx, prefix+":lax_counter", "no hash", 0).Err())
	c.goOn <- struct{}{}
	result, _ := refused.await(ctx, c.flush.lastTrouble)
	require.ErrorIs(t, result.Err, op.ErrWrongType)
	<-c.frozen // the Del, or a flush of nothing before it
	require.NoError(t, client.Del(ctx, prefix+":lax_counter").Err())
	require.NoError(t, client.HSet(ctx, prefix+":lax_counter", "a", 100).Err())
	c.goOn <- struct{}{}
	c.end(ctx, t)
	result, _ = del.await(ctx, c.flush.lastTrouble)
	require.NoError(t, result.Err)
	require.EqualValues(t, 105, result.N)
	require.ErrorIs(t, client.HGet(ctx, prefix+":lax_counter", "a").Err(), redis.Nil)
}

// holdsFirst is a go-redis hook that holds the first script calls until the channel
// is closed.
type holdsFirst struct {
	readsHeld
	calls, held *atomic.Int64
}

func (h holdsFirst) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		if cmd.Name() == "evalsha" && h.calls.Add(1) <= maxRounds {
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
	for i := range int64(maxRounds) {
		require.True(t, e.Add(string(rune('a'+i)), 1))
		require.Eventually(t, func() bool { return h.held.Load() == i+1 }, 30*time.Second, time.Millisecond)
	}
	del := e.Do(ctx, Lax, "gone", op.Op{Kind: op.Del})
	close(h.readsHeld)
	require.NoError(t, del.Err)
	require.EqualValues(t, 7, del.N)
}
