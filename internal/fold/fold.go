// Package fold is the algebra of what a counter has pending: a change, what it
// makes of a value, and the one change that is two of them, one after the other.
// All of it is exact over int64, its ends included.
package fold

import (
	"math"

	"github.com/distkit/distkit-go/internal/verb"
)

// Kind is what a change does to the value.
type Kind uint8

// The kinds.
const (
	Nothing Kind = iota
	Add          // add N
	Lift         // add 2^63, the one sum that N cannot hold: a Dec by math.MinInt64
	Assign       // the value becomes N
	Remove       // a Del: the field goes
	Wipe         // a Clear: the container goes
)

// Change is what is to become of a value. The zero Change leaves it as it is.
type Change struct {
	Kind Kind
	N    int64
}

// Of is the change that an operation makes of a counter of the value view, 0 if it
// does not exist, and whether it makes any. A sum of 0 makes a counter, where there
// was none. A Del or Clear is none that folds.
func Of(o verb.Op, view int64, exists bool) (c Change, applies bool) {
	switch o.Kind {
	case verb.Inc:
		return Change{Add, o.N}, o.N != 0 || !exists
	case verb.Dec:
		if n, ok := verb.Sub(0, o.N); ok {
			return Change{Add, n}, o.N != 0 || !exists
		}
		return Change{Kind: Lift}, true
	case verb.Set:
		return Change{Assign, o.N}, true
	case verb.IncIf:
		return Change{Add, o.N}, o.If.Holds(view, exists)
	case verb.SetIf:
		return Change{Assign, o.N}, o.If.Holds(view, exists)
	case verb.None, verb.Get, verb.Del, verb.Clear, verb.Apply, verb.Recall:
	}
	return Change{}, false
}

// Op is the change as an operation of the batch script.
func (c Change) Op() verb.Op {
	switch c.Kind {
	case Add:
		return verb.Op{Kind: verb.Inc, N: c.N}
	case Lift:
		return verb.Op{Kind: verb.Dec, N: math.MinInt64}
	case Assign:
		return verb.Op{Kind: verb.Set, N: c.N}
	case Remove:
		return verb.Op{Kind: verb.Del}
	case Wipe:
		return verb.Op{Kind: verb.Clear}
	case Nothing:
	}
	return verb.Op{}
}

// Counts reports whether the change is a number that somebody may miss.
func (c Change) Counts() bool { return c.Kind == Add || c.Kind == Lift || c.Kind == Assign }

// On is the value that the change makes of v, and whether it is an int64.
func (c Change) On(v int64) (int64, bool) {
	switch c.Kind {
	case Add:
		return verb.Add(v, c.N)
	case Lift:
		return verb.Sub(v, math.MinInt64)
	case Assign:
		return c.N, true
	case Remove, Wipe:
		return 0, true
	case Nothing:
	}
	return v, true
}

// Leaves reports whether there is a counter after the change, exists being whether
// there was one before. A sum of 0 leaves one too, as in Redis.
func (c Change) Leaves(exists bool) bool {
	switch c.Kind {
	case Add, Lift, Assign:
		return true
	case Remove, Wipe:
		return false
	case Nothing:
	}
	return exists
}

// Over is On, but a sum outside int64 sticks to the end of the range: Redis
// will refuse the change, and until it has said so the view cannot be better.
func (c Change) Over(v int64) int64 {
	sum, ok := c.On(v)
	switch {
	case ok:
		return sum
	case c.Kind == Add && c.N < 0:
		return math.MinInt64
	default:
		return math.MaxInt64
	}
}

// Then is the change that is c followed by next; false if none can hold both.
func (c Change) Then(next Change) (Change, bool) {
	switch {
	case next.Kind == Nothing || next == Change{Kind: Add}:
		if c.Kind == Nothing {
			return next, true
		}
		return c, true
	case c.Kind == Nothing || c == Change{Kind: Add} || next.Kind == Assign:
		return next, true
	case c.Kind == Lift && next.Kind == Lift:
		return c, false
	case c.Kind == Lift:
		c, next = next, c // sums commute
	}
	n, ok := next.On(c.N)
	if !ok && c.Kind == Add && next.Kind == Add && uint64(c.N)+uint64(next.N) == 1<<63 && c.N > 0 {
		return Change{Kind: Lift}, true
	}
	return Change{c.Kind, n}, ok
}

// Amount is the change's number for a person to read; that of Lift is one too
// large for it.
func (c Change) Amount() int64 {
	if c.Kind == Lift {
		return math.MaxInt64
	}
	return c.N
}

// Changes follow each other; those that fold into one are one.
type Changes []Change

// Then is the changes followed by next.
func (cs Changes) Then(next ...Change) Changes {
	for _, c := range next {
		if c.Kind == Nothing {
			continue
		}
		if last := len(cs) - 1; last >= 0 {
			if folded, ok := cs[last].Then(c); ok {
				cs[last] = folded
				continue
			}
		}
		cs = append(cs, c)
	}
	return cs
}

// Over is the value that the changes make of v.
func (cs Changes) Over(v int64) int64 {
	for _, c := range cs {
		v = c.Over(v)
	}
	return v
}
