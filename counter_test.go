package distkit_test

import (
	"math"
	"strconv"
	"testing"

	"github.com/distkit/distkit-go"
	"github.com/stretchr/testify/require"
)

func TestCounter_operations_answerTheValue(t *testing.T) {
	t.Parallel()
	both(t, func(t *testing.T, f *fixture, c distkit.Counter, kind string) {
		steps := []struct {
			name string
			do   func() (int64, error)
			want int64
		}{
			{"get of nothing is 0", func() (int64, error) { return c.Get(f.ctx, keyA) }, 0},
			{"inc of nothing starts at 0", func() (int64, error) { return c.Inc(f.ctx, keyA, 5) }, 5},
			{"inc by 0 reads", func() (int64, error) { return c.Inc(f.ctx, keyA, 0) }, 5},
			{"inc by a negative subtracts", func() (int64, error) { return c.Inc(f.ctx, keyA, -2) }, 3},
			{"dec goes below zero", func() (int64, error) { return c.Dec(f.ctx, keyA, 10) }, -7},
			{"dec by a negative adds", func() (int64, error) { return c.Dec(f.ctx, keyA, -3) }, -4},
			{"set answers what it set", func() (int64, error) { return c.Set(f.ctx, keyA, 100) }, 100},
			{"inc after set", func() (int64, error) { return c.Inc(f.ctx, keyA, 1) }, 101},
			{"another key is its own", func() (int64, error) { return c.Get(f.ctx, keyB) }, 0},
			{"del answers what it had", func() (int64, error) { return c.Del(f.ctx, keyA) }, 101},
			{"get after del is 0", func() (int64, error) { return c.Get(f.ctx, keyA) }, 0},
			{"del of nothing is 0", func() (int64, error) { return c.Del(f.ctx, keyA) }, 0},
			{"inc after del starts at 0", func() (int64, error) { return c.Inc(f.ctx, keyA, 2) }, 2},
		}
		for _, step := range steps {
			got, err := step.do()
			require.NoError(t, err, step.name)
			require.Equal(t, step.want, got, step.name)
		}
		f.flush(t)
		require.Equal(t, "2", f.stored(t, kind, keyA))
	})
}

func TestCounter_del_answersForAKeyNeverTouched(t *testing.T) {
	t.Parallel()
	both(t, func(t *testing.T, f *fixture, c distkit.Counter, kind string) {
		require.NoError(t, f.client.HSet(f.ctx, f.prefix+":"+kind, "a", 42).Err())
		got, err := c.Del(f.ctx, keyA)
		require.NoError(t, err)
		require.EqualValues(t, 42, got)
		require.Empty(t, f.stored(t, kind, keyA))
	})
}

func TestCounter_conditions(t *testing.T) {
	t.Parallel()
	conditions := []struct {
		name                 string
		make                 func(int64) distkit.Cond
		less, equal, greater bool // holds for a value less than, equal to, greater than n
	}{
		{"eq", distkit.Eq, false, true, false},
		{"ne", distkit.Ne, true, false, true},
		{"lt", distkit.Lt, true, false, false},
		{"le", distkit.Le, true, true, false},
		{"gt", distkit.Gt, false, false, true},
		{"ge", distkit.Ge, false, true, true},
		{"always", func(int64) distkit.Cond { return distkit.Always() }, true, true, true},
	}
	values := []int64{math.MinInt64, math.MinInt64 + 1, -1 << 53, -10, -9, -1, 0, 1, 9, 10, 1<<53 + 1, math.MaxInt64 - 1, math.MaxInt64}
	both(t, func(t *testing.T, f *fixture, c distkit.Counter, _ string) {
		var sets []distkit.UpdateIf
		var want []distkit.Change
		for i, value := range values {
			key := distkit.MustKey("v" + strconv.Itoa(i))
			_, err := c.Set(f.ctx, key, value)
			require.NoError(t, err)
			for _, n := range values {
				for _, cond := range conditions {
					holds := value < n && cond.less || value == n && cond.equal || value > n && cond.greater
					sets = append(sets, distkit.UpdateIf{Key: key, If: cond.make(n), N: value}) // keeps the value
					want = append(want, distkit.Change{Old: value, New: value, Applied: holds})
				}
			}
		}
		got, err := c.SetAllIf(f.ctx, sets...)
		require.NoError(t, err)
		for i := range want {
			require.Equal(t, want[i], got[i], "%v of %v", sets[i].If, sets[i].Key)
		}
	})
}

