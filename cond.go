package distkit

import (
	"errors"
	"fmt"

	"github.com/distkit/distkit-go/internal/verb"
)

// Cond is a condition on a counter's current value, which is 0 for a counter
// that does not exist. Always, Eq, Ne, Lt, Le, Gt and Ge make one; the zero
// Cond is invalid, and an operation with it fails with ErrNotApplied.
type Cond struct{ cond verb.Cond }

// Always holds for every value.
func Always() Cond { return Cond{verb.Cond{Cmp: verb.Always}} }

// Eq holds for n.
func Eq(n int64) Cond { return Cond{verb.Cond{Cmp: verb.Eq, N: n}} }

// Ne holds for every value but n.
func Ne(n int64) Cond { return Cond{verb.Cond{Cmp: verb.Ne, N: n}} }

// Lt holds for values less than n.
func Lt(n int64) Cond { return Cond{verb.Cond{Cmp: verb.Lt, N: n}} }

// Le holds for n and values less than n.
func Le(n int64) Cond { return Cond{verb.Cond{Cmp: verb.Le, N: n}} }

// Gt holds for values greater than n.
func Gt(n int64) Cond { return Cond{verb.Cond{Cmp: verb.Gt, N: n}} }

// Ge holds for n and values greater than n.
func Ge(n int64) Cond { return Cond{verb.Cond{Cmp: verb.Ge, N: n}} }

// String shows the condition, as in "value >= 5".
func (c Cond) String() string {
	signs := [...]string{verb.Eq: "==", verb.Ne: "!=", verb.Lt: "<", verb.Le: "<=", verb.Gt: ">", verb.Ge: ">="}
	switch {
	case !c.cond.Valid():
		return "invalid condition"
	case c.cond.Cmp == verb.Always:
		return "always"
	default:
		return fmt.Sprintf("value %s %d", signs[c.cond.Cmp], c.cond.N)
	}
}

var errInvalidCond = errors.New("distkit: the zero Cond is no condition; use Always, Eq, Ne, Lt, Le, Gt or Ge")

func (c Cond) check() error {
	if !c.cond.Valid() {
		return notApplied(errInvalidCond)
	}
	return nil
}
