package actors

import (
	"context"
	"fmt"
	"math"
	"sync/atomic"
	"testing"
	"time"

	"github.com/distkit/distkit-go/internal/redisio"
	"github.com/distkit/distkit-go/internal/redistest"
	"github.com/distkit/distkit-go/internal/verb"
	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"
)

// A key long idle is changed, and asked for its value while the change is on
// its way: the answer is the change's result, and Redis is not asked for what
// could not be used.

// oldKeyInFlight returns an engine whose key a has an old view, of 1, and a
// change by 1 on its way to Redis, which holds 1000 by somebody else.
func oldKeyInFlight(t *testing.T) (*Engine, context.Context, *flushHeld) {
	client := redistest.Client(t)
	prefix := redistest.Prefix(t, client)
	e, ctx := newEngine(t, silent{}, client, prefix)
	h := newFlushHeld(t)
	client.AddHook(h)
	require.EqualValues(t, 1, e.Lax().Do(ctx, "a", inc(1)).N)
	_, err := e.Flush(ctx)
	require.NoError(t, err)
	require.NoError(t, client.HSet(ctx, prefix+":lax_counter", "a", 1000).Err())
	require.Eventually(t, func() bool {
		view, err := e.Lax().View(ctx, "a")
		return err == nil && view.Age > 10*time.Millisecond
	}, 10*time.Second, time.Millisecond)
	h.hold.Store(true)
	require.NoError(t, e.Lax().Add("a", 1))
	<-h.flushing
	h.reads.Store(0)
	return e, ctx, h
}

func TestOldView_inFlight_waitsForTheResult(t *testing.T) {
	t.Parallel()
	e, ctx, h := oldKeyInFlight(t)
	answer := asked(t, &e.Lax().Shards, "a", get)
	// A read, had a asked for one, would have been answered with this one.
	require.NoError(t, e.Lax().Do(ctx, "b", get).Err)
	require.Empty(t, answer, "answered from the old view")
	h.letGo()
	result := <-answer
	require.NoError(t, result.Err)
	require.EqualValues(t, 1001, result.N)
	require.EqualValues(t, 1, h.reads.Load(), "of b")
}

func TestOldView_inFlight_waitsForRefreshWaitOnly(t *testing.T) {
	t.Parallel()
	e, ctx, h := oldKeyInFlight(t)
	for range 20 {
		result := e.Lax().Do(ctx, "a", get)
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
		require.NoError(t, e.Lax().Add("a", 1))
		_, err := e.Flush(ctx)
		require.NoError(t, err)
		if i%2 == 0 { // who looks wants the next total
			view, err := e.Lax().View(ctx, "a")
			require.NoError(t, err)
			require.Equal(t, i+1, view.N)
			require.Zero(t, view.Pending)
		}
	}
}

func TestSilentFlush_inFlight_itsEndIsNoAnswer(t *testing.T) {
	t.Parallel()
	client := redistest.Client(t)
	prefix := redistest.Prefix(t, client)
	e, ctx := newEngine(t, silent{}, client, prefix)
	h := newFlushHeld(t)
	client.AddHook(h)
	require.EqualValues(t, 1, e.Lax().Do(ctx, "a", inc(1)).N)
	_, err := e.Flush(ctx)
	require.NoError(t, err)
	flushed := time.Now()
	require.NoError(t, client.HSet(ctx, prefix+":lax_counter", "a", 1000).Err())
	require.Eventually(t, func() bool { return time.Since(flushed) > 10*time.Millisecond }, 10*time.Second, time.Millisecond)
	h.hold.Store(true)
	require.NoError(t, e.Lax().Add("a", 1))
	<-h.flushing
	answer := asked(t, &e.Lax().Shards, "a", get)
	h.letGo()
	result := <-answer
	require.NoError(t, result.Err)
	require.EqualValues(t, 1001, result.N)
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
	require.NoError(t, e.Lax().Do(ctx, "seen", inc(1)).Err)
	_, err := e.Flush(ctx)
	require.NoError(t, err)
	h.on.Store(true)
	require.NoError(t, e.Lax().Add("a", 1))
	for i := 0; o.failed.Load() < 10; i++ {
		require.NoError(t, e.Lax().Do(ctx, fmt.Sprint("unseen", i), get).Err)
		require.Zero(t, o.recovered.Load())
	}
	h.on.Store(false)
	_, err = e.Flush(ctx)
	require.NoError(t, err)
	require.Eventually(t, func() bool { return o.recovered.Load() == 1 }, 30*time.Second, time.Millisecond)
}

// A Flush covers a key with operations that wait for a view: it ends when they
// have been served and are in Redis.
func TestFlush_coversWhatWaitsInTheKey(t *testing.T) {
	t.Parallel()
	client, h := redistest.Client(t), newFlushHeld(t)
	prefix := redistest.Prefix(t, client)
	client.AddHook(h)
	reads := make(readsHeld)
	client.AddHook(reads)
	cfg := testConfig(silent{})
	cfg.Client, cfg.Prefix, cfg.AllowedLag = client, prefix, time.Hour
	e, ctx := New(cfg), context.Background()
	t.Cleanup(func() { _, _ = e.Shutdown(ctx) })
	t.Cleanup(h.letGo)
	defer close(reads)
	require.NoError(t, e.Lax().Add("a", 1))
	waits := asked(t, &e.Lax().Shards, "a", incIf(100, verb.Always, 0)) // for a read, or for the total that the flush brings
	require.NoError(t, e.Lax().Add("a", 10))                            // and this behind it
	h.hold.Store(true)
	flushed := make(chan error, 1)
	go func() {
		_, err := e.Flush(ctx)
		flushed <- err
	}()
	<-h.flushing
	require.Empty(t, flushed)
	require.Empty(t, waits)
	h.letGo()
	require.NoError(t, <-flushed)
	require.Equal(t, "111", client.HGet(ctx, prefix+":lax_counter", "a").Val())
}

// A lag as long as can be leaves a view fresh for ever.
func TestView_lagWithoutEnd_isReadOnce(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := newSim(t, func(cfg *Config) { cfg.AllowedLag = math.MaxInt64 })
		for i := range int64(100) {
			require.EqualValues(t, i+1, s.Lax().Do(context.Background(), "a", inc(1)).N)
			s.pass(time.Hour)
		}
		require.Len(t, s.attempts(redisio.Read), 1)
		s.mustFlush(t)
		require.EqualValues(t, 100, s.value(laxCounters, "a"))
	})
}
