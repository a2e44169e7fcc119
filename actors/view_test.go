package actors

import (
	"context"
	"fmt"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/distkit/distkit-go/internal/op"
	"github.com/distkit/distkit-go/internal/redistest"
	"github.com/distkit/distkit-go/internal/store"
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

// A read hangs, and Redis counts as away until a flush shows that it is not: who
// needs the same key's value then waits for the read that hangs, but again not
// longer than RefreshWait.
func TestRefreshWait_boundsTheWaitForAReadThatHangs(t *testing.T) {
	t.Parallel()
	client := redistest.Client(t)
	prefix := redistest.Prefix(t, client)
	e := newLagging(t, client, prefix, time.Millisecond)
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	get := func() {
		result := e.Do(ctx, Lax, "a", op.Op{Kind: op.Get})
		require.NoError(t, result.Err)
	}
	get()
	require.Eventually(t, func() bool {
		view, err := e.View(ctx, "a")
		return err == nil && view.Age > e.cfg.AllowedLag
	}, 30*time.Second, time.Millisecond)
	hung := make(readsHeld)
	client.AddHook(hung)
	defer close(hung)
	get()
	require.True(t, e.flush.away.Load())
	require.True(t, e.Add("b", 1))
	_, err := e.Flush(ctx)
	require.NoError(t, err)
	require.Eventually(t, func() bool { return !e.flush.away.Load() }, 30*time.Second, time.Millisecond)
	get()
}

// laxKeyAlone is a lax key's actor that nobody runs, with a view of 1 that is old,
// and a Get that waits.
func laxKeyAlone(t *testing.T) *laxKey {
	flush := watching(t).coordinatorCell
	flush.observer, flush.refreshWait = silent{}, time.Hour
	a := &laxKey{laxCell: &laxCell{cell: cell{key: "a", box: mailbox{boxKind: &boxKind{}}}, flush: flush}}
	a.known, a.remote, a.seen = true, 1, -time.Hour
	a.more().parked.push(newCall("a", op.Op{Kind: op.Get}))
	return a
}

// A read that may not know of a change, which has landed without telling its total,
// is no reason to answer from the old view.
func TestOldView_aReadThatMissedAChange_isNoAnswer(t *testing.T) {
	t.Parallel()
	for _, asked := range []bool{false, true} {
		a := laxKeyAlone(t)
		a.asked, a.landed = true, 5
		a.onSeen(&seenValue{asked: asked, step: 4, value: store.Value{N: 7}})
		require.Equal(t, 1, a.waiting())
		require.True(t, a.asked, "for another read")
		a.onSeen(&seenValue{asked: true, step: 6, value: store.Value{N: 7}})
		require.Zero(t, a.waiting())
		require.EqualValues(t, 7, a.remote)
	}
}

// Whoever waits for a change that lands without telling its total waits on, for a
// read, and in all for RefreshWait.
func TestRefreshWait_isOneOverASilentChangeAndARead(t *testing.T) {
	t.Parallel()
	a := laxKeyAlone(t)
	r := newRound(nil, []*laxCell{a.laxCell})
	s := &r.slots[0]
	s.mutation.change, s.mutation.silent = change{add, 1}, true
	a.takeOff(&s.mutation)
	a.serveParked(false)
	wait := a.queues.patience
	require.NotNil(t, wait)
	s.result = op.Result{Silent: true}
	a.onSettlement(s)
	require.Same(t, wait, a.queues.patience)
	require.True(t, a.asked)
	a.onImpatient(new(patience))
	require.Equal(t, 1, a.waiting(), "another wait's")
	a.onImpatient(wait)
	require.Zero(t, a.waiting())
}

// refusesWrites is a go-redis hook that answers script calls as a replica does.
type refusesWrites struct {
	readsHeld
	on atomic.Bool
}

type readOnly struct{}

func (readOnly) Error() string { return "READONLY You can't write against a read only replica." }
func (readOnly) RedisError()   {}

func (h *refusesWrites) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		if h.on.Load() && cmd.Name() == "evalsha" {
			cmd.SetErr(readOnly{})
			return readOnly{}
		}
		return next(ctx, cmd)
	}
}

// outages is an Observer that counts what is told of a lost Redis.
type outages struct {
	silent
	failed, recovered atomic.Int64
}

func (o *outages) WriterFailed(string, int, time.Duration, error) { o.failed.Add(1) }
func (o *outages) WriterRecovered(string, int, time.Duration)     { o.recovered.Add(1) }

// Reads that Redis answers do not make an outage of writes look over.
func TestWriterRecovered_isNotToldForReads(t *testing.T) {
	t.Parallel()
	client, o := redistest.Client(t), &outages{}
	h := &refusesWrites{}
	client.AddHook(h)
	e, ctx := newEngine(t, o, client, redistest.Prefix(t, client))
	require.NoError(t, e.Do(ctx, Lax, "seen", inc(1)).Err)
	_, err := e.Flush(ctx)
	require.NoError(t, err)
	h.on.Store(true)
	require.True(t, e.Add("a", 1))
	for i := 0; o.failed.Load() < 10; i++ {
		require.NoError(t, e.Do(ctx, Lax, fmt.Sprint("unseen", i), op.Op{Kind: op.Get}).Err)
		require.Zero(t, o.recovered.Load())
	}
	h.on.Store(false)
	_, err = e.Flush(ctx)
	require.NoError(t, err)
	require.Eventually(t, func() bool { return o.recovered.Load() == 1 }, 30*time.Second, time.Millisecond)
}
