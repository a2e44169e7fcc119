package script_test

import (
	"context"
	"fmt"
	"maps"
	"math/big"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/distkit/distkit-go/internal/fakeredis"
	"github.com/distkit/distkit-go/internal/redisio"
	"github.com/distkit/distkit-go/internal/verb"
	"github.com/redis/go-redis/v9"
	"pgregory.net/rapid"
)

// How the two are compared: what they answer, what they hold, and the ledgers' texts.

// told is what a call was told, for the tally.
func told(call *redisio.Call) string {
	what := fmt.Sprintf("class %d status %d", call.Class, call.Status)
	if call.Replayed {
		what += " replayed"
	}
	if call.Last == redisio.NoLedger {
		what += " without a ledger"
	}
	if call.Emptied {
		what += " emptied"
	}
	return what
}

// differ says how two answers differ, but for the texts of errors and the exact age
// of a mark.
func differ(got, want *redisio.Call) error {
	g, w := got.Reply, want.Reply
	for _, fields := range [][]redisio.Field{g.Fields, w.Fields} { // in no order
		slices.SortFunc(fields, func(a, b redisio.Field) int { return strings.Compare(a.Key, b.Key) })
	}
	if len(g.Results) != len(w.Results) {
		return fmt.Errorf("%d results, want %d", len(g.Results), len(w.Results))
	}
	for i := range g.Results {
		if gr, wr := g.Results[i], w.Results[i]; gr != wr && (gr.Err == nil || wr.Err == nil || !sameOutcome(gr.Err, wr.Err)) {
			return fmt.Errorf("result %d is %+v, want %+v", i, gr, wr)
		}
	}
	if (g.Err == nil) != (w.Err == nil) || g.EmptiedAgo < 0 || g.EmptiedAgo > time.Hour {
		return fmt.Errorf("error %v, want %v; emptied %v ago", g.Err, w.Err, g.EmptiedAgo)
	}
	g.Err, g.Results, g.EmptiedAgo, w.Err, w.Results, w.EmptiedAgo = nil, nil, 0, nil, nil, 0
	if fmt.Sprint(g) != fmt.Sprint(w) {
		return fmt.Errorf("answer %+v (%v), want %+v", g, got.Err, w)
	}
	return nil
}

// sameOutcome reports whether both leave it unknown what became of an operation.
func sameOutcome(a, b error) bool {
	unknown := verb.ErrOutcomeUnknown.Error()
	return strings.HasPrefix(a.Error(), unknown) && strings.HasPrefix(b.Error(), unknown)
}

// compare looks whether both hold the same.
func (m *machine) compare(t *rapid.T) {
	s, ctx := m.model.Snapshot(), context.Background()
	m.past = append(m.past, s)
	pipe := m.admin.Pipeline()
	fields, marked := pipe.HGetAll(ctx, m.at.Name), pipe.Exists(ctx, mark)
	ledgers := make([]*redis.StringCmd, len(m.lanes))
	for i, l := range m.lanes {
		ledgers[i] = pipe.Get(ctx, m.at.Ledger(l.name))
	}
	onces := make([]*redis.StringCmd, len(ids))
	for i, id := range ids {
		onces[i] = pipe.Get(ctx, m.at.Once(id))
	}
	_, _ = pipe.Exec(ctx) // each command holds its error
	for i, id := range ids {
		if want := onceText(s.Onces[m.at.Once(id)]); onces[i].Val() != want {
			t.Fatalf("of transaction %q it holds %q, want %q", id, onces[i].Val(), want)
		}
	}
	h := s.Containers[m.at.Name]
	if h.Foreign != redis.HasErrorPrefix(fields.Err(), "WRONGTYPE") || !h.Foreign && !maps.Equal(fields.Val(), h.Fields) {
		t.Fatalf("holds %q (%v), want %+v", fields.Val(), fields.Err(), h)
	}
	if _, want := s.Marks[m.at.Name]; want != (marked.Val() == 1) {
		t.Fatalf("marked: %v (%v), want %v", marked.Val(), marked.Err(), want)
	}
	for i, get := range ledgers {
		want := ""
		if held, found := s.Ledgers[m.at.Ledger(m.lanes[i].name)]; found {
			want = m.text(held)
		}
		if get.Val() != want {
			t.Fatalf("ledger %d is %q (%v), want %q", i, get.Val(), get.Err(), want)
		}
	}
}

