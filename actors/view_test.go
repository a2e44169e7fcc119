package actors

import (
	"context"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/distkit/distkit-go/internal/op"
	"github.com/distkit/distkit-go/internal/redistest"
	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"
)

// A key long idle is changed, and asked for its value while the change is on
// its way: the answer is the change's result, and Redis is not asked for what
// could not be used.

// flushHeld is a go-redis hook that holds the first script call after hold is
// set, and counts reads.
type flushHeld struct {
	hold           atomic.Bool
	flushing, goOn chan struct{}
	release        sync.Once
	reads          atomic.Int64
}

func (h *flushHeld) letGo() { h.release.Do(func() { close(h.goOn) }) }

func (h *flushHeld) DialHook(next redis.DialHook) redis.DialHook {
	return func(ctx context.Context, network, addr string) (net.Conn, error) { return next(ctx, network, addr) }
}

func (h *flushHeld) see(cmds ...redis.Cmder) {
	is := func(name string) bool {
		return slices.ContainsFunc(cmds, func(cmd redis.Cmder) bool { return cmd.Name() == name })
	}
	if is("hmget") {
		h.reads.Add(1)
	}
	if is("evalsha") && h.hold.CompareAndSwap(true, false) {
		close(h.flushing)
		<-h.goOn
	}
}

func (h *flushHeld) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		h.see(cmd)
		return next(ctx, cmd)
	}
}

func (h *flushHeld) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		h.see(cmds...)
		return next(ctx, cmds)
	}
}

// oldKeyInFlight returns an engine whose key a has an old view, of 1, and a
// change by 1 on its way to Redis, which holds 1000 by somebody else.
func oldKeyInFlight(t *testing.T) (*Engine, context.Context, *flushHeld) {
	client := redistest.Client(t)
	prefix, h := redistest.Prefix(t, client), &flushHeld{flushing: make(chan struct{}), goOn: make(chan struct{})}
	client.AddHook(h)
	e, ctx := newEngine(t, silent{}, client, prefix)
	require.EqualValues(t, 1, e.Do(ctx, Lax, "a", op.Op{Kind: op.Inc, N: 1}).N)
	_, err := e.Flush(ctx)
	require.NoError(t, err)
	require.NoError(t, client.HSet(ctx, prefix+":lax_counter", "a", 1000).Err())
	require.Eventually(t, func() bool {
		view, err := e.View(ctx, "a")
		return err == nil && view.Age > 10*time.Millisecond
	}, 10*time.Second, time.Millisecond)
	t.Cleanup(h.letGo)
	h.hold.Store(true)
	require.True(t, e.Add("a", 1))
	<-h.flushing
	h.reads.Store(0)
	return e, ctx, h
}

func TestOldView_inFlight_waitsForTheResult(t *testing.T) {
	t.Parallel()
	e, ctx, h := oldKeyInFlight(t)
	get := newCall("a", op.Op{Kind: op.Get})
	require.True(t, e.offer(Lax, "a", get))
	// A read, had a asked for one, would have been answered with this one.
	require.NoError(t, e.Do(ctx, Lax, "b", op.Op{Kind: op.Get}).Err)
	require.True(t, get.is(queued), "answered from the old view")
	h.letGo()
	result, _ := get.await(ctx, e.trouble(Lax))
	require.NoError(t, result.Err)
	require.EqualValues(t, 1001, result.N)
	require.EqualValues(t, 1, h.reads.Load(), "of b")
}

func TestOldView_inFlight_waitsForRefreshWaitOnly(t *testing.T) {
	t.Parallel()
	e, ctx, h := oldKeyInFlight(t)
	for range 20 {
		result := e.Do(ctx, Lax, "a", op.Op{Kind: op.Get})
		require.NoError(t, result.Err)
		require.EqualValues(t, 2, result.N, "of the old view")
	}
	require.Zero(t, h.reads.Load())
}

// A key that is only added to does not learn its total with each flush. What it
// knows has its own changes in it all the same, and is no answer for longer than
// any other view.
func TestSilentFlush_viewHasWhatWasFlushed(t *testing.T) {
	t.Parallel()
	client := redistest.Client(t)
	e, ctx := newEngine(t, silent{}, client, redistest.Prefix(t, client))
	for i := range int64(5) {
		require.True(t, e.Add("a", 1))
		_, err := e.Flush(ctx)
		require.NoError(t, err)
		if i%2 == 0 { // who looks wants the next total
			view, err := e.View(ctx, "a")
			require.NoError(t, err)
			require.Equal(t, i+1, view.N)
			require.Zero(t, view.Pending)
		}
	}
}

func TestSilentFlush_inFlight_itsEndIsNoAnswer(t *testing.T) {
	t.Parallel()
	client := redistest.Client(t)
	prefix, h := redistest.Prefix(t, client), &flushHeld{flushing: make(chan struct{}), goOn: make(chan struct{})}
	client.AddHook(h)
	t.Cleanup(h.letGo)
	e, ctx := newEngine(t, silent{}, client, prefix)
	require.EqualValues(t, 1, e.Do(ctx, Lax, "a", op.Op{Kind: op.Inc, N: 1}).N)
	_, err := e.Flush(ctx)
	require.NoError(t, err)
	flushed := e.flush.now()
	require.NoError(t, client.HSet(ctx, prefix+":lax_counter", "a", 1000).Err())
	require.Eventually(t, func() bool { return e.flush.age(flushed) > 10*time.Millisecond }, 10*time.Second, time.Millisecond)
	h.hold.Store(true)
	require.True(t, e.Add("a", 1))
	<-h.flushing
	get := newCall("a", op.Op{Kind: op.Get})
	require.True(t, e.offer(Lax, "a", get))
	h.letGo()
	result, _ := get.await(ctx, e.trouble(Lax))
	require.NoError(t, result.Err)
	require.EqualValues(t, 1001, result.N)
}
