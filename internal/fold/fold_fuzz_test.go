package fold

import (
	"encoding/binary"
	"fmt"
	"math"
	"math/big"
	"testing"

	"github.com/distkit/distkit-go/internal/verb"
	"github.com/stretchr/testify/require"
)

// Changes of a counter against what they mean in big integers: folding never
// changes what a sequence does, and is refused only where no int64 holds the sum.

// effect is what a change means: an assignment of n, or an addition of it.
type effect struct {
	assigns bool
	n       *big.Int
}

var twoTo63 = new(big.Int).Lsh(big.NewInt(1), 63)

func effectOf(c Change) effect {
	switch c.Kind {
	case Add:
		return effect{false, big.NewInt(c.N)}
	case Lift:
		return effect{false, twoTo63}
	case Assign:
		return effect{true, big.NewInt(c.N)}
	case Remove, Wipe:
		return effect{true, new(big.Int)}
	case Nothing:
	}
	return effect{false, new(big.Int)}
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

// changesOf makes changes of bytes: a kind and a number each. Only these kinds
// fold; a Del and a Clear drop what was pending.
func changesOf(script []byte) []Change {
	var changes []Change
	for ; len(script) >= 9; script = script[9:] {
		c := Change{Kind: []Kind{Nothing, Add, Lift, Assign, Add, Add}[script[0]%6]}
		if c.Kind == Add || c.Kind == Assign {
			c.N = int64(binary.LittleEndian.Uint64(script[1:]))
		}
		changes = append(changes, c)
	}
	return changes
}

// script is the reverse, for seeds.
func script(changes ...Change) []byte {
	var bytes []byte
	for _, c := range changes {
		bytes = append(bytes, byte(c.Kind))
		bytes = binary.LittleEndian.AppendUint64(bytes, uint64(c.N))
	}
	return bytes
}

// together reports whether Then takes two changes of the effect, and checks that
// it has it, or has no way to.
func together(t *testing.T, c, next Change, exact effect) bool {
	t.Helper()
	both, ok := c.Then(next)
	if ok {
		require.Equal(t, exact.String(), effectOf(both).String(), "%+v then %+v", c, next)
	} else {
		require.False(t, exact.n.IsInt64(), "%+v then %+v is refused, and is %v", c, next, exact)
	}
	return ok
}

// fold folds the changes as a key does, and leaves out what it would refuse.
// It returns their effect too.
func fold(t *testing.T, changes []Change) (Change, effect) {
	t.Helper()
	var folded Change
	exact := effectOf(folded)
	for _, c := range changes {
		sum := exact.then(effectOf(c))
		if together(t, folded, c, sum) {
			folded, _ = folded.Then(c)
			exact = sum
		}
	}
	return folded, exact
}

// checkOn compares what each change makes of v with its effect.
func checkOn(t *testing.T, v int64, changes []Change) {
	t.Helper()
	for _, c := range append(changes, Change{Kind: Remove}, Change{Kind: Wipe}, Change{}) {
		want := effectOf(c).on(v)
		got, ok := c.On(v)
		require.Equal(t, want.IsInt64(), ok, "%+v on %d", c, v)
		if ok {
			require.Equal(t, want.Int64(), got, "%+v on %d", c, v)
		}
		require.Equal(t, clamped(want), c.Over(v), "%+v over %d", c, v)
	}
}

// checkOps compares what an operation changes with what the change asks of Redis.
func checkOps(t *testing.T, v int64, changes []Change) {
	t.Helper()
	for _, c := range changes {
		if c.Kind == Nothing {
			continue
		}
		o := c.Op()
		asked, applies := Of(o, v, true)
		require.Equal(t, o.Kind != verb.Inc || o.N != 0, applies)
		require.Equal(t, c, asked)
	}
	least, applies := Of(verb.Op{Kind: verb.Dec, N: v}, 0, true)
	require.Equal(t, v != 0, applies)
	require.Equal(t, new(big.Int).Neg(big.NewInt(v)).String(), effectOf(least).n.String())
}

// checkList folds the changes into a list, which takes what does not fold too.
func checkList(t *testing.T, v int64, changes []Change) {
	t.Helper()
	list := Changes(nil).Then(changes...)
	all, exact := effect{n: new(big.Int)}, effect{n: new(big.Int)}
	over, inRange := v, true
	for _, c := range changes {
		exact = exact.then(effectOf(c))
		_, ok := c.On(over)
		over, inRange = c.Over(over), inRange && ok
	}
	for _, c := range list {
		require.NotEqual(t, Nothing, c.Kind)
		all = all.then(effectOf(c))
	}
	require.Equal(t, exact.String(), all.String(), "%+v as %+v", changes, list)
	if inRange && len(list) <= 1 {
		require.Equal(t, over, list.Over(v), "%+v as %+v", changes, list)
	}
}

func FuzzChange(f *testing.F) {
	edges := []int64{math.MinInt64, math.MinInt64 + 1, -1, 0, 1, 1<<53 + 1, math.MaxInt64 - 1, math.MaxInt64}
	for _, n := range edges {
		up, to, most := Change{Add, n}, Change{Assign, n}, Change{Kind: Lift}
		f.Add(n, uint8(1), script(up, most))
		f.Add(n, uint8(1), script(most, up))
		f.Add(n, uint8(2), script(to, most, up, Change{Add, -1}))
		f.Add(n, uint8(1), script(Change{}, up, Change{Add, -n}, most))
		f.Add(-n, uint8(3), script(most, most, up, to, up, up))
		f.Add(n, uint8(2), script(Change{Add, -5}, most, Change{Add, math.MinInt64}, up, Change{Add, 1}))
	}
	f.Fuzz(func(t *testing.T, v int64, at uint8, script []byte) {
		changes := changesOf(script)
		checkOn(t, v, changes)
		checkOps(t, v, changes)
		checkList(t, v, changes)

		folded, exact := fold(t, changes)
		got, ok := folded.On(v)
		require.Equal(t, exact.on(v).IsInt64(), ok)
		if ok {
			require.Equal(t, exact.on(v).Int64(), got)
		}

		// One after another, as long as each result is an int64: the same value.
		inOrder, all := v, Change{}
		for _, c := range changes {
			next, foldable := all.Then(c)
			after, ok := c.On(inOrder)
			if !ok || !foldable {
				break
			}
			inOrder, all = after, next
		}
		got, ok = all.On(v)
		require.True(t, ok)
		require.Equal(t, inOrder, got, "%+v", changes)

		// Folded in two parts and then together, as after a refused Del.
		cut := min(int(at), len(changes))
		first, firstExact := fold(t, changes[:cut])
		second, secondExact := fold(t, changes[cut:])
		together(t, first, second, firstExact.then(secondExact))
	})
}

func TestOf_isNoChange_whereNothingFolds(t *testing.T) {
	t.Parallel()
	for _, o := range []verb.Op{
		{}, {Kind: verb.Get}, {Kind: verb.Del}, {Kind: verb.Clear}, {Kind: verb.Inc}, {Kind: verb.Dec},
		{Kind: verb.IncIf, N: 1, If: verb.Cond{Cmp: verb.Gt, N: 5}}, {Kind: verb.SetIf, N: 1, If: verb.Cond{Cmp: verb.Ne, N: 5}},
		{Kind: verb.IncIf, N: 1, If: verb.Cond{Cmp: verb.Absent}}, {Kind: verb.SetIf, N: 1, If: verb.Cond{Cmp: verb.Absent}},
	} {
		_, applies := Of(o, 5, true)
		require.False(t, applies, "%+v", o)
	}
	for _, o := range []verb.Op{{Kind: verb.Inc}, {Kind: verb.Dec}} {
		c, applies := Of(o, 0, false)
		require.True(t, applies, "it makes a counter")
		require.Equal(t, Change{Kind: Add}, c)
	}
	for o, want := range map[verb.Op]Change{
		{Kind: verb.Set, N: 3}: {Assign, 3},
		{Kind: verb.IncIf, N: 1, If: verb.Cond{Cmp: verb.Ge, N: 5}}: {Add, 1},
		{Kind: verb.SetIf, N: 1, If: verb.Cond{Cmp: verb.Always}}:   {Assign, 1},
		{Kind: verb.Dec, N: math.MinInt64}:                          {Kind: Lift},
		{Kind: verb.IncIf, If: verb.Cond{Cmp: verb.Present}}:        {Kind: Add},
	} {
		c, applies := Of(o, 5, true)
		require.True(t, applies)
		require.Equal(t, want, c)
	}
}

// What a change leaves is what folding it with others leaves, whatever was there.
func TestLeaves_agreesWithFolding(t *testing.T) {
	t.Parallel()
	changes := []Change{{}, {Add, 2}, {Add, -2}, {Kind: Add}, {Kind: Lift}, {Kind: Assign}}
	for _, exists := range []bool{false, true} {
		for _, c := range changes {
			require.Equal(t, exists || c.Kind != Nothing, c.Leaves(exists), "%+v", c)
			for _, next := range changes {
				if both, ok := c.Then(next); ok {
					require.Equal(t, next.Leaves(c.Leaves(exists)), both.Leaves(exists), "%+v then %+v", c, next)
				}
			}
		}
		require.False(t, Change{Kind: Remove}.Leaves(exists))
		require.False(t, Change{Kind: Wipe}.Leaves(exists))
	}
}

func TestOp_isTheChangesOperation(t *testing.T) {
	t.Parallel()
	for c, want := range map[Change]verb.Op{
		{}:             {},
		{Add, 2}:       {Kind: verb.Inc, N: 2},
		{Kind: Lift}:   {Kind: verb.Dec, N: math.MinInt64},
		{Assign, 2}:    {Kind: verb.Set, N: 2},
		{Kind: Remove}: {Kind: verb.Del},
		{Kind: Wipe}:   {Kind: verb.Clear},
	} {
		require.Equal(t, want, c.Op())
		require.Equal(t, c.Kind == Add || c.Kind == Lift || c.Kind == Assign, c.Counts())
	}
	require.EqualValues(t, math.MaxInt64, Change{Kind: Lift}.Amount())
	require.EqualValues(t, -2, Change{Add, -2}.Amount())
}
