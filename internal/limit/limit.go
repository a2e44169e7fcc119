// Package limit bounds what is accepted for later: messages, whose senders are not held up
// while they wait, and keys with changes that Redis does not have yet. Without a bound they
// would fill the memory of a process whose Redis is away.
package limit

import "sync/atomic"

// Pending counts what is pending, of all spaces together. It is safe for concurrent use.
type Pending struct {
	max  int64
	over func(max int) // told when the bound is reached

	n    atomic.Int64
	told atomic.Bool // over has been told, and less than half was not pending since
}

// New returns a count of nothing, with its bound.
func New(max int, over func(max int)) *Pending { return &Pending{max: int64(max), over: over} }

// Full reports whether no more is to be accepted. Callers that ask at the same time may
// go beyond the bound by as many as they are.
func (p *Pending) Full() bool {
	switch n := p.n.Load(); {
	case n >= p.max:
		if !p.told.Load() && p.told.CompareAndSwap(false, true) {
			p.over(int(p.max))
		}
		return true
	case n < p.max/2 && p.told.Load():
		p.told.Store(false)
	}
	return false
}

// Add counts more, or less.
func (p *Pending) Add(n int64) { p.n.Add(n) }

// Count is how much is pending, and the bound.
func (p *Pending) Count() (n, max int) { return int(p.n.Load()), int(p.max) }
