package actors

import (
	"math"

	"github.com/distkit/distkit-go/internal/op"
	"github.com/distkit/distkit-go/internal/store"
)

// verb is what a mutation does to a lax counter in Redis.
type verb uint8

const (
	nothing verb = iota
	add          // add n
	lift         // add 2^63, the one sum that n cannot hold: a Dec by math.MinInt64
	assign       // the value becomes n
	remove       // a Del: drops what was pending, deletes the field
	wipe         // a Clear: drops what was pending, the container is deleted
)

// mutation is a change of one lax counter that Redis does not have yet. While
// it is open, later changes fold into it; once it is in flight it is frozen.
type mutation struct {
	change

	dropped   changes    // for remove and wipe: what was pending
	unserved  []*request // for wipe: what nobody waits for, and had not been decided
	request   *request   // for remove: the Del to answer
	barrier   *barrier   // the Flush that waits for it
	ambiguous bool       // Redis may have it; decided only when everything has stopped
	silent    bool       // the total that it makes is not needed
}

// change is what a mutation does to the value.
type change struct {
	verb verb
	n    int64
}

// on is the value that the change makes of v, and whether it is an int64.
func (c change) on(v int64) (int64, bool) {
	switch c.verb {
	case add:
		return op.Add(v, c.n)
	case lift:
		return op.Sub(v, math.MinInt64)
	case assign:
		return c.n, true
	case remove, wipe:
		return 0, true
	default:
		return v, true
	}
}

// over is on, but a sum outside int64 sticks to the end of the range: Redis
// will refuse the delta, and until it has said so the view cannot be better.
func (c change) over(v int64) int64 {
	sum, ok := c.on(v)
	switch {
	case ok:
		return sum
	case c.verb == add && c.n < 0:
		return math.MinInt64
	default:
		return math.MaxInt64
	}
}

// then is the change that is c followed by next; false if none can hold both.
func (c change) then(next change) (change, bool) {
	switch {
	case next.verb == nothing || next == change{verb: add}:
		if c.verb == nothing {
			return next, true
		}
		return c, true
	case c.verb == nothing || c == change{verb: add} || next.verb == assign:
		return next, true
	case c.verb == lift && next.verb == lift:
		return c, false
	case c.verb == lift:
		c, next = next, c // sums commute
	}
	n, ok := next.on(c.n)
	if !ok && c.verb == add && next.verb == add && uint64(c.n)+uint64(next.n) == 1<<63 && c.n > 0 {
		return change{verb: lift}, true
	}
	return change{c.verb, n}, ok
}

// changes follow each other; those that fold into one are one.
type changes []change

// then is the changes followed by next.
func (cs changes) then(next ...change) changes {
	for _, c := range next {
		if c.verb == nothing {
			continue
		}
		if last := len(cs) - 1; last >= 0 {
			if folded, ok := cs[last].then(c); ok {
				cs[last] = folded
				continue
			}
		}
		cs = append(cs, c)
	}
	return cs
}

// over is the value that the changes make of v.
func (cs changes) over(v int64) int64 {
	for _, c := range cs {
		v = c.over(v)
	}
	return v
}

// keyOp is the mutation as the batch script takes it.
func (m *mutation) keyOp(key string) store.KeyOp {
	switch m.verb {
	case add:
		return store.KeyOp{Key: key, Op: op.Op{Kind: op.Inc, N: m.n}, Silent: m.silent}
	case lift:
		return store.KeyOp{Key: key, Op: op.Op{Kind: op.Dec, N: math.MinInt64}}
	case assign:
		return store.KeyOp{Key: key, Op: op.Op{Kind: op.Set, N: m.n}}
	default:
		return store.KeyOp{Key: key, Op: op.Op{Kind: op.Del}}
	}
}

// amount is the change's number for a person to read; that of lift is one too
// large for it.
func (c change) amount() int64 {
	if c.verb == lift {
		return math.MaxInt64
	}
	return c.n
}
