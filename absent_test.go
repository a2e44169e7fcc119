package distkit_test

import (
	"fmt"
	"math"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/distkit/distkit-go"
	"github.com/stretchr/testify/require"
)

// A counter that is at 0 and one that does not exist.

// lives are ways to a counter a, and whether there is one then, of what value.
var lives = []struct {
	name   string
	do     func(f *fixture, c distkit.Counter, kind string) error
	value  int64
	exists bool
}{
	{"never touched", func(*fixture, distkit.Counter, string) error { return nil }, 0, false},
	{"read", func(f *fixture, c distkit.Counter, _ string) error { return second(c.Get(f.ctx, keyA)) }, 0, false},
	{"counted", func(f *fixture, c distkit.Counter, _ string) error { return second(c.Inc(f.ctx, keyA, 3)) }, 3, true},
	{"counted to 0", func(f *fixture, c distkit.Counter, _ string) error {
		return second(c.IncAll(f.ctx, distkit.Update{Key: keyA, N: 3}, distkit.Update{Key: keyA, N: -3}))
	}, 0, true},
	{"counted by 0", func(f *fixture, c distkit.Counter, _ string) error { return second(c.Inc(f.ctx, keyA, 0)) }, 0, true},
	{"lifted", func(f *fixture, c distkit.Counter, _ string) error {
		return second(c.IncAll(f.ctx, distkit.Update{Key: keyA, N: math.MinInt64}, distkit.Update{Key: keyA, N: math.MaxInt64}))
	}, -1, true},
	{"set to 0", func(f *fixture, c distkit.Counter, _ string) error { return second(c.Set(f.ctx, keyA, 0)) }, 0, true},
	{"by message", func(f *fixture, c distkit.Counter, _ string) error {
		c.PID(keyA).Send(distkit.Set{N: 0})
		return second(c.Inc(f.ctx, keyA, 2))
	}, 2, true},
	{"conditionally, by 0", func(f *fixture, c distkit.Counter, _ string) error {
		return second(c.IncIf(f.ctx, keyA, distkit.Absent(), 0))
	}, 0, true},
	{"condition did not hold", func(f *fixture, c distkit.Counter, _ string) error {
		return second(c.SetIf(f.ctx, keyA, distkit.Gt(0), 7))
	}, 0, false},
	{"deleted", func(f *fixture, c distkit.Counter, _ string) error {
		return first(second(c.Inc(f.ctx, keyA, 3)), second(c.Del(f.ctx, keyA)))
	}, 0, false},
	{"deleted after a flush", func(f *fixture, c distkit.Counter, _ string) error {
		return first(second(c.Inc(f.ctx, keyA, 3)), f.Flush(f.ctx), second(c.Del(f.ctx, keyA)))
	}, 0, false},
	{"deleted and counted", func(f *fixture, c distkit.Counter, _ string) error {
		return first(second(c.Inc(f.ctx, keyA, 3)), second(c.Del(f.ctx, keyA)), second(c.Inc(f.ctx, keyA, 1)))
	}, 1, true},
	{"cleared", func(f *fixture, c distkit.Counter, _ string) error {
		return first(second(c.Set(f.ctx, keyA, 3)), c.Clear(f.ctx))
	}, 0, false},
	{"cleared after a flush, and set", func(f *fixture, c distkit.Counter, _ string) error {
		return first(second(c.Set(f.ctx, keyA, 3)), f.Flush(f.ctx), c.Clear(f.ctx), second(c.Set(f.ctx, keyA, 0)))
	}, 0, true},
	{"by another process", func(f *fixture, _ distkit.Counter, kind string) error {
		return f.client.HSet(f.ctx, f.prefix+":"+kind, "a", 0).Err()
	}, 0, true},
	{"by another process, and deleted", func(f *fixture, c distkit.Counter, kind string) error {
		return first(f.client.HSet(f.ctx, f.prefix+":"+kind, "a", 5).Err(), second(c.Del(f.ctx, keyA)))
	}, 0, false},
}

func second[T any](_ T, err error) error { return err }

