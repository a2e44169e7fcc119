package actors

import (
	"encoding/binary"
	"fmt"
	"math"
	"math/big"
	"testing"

	"github.com/distkit/distkit-go/internal/op"
	"github.com/stretchr/testify/require"
)

// Changes of a lax counter against what they mean in big integers: folding
// never changes what a sequence does, and is refused only where no int64 holds
// the sum.

// effect is what a change means: an assignment of n, or an addition of it.
type effect struct {
	assigns bool
	n       *big.Int
}

var twoTo63 = new(big.Int).Lsh(big.NewInt(1), 63)

func effectOf(c change) effect {
	switch c.verb {
	case add:
		return effect{false, big.NewInt(c.n)}
	case lift:
		return effect{false, twoTo63}
	case assign:
		return effect{true, big.NewInt(c.n)}
	case remove, wipe:
		return effect{true, new(big.Int)}
	default:
		return effect{false, new(big.Int)}
	}
}

func (e effect) String() string { return fmt.Sprint(e.assigns, " ", e.n) }

func (e effect) then(next effect) effect {
	if next.assigns {
		return next
	}
	return effect{e.assigns, new(big.Int).Add(e.n, next.n)}
}

func (e effect) on(v int64) *big.Int {
	if e.assigns {
		return e.n
	}
	return new(big.Int).Add(big.NewInt(v), e.n)
}

// clamped is the int64 next to n.
func clamped(n *big.Int) int64 {
	switch {
	case n.IsInt64():
		return n.Int64()
	case n.Sign() < 0:
		return math.MinInt64
	default:
		return math.MaxInt64
	}
}

// changesOf makes changes of bytes: a verb and a number each. Only these verbs
// fold; a Del and a Clear drop what was pending.
func changesOf(script []byte) []change {
	var changes []change
	for ; len(script) >= 9; script = script[9:] {
		c := change{verb: []verb{nothing, add, lift, assign, add, add}[script[0]%6]}
		if c.verb == add || c.verb == assign {
			c.n = int64(binary.LittleEndian.Uint64(script[1:]))
		}
		changes = append(changes, c)
	}
	return changes
}

// script is the reverse, for seeds.
func script(changes ...change) []byte {
	var bytes []byte
	for _, c := range changes {
		bytes = append(bytes, byte(c.verb))
		bytes = binary.LittleEndian.AppendUint64(bytes, uint64(c.n))
	}
	return bytes
}

// together reports whether then takes two changes of the effect, and checks
// that it has it, or has no way to.
func together(t *testing.T, c, next change, exact effect) bool {
	t.Helper()
	both, ok := c.then(next)
	if ok {
		require.Equal(t, exact.String(), effectOf(both).String(), "%+v then %+v", c, next)
	} else {
		require.False(t, exact.n.IsInt64(), "%+v then %+v is refused, and is %v", c, next, exact)
	}
	return ok
}

// fold folds the changes as a key does, and leaves out what it would refuse.
// It returns their effect too.
func fold(t *testing.T, changes []change) (change, effect) {
	t.Helper()
	var folded change
	exact := effectOf(folded)
	for _, c := range changes {
		sum := exact.then(effectOf(c))
		if together(t, folded, c, sum) {
			folded, _ = folded.then(c)
			exact = sum
		}
	}
	return folded, exact
}

func FuzzChange(f *testing.F) {
	edges := []int64{math.MinInt64, math.MinInt64 + 1, -1, 0, 1, 1<<53 + 1, math.MaxInt64 - 1, math.MaxInt64}
	for _, n := range edges {
		up, to, most := change{add, n}, change{assign, n}, change{verb: lift}
		f.Add(n, uint8(1), script(up, most))
		f.Add(n, uint8(1), script(most, up))
		f.Add(n, uint8(2), script(to, most, up, change{add, -1}))
		f.Add(n, uint8(1), script(change{}, up, change{add, -n}, most))
		f.Add(-n, uint8(3), script(most, most, up, to, up, up))
		f.Add(n, uint8(2), script(change{add, -5}, most, change{add, math.MinInt64}, up, change{add, 1}))
	}
	f.Fuzz(func(t *testing.T, v int64, at uint8, script []byte) {
		changes := changesOf(script)
		for _, c := range append(changes, change{verb: remove}, change{verb: wipe}, change{}) {
			want := effectOf(c).on(v)
			got, ok := c.on(v)
			require.Equal(t, want.IsInt64(), ok, "%+v on %d", c, v)
			if ok {
				require.Equal(t, want.Int64(), got, "%+v on %d", c, v)
			}
			require.Equal(t, clamped(want), c.over(v), "%+v over %d", c, v)
		}

		folded, exact := fold(t, changes)
		got, ok := folded.on(v)
		require.Equal(t, exact.on(v).IsInt64(), ok)
		if ok {
			require.Equal(t, exact.on(v).Int64(), got)
		}

		// One after another, as long as each result is an int64: the same value.
		inOrder, all := v, change{}
		for _, c := range changes {
			next, foldable := all.then(c)
			after, ok := c.on(inOrder)
			if !ok || !foldable {
				break
			}
			inOrder, all = after, next
		}
		got, ok = all.on(v)
		require.True(t, ok)
		require.Equal(t, inOrder, got, "%+v", changes)

		// Folded in two parts and then together, as after a refused Del.
		cut := min(int(at), len(changes))
		first, firstExact := fold(t, changes[:cut])
		second, secondExact := fold(t, changes[cut:])
		together(t, first, second, firstExact.then(secondExact))

		// What an operation changes, and what the change asks of Redis.
		for _, c := range changes {
			if c.verb == nothing {
				continue
			}
			o := (&mutation{change: c}).keyOp("a").Op
			asked, applies := changeOf(o, v)
			require.Equal(t, o.Kind != op.Inc || o.N != 0, applies)
			require.Equal(t, c, asked)
		}
		least, applies := changeOf(op.Op{Kind: op.Dec, N: v}, 0)
		require.Equal(t, v != 0, applies)
		require.Equal(t, new(big.Int).Neg(big.NewInt(v)).String(), effectOf(least).n.String())
	})
}
