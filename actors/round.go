package actors

import (
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/distkit/distkit-go/internal/op"
	"github.com/distkit/distkit-go/internal/store"
)

// round is one trip of the flush coordinator to Redis: mutations gathered from
// their keys and frozen into calls.
//
//	gathering ─► frozen ─► (sent ─► returned)… ─► settled ─► recycled
//
// It stays one of the coordinator's rounds, through failures and restarts,
// until every call in it has an answer. Its memory serves another round when
// the last of its keys has taken in what became of its change.
type round struct {
	slots  []slot
	clears bool         // a round of Clears:
	wipes  []*request   // those that wait for it
	left   atomic.Int32 // keys that have not yet answered the gather
	frozen bool
	calls  []*laxCall

	inFlight bool
	failing  bool          // the last attempt failed
	sent     time.Duration // the last attempt
	step     uint64        // the coordinator's, when that returned

	users   atomic.Int32 // the coordinator, and keys that have yet to handle their settlement
	ops     []store.KeyOp
	results []op.Result
}

// flushOps bounds the operations of a script call of a flush. Reads that somebody
// waits for come between two of them.
const flushOps = 500

// roundSize bounds the keys of one round. A large flush is several rounds, so
// that the keys of one are gathered, and those of another settled, while Redis
// works on a third.
const roundSize = 3 * flushOps

// maxRounds bounds the rounds under way at a time; each has a connection.
const maxRounds = 2

var rounds = sync.Pool{New: func() any { return new(round) }}

// newRound returns a round for Dels and for the changes of dirty keys.
func newRound(dels []urgentDel, dirty []*laxCell) *round {
	r := freshRound(len(dels) + len(dirty))
	for i, d := range dels {
		s := &r.slots[i]
		s.cell, s.mutation.change, s.del, s.gathered = d.cell, d.mutation.change, d.mutation, true
	}
	for i, cell := range dirty {
		r.slots[len(dels)+i].cell = cell
	}
	return r
}

// newWipeRound returns a round that carries out Clears: every key drops what is
// pending, then the container goes.
func newWipeRound(wipes []*request, cells []*laxCell) *round {
	r := freshRound(len(cells))
	r.clears, r.wipes = true, wipes
	for i, cell := range cells {
		r.slots[i].cell = cell
	}
	return r
}

func freshRound(size int) *round {
	r := rounds.Get().(*round)
	if cap(r.slots) < size {
		r.slots = make([]slot, size)
	}
	r.slots = r.slots[:size]
	for i := range r.slots {
		r.slots[i].round = r
	}
	r.users.Store(1)
	return r
}

// release lets go of the round's memory when nobody uses it any longer.
func (r *round) release() {
	if r.users.Add(-1) > 0 || cap(r.slots) > roundSize {
		return
	}
	clear(r.slots)
	clear(r.ops)
	clear(r.results)
	*r = round{slots: r.slots[:0], ops: r.ops[:0], results: r.results[:0]}
	rounds.Put(r)
}

// slot is one key's part in a round. Its key actor fills it, then arrives; the
// coordinator fills in the result, and the actor takes it.
type slot struct {
	round    *round
	cell     *laxCell
	mutation mutation
	del      *mutation // for a Del, which its key has sent by itself: the mutation there
	cover    *barrier  // the Flush that waits for all that the key has when it is gathered
	result   op.Result
	sent     time.Duration // when the change left: the total is not older
	step     uint64        // the coordinator's, when the result came
	gathered bool
	told     bool // the key has been sent its settlement
	settled  bool // the key has taken it in
}

// flight is the mutation as its key knows it.
func (s *slot) flight() *mutation {
	if s.del != nil {
		return s.del
	}
	return &s.mutation
}

// laxCall is a frozen call and the slots whose mutations it carries.
type laxCall struct {
	*store.Call
	lane      *lane // which numbered it
	slots     []*slot
	sent      time.Duration // the first attempt that may have been applied: results are not older
	settled   bool
	ambiguous bool // some attempt may have been applied
}

type (
	// gather asks a key for its pending change, or, in a round of Clears, to drop it.
	gather struct{ *slot }
	// settlement tells a key the fate of the mutation that was in flight.
	settlement struct{ *slot }
)

