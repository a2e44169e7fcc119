package faults_test

import (
	"fmt"
	"math"
	"strings"

	"github.com/anishathalye/porcupine"
	"github.com/distkit/distkit-go"
)

// What a strict counter is, as a sequential machine: the specification that
// TestLinearizability holds histories against.

type linearKind int

const (
	linearGet linearKind = iota
	linearInc
	linearDec
	linearSet
	linearDel
	linearIncIf
	linearSetIf
	linearKinds
)

// linearInput is one operation on one counter.
type linearInput struct {
	kind linearKind
	n    int64
	cmp  int // of an IncIf or SetIf, an index of linearCmps
	than int64
}

// linearOutput is what its caller was told.
type linearOutput struct {
	unknown  bool // nothing: it may have any effect of its own, or none
	overflow bool
	value    int64
	change   distkit.Change // of an IncIf or SetIf
}

var linearCmps = []struct {
	sign  string
	cond  func(int64) distkit.Cond
	holds func(v, than int64) bool
}{
	{"==", distkit.Eq, func(v, than int64) bool { return v == than }},
	{"!=", distkit.Ne, func(v, than int64) bool { return v != than }},
	{"<", distkit.Lt, func(v, than int64) bool { return v < than }},
	{"<=", distkit.Le, func(v, than int64) bool { return v <= than }},
	{">", distkit.Gt, func(v, than int64) bool { return v > than }},
	{">=", distkit.Ge, func(v, than int64) bool { return v >= than }},
}

// linearStep carries out one operation on a counter that stands at v.
func linearStep(v int64, in linearInput) (next int64, out linearOutput) {
	next = v
	conditional := in.kind == linearIncIf || in.kind == linearSetIf
	if conditional && !linearCmps[in.cmp].holds(v, in.than) {
		return v, linearOutput{change: distkit.Change{Old: v, New: v}}
	}
	fits := true
	switch in.kind {
	case linearInc, linearIncIf:
		next, fits = linearAdd(v, in.n)
	case linearDec:
		next, fits = linearAdd(v, -in.n) // n is never the least int64
	case linearSet, linearSetIf:
		next = in.n
	case linearDel:
		return 0, linearOutput{value: v}
	}
	switch {
	case !fits:
		return v, linearOutput{overflow: true}
	case conditional:
		return next, linearOutput{change: distkit.Change{Old: v, New: next, Applied: true}}
	default:
		return next, linearOutput{value: next}
	}
}

func linearAdd(v, n int64) (sum int64, fits bool) {
	if n > 0 && v > math.MaxInt64-n || n < 0 && v < math.MinInt64-n {
		return v, false
	}
	return v + n, true
}

// linearModel is the machine for porcupine. An operation with an unknown
// outcome returns at the end of time in the history, so that porcupine may put
// its effect anywhere after its call, and "never" is after everything else.
var linearModel = porcupine.Model{
	Init: func() any { return int64(0) },
	Step: func(state, input, output any) (bool, any) {
		next, out := linearStep(state.(int64), input.(linearInput))
		told := output.(linearOutput)
		return told.unknown || told == out, next
	},
	DescribeOperation: func(input, output any) string {
		return fmt.Sprintf("%v -> %v", input, output)
	},
}

func (in linearInput) String() string {
	name := [...]string{"Get", "Inc", "Dec", "Set", "Del", "IncIf", "SetIf"}[in.kind]
	switch in.kind {
	case linearGet, linearDel:
		return name
	case linearIncIf, linearSetIf:
		return fmt.Sprintf("%s(%s %d, %d)", name, linearCmps[in.cmp].sign, in.than, in.n)
	default:
		return fmt.Sprintf("%s(%d)", name, in.n)
	}
}

func (out linearOutput) String() string {
	switch {
	case out.unknown:
		return "unknown"
	case out.overflow:
		return "overflow"
	case out.change != distkit.Change{}:
		return fmt.Sprintf("%+v", out.change)
	default:
		return fmt.Sprint(out.value)
	}
}

// linearText shows a history, an operation a line, in the order of the calls.
func linearText(history []porcupine.Operation) string {
	var b strings.Builder
	for _, o := range history {
		fmt.Fprintf(&b, "\n  [%d, %d] client %d: %s", o.Call, o.Return, o.ClientId, linearModel.DescribeOperation(o.Input, o.Output))
	}
	return b.String()
}
