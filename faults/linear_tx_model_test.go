package faults_test

import (
	"errors"
	"fmt"
	"strings"

	"github.com/anishathalye/porcupine"
	"github.com/distkit/distkit-go"
)

// All strict counters of a history as one sequential machine: transactions are of
// several, and an outcome is remembered under its ID. It carries out single operations
// by linearStep, and knows besides what is absent.

// linearIDs is how many IDs the clients of a history share.
const linearIDs = 6

// linearState is the machine's. It is compared with ==.
type linearState struct {
	counters [linearKeys]linearCounter
	outcomes [linearIDs]linearRemembered
}

type linearCounter struct {
	n      int64
	exists bool
}

// linearRemembered is the outcome of the first transaction with an ID: its steps and its
// replies, as texts; "" where there was none.
type linearRemembered struct{ steps, outcome string }

// linearTxInput is a transaction, or a question for the outcome of one.
type linearTxInput struct {
	id     int // -1: none
	steps  []linearTxStep
	recall bool
}

// linearTxStep is an operation on one counter.
type linearTxStep struct {
	key int
	linearInput
	absence byte // of an IncIf or SetIf: 'a' if absent, 'p' if present, in place of its comparison
}

// linearTxOutput is what the caller was told.
type linearTxOutput struct {
	unknown  bool
	conflict bool
	found    bool // of a recall; of a transaction: it was replayed
	outcome  string
}

// run carries out steps, all or none, and returns the outcome's text.
func (s *linearState) run(steps []linearTxStep) string {
	counters := s.counters
	var replies []string
	for _, step := range steps {
		c := &counters[step.key]
		in := step.linearInput
		if step.absence != 0 && (step.absence == 'a') == c.exists {
			replies = append(replies, linearOutput{change: distkit.Change{Old: c.n, New: c.n}}.text(in.kind))
			return "not applied " + strings.Join(replies, ", ")
		}
		if step.absence != 0 {
			in.cmp, in.than = linearEqual, c.n
		}
		next, out := linearStep(c.n, in)
		replies = append(replies, out.text(in.kind))
		conditional := in.kind == linearIncIf || in.kind == linearSetIf
		if out.overflow || conditional && !out.change.Applied {
			return "not applied " + strings.Join(replies, ", ")
		}
		c.n, c.exists = next, in.kind != linearDel && (c.exists || in.kind != linearGet)
	}
	s.counters = counters
	return "applied " + strings.Join(replies, ", ")
}

// linearEqual is the place of "==" in linearCmps.
const linearEqual = 0

// text is a reply as an outcome has it.
func (out linearOutput) text(kind linearKind) string {
	switch {
	case out.overflow:
		return "overflow"
	case kind == linearIncIf || kind == linearSetIf:
		return fmt.Sprintf("%+v", out.change)
	default:
		return fmt.Sprint(out.value)
	}
}

// linearReply is the same of a reply that was told.
func linearReply(reply distkit.Reply) string {
	switch r := reply.(type) {
	case distkit.Value:
		return fmt.Sprint(r.N)
	case distkit.Change:
		return fmt.Sprintf("%+v", r)
	case distkit.Failure:
		if errors.Is(r.Err, distkit.ErrOverflow) {
			return "overflow"
		}
	}
	return fmt.Sprint(reply)
}

// linearOutcome is an outcome's text.
func linearOutcome(out distkit.Outcome) string {
	replies := make([]string, len(out.Replies))
	for i, reply := range out.Replies {
		replies[i] = linearReply(reply)
	}
	if out.Applied {
		return "applied " + strings.Join(replies, ", ")
	}
	return "not applied " + strings.Join(replies, ", ")
}

// apply carries out an input.
func (s *linearState) apply(in linearTxInput) (out linearTxOutput) {
	if in.id < 0 {
		return linearTxOutput{outcome: s.run(in.steps)}
	}
	known := &s.outcomes[in.id]
	switch {
	case in.recall:
		return linearTxOutput{found: known.outcome != "", outcome: known.outcome}
	case known.outcome == "":
		known.steps, known.outcome = fmt.Sprint(in.steps), s.run(in.steps)
		return linearTxOutput{outcome: known.outcome}
	case known.steps != fmt.Sprint(in.steps):
		return linearTxOutput{conflict: true}
	default:
		return linearTxOutput{found: true, outcome: known.outcome}
	}
}

// linearTxModel is the machine for porcupine; see linearModel.
var linearTxModel = porcupine.Model{
	Init: func() any { return linearState{} },
	Step: func(state, input, output any) (bool, any) {
		s, told := state.(linearState), output.(linearTxOutput)
		out := s.apply(input.(linearTxInput))
		return told.unknown || told == out, s
	},
	DescribeOperation: func(input, output any) string {
		return fmt.Sprintf("%v -> %v", input, output)
	},
}

func (in linearTxInput) String() string {
	if in.recall {
		return fmt.Sprintf("Outcome(id%d)", in.id)
	}
	return fmt.Sprintf("Apply(id%d %v)", in.id, in.steps)
}

func (s linearTxStep) String() string {
	if s.absence != 0 {
		return fmt.Sprintf("k%d.%c:%v(%d)", s.key, s.absence, s.kind, s.n)
	}
	return fmt.Sprintf("k%d.%v", s.key, s.linearInput)
}

func (out linearTxOutput) String() string {
	switch {
	case out.unknown:
		return "unknown"
	case out.conflict:
		return "conflict"
	case out.outcome == "":
		return "none"
	case out.found:
		return "replayed: " + out.outcome
	default:
		return out.outcome
	}
}