// arrive counts a key's answer; the last one moves the round on.
func (r *round) arrive(flush *coordinatorCell) {
	if r.left.Add(-1) == 0 {
		flush.box.post(gathered{r})
	}
}

// freeze makes calls of what was gathered, one for each lane, at most flushOps
// operations each.
func (r *round) freeze(lanes *lanes) {
	r.frozen = true
	if len(r.wipes) > 0 {
		r.addCall(lanes, []store.KeyOp{{Op: op.Op{Kind: op.Clear}}}, nil)
		return
	}
	full := make([]*slot, 0, len(r.slots))
	for _, silent := range []bool{false, true} { // the order in which calls want them
		for i := range r.slots {
			if m := &r.slots[i].mutation; m.verb != nothing && m.silent == silent {
				full = append(full, &r.slots[i])
			}
		}
	}
	r.ops = slices.Grow(r.ops, len(full))
	for len(full) > 0 {
		part := full[:min(flushOps, len(full))]
		full = full[len(part):]
		from := len(r.ops)
		for _, s := range part {
			r.ops = append(r.ops, s.mutation.keyOp(s.cell.key))
		}
		r.addCall(lanes, r.ops[from:], part)
	}
	r.results = slices.Grow(r.results, len(r.ops))
	for from := 0; from < len(r.ops); from += flushOps {
		r.calls[from/flushOps].Results = r.results[from:from:min(from+flushOps, len(r.ops))]
	}
	r.results = r.results[:len(r.ops)]
}

func (r *round) addCall(lanes *lanes, ops []store.KeyOp, slots []*slot) {
	l := lanes.get()
	r.calls = append(r.calls, &laxCall{Call: l.next(ops), lane: l, slots: slots})
}

// open returns the calls that have no answer yet.
func (r *round) open() []*laxCall {
	var open []*laxCall
	for _, call := range r.calls {
		if !call.settled {
			open = append(open, call)
		}
	}
	return open
}

// covering is a Flush that waits for the first so many of some keys.
type covering struct {
	barrier *barrier
	keys    int
}

// covers are Flushes that wait for the same keys, or for the first of them.
type covers []covering

// take hands the barriers to the slots of the first keys, and returns what is left.
// Slots with the same barriers share one. A Flush covers no fewer keys than those
// before it, which were there then.
func (cs covers) take(slots []slot) covers {
	var all *barrier
	at, left := len(slots), covers(nil)
	for _, c := range slices.Backward(cs) {
		for ; at > min(c.keys, len(slots)); at-- {
			slots[at-1].cover = all
		}
		all = c.barrier.and(all)
		if c.keys -= len(slots); c.keys > 0 {
			left = append(left, c)
		}
	}
	for ; at > 0; at-- {
		slots[at-1].cover = all
	}
	slices.Reverse(left)
	return left
}

// barrier is what a Flush waits at: one pass for each key.
type barrier struct {
	waiting atomic.Int64
	mu      sync.Mutex
	left    []Unflushed   // guarded by mu
	done    chan struct{} // closed when none is waited for
	gone    atomic.Bool   // the Flush does not wait any more

	both [2]*barrier // set for one that stands for two Flushes at the same key
}

func newBarrier(keys int) *barrier {
	b := &barrier{done: make(chan struct{})}
	b.waiting.Store(int64(keys) + 1)
	b.pass(nil)
	return b
}

// and is a barrier that stands for both; either may be nil.
func (b *barrier) and(other *barrier) *barrier {
	switch {
	case b == nil:
		return other
	case other == nil:
		return b
	default:
		return &barrier{both: [2]*barrier{b, other}}
	}
}

// pass counts one key: left is its change that Redis refused, or nil.
func (b *barrier) pass(left *Unflushed) {
	switch {
	case b == nil:
		return
	case b.both[0] != nil:
		b.both[0].pass(left)
		b.both[1].pass(left)
		return
	case left != nil:
		b.mu.Lock()
		b.left = append(b.left, *left)
		b.mu.Unlock()
	}
	if b.waiting.Add(-1) == 0 {
		close(b.done)
	}
}

// refused lists the changes that Redis refused.
func (b *barrier) refused() []Unflushed {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.left
}

// Unflushed is a lax change that is not, or not known to be, in Redis.
type Unflushed struct {
	Key    string
	N      int64
	Assign bool // N was to be assigned, not added
	Err    error
}
