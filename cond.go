package distkit

import (
	"errors"
	"fmt"

	"github.com/distkit/distkit-go/internal/verb"
)

// Cond is a condition on a counter's current value, which is 0 for a counter
// that does not exist, or on whether it exists: Absent is not Eq(0). Always, Eq, Ne,
// Lt, Le, Gt, Ge, Absent and Present make one; the zero Cond is invalid, and an
// operation with it fails with ErrNotApplied.
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

// Absent holds for a counter that does not exist. SetIf(Absent(), n) seeds a counter:
// whoever comes first sets it, and nobody sets it again, even when it is at 0.
func Absent() Cond { return Cond{verb.Cond{Cmp: verb.Absent}} }

// Present holds for a counter that exists, whatever its value.
func Present() Cond { return Cond{verb.Cond{Cmp: verb.Present}} }

// Holds reports whether the condition holds for a counter of the value current. Only
// Absent and Present look at exists; the others take current as it is, which is 0 for
// a counter that does not exist. The zero Cond never holds.
func (c Cond) Holds(current int64, exists bool) bool { return c.cond.Holds(current, exists) }

// String shows the condition, as in "value >= 5".
func (c Cond) String() string {
	signs := [...]string{verb.Eq: "==", verb.Ne: "!=", verb.Lt: "<", verb.Le: "<=", verb.Gt: ">", verb.Ge: ">="}
	switch {
	case !c.cond.Valid():
		return "invalid condition"
	case c.cond.Cmp == verb.Always:
		return "always"
	case c.cond.Cmp == verb.Absent:
		return "absent"
	case c.cond.Cmp == verb.Present:
		return "present"
	default:
		return fmt.Sprintf("value %s %d", signs[c.cond.Cmp], c.cond.N)
	}
}

var errInvalidCond = errors.New("distkit: the zero Cond is no condition; use Absent, Present, Always, Eq, Ne, Lt, Le, Gt or Ge")

func (c Cond) check() error {
	if !c.cond.Valid() {
		return notApplied(errInvalidCond)
	}
	return nil
}
