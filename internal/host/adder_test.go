package host

import (
	"math"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"
)

// What was taken is in the sums, once, however the adder was opened, closed, split
// and made one again meanwhile; what was refused is not.
func TestAdder_whatItTakesIsInItsSums(t *testing.T) {
	t.Parallel()
	var (
		a       adder
		mu      sync.Mutex // which open and close need
		total   int64
		taken   atomic.Int64
		adding  sync.WaitGroup
		closing sync.WaitGroup
		stop    atomic.Bool
	)
	reopen := func() {
		mu.Lock()
		defer mu.Unlock()
		total += a.close()
		a.open()
	}
	closing.Go(func() {
		for !stop.Load() {
			reopen()
		}
	})
	for g := range int64(8) {
		adding.Go(func() {
			for i := range int64(20_000) {
				n := (i % 7) - 3 + g
				for !a.add(n) {
					reopen()
				}
				taken.Add(n)
			}
		})
	}
	adding.Wait()
	stop.Store(true)
	closing.Wait()
	total += a.close()
	require.Equal(t, taken.Load(), total)
}

func TestAdder_split_sumsItsStripes_andBecomesOneAgain(t *testing.T) {
	t.Parallel()
	var a adder
	require.False(t, a.add(1), "closed")
	a.open()
	require.True(t, a.add(1))
	a.stripes.Store(new(stripes)) // as two that get into each other's way do
	require.False(t, a.add(1), "its stripes are not open yet")
	require.EqualValues(t, 1, a.close())
	a.open()
	for i := range split {
		part := &a.stripes.Load()[i].sum
		require.EqualValues(t, 1, part.Load(), "open")
		part.Add(2 << 1)
	}
	require.True(t, a.add(-1))
	old := a.stripes.Load()
	require.EqualValues(t, 2*split-1, a.close())
	require.Same(t, old, a.stripes.Load())
	a.open()
	require.True(t, a.add(5))
	require.EqualValues(t, 5, a.close())
	require.Nil(t, a.stripes.Load(), "one stripe was enough")
	a.open()
	require.True(t, a.add(1))
	require.EqualValues(t, 1, a.close())
}

func TestAdder_limits_areRefused(t *testing.T) {
	t.Parallel()
	var a adder
	a.open()
	for _, n := range []int64{math.MinInt64, -adderLimit, adderLimit, math.MaxInt64} {
		require.False(t, a.add(n), "%d", n)
	}
	require.True(t, a.add(adderLimit-1))
	require.False(t, a.add(1))
	require.True(t, a.add(-2))
	require.EqualValues(t, adderLimit-3, a.close())
	a.open()
	require.True(t, a.add(1-adderLimit))
	require.False(t, a.add(-1))
	require.EqualValues(t, 1-adderLimit, a.close())
}
