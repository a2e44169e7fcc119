package actors

import (
	"context"
	"io"
	"log/slog"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/asynkron/protoactor-go/actor"
	"github.com/distkit/distkit-go/internal/op"
	"github.com/distkit/distkit-go/internal/redistest"
	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"
)

type watchingEngine struct{ *Engine }

// newWatching returns an engine that watches keys.
func newWatching(t *testing.T, client *redis.Client, prefix string) watchingEngine {
	return watchingEngine{newLagging(t, client, prefix, 2*minWatch)}
}

// newLagging returns an engine with an AllowedLag.
func newLagging(t *testing.T, client *redis.Client, prefix string, lag time.Duration) *Engine {
	e, err := New(Config{
		Client: client, Prefix: prefix, Observer: silent{},
		ActorSystem: actor.NewActorSystem(actor.WithLoggerFactory(QuietLogger(slog.New(slog.DiscardHandler)))),
		AllowedLag:  lag, RefreshWait: time.Second, Backoff: Backoff{time.Millisecond, 10 * time.Millisecond},
	})
	require.NoError(t, err)
	t.Cleanup(func() { _, _ = e.Shutdown(context.Background()) })
	return e
}

// watched has a key watched, by needing its view when that is old.
func (e watchingEngine) watched(t *testing.T, key string) {
	ctx := context.Background()
	get := func() { require.NoError(t, e.Do(ctx, Lax, key, op.Op{Kind: op.Get}).Err) }
	get()
	require.Eventually(t, func() bool {
		view, err := e.View(ctx, key) // which asks for nothing
		return err == nil && view.Age > e.cfg.AllowedLag
	}, 30*time.Second, time.Millisecond)
	get()
}

func TestWatch_keyInUse_isReadAheadOfItsCalls(t *testing.T) {
	t.Parallel()
	client, ctx := redistest.Client(t), context.Background()
	prefix := redistest.Prefix(t, client)
	e := newWatching(t, client, prefix)
	e.watched(t, "a")
	require.NoError(t, client.HSet(ctx, prefix+":lax_counter", "a", 1000).Err())
	require.Eventually(t, func() bool {
		view, err := e.View(ctx, "a")
		return err == nil && view.N == 1000
	}, 30*time.Second, time.Millisecond)
}

// readFails is a go-redis hook that fails a read when it is told to.
type readFails struct {
	readsHeld // for what it does not do
	fail      chan error
}

func (h readFails) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		if cmd.Name() == "hmget" {
			select {
			case err := <-h.fail:
				cmd.SetErr(err)
				return err
			default:
			}
		}
		return next(ctx, cmd)
	}
}

// A read that nobody waits for fails: Redis must not count as away for good.
func TestWatch_readFails_goesAgain(t *testing.T) {
	t.Parallel()
	client := redistest.Client(t)
	h := readFails{fail: make(chan error)}
	client.AddHook(h)
	e := newWatching(t, client, redistest.Prefix(t, client))
	e.watched(t, "a")
	cell, _ := e.lax.cells.Load("a")
	var using sync.WaitGroup
	ended := make(chan struct{})
	using.Go(func() { // it stays watched, but no call asks for a read
		for {
			select {
			case <-ended:
				return
			case <-time.After(time.Millisecond):
				cell.used.Store(true)
			}
		}
	})
	defer using.Wait()
	defer close(ended)
	h.fail <- io.EOF // taken by the next read of the watched key
	require.Eventually(t, func() bool { return !e.flush.away.Load() }, 30*time.Second, time.Millisecond)
	select {
	case h.fail <- io.EOF: // it is read again
	case <-time.After(30 * time.Second):
		t.Fatal("no more reads")
	}
}

// watching is a coordinator whose timers reach nobody.
func watching(t *testing.T) coordinator {
	a := coordinator{&coordinatorCell{
		box: &mailbox{boxKind: &boxKind{}}, allowedLag: 20 * time.Millisecond, started: time.Now(),
	}}
	t.Cleanup(func() { a.stopTimers() })
	return a
}

// look has the coordinator look at its watched keys.
func (a coordinator) look() []*laxCell {
	a.watch.due = true
	return a.watchedNow()
}

func TestWatch_keyNotUsed_isLetGo(t *testing.T) {
	t.Parallel()
	a, used, unused := watching(t), &laxCell{}, &laxCell{}
	a.watchKey(used)
	a.watchKey(unused)
	a.watchKey(used)
	require.Empty(t, a.watchedNow(), "it is not time")
	for range watchFor / a.watchPeriod() {
		used.used.Store(true)
		require.Equal(t, []*laxCell{used, unused}, a.look())
	}
	used.used.Store(true)
	require.Equal(t, []*laxCell{used}, a.look())
	for range watchFor / a.watchPeriod() {
		require.Len(t, a.look(), 1)
	}
	require.Empty(t, a.look())
	a.watch.timer.Stop()
	a.watch.timer = nil
	a.look()
	require.Nil(t, a.watch.timer, "no timer without a key")
	a.watchKey(unused)
	require.Len(t, a.look(), 1, "watched anew")
}

func TestWatch_isBounded_andRestsWhileRedisIsAway(t *testing.T) {
	t.Parallel()
	a := watching(t)
	for range maxWatched + 1 {
		a.watchKey(&laxCell{})
	}
	require.Len(t, a.look(), maxWatched)
	a.away.Store(true)
	require.Empty(t, a.look())
	a.away.Store(false)
	require.Len(t, a.look(), maxWatched)
}

func TestWatch_lagThatReadsCannotKeepUpWith_noKeyIsWatched(t *testing.T) {
	t.Parallel()
	for lag, want := range map[time.Duration]int{
		2*minWatch - 1: 0, 2 * minWatch: 1, 2 * watchFor: 1, 3 * watchFor: 0,
	} {
		a := watching(t)
		a.allowedLag = lag
		a.watchKey(&laxCell{})
		require.Len(t, a.look(), want, "%v", lag)
	}
}

func TestMailbox_hint_keepsNobodyAwake(t *testing.T) {
	t.Parallel()
	i := &invoker{}
	m := openBox(i)
	require.False(t, m.doze(2))
	m.hint(1)
	require.True(t, m.doze(2))
	require.True(t, m.sleep(func() bool { return true }))
	m.hint(2)
	require.Equal(t, []any{1}, i.handled)
}

// counted is a go-redis hook that holds reads, and counts those that have come.
type counted struct {
	readsHeld
	n *atomic.Int64
}

func (h counted) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	held := h.readsHeld.ProcessHook(next)
	return func(ctx context.Context, cmd redis.Cmder) error {
		if cmd.Name() == "hmget" {
			h.n.Add(1)
		}
		return held(ctx, cmd)
	}
}

// A read that nobody waits for hangs: who asks for one meanwhile waits for
// RefreshWait and no longer.
func TestWatch_readHangs_callsWaitForRefreshWaitOnly(t *testing.T) {
	t.Parallel()
	client := redistest.Client(t)
	e := newWatching(t, client, redistest.Prefix(t, client))
	e.watched(t, "a")
	h := counted{make(readsHeld), new(atomic.Int64)}
	client.AddHook(h)
	defer close(h.readsHeld)
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	require.Eventually(t, func() bool {
		view, err := e.View(ctx, "a")
		return err == nil && view.Age > e.cfg.AllowedLag && h.n.Load() > 0
	}, 30*time.Second, time.Millisecond)
	require.NoError(t, e.Do(ctx, Lax, "a", op.Op{Kind: op.Get}).Err)
	require.EqualValues(t, 1, h.n.Load())
}
