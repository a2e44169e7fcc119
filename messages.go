package distkit

import (
	"fmt"

	"github.com/distkit/distkit-go/internal/verb"
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
// ErrNotApplied and ErrOutcomeUnknown, or, where replicas are waited for,
// ErrNotReplicated: that was applied.
type Failure struct{ Err error }

func (Value) reply()   {}
func (Change) reply()  {}
func (Failure) reply() {}

// decode reads a message.
func decode(message any) (verb.Op, error) {
	switch m := message.(type) {
	case Inc:
		return verb.Op{Kind: verb.Inc, N: m.N}, nil
	case Dec:
		return verb.Op{Kind: verb.Dec, N: m.N}, nil
	case Get:
		return verb.Op{Kind: verb.Get}, nil
	case Set:
		return verb.Op{Kind: verb.Set, N: m.N}, nil
	case Del:
		return verb.Op{Kind: verb.Del}, nil
	case IncIf:
		return verb.Op{Kind: verb.IncIf, N: m.N, If: m.If.cond}, m.If.check()
	case SetIf:
		return verb.Op{Kind: verb.SetIf, N: m.N, If: m.If.cond}, m.If.check()
	case Tx:
		return verb.Op{}, notApplied(errTxAddressed)
	default:
		return verb.Op{}, notApplied(fmt.Errorf("distkit: a counter takes no %T; send Inc, Dec, Get, Set, Del, IncIf or SetIf, by value", message))
	}
}

// encode makes the reply to a message.
func encode(key string, o verb.Op, r verb.Result) Reply {
	switch {
	case r.Err != nil:
		return Failure{verb.Named(key, r.Err)}
	case o.Kind.Conditional():
		return toChange(r)
	default:
		return Value{r.N}
	}
}

func toChange(r verb.Result) Change { return Change{Old: r.Old, New: r.N, Applied: r.Applied} }