// text is a ledger as the script writes it.
func (m *machine) text(l fakeredis.Ledger) string {
	if l.Fenced != nil {
		return "9007199254740991 0 " + m.text(*l.Fenced)
	}
	text := fmt.Sprint(l.Number, " ", l.Nonce)
	if !l.Ended {
		return text
	}
	kept := 0
	if l.Kept {
		kept = 1
	}
	if !l.Before {
		kept += 2
	}
	words := []string{text, strconv.Itoa(kept)}
	silent, ops := false, m.batches[l.Nonce]
	together, from := mergedWords(ops, l.Results)
	words = append(words, together...)
	for i := from; i < len(l.Results); i++ {
		r, word := l.Results[i], ""
		if ops[i].Kind == verb.Apply {
			steps := int(ops[i].N)
			word = outcomeWord(l.Results[i:i+1+steps], ops[i+1:i+1+steps])
			i += steps
		} else {
			word = resultWord(r, ops[i].Kind)
		}
		if i >= answering(ops) {
			if silent = true; r.Err == nil {
				continue
			}
			word = fmt.Sprint(i+1-from+len(together), word)
		}
		words = append(words, word)
	}
	if silent {
		words = append(words, ".")
	}
	return strings.Join(words, " ")
}

// mergedWords are the results of increments of which several of a counter travel
// together, and for how many operations they are.
func mergedWords(ops []verb.Keyed, results []verb.Result) (words []string, from int) {
	told := answering(ops)
	if told < 8 || slices.ContainsFunc(ops, func(o verb.Keyed) bool { return o.Kind != verb.Inc }) {
		return nil, 0
	}
	type group struct {
		sum *big.Int
		of  []int
	}
	var groups []*group
	last := map[string]*group{}
	for i, o := range ops[:told] {
		n := big.NewInt(o.N)
		if g := last[o.Key]; g != nil && (g.sum.Sign() < 0) == (o.N < 0) && new(big.Int).Add(g.sum, n).IsInt64() {
			g.sum.Add(g.sum, n)
			g.of = append(g.of, i)
			continue
		}
		last[o.Key] = &group{n, []int{i}}
		groups = append(groups, last[o.Key])
	}
	if 2*len(groups) > told {
		return nil, 0
	}
	for _, g := range groups {
		var each []string
		severally := false
		for _, i := range g.of {
			each = append(each, resultWord(results[i], verb.Inc))
			severally = severally || len(g.of) > 1 && results[i].Err == verb.Overflows
		}
		if severally {
			words = append(words, strings.Join(each, ","))
		} else {
			words = append(words, each[len(each)-1])
		}
	}
	return words, told
}

// answering is how many operations, from the first, answer a value: all but silent
// increments at the end, where all are increments.
func answering(ops []verb.Keyed) int {
	n := len(ops)
	for n > 0 && ops[n-1].Silent {
		n--
	}
	if slices.ContainsFunc(ops, func(o verb.Keyed) bool { return o.Kind != verb.Inc }) {
		return len(ops)
	}
	return n
}

// resultWord is a result as the script writes it.
func resultWord(r verb.Result, kind verb.Kind) string {
	switch {
	case r.Err == verb.Overflows:
		return "!O"
	case r.Err == verb.NotInteger:
		return "!I"
	case r.Err == verb.WrongType:
		return "!W"
	case r.Absent:
		return "-"
	case r.Err == verb.Conflicts:
		return "!C"
	case r.Err != nil:
		return "!B"
	case r.Applied:
		return fmt.Sprintf("%d:%d", r.Old, r.N)
	case kind.Conditional():
		return fmt.Sprintf("%d:", r.Old)
	default:
		return strconv.FormatInt(r.N, 10)
	}
}
