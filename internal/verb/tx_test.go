package verb

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func steps() []Keyed {
	return []Keyed{of(Get), {Key: "b", Op: Op{Kind: IncIf, N: 5, If: Cond{Ge, 1}}}}
}

func TestAppend_writesTransactions_withThePlacesOfTheirOnceKeys(t *testing.T) {
	t.Parallel()
	digest := Transaction("x", 0, steps())[0].Tx.Digest
	ops := append(Transaction("x", time.Second, steps()), of(Del))
	ops = append(ops, Transaction("", time.Second, steps()[:1])...)
	ops = append(ops, Transaction("y", time.Minute, steps())...)
	require.Equal(t, "9 t 4 "+digest+" 1000 2 g a I b 5 g 1 d a t 0 0 1000 1 g a t 5 "+digest+" 60000 2 g a I b 5 g 1", written(ops...))
}

// The digests are in Redis: other versions must find the same.
func TestDigest_isPinned_andTellsStepsApart(t *testing.T) {
	t.Parallel()
	require.Equal(t, "08ea1e1fc66797436f238d2ab02d5a91", digest(steps()))
	seen := map[string]int{}
	for i, steps := range [][]Keyed{
		{of(Get)}, {of(Del)}, {of(Get), of(Get)}, {{Key: "b", Op: Op{Kind: Get}}},
		{{Key: "a", Op: Op{Kind: Inc, N: 1}}}, {{Key: "a1", Op: Op{Kind: Inc, N: 1}}}, {{Key: "a", Op: Op{Kind: Inc, N: 11}}},
		{{Key: "a", Op: Op{Kind: Set, N: 1}}}, {{Key: "a", Op: Op{Kind: Dec, N: 1}}},
		{{Key: "a", Op: Op{Kind: Dec, N: -1 << 63}}}, {{Key: "a", Op: Op{Kind: IncIf, N: 1, If: Cond{Eq, 1}}}},
		{{Key: "a", Op: Op{Kind: IncIf, N: 1, If: Cond{Ne, 1}}}}, {{Key: "a", Op: Op{Kind: IncIf, N: 1, If: Cond{Eq, 2}}}},
		{{Key: "a", Op: Op{Kind: SetIf, N: 1, If: Cond{Eq, 1}}}},
		{{Key: "a1:g1:b", Op: Op{Kind: Get}}}, {{Key: "a", Op: Op{Kind: Get}}, {Key: "b", Op: Op{Kind: Get}}},
	} {
		other, found := seen[digest(steps)]
		require.False(t, found, "%d and %d", i, other)
		seen[digest(steps)] = i
	}
	require.Equal(t, digest([]Keyed{{Key: "a", Op: Op{Kind: Dec, N: 5}}}), digest([]Keyed{{Key: "a", Op: Op{Kind: Inc, N: -5}}}))
}

func TestParse_readsTransactions_inTheirPlaces(t *testing.T) {
	t.Parallel()
	ops := append(append([]Keyed{of(Del)}, Transaction("x", 0, steps())...), of(Get))
	for word, want := range map[string][]Result{
		"Y7,1:6": {{N: 2, Applied: true}, {N: 7}, {N: 6, Old: 1, Applied: true}},
		"y7,1:6": {{N: 2, Applied: true, Replayed: true}, {N: 7}, {N: 6, Old: 1, Applied: true}},
		"N7,0:":  {{N: 2}, {N: 7}, {}},
		"n7,!O":  {{N: 2, Replayed: true}, {N: 7}, {Err: Overflows}},
		"N!I":    {{N: 1}, {Err: NotInteger}, {}},
		"!C":     {{Err: Conflicts}, {}, {}},
		"N7,!W":  {{N: 2}, {N: 7}, {Err: WrongType}},
		"n7,-3:": {{N: 2, Replayed: true}, {N: 7}, {N: -3, Old: -3}},
	} {
		got, err := Parse("3 "+word+" 4", ops, nil, nil)
		require.NoError(t, err, word)
		require.Equal(t, append(append([]Result{{N: 3}}, want...), Result{N: 4}), got, word)
	}
	got, err := Parse("3 !B 4", ops, nil, nil)
	require.NoError(t, err)
	require.ErrorIs(t, got[1].Err, ErrOutcomeUnknown)
	got, err = Parse("3 N7,!Ea,b_c, 4", ops, nil, nil)
	require.NoError(t, err)
	require.ErrorContains(t, got[3].Err, "a,b c,", "a comma of Redis's")
	for _, word := range []string{"Y7", "Y7,1:6,2", "Y", "Y7,", "Y,1:6", "Z7,1:6", "7", "Y7,6", "Yx,1:6", "N7,0:,5", "Y7:8,1:6"} {
		_, err := Parse("3 "+word+" 4", ops, nil, nil)
		require.ErrorIs(t, err, ErrMalformed, word)
	}
	_, err = Parse("3 Y7,1:6", ops, nil, nil)
	require.ErrorIs(t, err, ErrMalformed, "one is missing")
}

// FuzzOutcome: what is read of an outcome in an answer is read of it from its once-key,
// but that those are replays and tell their form; and what cannot be read is malformed
// in the one, and unknown in the other.
func FuzzOutcome(f *testing.F) {
	for _, seed := range []string{
		"", "Y7", "Y7,1:6", "y7,1:6", "N7,0:", "n7,!O", "N!I", "!C", "!B", "N!Ea,b", "Y", "Y,", "YY", "Y7,1:6,", "Y1:2,3:4", "N1:,2", "Y!O,1", "Y7 8",
		"Y9223372036854775808", "Y-9223372036854775808,9223372036854775807:-1",
	} {
		f.Add(seed, uint8(strings.Count(seed, ",")+1))
	}
	f.Fuzz(func(t *testing.T, text string, size uint8) {
		if strings.Contains(text, " ") { // it would not be one result
			return
		}
		steps := make([]Keyed, size)
		for i, word := range strings.SplitN(text, ",", int(size)+1) {
			if i >= int(size) {
				break
			}
			if steps[i].Kind = Get; strings.Contains(word, ":") {
				steps[i].Kind = IncIf
			}
		}
		for i := range steps {
			steps[i].Kind = max(steps[i].Kind, Get)
		}
		ops := Transaction("x", 0, steps)
		got, err := Parse(text, ops, nil, nil)
		held := ParseOnce("ab "+text, nil)
		if err != nil {
			require.ErrorIs(t, err, ErrMalformed)
			require.Nil(t, got)
			return
		}
		require.Len(t, got, len(ops))
		if text[0] == '!' {
			require.Error(t, got[0].Err)
			require.ErrorIs(t, held[0].Err, ErrOutcomeUnknown)
			return
		}
		require.Len(t, held, 1+int(got[0].N))
		require.True(t, held[0].Replayed)
		for i := range held {
			if held[i].Err != nil {
				require.EqualError(t, got[i].Err, held[i].Err.Error())
				continue
			}
			held[i].Kind, held[i].Replayed, got[i].Replayed = None, false, false
			require.Equal(t, got[i], held[i])
		}
	})
}