// first is the first error there is.
func first(errs ...error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

// forEachLife tests what follows each life: as it is pending, and as it is flushed.
func forEachLife(t *testing.T, test func(t *testing.T, f *fixture, c distkit.Counter, value int64, exists bool)) {
	t.Helper()
	for _, flush := range []bool{false, true} {
		for _, life := range lives {
			both(t, func(t *testing.T, f *fixture, c distkit.Counter, kind string) {
				what := fmt.Sprintf("%s, flushed: %v", life.name, flush)
				require.NoError(t, life.do(f, c, kind), what)
				if flush {
					f.flush(t)
				}
				t.Log(what)
				test(t, f, c, life.value, life.exists)
			}, distkit.WithAllowedLag(time.Second)) // so that pending is pending
		}
	}
}

func TestLookup_tellsWhetherACounterExists(t *testing.T) {
	t.Parallel()
	forEachLife(t, func(t *testing.T, f *fixture, c distkit.Counter, value int64, exists bool) {
		for range 2 {
			n, ok, err := c.Lookup(f.ctx, keyA)
			require.NoError(t, err)
			require.Equal(t, exists, ok)
			require.Equal(t, value, n)
			f.flush(t)
		}
		require.Equal(t, exists, f.client.HExists(f.ctx, f.prefix+":strict_counter", "a").Val() ||
			f.client.HExists(f.ctx, f.prefix+":lax_counter", "a").Val(), "as in Redis")
	})
}

func TestAbsentAndPresent_decideByExistence(t *testing.T) {
	t.Parallel()
	forEachLife(t, func(t *testing.T, f *fixture, c distkit.Counter, value int64, exists bool) {
		kept := distkit.Change{Old: value, New: value}
		in, err := c.IncIf(f.ctx, keyA, distkit.Present(), 5)
		require.NoError(t, err)
		if exists {
			require.Equal(t, distkit.Change{Old: value, New: value + 5, Applied: true}, in)
			kept = distkit.Change{Old: value + 5, New: value + 5}
		} else {
			require.Equal(t, kept, in)
		}
		changes, err := c.SetAllIf(f.ctx, distkit.UpdateIf{Key: keyA, If: distkit.Absent(), N: 0}, distkit.UpdateIf{Key: keyA, If: distkit.Absent(), N: 9})
		require.NoError(t, err)
		if exists {
			require.Equal(t, []distkit.Change{kept, kept}, changes)
		} else {
			require.Equal(t, []distkit.Change{{Applied: true}, {}}, changes, "the first seeds it, at 0")
		}
		f.flush(t)
		_, ok, err := c.Lookup(f.ctx, keyA)
		require.NoError(t, err)
		require.True(t, ok)
	})
}

func TestLookup_fails_asGetDoes(t *testing.T) {
	t.Parallel()
	both(t, func(t *testing.T, f *fixture, c distkit.Counter, kind string) {
		require.NoError(t, f.client.HSet(f.ctx, f.prefix+":"+kind, "a", "text").Err())
		_, ok, err := c.Lookup(f.ctx, keyA)
		requireNotApplied(t, err, distkit.ErrNotInteger)
		require.False(t, ok)
		_, ok, err = c.Lookup(f.ctx, distkit.Key{})
		requireNotApplied(t, err, distkit.ErrInvalidKey)
		require.False(t, ok)
		_, err = c.SetIf(f.ctx, keyA, distkit.Absent(), 1)
		requireNotApplied(t, err, distkit.ErrNotInteger)
		require.NoError(t, f.client.Set(f.ctx, f.prefix+":"+kind, "text", 0).Err())
		_, ok, err = c.Lookup(f.ctx, keyB)
		requireNotApplied(t, err, distkit.ErrWrongType)
		require.False(t, ok)
	})
}

// Lax counters that are only added to ask for no totals: that they exist follows from
// what was added.
func TestAbsent_ofLaxCounters_followsSilentFlushesAndOthers(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	require.NoError(t, f.client.HSet(f.ctx, f.prefix+":lax_counter", "b", 0).Err())
	requireLookup(t, f, f.Lax(), keyA, 0, false)
	for n := range int64(3) {
		require.NoError(t, f.Lax().Add(keyA, 1))
		f.flush(t)
		requireLookup(t, f, f.Lax(), keyA, n+1, true)
	}
	requireLookup(t, f, f.Lax(), keyB, 0, true)
	other := f.another(t)
	require.NoError(t, second(other.Lax().Del(f.ctx, keyA)))
	require.NoError(t, second(other.Lax().Del(f.ctx, keyB)))
	for _, key := range []distkit.Key{keyA, keyB} {
		require.Eventually(t, func() bool {
			_, ok, err := f.Lax().Lookup(f.ctx, key)
			return err == nil && !ok
		}, 10*time.Second, time.Millisecond)
	}
	require.NoError(t, second(other.Lax().Set(f.ctx, keyA, 0)))
	require.Eventually(t, func() bool {
		_, ok, err := f.Lax().Lookup(f.ctx, keyA)
		return err == nil && ok
	}, 10*time.Second, time.Millisecond)
}

func requireLookup(t testing.TB, f *fixture, c distkit.Counter, key distkit.Key, n int64, exists bool) {
	t.Helper()
	got, ok, err := c.Lookup(f.ctx, key)
	require.NoError(t, err)
	require.Equal(t, exists, ok)
	require.Equal(t, n, got)
}

// Many start at once and seed a counter from what they know; later it is sold out, and
// others start.
func TestSetIf_absent_seedsOnce(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	systems := []*distkit.System{f.System, f.another(t)}
	seed := func() int64 {
		var won atomic.Int64
		var all sync.WaitGroup
		for i := range 50 {
			all.Go(func() {
				change, err := systems[i%2].Strict().SetIf(f.ctx, keyA, distkit.Absent(), 10)
				if err == nil && change.Applied {
					won.Add(1)
				}
				require.NoError(t, err)
			})
		}
		all.Wait()
		return won.Load()
	}
	require.EqualValues(t, 1, seed())
	requireLookup(t, f, f.Strict(), keyA, 10, true)
	for range 10 {
		change, err := f.Strict().IncIf(f.ctx, keyA, distkit.Gt(0), -1)
		require.NoError(t, err)
		require.True(t, change.Applied)
	}
	require.EqualValues(t, 0, seed(), "sold out is not absent")
	requireLookup(t, f, f.Strict(), keyA, 0, true)
	require.NoError(t, second(f.Strict().Del(f.ctx, keyA)))
	require.EqualValues(t, 1, seed())
}

func TestCond_holds(t *testing.T) {
	t.Parallel()
	conditions := map[string]struct {
		cond  distkit.Cond
		holds func(n int64, exists bool) bool
	}{
		"always":            {distkit.Always(), func(int64, bool) bool { return true }},
		"absent":            {distkit.Absent(), func(_ int64, exists bool) bool { return !exists }},
		"present":           {distkit.Present(), func(_ int64, exists bool) bool { return exists }},
		"value == 3":        {distkit.Eq(3), func(n int64, _ bool) bool { return n == 3 }},
		"value != 3":        {distkit.Ne(3), func(n int64, _ bool) bool { return n != 3 }},
		"value < 3":         {distkit.Lt(3), func(n int64, _ bool) bool { return n < 3 }},
		"value <= 3":        {distkit.Le(3), func(n int64, _ bool) bool { return n <= 3 }},
		"value > 3":         {distkit.Gt(3), func(n int64, _ bool) bool { return n > 3 }},
		"value >= 3":        {distkit.Ge(3), func(n int64, _ bool) bool { return n >= 3 }},
		"invalid condition": {distkit.Cond{}, func(int64, bool) bool { return false }},
	}
	for text, c := range conditions {
		require.Equal(t, text, c.cond.String())
		for _, n := range []int64{math.MinInt64, -3, 0, 2, 3, 4, math.MaxInt64} {
			for _, exists := range []bool{false, true} {
				require.Equal(t, c.holds(n, exists), c.cond.Holds(n, exists), "%s of %d, exists: %v", text, n, exists)
			}
		}
	}
}

// What Holds says is what happens.
func TestCond_holds_asCountersDo(t *testing.T) {
	t.Parallel()
	forEachLife(t, func(t *testing.T, f *fixture, c distkit.Counter, value int64, exists bool) {
		for _, cond := range []distkit.Cond{
			distkit.Present(), distkit.Eq(0), distkit.Ne(0), distkit.Lt(1), distkit.Ge(2), distkit.Absent(), distkit.Always(),
		} {
			change, err := c.SetIf(f.ctx, keyA, cond, value)
			require.NoError(t, err)
			require.Equal(t, cond.Holds(value, exists), change.Applied, "%v", cond)
			exists = exists || change.Applied
		}
	})
}

func TestDelAll_answersTheValuesTheyHad(t *testing.T) {
	t.Parallel()
	both(t, func(t *testing.T, f *fixture, c distkit.Counter, kind string) {
		require.NoError(t, f.client.HSet(f.ctx, f.prefix+":"+kind, "a", 42, "text", "text").Err())
		require.NoError(t, second(c.Inc(f.ctx, keyB, 2)))
		require.NoError(t, second(c.Inc(f.ctx, keyC, 3)))
		got, err := c.DelAll(f.ctx, keyB, keyA, distkit.MustKey("none"), keyB)
		require.NoError(t, err)
		require.Equal(t, []int64{2, 42, 0, 0}, got)
		requireLookup(t, f, c, keyA, 0, false)
		requireLookup(t, f, c, keyB, 0, false)
		requireLookup(t, f, c, keyC, 3, true)

		got, err = c.DelAll(f.ctx, keyC, distkit.MustKey("text"))
		requireNotApplied(t, errorOf(t, err, 1), distkit.ErrNotInteger)
		require.EqualValues(t, 3, got[0])
		f.flush(t)
		require.Equal(t, map[string]string{"text": "text"}, f.client.HGetAll(f.ctx, f.prefix+":"+kind).Val())

		got, err = c.DelAll(f.ctx)
		require.NoError(t, err)
		require.Empty(t, got)
		_, err = c.DelAll(f.ctx, keyA, distkit.Key{})
		requireNotApplied(t, err, distkit.ErrInvalidKey)
	})
}

// errorOf is what a batch call says of one of its operations; the others went well.
func errorOf(t testing.TB, err error, at int) error {
	t.Helper()
	var failed *distkit.BatchError
	require.ErrorAs(t, err, &failed)
	for i, err := range failed.Errs {
		require.Equal(t, i == at, err != nil)
	}
	return failed.Errs[at]
}
