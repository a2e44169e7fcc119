package actors

import (
	"context"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/distkit/distkit-go/internal/ledger"
	"github.com/distkit/distkit-go/internal/redistest"
	"github.com/distkit/distkit-go/internal/request"
	"github.com/distkit/distkit-go/internal/verb"
	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"
)

// bug is an Observer that panics the first time each of its methods is called:
// a bug inside whichever actor calls it.
type bug struct {
	refused, recovered, message, lost, panicked atomic.Int64
}

func (b *bug) WriterFailed(string, int, time.Duration, error) {}

func (b *bug) WriterRecovered(string, int, time.Duration)       { first(&b.recovered) }
func (b *bug) ChangeRefused(string, string, int64, bool, error) { first(&b.refused) }
func (*bug) Overloaded(int)                                     {}

func (b *bug) MessageRefused(string, string, error) { first(&b.message) }
func (b *bug) DataLost(string, *ledger.Loss)        { first(&b.lost) }
func (b *bug) ActorPanicked(string, error)          { b.panicked.Add(1) }

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

// onceAt is a fail point that panics the first time that a step is passed.
func onceAt(step string) func(string) {
	var once sync.Once
	return func(passed string) {
		if passed == step {
			once.Do(func() { panic("a bug at " + step) })
		}
	}
}

// ledgers are the names of the ledgers of a space's writers.
func ledgers(ctx context.Context, t *testing.T, client *redis.Client, prefix, space string) []string {
	t.Helper()
	names, err := client.Keys(ctx, prefix+":writer:{"+prefix+":"+space+"}:*").Result()
	require.NoError(t, err)
	return names
}

func TestPanic_inALaxKey_losesNoChangeAndNoCaller(t *testing.T) {
	t.Parallel()
	client := redistest.Client(t)
	prefix, observer := redistest.Prefix(t, client), &bug{}
	e, ctx := newEngine(t, observer, client, prefix)
	require.NoError(t, client.HSet(ctx, prefix+":lax_counter", "text", "x").Err())

	// The key's actor panics while it takes in the refused change.
	require.NoError(t, e.Lax().Add("text", 1))
	require.NoError(t, e.Lax().Add("good", 1))
	left, err := e.Flush(ctx)
	require.NoError(t, err)
	require.Len(t, left, 1)
	require.ErrorIs(t, left[0].Err, verb.ErrNotInteger)
	observer.awaitPanics(t, 1)
	require.Equal(t, "1", client.HGet(ctx, prefix+":lax_counter", "good").Val())

	// It goes on: the next reply tells of the refused change, then Set repairs.
	set := verb.Op{Kind: verb.Set, N: 5}
	require.ErrorIs(t, e.Lax().Do(ctx, "text", set).Err, verb.ErrNotInteger)
	require.EqualValues(t, 5, e.Lax().Do(ctx, "text", set).N)

	// It panics while it reports an operation that nobody waits for.
	require.NoError(t, e.Lax().Send("text", verb.Op{Kind: verb.Dec, N: -1 << 63}))
	require.EqualValues(t, 6, e.Lax().Do(ctx, "text", inc(1)).N)
	observer.awaitPanics(t, 2)
	_, err = e.Flush(ctx)
	require.NoError(t, err)
	require.Equal(t, "6", client.HGet(ctx, prefix+":lax_counter", "text").Val())
}

// The ledger has gone back, as after a failover: the writer panics on telling of
// it, and again meets it after the restart.
func TestPanic_inAWriter_resumesItsBatchUnderItsNumber(t *testing.T) {
	t.Parallel()
	client := redistest.Client(t)
	prefix, observer := redistest.Prefix(t, client), &bug{}
	e, ctx := newEngine(t, observer, client, prefix)
	require.EqualValues(t, 1, e.Strict().Do(ctx, "a", inc(1)).N)
	names := ledgers(ctx, t, client, prefix, "strict_counter")
	require.Len(t, names, 1)
	early, err := client.Get(ctx, names[0]).Result()
	require.NoError(t, err)
	for n := int64(2); n <= 3; n++ {
		require.EqualValues(t, n, e.Strict().Do(ctx, "a", inc(1)).N)
	}
	require.NoError(t, client.Set(ctx, names[0], early, time.Hour).Err())
	for n := int64(4); n <= 6; n++ {
		require.EqualValues(t, n, e.Strict().Do(ctx, "a", inc(1)).N)
	}
	observer.awaitPanics(t, 1)
	require.EqualValues(t, 2, observer.lost.Load())
	require.Equal(t, "6", client.HGet(ctx, prefix+":strict_counter", "a").Val())
}

