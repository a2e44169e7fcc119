package distkit

import (
	"testing"

	"github.com/stretchr/testify/require"
)

// A listing may meet a counter twice, with another value each time: it is one entry.
func TestTop_ofACounterMetTwice_hasItOnce(t *testing.T) {
	t.Parallel()
	a, b, c, d := MustKey("a"), MustKey("b"), MustKey("c"), MustKey("d")
	for _, row := range []struct{ met, want []Entry }{
		{[]Entry{{a, 5}, {a, 5}, {b, 4}, {c, 3}}, []Entry{{a, 5}, {b, 4}}},
		{[]Entry{{a, 1}, {b, 4}, {a, 9}, {c, 3}}, []Entry{{a, 9}, {b, 4}}},
		{[]Entry{{a, 9}, {b, 4}, {c, 3}, {a, 1}, {d, 2}}, []Entry{{a, 9}, {b, 4}}},
		{[]Entry{{a, 1}, {b, 4}, {c, 3}, {a, 5}}, []Entry{{a, 5}, {b, 4}}},
		{[]Entry{{a, 1}, {b, 4}, {c, 3}, {d, 3}, {a, 5}, {c, 7}}, []Entry{{a, 5}, {c, 7}}},
	} {
		top := topmost{at: map[Key]int{}}
		for _, e := range row.met {
			top.offer(e, 2)
		}
		require.ElementsMatch(t, row.want, top.entries)
		require.Len(t, top.at, 2)
		for key, at := range top.at {
			require.Equal(t, key, top.entries[at].Key)
		}
	}
}
