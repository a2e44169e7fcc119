package actors

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/asynkron/protoactor-go/actor"
	"github.com/distkit/distkit-go/internal/op"
	"github.com/distkit/distkit-go/internal/redistest"
	"github.com/distkit/distkit-go/internal/store"
	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	redistest.Main(m, func() error { return goleak.Find() })
}

// bug is an Observer that panics the first time each of its methods is called:
// a bug inside whichever actor calls it.
type bug struct {
	refused, recovered, message, lost, panicked atomic.Int64
}

func (b *bug) WriterFailed(string, int, time.Duration, error) {}

func (b *bug) WriterRecovered(string, int, time.Duration) { first(&b.recovered) }
func (b *bug) DeltaRefused(string, int64, bool, error)    { first(&b.refused) }
func (b *bug) MessageRefused(string, error)               { first(&b.message) }
func (b *bug) DataLost(string, int64, int64)              { first(&b.lost) }
func (b *bug) ActorPanicked(string, error)                { b.panicked.Add(1) }

// awaitPanics waits until the supervisor has heard of n panics, and no more.
func (b *bug) awaitPanics(t *testing.T, n int64) {
	t.Helper()
	require.Eventually(t, func() bool { return b.panicked.Load() >= n }, 10*time.Second, time.Millisecond)
	require.Equal(t, n, b.panicked.Load())
}

func first(calls *atomic.Int64) {
	if calls.Add(1) == 1 {
		panic("a bug")
	}
}

// newEngine starts an engine on a prefix of its own.
func newEngine(t *testing.T, observer Observer, client *redis.Client, prefix string) (*Engine, context.Context) {
	t.Helper()
	e, ctx := newEngineAt(t, observer, client, prefix, nil)
	t.Cleanup(func() {
		_, err := e.Shutdown(ctx)
		require.NoError(t, err)
	})
	return e, ctx
}

// newEngineAt starts an engine that stops at a fail point. The test shuts it down.
func newEngineAt(t *testing.T, observer Observer, client *redis.Client, prefix string, at failPoint) (*Engine, context.Context) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	t.Cleanup(cancel)
	e, err := New(Config{
		Client: client, Prefix: prefix, Observer: observer,
		ActorSystem: actor.NewActorSystem(actor.WithLoggerFactory(QuietLogger(slog.New(slog.DiscardHandler)))),
		AllowedLag:  time.Millisecond, RefreshWait: time.Second,
		Backoff: Backoff{time.Millisecond, 10 * time.Millisecond},
		Decode:  func(any) (op.Op, error) { return op.Op{}, errors.New("no messages here") },
		Encode:  func(op.Op, op.Result) any { return nil },
		failAt:  at,
	})
	require.NoError(t, err)
	return e, ctx
}

func TestPanic_inALaxKey_losesNoChangeAndNoCaller(t *testing.T) {
	t.Parallel()
	client := redistest.Client(t)
	prefix, observer := redistest.Prefix(t, client), &bug{}
	e, ctx := newEngine(t, observer, client, prefix)
	require.NoError(t, client.HSet(ctx, prefix+":lax_counter", "text", "x").Err())

	// The key's actor panics while it settles the refused change.
	require.True(t, e.Send(Lax, "text", op.Op{Kind: op.Inc, N: 1}))
	require.True(t, e.Send(Lax, "good", op.Op{Kind: op.Inc, N: 1}))
	left, err := e.Flush(ctx)
	require.NoError(t, err)
	require.Len(t, left, 1)
	require.ErrorIs(t, left[0].Err, op.ErrNotInteger)
	observer.awaitPanics(t, 1)
	require.Equal(t, "1", client.HGet(ctx, prefix+":lax_counter", "good").Val())

	// It goes on: the next reply tells of the refused change, then Set repairs.
	require.ErrorIs(t, e.Do(ctx, Lax, "text", op.Op{Kind: op.Set, N: 5}).Err, op.ErrNotInteger)
	require.EqualValues(t, 5, e.Do(ctx, Lax, "text", op.Op{Kind: op.Set, N: 5}).N)

	// It panics while it reports an operation that nobody waits for.
	require.True(t, e.Send(Lax, "text", op.Op{Kind: op.Inc, N: 1<<63 - 1}))
	require.EqualValues(t, 6, e.Do(ctx, Lax, "text", op.Op{Kind: op.Inc, N: 1}).N)
	observer.awaitPanics(t, 2)
	_, err = e.Flush(ctx)
	require.NoError(t, err)
	require.Equal(t, "6", client.HGet(ctx, prefix+":lax_counter", "text").Val())
}

