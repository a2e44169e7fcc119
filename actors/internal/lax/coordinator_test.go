package lax

import (
	"testing"

	"github.com/distkit/distkit-go/internal/barrier"
	"github.com/stretchr/testify/require"
)

// A Flush waits for the keys that are dirty when it asks, each once, and not for
// those that become so later; the gather of each takes along whom it is to tell.
func TestCover_keysDirtyByThen(t *testing.T) {
	t.Parallel()
	c, _ := alone(t)
	covers := func(since, until uint64, k *key) bool {
		listed := k.listed.Load()
		return since <= listed && listed <= until
	}
	clean, early, late, next := c.newKey("clean"), c.newKey("early"), c.newKey("late"), c.newKey("next")
	one, two := barrier.New(0), barrier.New(0)
	// passes is how many more passes a barrier waits for: it is handed those.
	passed := func(b *barrier.Barrier) bool {
		select {
		case <-b.Done():
			return true
		default:
			return false
		}
	}

	c.markDirty(early, false)
	since, until := c.cover(one)
	c.markDirty(late, false)
	require.True(t, covers(since, until, early))
	require.False(t, covers(since, until, late))
	require.False(t, covers(since, until, clean), "never dirty")

	since, until = c.cover(two)
	require.True(t, covers(since, until, early))
	require.True(t, covers(since, until, late))

	c.due = true
	r := c.nextRound()
	require.Len(t, r.slots, 2)
	require.Same(t, two, r.slots[1].cover)
	require.Empty(t, c.covered)
	one.Pass(nil) // their makers
	two.Pass(nil)
	require.False(t, passed(one))
	r.slots[0].cover.Pass(nil) // of both
	require.True(t, passed(one), "it waited for one key")
	require.False(t, passed(two))
	r.slots[1].cover.Pass(nil)
	require.True(t, passed(two), "it waited for two")

	three := barrier.New(0)
	since, until = c.cover(three)
	require.False(t, covers(since, until, early), "on its way")
	c.markDirty(next, false)
	since, until = c.cover(three)
	require.True(t, covers(since, until, next))
	require.False(t, covers(since, until, late))
	three.Pass(nil)
	require.False(t, passed(three))
	three.Pass(nil)
	require.True(t, passed(three), "the first time it waited for none")
}

// What says that a round is gathered may be late, and the round be another by then,
// in the same memory: it is not frozen before its own keys have answered.
func TestGathered_ofARoundBefore_freezesNothing(t *testing.T) {
	t.Parallel()
	c, _ := alone(t)
	k := c.newKey("a")
	r := newRound(nil, []*key{k})
	r.missing.Store(1)
	c.rounds = []*round{r}
	c.onGathered(r)
	require.False(t, r.frozen)
	require.Equal(t, []*round{r}, c.rounds)
}
