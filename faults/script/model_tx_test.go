package script_test

import (
	"strings"
	"testing"
	"time"

	"github.com/distkit/distkit-go/internal/chaos"
	"github.com/distkit/distkit-go/internal/fakeredis"
	"github.com/distkit/distkit-go/internal/redisio"
	"github.com/distkit/distkit-go/internal/verb"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

// Transactions in the model: few IDs and few steps, so that many are repeated, with the
// same steps or others.

var (
	ids       = []string{"t", "u 1:", "\x00{\xff}\r\n"}
	txIDs     = rapid.SampledFrom(ids)
	stepKinds = []verb.Kind{verb.Inc, verb.Dec, verb.IncIf, verb.SetIf, verb.Set, verb.Get, verb.Del}
	txSteps   = rapid.OneOf(
		rapid.SliceOfN(anyOf(stepKinds), 1, 5),
		rapid.SampledFrom([][]verb.Keyed{
			{{Key: "a", Op: verb.Op{Kind: verb.Inc, N: 1}}},
			{{Key: "a", Op: verb.Op{Kind: verb.Get}}, {Key: "b", Op: verb.Op{Kind: verb.IncIf, N: 1, If: verb.Cond{Cmp: verb.Ge, N: 1}}}},
		}),
	)
	// transactions are some among other operations.
	transactions = rapid.Custom(func(t *rapid.T) (ops []verb.Keyed) {
		for range rapid.IntRange(1, 3).Draw(t, "size") {
			id := ""
			switch rapid.IntRange(0, 3).Draw(t, "which") {
			case 0:
				ops = append(ops, mixed.Draw(t, "others")...)
				continue
			case 1:
			default:
				id = txIDs.Draw(t, "id")
			}
			ops = append(ops, verb.Transaction(id, time.Hour, txSteps.Draw(t, "steps"))...)
		}
		return ops
	})
)

// outcomeWord is the result of a transaction as the script writes it.
func outcomeWord(results []verb.Result, steps []verb.Keyed) string {
	head := results[0]
	if head.Err != nil {
		return resultWord(head, verb.Apply)
	}
	letter := "N"
	if head.Applied {
		letter = "Y"
	}
	if head.Replayed {
		letter = strings.ToLower(letter)
	}
	words := make([]string, head.N)
	for i := range words {
		words[i] = resultWord(results[1+i], steps[i].Kind)
	}
	return letter + strings.Join(words, ",")
}

// onceText is what a once-key holds, "" for none.
func onceText(held fakeredis.Once) string {
	if held.Results == nil {
		return held.Digest
	}
	steps := make([]verb.Keyed, len(held.Kinds))
	for i, kind := range held.Kinds {
		steps[i].Kind = kind
	}
	return held.Digest + " " + outcomeWord(held.Results, steps)
}

// tallyOutcomes counts what transactions were answered.
func (m *machine) tallyOutcomes(call *redisio.Call) {
	for i := range call.Ops {
		if call.Ops[i].Kind != verb.Apply || len(call.Results) == 0 {
			continue
		}
		switch r := call.Results[i]; {
		case r.Err == verb.Conflicts:
			m.tally["transaction in conflict"]++
		case r.Err != nil:
			m.tally["transaction unknown"]++
		case r.Replayed:
			m.tally["transaction replayed"]++
		case r.Applied:
			m.tally["transaction applied"]++
		default:
			m.tally["transaction not applied"]++
		}
	}
}

// Sums as the script makes them of decimal texts against sums as Go does.
func TestScript_sumsAgreeWithGo(t *testing.T) {
	t.Parallel()
	r := chaos.Begin(t, "sums in Lua")
	at, real, random := redisio.NewContainer("p", "strict_counter"), redisio.New(privateRedis(t)), r.Rand(0)
	const perCall = 300 // transactions, of three operations each
	for left := r.Scale(20_000, 2_000_000); left > 0 && !t.Failed(); left -= perCall {
		var ops []verb.Keyed
		for range perCall {
			v, n := pair(random)
			o := verb.Op{Kind: verb.Inc, N: n}
			if random.IntN(2) == 0 {
				o.Kind = verb.Dec
			}
			ops = append(ops, verb.Transaction("", time.Hour, []verb.Keyed{{Key: "a", Op: verb.Op{Kind: verb.Set, N: v}}, {Key: "a", Op: o}})...)
		}
		call := &redisio.Call{Task: redisio.Bare, At: at, Ops: ops}
		again := &redisio.Call{Task: redisio.Bare, At: at, Ops: ops}
		real.Send(t.Context(), []*redisio.Call{call})
		fakeredis.New().Send(t.Context(), []*redisio.Call{again})
		require.Equal(t, redisio.Done, call.Status, "%v", call.Err)
		for i, got := range call.Results {
			if want := again.Results[i]; got != want {
				r.Violation("%+v on %d answers %+v, want %+v", ops[i].Op, ops[max(i-1, 0)].N, got, want)
			}
		}
		r.Cases(perCall)
	}
}
