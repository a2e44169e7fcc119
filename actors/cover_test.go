package actors

import (
	"context"
	"runtime"
	"testing"
	"time"

	"github.com/distkit/distkit-go/internal/op"
	"github.com/distkit/distkit-go/internal/redistest"
	"github.com/stretchr/testify/require"
)

// A Flush waits for the keys that are dirty when it asks, each once, and not for
// those that become so later; the gather of each takes along whom it is to tell.
func TestCover_keysDirtyByThen(t *testing.T) {
	t.Parallel()
	a := watching(t)
	a.epoch, a.since = 1, 1
	covers := func(since, until uint64, cell *laxCell) bool {
		listed := cell.listed.Load()
		return since <= listed && listed <= until
	}
	clean, early, late, next := &laxCell{}, &laxCell{}, &laxCell{}, &laxCell{}
	one, two := &barrier{}, &barrier{}

	a.markDirty(early, false)
	since, until := a.cover(one)
	a.markDirty(late, false)
	require.True(t, covers(since, until, early))
	require.False(t, covers(since, until, late))
	require.False(t, covers(since, until, clean), "never dirty")
	require.EqualValues(t, 1, one.waiting.Load())

	since, until = a.cover(two)
	require.True(t, covers(since, until, early))
	require.True(t, covers(since, until, late))
	require.EqualValues(t, 2, two.waiting.Load())

	a.due = true
	r := a.nextRound()
	require.Len(t, r.slots, 2)
	require.Equal(t, [2]*barrier{one, two}, r.slots[0].cover.both)
	require.Same(t, two, r.slots[1].cover)
	require.Empty(t, a.covered)

	three := &barrier{}
	since, until = a.cover(three)
	require.False(t, covers(since, until, early), "on its way")
	a.markDirty(next, false)
	require.Zero(t, three.waiting.Load())
	since, until = a.cover(three)
	require.True(t, covers(since, until, next))
	require.False(t, covers(since, until, late))
}

// A flush of several rounds: each takes the barriers of its own keys.
func TestCovers_takeSlotBySlot(t *testing.T) {
	t.Parallel()
	one, two := &barrier{}, &barrier{}
	cs := covers{{one, 3}, {two, 5}}
	of := func(size int) []*barrier {
		slots := make([]slot, size)
		cs = cs.take(slots)
		told := make([]*barrier, size)
		for i := range slots {
			told[i] = slots[i].cover
		}
		return told
	}
	first := of(2)
	require.Equal(t, [2]*barrier{one, two}, first[0].both)
	require.Equal(t, [2]*barrier{one, two}, first[1].both)
	second := of(2)
	require.Equal(t, [2]*barrier{one, two}, second[0].both)
	require.Same(t, two, second[1])
	require.Equal(t, []*barrier{two, nil}, of(2))
	require.Empty(t, cs)
}

// A Flush covers a key with operations that wait for a view: it ends when they
// have been served and are in Redis.
func TestFlush_coversWhatWaitsInTheKey(t *testing.T) {
	t.Parallel()
	client, ctx := redistest.Client(t), context.Background()
	prefix, h := redistest.Prefix(t, client), &flushHeld{flushing: make(chan struct{}), goOn: make(chan struct{})}
	client.AddHook(h)
	reads := make(readsHeld)
	client.AddHook(reads)
	e := newLagging(t, client, prefix, time.Hour)
	t.Cleanup(h.letGo)
	defer close(reads)
	require.True(t, e.Add("a", 1))
	waits := newCall("a", op.Op{Kind: op.IncIf, N: 100, If: op.Cond{Cmp: op.Always}})
	require.True(t, e.offer(Lax, "a", waits)) // for a read, or for the total that the flush brings
	require.True(t, e.Add("a", 10))           // and this behind it
	h.hold.Store(true)
	flushed := make(chan error, 1)
	go func() {
		_, err := e.Flush(ctx)
		flushed <- err
	}()
	<-h.flushing
	for range 1000 {
		runtime.Gosched()
		require.Empty(t, flushed)
	}
	h.letGo()
	require.NoError(t, <-flushed)
	require.Equal(t, "111", client.HGet(ctx, prefix+":lax_counter", "a").Val())
}
