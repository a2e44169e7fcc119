package barrier

import (
	"errors"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
)

// passed reports whether nobody is waited for.
func passed(b *Barrier) bool {
	select {
	case <-b.Done():
		return true
	default:
		return false
	}
}

func TestBarrier_isDone_whenAllHavePassed(t *testing.T) {
	t.Parallel()
	b := New(2)
	b.Expect(1)
	for range 3 {
		b.Pass(nil)
		require.False(t, passed(b))
	}
	b.Pass(nil)
	require.True(t, passed(b))
	require.Empty(t, b.Refused())

	alone := New(0)
	require.False(t, passed(alone), "its maker has not passed yet")
	alone.Pass(nil)
	require.True(t, passed(alone))
}

func TestBarrier_nil_doesNothing(t *testing.T) {
	t.Parallel()
	var b *Barrier
	require.NotPanics(t, func() {
		b.Pass(nil)
		b.Pass(&Unflushed{})
		b.Note(&Unflushed{})
	})
}

func TestBarrier_listsWhatWasRefused_withOrWithoutAPass(t *testing.T) {
	t.Parallel()
	b := New(1)
	one, two := Unflushed{Key: "a", N: 1, Err: errors.New("one")}, Unflushed{Key: "b", N: 2, Assign: true}
	b.Note(&one)
	b.Note(nil)
	require.Equal(t, []Unflushed{one}, b.Refused())
	b.Pass(&two)
	b.Pass(nil)
	require.True(t, passed(b))
	list := b.Refused()
	require.Equal(t, []Unflushed{one, two}, list)
	list[0].N = 7
	require.Equal(t, []Unflushed{one, two}, b.Refused(), "the list is the caller's own")
}

func TestBarrier_and_standsForBoth(t *testing.T) {
	t.Parallel()
	one, two := New(1), New(2)
	require.Same(t, one, one.And(nil))
	require.Same(t, one, (*Barrier)(nil).And(one))
	require.Nil(t, (*Barrier)(nil).And(nil))
	both := one.And(two)
	refused := Unflushed{Key: "a", N: 1}
	both.Pass(&refused)
	both.Note(&refused)
	one.Pass(nil)
	require.True(t, passed(one))
	require.False(t, passed(two))
	for _, b := range []*Barrier{one, two} {
		require.Equal(t, []Unflushed{refused, refused}, b.Refused())
	}
}

// A Flush given up leaves nothing behind in what others wait at, however many of
// them there were.
func TestBarrier_left_isLetGo(t *testing.T) {
	t.Parallel()
	gone, waits := New(1), New(1)
	gone.Leave()
	require.True(t, gone.Left())
	require.False(t, waits.Left())
	require.Same(t, waits, gone.And(waits))
	require.Same(t, waits, waits.And(gone))
	require.Nil(t, gone.And(nil), "nobody waits")
	require.Nil(t, (*Barrier)(nil).And(gone))

	b := waits
	for range 100 {
		given := New(1)
		b = b.And(given)
		require.False(t, b.Left())
		given.Leave()
	}
	other := New(1)
	b = b.And(other)
	require.Equal(t, 2, size(b), "two wait")
	require.False(t, b.Left())
	waits.Leave()
	require.Equal(t, 1, size(b.And(nil)))
	other.Leave()
	require.True(t, b.Left())
	require.Nil(t, b.And(nil))
}

// size is how many Flushes a barrier stands for.
func size(b *Barrier) int {
	if b.both[0] == nil {
		return 1
	}
	return size(b.both[0]) + size(b.both[1])
}

func TestBarrier_passesOfMany_areEachCounted(t *testing.T) {
	t.Parallel()
	const keys, each = 8, 500
	one, two := New(keys*each), New(keys*each)
	both := one.And(two)
	var passing sync.WaitGroup
	for range keys {
		passing.Go(func() {
			for range each {
				both.Pass(&Unflushed{N: 1})
			}
		})
	}
	passing.Wait()
	for _, b := range []*Barrier{one, two} {
		require.False(t, passed(b))
		b.Pass(nil)
		require.True(t, passed(b))
		require.Len(t, b.Refused(), keys*each)
	}
}

// take takes the barriers of the first keys, as the gather does.
func take(cs *Covers, keys int) []*Barrier {
	told := make([]*Barrier, keys)
	*cs = cs.Take(keys, func(key int, b *Barrier) { told[key] = b })
	return told
}

// A flush of several rounds: each takes the barriers of its own keys.
func TestCovers_takeKeyByKey(t *testing.T) {
	t.Parallel()
	one, two := New(0), New(0)
	cs := Covers{{one, 3}, {two, 5}}
	first := take(&cs, 2)
	require.Equal(t, [2]*Barrier{one, two}, first[0].both)
	require.Same(t, first[0], first[1], "keys with the same Flushes share a barrier")
	require.Empty(t, take(&cs, 0))
	second := take(&cs, 2)
	require.Equal(t, [2]*Barrier{one, two}, second[0].both)
	require.Same(t, two, second[1])
	require.Equal(t, []*Barrier{two, nil}, take(&cs, 2))
	require.Empty(t, cs)
	require.Equal(t, []*Barrier{nil, nil}, take(&cs, 2))
}

func TestCovers_add_expectsAPassOfEachKey(t *testing.T) {
	t.Parallel()
	var cs Covers
	one, two, none := New(0), New(0), New(0)
	cs = cs.Add(none, 0)
	require.Empty(t, cs)
	cs = cs.Add(one, 2)
	cs = cs.Add(two, 3)
	for _, b := range take(&cs, 3) {
		b.Pass(nil)
	}
	require.Empty(t, cs)
	for _, b := range []*Barrier{one, two, none} {
		require.False(t, passed(b), "its maker has not passed yet")
		b.Pass(nil)
		require.True(t, passed(b))
	}
}

func TestCovers_leftOnes_areLetGo(t *testing.T) {
	t.Parallel()
	var cs Covers
	waits := New(0)
	cs = cs.Add(waits, 1)
	for range 100 {
		given := New(0)
		cs = cs.Add(given, 2)
		given.Leave()
	}
	cs = cs.Add(New(0), 0)
	require.Len(t, cs, 1)
	require.Equal(t, []*Barrier{waits, nil}, take(&cs, 2))

	given := New(0)
	cs = cs.Add(given, 1)
	given.Leave()
	require.Equal(t, []*Barrier{nil}, take(&cs, 1), "nobody waits")
}
