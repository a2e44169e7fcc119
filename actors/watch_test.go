package actors

import (
	"context"
	"log/slog"
	"testing"
	"time"

	"github.com/asynkron/protoactor-go/actor"
	"github.com/distkit/distkit-go/internal/op"
	"github.com/distkit/distkit-go/internal/redistest"
	"github.com/stretchr/testify/require"
)

func TestWatch_keyInUse_isReadAheadOfItsCalls(t *testing.T) {
	t.Parallel()
	client := redistest.Client(t)
	prefix := redistest.Prefix(t, client)
	ctx := context.Background()
	e, err := New(Config{
		Client: client, Prefix: prefix, Observer: silent{},
		ActorSystem: actor.NewActorSystem(actor.WithLoggerFactory(QuietLogger(slog.New(slog.DiscardHandler)))),
		AllowedLag:  2 * minWatch, RefreshWait: time.Second, Backoff: Backoff{time.Millisecond, 10 * time.Millisecond},
	})
	require.NoError(t, err)
	defer func() { _, _ = e.Shutdown(ctx) }()
	get := func() int64 { return e.Do(ctx, Lax, "a", op.Op{Kind: op.Get}).N }
	get()
	require.Eventually(t, func() bool {
		view, err := e.View(ctx, "a") // which asks for nothing
		return err == nil && view.Age > e.cfg.AllowedLag
	}, 30*time.Second, time.Millisecond)
	get() // has to wait, and from here on the key is watched
	require.NoError(t, client.HSet(ctx, prefix+":lax_counter", "a", 1000).Err())
	require.Eventually(t, func() bool {
		view, err := e.View(ctx, "a")
		return err == nil && view.N == 1000
	}, 30*time.Second, time.Millisecond)
}

// watching is a coordinator whose timers reach nobody.
func watching(t *testing.T) coordinator {
	a := coordinator{&coordinatorCell{box: &mailbox{boxKind: &boxKind{}}, allowedLag: 20 * time.Millisecond}}
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
