package store

import (
	"fmt"
	"maps"
	"math/big"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/distkit/distkit-go/internal/op"
	"github.com/stretchr/testify/require"
)

// What the batch script does and answers, restated with big integers from its
// head and from the design, and the fuzzing of what reads its answers.

// model is what Redis must hold.
type model struct {
	replaced bool              // the container is a string,
	fields   map[string]string // and these come back when it no longer is
	ledgers  map[string]ledger // by writer; the zero ledger is none
}

type ledger struct {
	seq     int64
	payload string // the results as apply.lua writes them
	results []op.Result
}

// answer is what a call must answer: the text, or the error's first word, and
// what the results mean.
type answer struct {
	text    string
	results []op.Result
}

func (m *model) clone() model {
	return model{m.replaced, maps.Clone(m.fields), maps.Clone(m.ledgers)}
}

// batch is a call of the script.
func (m *model) batch(writer string, seq int64, ops []KeyOp, memoryFull bool) answer {
	last := m.ledgers[writer]
	switch {
	case seq == last.seq:
		return answer{"R " + last.payload, last.results}
	case seq != last.seq+1:
		return answer{text: fmt.Sprintf("G %d", last.seq)}
	case memoryFull:
		return answer{text: "OOM"}
	}
	next := ledger{seq: seq}
	told := len(ops) - silentTail(ops)
	var words []string
	for i := range ops {
		result := m.apply(&ops[i])
		switch word := resultWord(result, ops[i].Kind); {
		case i < told:
			words = append(words, word)
		case result.Err != nil:
			words = append(words, fmt.Sprint(i+1, word))
		default:
			result = op.Result{Silent: true}
		}
		next.results = append(next.results, result)
	}
	if told < len(ops) {
		words = append(words, ".")
	}
	next.payload = strings.Join(words, " ")
	m.ledgers[writer] = next
	return answer{"A " + next.payload, next.results}
}

// silentTail is how many operations at the end answer no value: silent increments,
// where all are increments.
func silentTail(ops []KeyOp) int {
	tail := 0
	for _, o := range ops {
		switch {
		case o.Kind != op.Inc:
			return 0
		case o.Silent:
			tail++
		default:
			tail = 0
		}
	}
	return tail
}

