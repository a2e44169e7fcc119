package verb

import (
	"math/big"
	"testing"

	"github.com/stretchr/testify/require"
)

// The arithmetic and the comparisons against big integers, for any numbers.

func FuzzApplyArithmetic(f *testing.F) {
	for _, a := range edges {
		for _, b := range edges {
			f.Add(a, b)
		}
	}
	f.Fuzz(func(t *testing.T, a, b int64) {
		for _, c := range []struct {
			name  string
			of    func(a, b int64) (int64, bool)
			exact *big.Int
		}{
			{"+", Add, new(big.Int).Add(big.NewInt(a), big.NewInt(b))},
			{"-", Sub, new(big.Int).Sub(big.NewInt(a), big.NewInt(b))},
		} {
			n, ok := c.of(a, b)
			require.Equal(t, c.exact.IsInt64(), ok, "%d %s %d", a, c.name, b)
			if ok {
				require.Equal(t, c.exact.String(), big.NewInt(n).String(), "%d %s %d", a, c.name, b)
			}
		}
	})
}

func FuzzCond(f *testing.F) {
	for cmp := range Present + 2 {
		for _, v := range edges {
			f.Add(uint8(cmp), v, v, true)
			f.Add(uint8(cmp), v, v-1, true)
			f.Add(uint8(cmp), v, -v, false)
		}
	}
	f.Fuzz(func(t *testing.T, cmp uint8, v, n int64, exists bool) {
		order := big.NewInt(v).Cmp(big.NewInt(n))
		want, valid := map[Cmp]bool{
			Always: true, Eq: order == 0, Ne: order != 0, Lt: order < 0, Le: order <= 0, Gt: order > 0, Ge: order >= 0,
			Absent: !exists, Present: exists,
		}[Cmp(cmp)]
		c := Cond{Cmp(cmp), n}
		require.Equal(t, valid, c.Valid())
		require.Equal(t, want, c.Holds(v, exists), "%d (%v) by comparator %d with %d", v, exists, cmp, n)
	})
}