func TestCounter_conditional_changesOnlyWhereItHolds(t *testing.T) {
	t.Parallel()
	both(t, func(t *testing.T, f *fixture, c distkit.Counter, kind string) {
		change, err := c.IncIf(f.ctx, keyA, distkit.Eq(0), 5)
		require.NoError(t, err)
		require.Equal(t, distkit.Change{Old: 0, New: 5, Applied: true}, change, "a counter that does not exist is 0")
		change, err = c.IncIf(f.ctx, keyA, distkit.Lt(5), 5)
		require.NoError(t, err)
		require.Equal(t, distkit.Change{Old: 5, New: 5}, change)
		change, err = c.SetIf(f.ctx, keyA, distkit.Ge(5), -1)
		require.NoError(t, err)
		require.Equal(t, distkit.Change{Old: 5, New: -1, Applied: true}, change)
		change, err = c.SetIf(f.ctx, keyA, distkit.Ge(0), 7)
		require.NoError(t, err)
		require.Equal(t, distkit.Change{Old: -1, New: -1}, change)
		f.flush(t)
		require.Equal(t, "-1", f.stored(t, kind, keyA))
	})
}

func TestCounter_clear_deletesOneKindOfOnePrefix(t *testing.T) {
	t.Parallel()
	both(t, func(t *testing.T, f *fixture, c distkit.Counter, kind string) {
		other := newFixture(t)
		for _, k := range []distkit.Counter{f.Strict(), f.Lax(), other.Strict(), other.Lax()} {
			_, err := k.IncAll(f.ctx, distkit.Update{Key: keyA, N: 1}, distkit.Update{Key: keyB, N: 2})
			require.NoError(t, err)
		}
		f.flush(t)
		other.flush(t)
		_, err := c.Inc(f.ctx, keyC, 3) // on lax, pending when Clear comes
		require.NoError(t, err)

		require.NoError(t, c.Clear(f.ctx))

		got, err := c.GetAll(f.ctx, keyA, keyB, keyC)
		require.NoError(t, err)
		require.Equal(t, []int64{0, 0, 0}, got)
		f.flush(t)
		for _, key := range []distkit.Key{keyA, keyB, keyC} {
			require.Empty(t, f.stored(t, kind, key))
		}
		for name, k := range f.counters() {
			if name != kind {
				got, err := k.GetAll(f.ctx, keyA, keyB)
				require.NoError(t, err)
				require.Equal(t, []int64{1, 2}, got, "the other kind is untouched")
			}
		}
		for _, k := range other.counters() {
			got, err := k.GetAll(f.ctx, keyA, keyB)
			require.NoError(t, err)
			require.Equal(t, []int64{1, 2}, got, "the other prefix is untouched")
		}
		got, err = c.IncAll(f.ctx, distkit.Update{Key: keyA, N: 9})
		require.NoError(t, err)
		require.Equal(t, []int64{9}, got, "counting goes on from 0")
	})
}

func TestCounter_batches_keepOrderAndDuplicates(t *testing.T) {
	t.Parallel()
	both(t, func(t *testing.T, f *fixture, c distkit.Counter, _ string) {
		u := func(key distkit.Key, n int64) distkit.Update { return distkit.Update{Key: key, N: n} }
		got, err := c.IncAll(f.ctx, u(keyB, 1), u(keyA, 10), u(keyB, 2), u(keyA, -5))
		require.NoError(t, err)
		require.Equal(t, []int64{1, 10, 3, 5}, got)

		got, err = c.GetAll(f.ctx, keyA, keyC, keyA, keyB)
		require.NoError(t, err)
		require.Equal(t, []int64{5, 0, 5, 3}, got)

		got, err = c.SetAll(f.ctx, u(keyA, 1), u(keyC, 2), u(keyA, 3))
		require.NoError(t, err)
		require.Equal(t, []int64{1, 2, 3}, got)

		changes, err := c.IncAllIf(f.ctx,
			distkit.UpdateIf{Key: keyA, If: distkit.Eq(3), N: 1},
			distkit.UpdateIf{Key: keyA, If: distkit.Eq(3), N: 1},
			distkit.UpdateIf{Key: keyC, If: distkit.Always(), N: 1})
		require.NoError(t, err)
		require.Equal(t, []distkit.Change{{Old: 3, New: 4, Applied: true}, {Old: 4, New: 4}, {Old: 2, New: 3, Applied: true}}, changes)

		got, err = c.GetAll(f.ctx)
		require.NoError(t, err)
		require.Empty(t, got)
	})
}