// apply is one operation.
func (m *model) apply(o *KeyOp) op.Result {
	text, found := m.fields[o.Key]
	if !found {
		text = "0"
	}
	old, ok := canonical(text)
	switch {
	case m.replaced:
		return op.Result{Err: errWrongType}
	case o.Kind == op.Clear:
		clear(m.fields)
		return op.Result{}
	case o.Kind != op.Set && !ok:
		return op.Result{Err: errNotInteger}
	}
	n := big.NewInt(o.N)
	switch o.Kind {
	case op.Get:
		return op.Result{N: old}
	case op.Del:
		delete(m.fields, o.Key)
		return op.Result{N: old}
	case op.Inc, op.IncIf:
		n.Add(big.NewInt(old), n)
	case op.Dec:
		n.Sub(big.NewInt(old), n)
	}
	result := op.Result{N: n.Int64()}
	if o.Kind.Conditional() {
		if !o.If.Holds(old) {
			return op.Result{N: old, Old: old}
		}
		result.Old, result.Applied = old, true
	}
	if !n.IsInt64() {
		return op.Result{Err: errOverflow}
	}
	m.fields[o.Key] = n.String()
	return result
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
func resultWord(r op.Result, kind op.Kind) string {
	switch {
	case r.Err == errOverflow:
		return "!O"
	case r.Err == errNotInteger:
		return "!I"
	case r.Err == errWrongType:
		return "!W"
	case r.Err != nil:
		_, text, _ := strings.Cut(r.Err.Error(), "redis refused the operation: ")
		return "!E" + strings.ReplaceAll(text, " ", "_")
	case r.Applied:
		return fmt.Sprintf("%d:%d", r.Old, r.N)
	case kind.Conditional():
		return fmt.Sprintf("%d:", r.Old)
	default:
		return strconv.FormatInt(r.N, 10)
	}
}

// meaning restates parseResult: the numbers of a word, where the kind has them
// and each is an int64. A plus sign and leading zeros, which the script never
// writes, do no harm. An error has no numbers.
func meaning(word string, kind op.Kind) (r op.Result, ok bool) {
	if strings.HasPrefix(word, "!") {
		return op.Result{}, true
	}
	was, is, found := strings.Cut(word, ":")
	if found != kind.Conditional() {
		return op.Result{}, false
	}
	old, ok := new(big.Int).SetString(was, 10)
	if !ok || !old.IsInt64() {
		return op.Result{}, false
	}
	switch {
	case !found:
		return op.Result{N: old.Int64()}, true
	case is == "":
		return op.Result{N: old.Int64(), Old: old.Int64()}, true
	}
	n, ok := new(big.Int).SetString(is, 10)
	if !ok || !n.IsInt64() {
		return op.Result{}, false
	}
	return op.Result{N: n.Int64(), Old: old.Int64(), Applied: true}, true
}

func FuzzParseResults(f *testing.F) {
	for _, seed := range []string{
		"", "1", "0 5:8 5: !O !I !W", "-9223372036854775808 9223372036854775807:-9223372036854775808",
		"9223372036854775808", "-9223372036854775809:", "!Eno_permission 1", "!", "!E", "+1", "-0", "007:1", "1_0", "0x1:",
		"1 ", " 1", "1  2", "1:2:3", ":", ":1", "--1", "1.5", "1e3", "nan", "\xff\x00", "１", "9007199254740993:9007199254740992",
	} {
		for _, mask := range []uint64{0, 0b10, 0b110, ^uint64(0)} {
			size := uint8(strings.Count(seed, " "))
			f.Add(seed, size, mask)
			f.Add(seed, size+1, mask)
			f.Add(seed, size+2, mask)
		}
	}
	// Each bit of the mask says whether an operation is a conditional one.
	f.Fuzz(func(t *testing.T, text string, size uint8, mask uint64) {
		ops := make([]KeyOp, size)
		for i := range ops {
			if ops[i].Kind = op.Inc; mask>>(i%64)&1 == 1 {
				ops[i].Kind = op.SetIf
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
		results, err := parseResults(text, ops, nil)
		require.Equal(t, readable, err == nil, "%v", err)
		if !readable {
			require.ErrorIs(t, err, errMalformed)
			require.Nil(t, results)
			return
		}
		for i, r := range results {
			word := resultWord(r, ops[i].Kind)
			again, err := parseResult(word, ops[i].Kind)
			require.NoError(t, err)
			if r.Err != nil {
				require.Equal(t, byte('!'), words[i][0])
				require.ErrorIs(t, r.Err, op.ErrNotApplied)
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
		ops := make([]KeyOp, size)
		for i := range ops {
			ops[i] = KeyOp{Op: op.Op{Kind: op.Inc}, Silent: true}
		}
		results, err := parseResults(text, ops, nil)
		if err != nil {
			require.ErrorIs(t, err, errMalformed)
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
				require.Equal(t, op.Result{Silent: true}, r)
				continue
			}
			_, what, _ := strings.Cut(words[named], "!")
			require.EqualError(t, r.Err, resultError("!"+what).Error())
		}
	})
}

func FuzzParseField(f *testing.F) {
	for _, text := range foreignTexts {
		f.Add(text, int64(0))
	}
	for _, n := range edges {
		f.Add(strconv.FormatInt(n, 10), n)
	}
	f.Fuzz(func(t *testing.T, text string, n int64) {
		want, ok := canonical(text)
		got, err := parseField(text)
		require.Equal(t, ok, err == nil, "%q", text)
		if ok {
			require.Equal(t, want, got)
		} else {
			require.Zero(t, got)
			require.ErrorIs(t, err, op.ErrNotInteger)
			require.ErrorIs(t, err, op.ErrNotApplied)
		}
		got, err = parseField(strconv.FormatInt(n, 10))
		require.NoError(t, err)
		require.Equal(t, n, got)

		for _, other := range []any{n, []byte(text), []any{text}, true, 1.0} { // no reply of HMGET
			_, err = parseField(other)
			require.ErrorIs(t, err, op.ErrNotInteger)
		}
		got, err = parseField(nil)
		require.NoError(t, err)
		require.Zero(t, got)
	})
}
