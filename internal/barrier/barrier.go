// Package barrier is what a Flush waits at.
//
// A Barrier is passed once by each key that the Flush waits for, when what the key
// had accepted is in Redis, or refused. A key that waits to be gathered anyway is
// not visited for it: Covers keep which Flushes wait for the first so many of the
// keys that do, and hand the barrier to the gather.
package barrier

import (
	"slices"
	"sync"
	"sync/atomic"
)

// Unflushed is a lax change that is not, or not known to be, in Redis.
type Unflushed struct {
	Window string // of the counter, "" if it is of none
	Key    string
	N      int64
	Assign bool // N was to be assigned, not added
	Err    error
}

// Barrier is one Flush, or several that wait for the same key. The methods of nil
// do nothing.
type Barrier struct {
	waiting atomic.Int64
	mu      sync.Mutex
	refused []Unflushed   // guarded by mu
	done    chan struct{} // closed when none is waited for
	gone    atomic.Bool   // the Flush does not wait any more

	both [2]*Barrier // set for one that stands for two
}

// New returns the barrier of a Flush that waits for so many passes, and for one
// more by its maker.
func New(passes int) *Barrier {
	b := &Barrier{done: make(chan struct{})}
	b.waiting.Store(int64(passes) + 1)
	return b
}

// Expect counts more passes; its maker has not passed yet.
func (b *Barrier) Expect(passes int) { b.waiting.Add(int64(passes)) }

// Done is closed when nobody is waited for any more.
func (b *Barrier) Done() <-chan struct{} { return b.done }

// Leave says that the Flush does not wait any more.
func (b *Barrier) Leave() { b.gone.Store(true) }

// Left reports whether nobody waits at the barrier any more.
func (b *Barrier) Left() bool {
	if b.both[0] != nil {
		return b.both[0].Left() && b.both[1].Left()
	}
	return b.gone.Load()
}

// And is a barrier that stands for both; either may be nil. What of them was left is
// let go, so that Flushes given up leave nothing behind.
func (b *Barrier) And(other *Barrier) *Barrier {
	b, other = b.awaited(), other.awaited()
	switch {
	case b == nil:
		return other
	case other == nil:
		return b
	default:
		return &Barrier{both: [2]*Barrier{b, other}}
	}
}

// awaited is what of a barrier was not left; nil if that is nothing.
func (b *Barrier) awaited() *Barrier {
	switch {
	case b == nil:
		return nil
	case b.both[0] == nil:
		if b.gone.Load() {
			return nil
		}
		return b
	}
	one, two := b.both[0].awaited(), b.both[1].awaited()
	switch {
	case one == nil:
		return two
	case two == nil:
		return one
	case one == b.both[0] && two == b.both[1]:
		return b
	default:
		return &Barrier{both: [2]*Barrier{one, two}}
	}
}

// Pass counts one key: refused is its change that Redis refused, or nil.
func (b *Barrier) Pass(refused *Unflushed) {
	switch {
	case b == nil:
		return
	case b.both[0] != nil:
		b.both[0].Pass(refused)
		b.both[1].Pass(refused)
		return
	}
	b.Note(refused)
	if b.waiting.Add(-1) == 0 {
		close(b.done)
	}
}

// Note tells the Flush of a change that was refused, without a pass.
func (b *Barrier) Note(refused *Unflushed) {
	switch {
	case b == nil || refused == nil:
	case b.both[0] != nil:
		b.both[0].Note(refused)
		b.both[1].Note(refused)
	default:
		b.mu.Lock()
		b.refused = append(b.refused, *refused)
		b.mu.Unlock()
	}
}

// Refused lists the changes that Redis refused.
func (b *Barrier) Refused() []Unflushed {
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.Clone(b.refused)
}

// Covers are Flushes that wait for the same keys, or for the first of them. A
// Flush covers no fewer keys than those before it, which were there then.
type Covers []cover

// cover is a Flush that waits for the first so many of some keys.
type cover struct {
	barrier *Barrier
	keys    int
}

// Add is the covers with one more, of all the keys there are. Flushes that were
// given up are let go.
func (cs Covers) Add(b *Barrier, keys int) Covers {
	cs = slices.DeleteFunc(cs, func(c cover) bool { return c.barrier.Left() })
	if keys == 0 {
		return cs
	}
	b.Expect(keys)
	return append(cs, cover{b, keys})
}

// Take hands out the barriers that wait for the first keys, by their index, and
// returns what is left to wait for. Keys with the same Flushes share a barrier.
func (cs Covers) Take(keys int, hand func(key int, b *Barrier)) Covers {
	var all *Barrier
	at, rest := keys, Covers(nil)
	for _, c := range slices.Backward(cs) {
		for ; at > min(c.keys, keys); at-- {
			hand(at-1, all)
		}
		all = c.barrier.And(all)
		if c.keys -= keys; c.keys > 0 {
			rest = append(rest, c)
		}
	}
	for ; at > 0; at-- {
		hand(at-1, all)
	}
	slices.Reverse(rest)
	return rest
}
