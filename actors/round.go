package actors

import (
	"sync"
	"sync/atomic"
	"time"

	"github.com/distkit/distkit-go/internal/op"
	"github.com/distkit/distkit-go/internal/store"
)

// round is one trip of the flush coordinator to Redis: mutations gathered from
// their keys, frozen into calls, and reads.
//
//	gathering ─► frozen ─► (sent ─► returned)… ─► settled
//
// It stays the coordinator's one round, through failures and restarts, until
// every call in it has an answer.
type round struct {
	slots  []slot
	wipes  []*request   // the Clears that this round is for, or none
	left   atomic.Int32 // keys that have not yet answered the gather
	frozen bool
	calls  []*laxCall
	reads  []*laxCell

	inFlight bool
	read     *store.Read // the read under way
	sent     time.Duration
}

// slot is one key's part in a round; its key actor fills it, then arrives.
type slot struct {
	mutation mutation
	del      *mutation // for a Del, which its key has sent by itself: the mutation there
	cell     *laxCell
	gathered bool
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
	lane      int // index of the lane that numbered it
	slots     []*slot
	settled   bool
	ambiguous bool // some attempt may have been applied
}

// gather asks a key for its pending change, or, with wipe, to drop it for a Clear.
type gather struct {
	round *round
	slot  *slot
	wipe  bool
}

// arrive counts a key's answer; the last one moves the round on.
func (r *round) arrive(flush *coordinatorCell) {
	if r.left.Add(-1) == 0 {
		flush.box.PostUserMessage(gathered{r})
	}
}

// freeze makes calls of what was gathered, one for each lane, at most maxOps
// operations each.
func (r *round) freeze(lanes *[]lane) {
	r.frozen = true
	if len(r.wipes) > 0 {
		r.addCall(lanes, []store.KeyOp{{Op: op.Op{Kind: op.Clear}}}, nil)
		return
	}
	full := make([]*slot, 0, len(r.slots))
	for i := range r.slots {
		if r.slots[i].mutation.verb != nothing {
			full = append(full, &r.slots[i])
		}
	}
	for len(full) > 0 {
		part := full[:min(maxOps, len(full))]
		full = full[len(part):]
		ops := make([]store.KeyOp, len(part))
		for i, s := range part {
			ops[i] = s.mutation.keyOp(s.cell.key)
		}
		r.addCall(lanes, ops, part)
	}
}

func (r *round) addCall(lanes *[]lane, ops []store.KeyOp, slots []*slot) {
	at := len(r.calls)
	if at == len(*lanes) {
		*lanes = append(*lanes, newLane())
	}
	r.calls = append(r.calls, &laxCall{Call: (*lanes)[at].next(ops), lane: at, slots: slots})
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

// barrier is what a Flush waits at: one pass for each key it was sent to.
type barrier struct {
	mu      sync.Mutex
	waiting int
	left    []Unflushed
	done    chan struct{} // closed when none is waited for
}

func newBarrier(keys int) *barrier {
	b := &barrier{waiting: keys, done: make(chan struct{})}
	if keys == 0 {
		close(b.done)
	}
	return b
}

// pass counts one key: left is its change that Redis refused, or nil.
func (b *barrier) pass(left *Unflushed) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if left != nil {
		b.left = append(b.left, *left)
	}
	if b.waiting--; b.waiting == 0 {
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