func TestPanic_inAWriter_resumesItsBatchUnderItsNumber(t *testing.T) {
	t.Parallel()
	client := redistest.Client(t)
	prefix, observer := redistest.Prefix(t, client), &bug{}
	e, ctx := newEngine(t, observer, client, prefix)
	for n := int64(1); n <= 3; n++ {
		require.EqualValues(t, n, e.Do(ctx, Strict, "a", op.Op{Kind: op.Inc, N: 1}).N)
	}
	// The writer panics on the gap, and again meets it after the restart.
	require.NoError(t, client.Del(ctx, "{"+prefix+":strict_counter}:writer:"+e.writer.lane.id).Err())
	for n := int64(4); n <= 6; n++ {
		require.EqualValues(t, n, e.Do(ctx, Strict, "a", op.Op{Kind: op.Inc, N: 1}).N)
	}
	observer.awaitPanics(t, 1)
	require.EqualValues(t, 2, observer.lost.Load())
	require.Equal(t, "6", client.HGet(ctx, prefix+":strict_counter", "a").Val())
}

func TestPanic_inAWriter_afterItAnswered_answersNobodyTwice(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t, redistest.Durable...)
	client := redistest.NewClient(t, &redis.Options{Addr: server.Addr, DialerRetries: 1})
	observer := &bug{}
	e, ctx := newEngine(t, observer, client, "p")
	require.EqualValues(t, 1, e.Do(ctx, Strict, "a", op.Op{Kind: op.Inc, N: 1}).N)
	server.Kill(t)
	answers := make(chan op.Result, 1)
	go func() { answers <- e.Do(ctx, Strict, "a", op.Op{Kind: op.Inc, N: 1}) }()
	require.Eventually(t, func() bool { return e.writer.lastTrouble() != nil }, 10*time.Second, time.Millisecond)
	server.Restart(t)
	require.EqualValues(t, 2, (<-answers).N) // then the writer panics on telling of the recovery
	for n := int64(3); n <= 10; n++ {
		require.EqualValues(t, n, e.Do(ctx, Strict, "a", op.Op{Kind: op.Inc, N: 1}).N)
	}
	observer.awaitPanics(t, 1)
	require.Equal(t, "10", client.HGet(ctx, "p:strict_counter", "a").Val())
}

// The batch that a writer sends again after it had answered must not be read into
// what callers were given: the race detector looks.
func TestPanic_inAWriter_afterItAnswered_leavesTheAnswersAlone(t *testing.T) {
	t.Parallel()
	client := redistest.Client(t)
	prefix := redistest.Prefix(t, client)
	var once sync.Once
	e, ctx := newEngineAt(t, silent{}, client, prefix, func(step string) {
		if step == "strict writer: delivered" {
			once.Do(func() { panic("a bug") })
		}
	})
	inc := store.KeyOp{Key: "a", Op: op.Op{Kind: op.Inc, N: 1}}
	results := e.DoAll(ctx, Strict, []store.KeyOp{inc, inc})
	require.Equal(t, []int64{1, 2}, []int64{results[0].N, results[1].N})
	require.EqualValues(t, 3, e.Do(ctx, Strict, "a", inc.Op).N)
	_, err := e.Shutdown(ctx)
	require.NoError(t, err)
}
