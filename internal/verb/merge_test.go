package verb

import (
	"fmt"
	"math"
	"math/big"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func incs(keys string, ns ...int64) []Keyed {
	ops := make([]Keyed, len(keys))
	for i := range ops {
		ops[i] = Keyed{Key: keys[i : i+1], Op: Op{Kind: Inc, N: ns[i%len(ns)]}}
	}
	return ops
}

// merged are the arguments of operations, as words.
func merged(t *testing.T, ops []Keyed) (*Merged, string) {
	t.Helper()
	m := Merge(ops)
	require.NotNil(t, m)
	var words []string
	for _, arg := range Append(nil, ops, m, 3) {
		switch a := arg.(type) {
		case *string:
			words = append(words, *a)
		case *int64:
			words = append(words, fmt.Sprint(*a))
		case []byte:
			words = append(words, string(a))
		default:
			words = append(words, fmt.Sprint(a))
		}
	}
	return m, strings.Join(words, " ")
}

func TestMerge_incrementsOfOneCounter_travelAsOne(t *testing.T) {
	t.Parallel()
	ops := incs("abacabaa", 1, 2, 3, 4)
	m, args := merged(t, ops)
	require.Equal(t, "3 + 3 a 12 b 4 c 4 1 1,3,1,3,4 2 2,2", args)
	results, err := Parse("22 4 4", ops, m, nil)
	require.NoError(t, err)
	for i, n := range []int64{11, 2, 14, 4, 15, 4, 18, 22} {
		require.Equal(t, Result{N: n}, results[i], "%d", i)
	}
	results, err = Parse("!I !O 4", ops, m, nil)
	require.NoError(t, err)
	for _, i := range []int{0, 2, 4, 6, 7} {
		require.ErrorIs(t, results[i].Err, ErrNotInteger, "all of them")
	}
	require.ErrorIs(t, results[1].Err, ErrOverflow)
	results, err = Parse("11,!O,12,!O,16 4 4", ops, m, nil)
	require.NoError(t, err)
	require.Equal(t, []Result{{N: 11}, {N: 2}, {Err: Overflows}, {N: 4}, {N: 12}, {N: 4}, {Err: Overflows}, {N: 16}}, results)
	for _, wrong := range []string{"", "22", "22 4", "22 4 4 5", "1,2,3,4 4 4", "1,2,3,4,5,6 4 4", "1,,3,4,5 4 4", "1,x,3,4,5 4 4", "22 4 4,5"} {
		_, err := Parse(wrong, ops, m, nil)
		require.ErrorIs(t, err, ErrMalformed, wrong)
	}
}

// Those of both signs, or whose sum is no int64, could leave the range in between.
func TestMerge_notWhatMayLeaveTheRangeInBetween(t *testing.T) {
	t.Parallel()
	_, args := merged(t, incs("aaaaaaaaaa", 5, 0, -1, -2, 7))
	require.Equal(t, "5 + 5 a 5 a -3 a 12 a -3 a 7 1 5,0 2 -1,-2 3 7,5,0 4 -1,-2", args)
	_, args = merged(t, incs("aaaaaaaa", math.MaxInt64, 1, 1, 1, 1, 1, 1, 1))
	require.Equal(t, "2 + 2 a 9223372036854775807 a 7 2 1,1,1,1,1,1,1", args)
	_, args = merged(t, incs("aaaaaaaa", math.MinInt64, -1, -1, -1, -1, -1, -1, -1))
	require.Equal(t, "2 + 2 a -9223372036854775808 a -7 2 -1,-1,-1,-1,-1,-1,-1", args)
}

func TestMerge_nothing(t *testing.T) {
	t.Parallel()
	require.Nil(t, Merge(incs("abcdefgh", 1)), "each by itself")
	require.Nil(t, Merge(incs("aabbccde", 1)), "it would not pay")
	require.Nil(t, Merge(incs("aaaaaaa", 1)), "too few")
	other := incs("aaaaaaaaa", 1)
	other[4].Kind = Get
	require.Nil(t, Merge(other))
	silent := incs("aaaaaaaaa", 1)
	for i := range silent {
		silent[i].Silent = true
	}
	require.Nil(t, Merge(silent))
	require.Nil(t, Merge(nil))
}

// Of silent ones behind, only those that failed are told, by their place among what
// travelled.
func TestMerge_beforeSilentOnes(t *testing.T) {
	t.Parallel()
	ops := incs("aabbccddefg", 1)
	for i := range ops[8:] {
		ops[8+i].Silent = true
	}
	m, args := merged(t, ops)
	require.Equal(t, "7 + 4 a 2 b 2 c 2 d 2 e 1 f 1 g 1 1 1,1 2 1,1 3 1,1 4 1,1", args)
	results, err := Parse("2 4 6 8 6!W .", ops, m, nil)
	require.NoError(t, err)
	require.Equal(t, []Result{{N: 1}, {N: 2}, {N: 3}, {N: 4}, {N: 5}, {N: 6}, {N: 7}, {N: 8}, {Silent: true}, {Err: WrongType}, {Silent: true}}, results)
	for _, wrong := range []string{"2 4 6 8", "2 4 6 8 4!W .", "2 4 6 8 8!W ."} {
		_, err := Parse(wrong, ops, m, nil)
		require.ErrorIs(t, err, ErrMalformed, wrong)
	}
}

func TestMerge_ofManyCounters_keepsThemApart(t *testing.T) {
	t.Parallel()
	var ops []Keyed
	for i := range int64(1000) {
		ops = append(ops, Keyed{Key: fmt.Sprint(i % 333), Op: Op{Kind: Inc, N: i}})
	}
	m := Merge(ops)
	require.Len(t, m.groups, 333)
	for _, g := range m.groups {
		sum := int64(0)
		for _, o := range ops {
			if o.Key == ops[g.first].Key {
				sum += o.N
			}
		}
		require.Equal(t, sum, g.sum)
	}
}

// Whatever is merged, each is told what it would have been told by itself.
func FuzzMerge(f *testing.F) {
	f.Add([]byte("aaaaaaaabb\x01\x02"), int64(math.MaxInt64-5))
	f.Add([]byte("abababababab"), int64(math.MinInt64+3))
	f.Add([]byte("\x80\x81\xff\x00\x01\x7f\x80\x81\xff\x00\x01\x7f"), int64(0))
	f.Fuzz(func(t *testing.T, what []byte, start int64) {
		var ops []Keyed
		for _, b := range what {
			n := int64(int8(b))
			if n%5 == 0 {
				n <<= 55
			}
			ops = append(ops, Keyed{Key: fmt.Sprint(b % 3), Op: Op{Kind: Inc, N: n}})
		}
		m := Merge(ops)
		if m == nil {
			return
		}
		add := func(values map[string]int64, key, n string) string {
			by, _ := new(big.Int).SetString(n, 10)
			sum := by.Add(by, big.NewInt(values[key]))
			if !sum.IsInt64() {
				return "!O"
			}
			values[key] = sum.Int64()
			return sum.String()
		}
		alone, together := map[string]int64{}, map[string]int64{}
		for k := range 3 {
			alone[fmt.Sprint(k)], together[fmt.Sprint(k)] = start, start
		}
		var want, words []string
		for _, o := range ops {
			want = append(want, add(alone, o.Key, fmt.Sprint(o.N)))
		}
		for _, g := range m.groups {
			word := add(together, ops[g.first].Key, fmt.Sprint(g.sum))
			if word == "!O" && g.of != nil {
				var each []string
				for n := range strings.SplitSeq(string(g.of), ",") {
					each = append(each, add(together, ops[g.first].Key, n))
				}
				word = strings.Join(each, ",")
			}
			words = append(words, word)
		}
		results, err := Parse(strings.Join(words, " "), ops, m, nil)
		require.NoError(t, err)
		for i, r := range results {
			require.Equal(t, want[i], resultWord(r, Inc), "%d", i)
		}
		require.Equal(t, alone, together)
	})
}
