package distkit

import (
	"fmt"

	"github.com/distkit/distkit-go/internal/op"
)

// Message is an operation sent to a counter's PID: Inc, Dec, Get, Set, Del,
// IncIf or SetIf, as a plain value, not a pointer.
type Message interface{ message() }

// Reply is what a counter answers to a Message: Value for Inc, Dec, Get, Set
// and Del, Change for IncIf and SetIf, or Failure.
type Reply interface{ reply() }

// Inc adds N, which may be negative or 0. Reply: the new value.
type Inc struct{ N int64 }

// Dec subtracts N, which may be negative or 0. Reply: the new value.
type Dec struct{ N int64 }

// Get reads. Reply: the value, 0 if the counter does not exist.
type Get struct{}

// Set assigns N. Reply: N.
type Set struct{ N int64 }

// Del deletes the counter. Reply: the value it had.
type Del struct{}

// IncIf adds N if the condition holds for the current value. Reply: Change.
type IncIf struct {
	If Cond
	N  int64
}

// SetIf assigns N if the condition holds for the current value. Reply: Change.
type SetIf struct {
	If Cond
	N  int64
}

func (Inc) message()   {}
func (Dec) message()   {}
func (Get) message()   {}
func (Set) message()   {}
func (Del) message()   {}
func (IncIf) message() {}
func (SetIf) message() {}

// Value is the reply to Inc, Dec, Get, Set and Del.
type Value struct{ N int64 }

// Failure is the reply to a message that failed. Err matches exactly one of
// ErrNotApplied and ErrOutcomeUnknown.
type Failure struct{ Err error }

func (Value) reply()   {}
func (Change) reply()  {}
func (Failure) reply() {}

// decode reads a message.
func decode(message any) (op.Op, error) {
	switch m := message.(type) {
	case Inc:
		return op.Op{Kind: op.Inc, N: m.N}, nil
	case Dec:
		return op.Op{Kind: op.Dec, N: m.N}, nil
	case Get:
		return op.Op{Kind: op.Get}, nil
	case Set:
		return op.Op{Kind: op.Set, N: m.N}, nil
	case Del:
		return op.Op{Kind: op.Del}, nil
	case IncIf:
		return op.Op{Kind: op.IncIf, N: m.N, If: m.If.cond}, m.If.check()
	case SetIf:
		return op.Op{Kind: op.SetIf, N: m.N, If: m.If.cond}, m.If.check()
	default:
		return op.Op{}, notApplied(fmt.Errorf("distkit: a counter takes no %T; send Inc, Dec, Get, Set, Del, IncIf or SetIf, by value", message))
	}
}

// encode makes the reply to a message.
func encode(o op.Op, r op.Result) Reply {
	switch {
	case r.Err != nil:
		return Failure{r.Err}
	case o.Kind.Conditional():
		return changeOf(r)
	default:
		return Value{r.N}
	}
}

func changeOf(r op.Result) Change { return Change{Old: r.Old, New: r.N, Applied: r.Applied} }
