package verb

import (
	"errors"
	"fmt"
	"math"
	"math/big"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// How operations are written for the batch script, and how what it answers is read.

func of(kind Kind) Keyed { return Keyed{Key: "a", Op: Op{Kind: kind}} }

func silent(key string) Keyed { return Keyed{Key: key, Op: Op{Kind: Inc, N: 1}, Silent: true} }

// written is what Append makes of operations, as text.
func written(ops ...Keyed) string {
	var words []string
	for _, arg := range Append(nil, ops, nil, 3) {
		switch arg := arg.(type) {
		case *string:
			words = append(words, *arg)
		case *int64:
			words = append(words, strconv.FormatInt(*arg, 10))
		default:
			words = append(words, fmt.Sprint(arg))
		}
	}
	return strings.Join(words, " ")
}

func TestAppend_writesEachKindByItsRow(t *testing.T) {
	t.Parallel()
	for want, o := range map[string]Op{
		"1 g a":         {Kind: Get},
		"1 + 1 a 5":     {Kind: Inc, N: 5},
		"1 i a -5":      {Kind: Dec, N: 5},
		"1 i a 5":       {Kind: Dec, N: -5},
		"1 m a":         {Kind: Dec, N: math.MinInt64},
		"1 s a -7":      {Kind: Set, N: -7},
		"1 d a":         {Kind: Del},
		"1 I a 5 * 0":   {Kind: IncIf, N: 5, If: Cond{Always, 0}},
		"1 S a 5 = 1":   {Kind: SetIf, N: 5, If: Cond{Eq, 1}},
		"1 S a 5 ! 1":   {Kind: SetIf, N: 5, If: Cond{Ne, 1}},
		"1 S a 5 < 1":   {Kind: SetIf, N: 5, If: Cond{Lt, 1}},
		"1 S a 5 l 1":   {Kind: SetIf, N: 5, If: Cond{Le, 1}},
		"1 S a 5 > 1":   {Kind: SetIf, N: 5, If: Cond{Gt, 1}},
		"1 S a 5 g -12": {Kind: SetIf, N: 5, If: Cond{Ge, -12}},
		"1 S a 5 a 0":   {Kind: SetIf, N: 5, If: Cond{Cmp: Absent}},
		"1 I a 5 p 0":   {Kind: IncIf, N: 5, If: Cond{Cmp: Present}},
		"1 c":           {Kind: Clear},
	} {
		require.Equal(t, want, written(Keyed{Key: "a", Op: o}))
	}
	require.Panics(t, func() { written(of(None)) }, "the callers have checked")
}

// Increments alone go in a form of their own, which says how many answer a value.
func TestAppend_incrementsAloneAreWrittenAsPairs(t *testing.T) {
	t.Parallel()
	told := Keyed{Key: "t", Op: Op{Kind: Inc, N: 2}}
	require.Equal(t, "3 + 0 a 1 b 1 c 1", written(silent("a"), silent("b"), silent("c")))
	require.Equal(t, "3 + 1 t 2 a 1 b 1", written(told, silent("a"), silent("b")))
	require.Equal(t, "3 + 3 a 1 b 1 t 2", written(silent("a"), silent("b"), told))
	require.Equal(t, "2 i a 1 d a", written(silent("a"), of(Del)))
	require.Equal(t, "0", written())
}

func TestKinds_sayWhatTheyMayDo(t *testing.T) {
	t.Parallel()
	for kind := Get; kind <= Recall; kind++ {
		require.Equal(t, kind == Get || kind == Recall, kind.Reads(), kind)
		require.Equal(t, kind == Del || kind == Clear, kind.Frees(), kind)
		require.Equal(t, kind == IncIf || kind == SetIf, kind.Conditional(), kind)
	}
}

func TestParse_refusesWhatItDoesNotKnow(t *testing.T) {
	t.Parallel()
	get, change, inc := of(Get), of(IncIf), of(Inc)
	for text, ops := range map[string][]Keyed{
		"":                    {get},
		"1":                   {get, get},
		"-":                   {inc},
		"-:":                  {change},
		"1 2":                 {get},
		"x":                   {get},
		"1.5":                 {get},
		"1:":                  {get},
		"2":                   {change},
		":1":                  {change},
		"1:2:3":               {change},
		"9223372036854775808": {get},
		"7":                   {inc, silent("b")},
		"7 2":                 {inc, silent("b")},
		"1 . ":                {inc, silent("b")},
		"1 1!O .":             {inc, silent("b")},
		"1 3!O .":             {inc, silent("b")},
		"1 2!O 2!O .":         {inc, silent("b")},
		"1 x!O .":             {inc, silent("b")},
		". .":                 {silent("a")},
	} {
		got, err := Parse(text, ops, nil, nil)
		require.ErrorIs(t, err, ErrMalformed, "%q", text)
		require.Nil(t, got)
	}
	got, err := Parse("!Eno_permission", []Keyed{get}, nil, nil)
	require.NoError(t, err)
	require.ErrorContains(t, got[0].Err, "no permission")
	require.ErrorIs(t, got[0].Err, ErrNotApplied)
}

func TestParse_anUnreadValue_isUnknown_sinceItWasApplied(t *testing.T) {
	t.Parallel()
	got, err := Parse("!?no_permission 3", []Keyed{of(Inc), of(Get)}, nil, nil)
	require.NoError(t, err)
	require.ErrorIs(t, got[0].Err, ErrOutcomeUnknown)
	require.NotErrorIs(t, got[0].Err, ErrNotApplied)
	require.ErrorContains(t, got[0].Err, "no permission")
	require.Equal(t, Result{N: 3}, got[1])
}

func TestParse_appendsToWhatIsThere(t *testing.T) {
	t.Parallel()
	room := make([]Result, 1, 3)
	got, err := Parse("1 2!W .", []Keyed{of(Inc), silent("b")}, nil, room)
	require.NoError(t, err)
	require.Equal(t, []Result{{}, {N: 1}, {Err: WrongType}}, got)
	require.Same(t, &room[0], &got[0])
}

// canonical is the int64 that a text is the one decimal form of.
func canonical(text string) (int64, bool) {
	n, ok := new(big.Int).SetString(text, 10)
	if !ok || !n.IsInt64() || n.String() != text {
		return 0, false
	}
	return n.Int64(), true
}

// resultWord is a result as apply.lua writes it.
func resultWord(r Result, kind Kind) string {
	switch {
	case r.Err == Overflows:
		return "!O"
	case r.Err == NotInteger:
		return "!I"
	case r.Err == WrongType:
		return "!W"
	case r.Err == Conflicts:
		return "!C"
	case errors.Is(r.Err, errBrokenOff):
		return "!B"
	case r.Err != nil:
		if _, text, unread := strings.Cut(r.Err.Error(), "did not give the new value: "); unread {
			return "!?" + strings.ReplaceAll(text, " ", "_")
		}
		_, text, _ := strings.Cut(r.Err.Error(), "redis refused the operation: ")
		return "!E" + strings.ReplaceAll(text, " ", "_")
	case r.Applied:
		return fmt.Sprintf("%d:%d", r.Old, r.N)
	case kind.Conditional():
		return fmt.Sprintf("%d:", r.Old)
	case r.Absent:
		return "-"
	default:
		return strconv.FormatInt(r.N, 10)
	}
}

// meaning restates parseResult: the numbers of a word, where the kind has them
// and each is an int64. A plus sign and leading zeros, which the script never
// writes, do no harm. An error has no numbers.
func meaning(word string, kind Kind) (r Result, ok bool) {
	if strings.HasPrefix(word, "!") {
		return Result{}, true
	}
	if word == "-" && kind == Get {
		return Result{Absent: true}, true
	}
	was, is, found := strings.Cut(word, ":")
	if found != kind.Conditional() {
		return Result{}, false
	}
	old, ok := new(big.Int).SetString(was, 10)
	if !ok || !old.IsInt64() {
		return Result{}, false
	}
	switch {
	case !found:
		return Result{N: old.Int64()}, true
	case is == "":
		return Result{N: old.Int64(), Old: old.Int64()}, true
	}
	n, ok := new(big.Int).SetString(is, 10)
	if !ok || !n.IsInt64() {
		return Result{}, false
	}
	return Result{N: n.Int64(), Old: old.Int64(), Applied: true}, true
}

func FuzzParse(f *testing.F) {
	for _, seed := range []string{
		"", "-", "- -", "1 - 5: -", "1", "0 5:8 5: !O !I !W", "-9223372036854775808 9223372036854775807:-9223372036854775808",
		"9223372036854775808", "-9223372036854775809:", "!C !B 1", "!Eno_permission 1", "!", "!E", "!?", "!?x", "+1", "-0", "007:1", "1_0", "0x1:",
		"1 ", " 1", "1  2", "1:2:3", ":", ":1", "--1", "1.5", "1e3", "nan", "\xff\x00", "１", "9007199254740993:9007199254740992",
	} {
		for _, mask := range []uint64{0, 0b10, 0b110, ^uint64(0)} {
			size := uint8(strings.Count(seed, " "))
			f.Add(seed, size, mask)
			f.Add(seed, size+1, mask)
			f.Add(seed, size+2, mask)
		}
	}
	// Each bit of the mask says whether an operation is a conditional one; of the
	// others every second is a read.
	f.Fuzz(func(t *testing.T, text string, size uint8, mask uint64) {
		ops := make([]Keyed, size)
		for i := range ops {
			switch {
			case mask>>(i%64)&1 == 1:
				ops[i].Kind = SetIf
			case i%2 == 1:
				ops[i].Kind = Get
			default:
				ops[i].Kind = Inc
			}
		}
		words := strings.Split(text, " ")
		if words[len(words)-1] == "" && (len(words) > 1) == (size > 0) { // nothing at all, or a blank at the end
			words = words[:len(words)-1]
		}
		readable := len(words) == len(ops)
		for i := 0; readable && i < len(ops); i++ {
			_, readable = meaning(words[i], ops[i].Kind)
		}
		results, err := Parse(text, ops, nil, nil)
		require.Equal(t, readable, err == nil, "%v", err)
		if !readable {
			require.ErrorIs(t, err, ErrMalformed)
			require.Nil(t, results)
			return
		}
		for i, r := range results {
			word := resultWord(r, ops[i].Kind)
			again, err := parseResult(word, ops[i].Kind)
			require.NoError(t, err)
			if r.Err != nil {
				require.Equal(t, byte('!'), words[i][0])
				require.Equal(t, strings.HasPrefix(words[i], "!?") || words[i] == "!B", errors.Is(r.Err, ErrOutcomeUnknown))
				require.EqualError(t, again.Err, r.Err.Error(), "and back")
				continue
			}
			want, _ := meaning(words[i], ops[i].Kind)
			require.Equal(t, want, r)
			require.Equal(t, r, again, "and back")
		}
	})
}

// FuzzParseSilent: of increments that answer no value, what can be read names each
// that failed, and no other.
func FuzzParseSilent(f *testing.F) {
	for _, seed := range []string{"", ".", "1!O .", "2!I 3!W .", "3!Ea_b .", "1!O 1!O .", "0!O .", "4!O .", "1!O", ". .", "1 .", "!O ."} {
		f.Add(seed, uint8(3))
	}
	f.Fuzz(func(t *testing.T, text string, size uint8) {
		ops := make([]Keyed, size)
		for i := range ops {
			ops[i] = Keyed{Op: Op{Kind: Inc}, Silent: true}
		}
		results, err := Parse(text, ops, nil, nil)
		if err != nil {
			require.ErrorIs(t, err, ErrMalformed)
			require.Nil(t, results)
			return
		}
		require.Len(t, results, int(size))
		words := strings.Split(text, " ")
		if size > 0 {
			require.Equal(t, ".", words[len(words)-1])
		}
		for i, r := range results {
			named := slices.IndexFunc(words, func(word string) bool {
				place, _, _ := strings.Cut(word, "!")
				at, err := strconv.Atoi(place)
				return err == nil && at == i+1
			})
			if named < 0 {
				require.Equal(t, Result{Silent: true}, r)
				continue
			}
			_, what, _ := strings.Cut(words[named], "!")
			require.EqualError(t, r.Err, resultError("!"+what).Error())
		}
	})
}

func FuzzParseField(f *testing.F) {
	for _, text := range []string{
		"text", "", " 1", "1 ", "+1", "-0", "-", "00", "007", "1.0", "1e3", "0x10", "1\x00", "a b", "1\n", "!O", "5:8",
		"9223372036854775808", "-9223372036854775809", "9007199254740993", "12345678901234567890", "123456789012345678901",
	} {
		f.Add(text, int64(0))
	}
	for _, n := range edges {
		f.Add(strconv.FormatInt(n, 10), n)
	}
	f.Fuzz(func(t *testing.T, text string, n int64) {
		want, ok := canonical(text)
		got := ParseField(text)
		require.Equal(t, ok, got.Err == nil, "%q", text)
		if ok {
			require.Equal(t, Result{N: want}, got)
		} else {
			require.Equal(t, Result{Err: NotInteger}, got)
			require.ErrorIs(t, got.Err, ErrNotInteger)
			require.ErrorIs(t, got.Err, ErrNotApplied)
		}
		require.Equal(t, Result{N: n}, ParseField(strconv.FormatInt(n, 10)))

		for _, other := range []any{n, []byte(text), []any{text}, true, 1.0} { // no reply of HMGET
			require.Equal(t, Result{Err: NotInteger}, ParseField(other))
		}
		require.Equal(t, Result{Absent: true}, ParseField(nil))
	})
}