// A ledger that has vanished while nothing was in doubt is nobody's loss.
func TestLedgerGone_betweenBatches_isAFreshLane(t *testing.T) {
	t.Parallel()
	client := redistest.Client(t)
	prefix, observer := redistest.Prefix(t, client), &bug{}
	e, ctx := newEngine(t, observer, client, prefix)
	require.EqualValues(t, 1, e.Strict().Do(ctx, "a", inc(1)).N)
	old := ledgers(ctx, t, client, prefix, "strict_counter")
	require.NoError(t, client.Del(ctx, old...).Err())
	require.EqualValues(t, 2, e.Strict().Do(ctx, "a", inc(1)).N)
	fresh := ledgers(ctx, t, client, prefix, "strict_counter")
	require.Len(t, fresh, 1)
	require.NotEqual(t, old, fresh)
	require.Zero(t, observer.lost.Load())
}

func TestPanic_inAWriter_afterItAnswered_answersNobodyTwice(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t, redistest.Durable...)
	client := redistest.NewClient(t, &redis.Options{Addr: server.Addr, DialerRetries: 1})
	observer := &recovering{failed: make(chan struct{}, 1000)}
	e, ctx := newEngine(t, observer, client, "p")
	require.EqualValues(t, 1, e.Strict().Do(ctx, "a", inc(1)).N)
	server.Kill(t)
	answer := asked(t, e.Strict(), "a", inc(1))
	<-observer.failed
	server.Restart(t)
	require.EqualValues(t, 2, (<-answer).N) // then the writer panics on telling of the recovery
	for n := int64(3); n <= 10; n++ {
		require.EqualValues(t, n, e.Strict().Do(ctx, "a", inc(1)).N)
	}
	observer.awaitPanics(t, 1)
	require.Equal(t, "10", client.HGet(ctx, "p:strict_counter", "a").Val())
}

// recovering is a bug that tells of failures.
type recovering struct {
	bug
	failed chan struct{}
}

func (r *recovering) WriterFailed(string, int, time.Duration, error) {
	select {
	case r.failed <- struct{}{}:
	default:
	}
}

// The batch that a writer goes on with after it had answered must not be read into
// what callers were given: the race detector looks.
func TestPanic_inAWriter_afterItAnswered_leavesTheAnswersAlone(t *testing.T) {
	t.Parallel()
	client := redistest.Client(t)
	prefix := redistest.Prefix(t, client)
	e, ctx := newEngineAt(t, silent{}, client, prefix, onceAt("strict writer: delivered"))
	one := verb.Keyed{Key: "a", Op: inc(1)}
	results := e.Strict().DoAll(ctx, []verb.Keyed{one, one})
	require.Equal(t, []int64{1, 2}, []int64{results[0].N, results[1].N})
	require.EqualValues(t, 3, e.Strict().Do(ctx, "a", one.Op).N)
	_, err := e.Shutdown(ctx)
	require.NoError(t, err)
}

// A message that nobody waits for, and that a panic keeps from being served, is
// reported as any other failure of it.
func TestPanic_onAMessage_isReported(t *testing.T) {
	t.Parallel()
	for step, space := range map[string]func(*Engine) *Shards{
		"strict key: before forward": (*Engine).Strict,
		"lax key: serving":           func(e *Engine) *Shards { return &e.Lax().Shards },
		"lax key: claimed":           func(e *Engine) *Shards { return &e.Lax().Shards },
	} {
		client := redistest.Client(t)
		told := make(refusals, 10)
		e, ctx := newEngineAt(t, told, client, redistest.Prefix(t, client), onceAt(step))
		s := space(e)
		require.NoError(t, s.Send("a", verb.Op{Kind: verb.Dec, N: 1}), step)
		err := <-told
		require.ErrorIs(t, err, verb.ErrNotApplied, step)
		require.ErrorIs(t, err, request.ErrPanicked, step)
		require.EqualValues(t, 1, s.Do(ctx, "a", inc(1)).N, step)
		_, err = e.Shutdown(ctx)
		require.NoError(t, err)
		require.Empty(t, told, step)
	}
}

// refusals is an Observer that keeps what is told of operations nobody waits for.
type refusals chan error

func (refusals) WriterFailed(string, int, time.Duration, error)   {}
func (refusals) WriterRecovered(string, int, time.Duration)       {}
func (refusals) DataLost(string, *ledger.Loss)                    {}
func (refusals) ChangeRefused(string, string, int64, bool, error) {}
func (refusals) ActorPanicked(string, error)                      {}
func (refusals) Overloaded(int)                                   {}

func (r refusals) MessageRefused(_, _ string, err error) { r <- err }
