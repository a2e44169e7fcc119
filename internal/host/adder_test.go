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
		senders sync.WaitGroup
		closing sync.WaitGroup
		stop    atomic.Bool
	)
	reopen := func() {
		mu.Lock()
		defer mu.Unlock()
		total += a.close()
		a.open(0, adding)
	}
	closing.Go(func() {
		for !stop.Load() {
			reopen()
		}
	})
	for g := range int64(8) {
		senders.Go(func() {
			for i := range int64(20_000) {
				n := (i % 7) - 3 + g
				for !a.add(n) {
					reopen()
				}
				taken.Add(n)
			}
		})
	}
	senders.Wait()
	stop.Store(true)
	closing.Wait()
	total += a.close()
	require.Equal(t, taken.Load(), total)
}

func TestAdder_split_sumsItsStripes_andBecomesOneAgain(t *testing.T) {
	t.Parallel()
	var a adder
	require.False(t, a.add(1), "closed")
	a.open(0, adding)
	require.True(t, a.add(1))
	a.stripes.Store(new(stripes)) // as two that get into each other's way do
	require.False(t, a.add(1), "its stripes are not open yet")
	require.EqualValues(t, 1, a.close())
	a.open(0, adding)
	for i := range split {
		part := &a.stripes.Load()[i].sum
		require.EqualValues(t, adding, part.Load(), "open")
		part.Add(2 << openFor)
	}
	require.True(t, a.add(-1))
	old := a.stripes.Load()
	require.EqualValues(t, 2*split-1, a.close())
	require.Same(t, old, a.stripes.Load())
	a.open(0, adding)
	require.True(t, a.add(5))
	require.EqualValues(t, 5, a.close())
	require.Nil(t, a.stripes.Load(), "one stripe was enough")
	a.open(0, adding)
	require.True(t, a.add(1))
	require.EqualValues(t, 1, a.close())
}

func TestAdder_limits_areRefused(t *testing.T) {
	t.Parallel()
	var a adder
	a.open(0, adding)
	for _, n := range []int64{math.MinInt64, -adderLimit, adderLimit, math.MaxInt64} {
		require.False(t, a.add(n), "%d", n)
	}
	require.True(t, a.add(adderLimit-1))
	require.False(t, a.add(1))
	require.True(t, a.add(-2))
	require.EqualValues(t, adderLimit-3, a.close())
	a.open(0, adding)
	require.True(t, a.add(1-adderLimit))
	require.False(t, a.add(-1))
	require.EqualValues(t, 1-adderLimit, a.close())
}

// Whoever adds 1 is told its own place, though what the adder counts from changes hands.
func TestAdder_tellsEachItsOwn(t *testing.T) {
	t.Parallel()
	const each, goroutines = 20_000, 8
	var (
		a     adder
		mu    sync.Mutex
		total int64
		told  [each * goroutines]atomic.Int32
		done  sync.WaitGroup
	)
	reopen := func() {
		mu.Lock()
		defer mu.Unlock()
		total += a.close()
		a.open(total, adding|telling)
	}
	for range goroutines {
		done.Go(func() {
			for i := range each {
				at, ok := a.addAndTell(1)
				for ; !ok; at, ok = a.addAndTell(1) {
					reopen()
				}
				told[at-1].Add(1)
				if now, ok := a.tell(); ok && now < at {
					t.Error("it has forgotten what it told")
				}
				if i%64 == 0 {
					reopen()
				}
			}
		})
	}
	done.Wait()
	require.EqualValues(t, len(told), total+a.close())
	for at := range told {
		require.EqualValues(t, 1, told[at].Load(), "%d", at+1)
	}
}

func TestAdder_opensForWhatIsAsked(t *testing.T) {
	t.Parallel()
	var a adder
	refuses := func(wantTold bool) {
		t.Helper()
		_, added := a.addAndTell(1)
		_, told := a.tell()
		require.False(t, added)
		require.Equal(t, wantTold, told)
	}
	refuses(false)
	a.open(0, adding)
	require.True(t, a.add(2))
	refuses(false)
	require.EqualValues(t, 2, a.close())
	a.open(-7, telling)
	refuses(true)
	require.False(t, a.add(1))
	require.Zero(t, a.close())
	a.open(-7, adding|telling)
	n, ok := a.addAndTell(5)
	require.True(t, ok)
	require.EqualValues(t, -2, n)
	for _, n := range []int64{math.MinInt64, math.MaxInt64, adderLimit, -adderLimit, adderLimit - 1} {
		if n == adderLimit-1 {
			require.True(t, a.add(3))
		}
		_, ok := a.addAndTell(n)
		require.False(t, ok, "%d", n)
	}
	require.EqualValues(t, 8, a.close())
	a.stripes.Store(new(stripes))
	a.open(3, adding|telling)
	refuses(false)
	require.True(t, a.add(1), "to a stripe")
	require.EqualValues(t, 1, a.close())
}