func TestCounter_batch_largerThanAScriptCall(t *testing.T) {
	t.Parallel()
	both(t, func(t *testing.T, f *fixture, c distkit.Counter, kind string) {
		const size = 2500
		updates := make([]distkit.Update, size)
		want := make([]int64, size)
		for i := range updates {
			updates[i] = distkit.Update{Key: distkit.MustKey(strconv.Itoa(i % 2000)), N: int64(i)}
			want[i] = int64(i)
			if i >= 2000 {
				want[i] += int64(i - 2000)
			}
		}
		got, err := c.IncAll(f.ctx, updates...)
		require.NoError(t, err)
		require.Equal(t, want, got)
		f.flush(t)
		require.Equal(t, "1999", f.stored(t, kind, distkit.MustKey("1999")))
	})
}

func TestCounter_int64_isExactToItsEnds(t *testing.T) {
	t.Parallel()
	const lo, hi = math.MinInt64, math.MaxInt64
	cases := []struct {
		name     string
		start, n int64
		dec      bool
		want     int64
		overflow bool
	}{
		{"above 2^53", 1<<53 + 1, 2, false, 1<<53 + 3, false},
		{"below -2^53", -(1<<53 + 1), -2, false, -(1<<53 + 3), false},
		{"to the top", hi - 1, 1, false, hi, false},
		{"over the top", hi, 1, false, 0, true},
		{"to the bottom", lo + 1, -1, false, lo, false},
		{"over the bottom", lo, -1, false, 0, true},
		{"inc by the least", hi, lo, false, -1, false},
		{"inc by the least, over", -1, lo, false, 0, true},
		{"inc by the most", lo, hi, false, -1, false},
		{"dec by the least", -1, lo, true, hi, false},
		{"dec the least by the least", lo, lo, true, 0, false},
		{"dec by the least, over", 0, lo, true, 0, true},
		{"dec by the most", hi, hi, true, 0, false},
		{"dec by the most, over", -2, hi, true, 0, true},
		{"dec by the most, to the bottom", -1, hi, true, lo, false},
	}
	both(t, func(t *testing.T, f *fixture, c distkit.Counter, kind string) {
		for i, tc := range cases {
			key := distkit.MustKey(strconv.Itoa(i))
			_, err := c.Set(f.ctx, key, tc.start)
			require.NoError(t, err)
			f.flush(t)
			do := c.Inc
			if tc.dec {
				do = c.Dec
			}
			got, err := do(f.ctx, key, tc.n)
			want := tc.want
			if tc.overflow {
				require.ErrorIs(t, err, distkit.ErrOverflow, tc.name)
				require.ErrorIs(t, err, distkit.ErrNotApplied, tc.name)
				require.NotErrorIs(t, err, distkit.ErrOutcomeUnknown, tc.name)
				want = tc.start
			} else {
				require.NoError(t, err, tc.name)
				require.Equal(t, want, got, tc.name)
			}
			got, err = c.Get(f.ctx, key)
			require.NoError(t, err, tc.name)
			require.Equal(t, want, got, tc.name)
			f.flush(t)
			require.Equal(t, strconv.FormatInt(want, 10), f.stored(t, kind, key), tc.name)
			got, err = c.Del(f.ctx, key)
			require.NoError(t, err, tc.name)
			require.Equal(t, want, got, tc.name)
		}
	})
}

func TestCounter_twoSystems_countTogether(t *testing.T) {
	t.Parallel()
	both(t, func(t *testing.T, f *fixture, c distkit.Counter, kind string) {
		second := f.another(t)
		other := distkit.Counter(second.Strict())
		if kind == "lax_counter" {
			other = second.Lax()
		}
		for i := range 100 {
			_, err := c.Inc(f.ctx, keyA, int64(i))
			require.NoError(t, err)
			_, err = other.Dec(f.ctx, keyA, 1)
			require.NoError(t, err)
		}
		f.flush(t)
		require.NoError(t, second.Flush(f.ctx))
		require.Equal(t, strconv.Itoa(100*99/2-100), f.stored(t, kind, keyA))
	})
}
