package actors

import (
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/distkit/distkit-go/internal/store"
)

// maxOps bounds the operations of one script call: about 0.5 to 0.9 ms of
// Redis's time, during which it serves nobody else.
const maxOps = 1000

// lane numbers the batches of one writer id. Its ledger in Redis stands at the
// last batch applied. At most one batch of a lane is under way.
type lane struct {
	id    string
	acked int64     // the last batch known to be applied
	used  time.Time // when that became known, by the wall clock, which is Redis's too
}

// newLane starts a numbering of its own: an id never used before, random, and
// no batch yet.
func newLane() lane {
	return lane{id: fmt.Sprintf("%016x%08x", rand.Uint64(), rand.Uint32()), used: time.Now().Round(0)}
}

// next freezes the operations as the lane's next batch. A lane whose ledger
// may have expired in the meantime starts anew: a missing ledger would look
// like lost data.
func (l *lane) next(ops []store.KeyOp) *store.Call {
	if time.Now().Round(0).Sub(l.used) > store.LedgerTTL/2 {
		*l = newLane()
	}
	return &store.Call{Writer: l.id, Seq: l.acked + 1, Ops: ops}
}

// ack notes that the batch is in.
func (l *lane) ack(call *store.Call) {
	if call.Fence { // its ledger lets nothing pass any more
		*l = newLane()
		return
	}
	l.acked, l.used = call.Seq, time.Now().Round(0)
}

// resume deals with a gap, which shows that this Redis does not hold what it
// acknowledged. A batch of which no other copy was sent, or which has been
// fenced, gets a number of a fresh lane. One that is ambiguous is fenced first:
// late copies of its predecessors could bring the old ledger to where a late
// copy of it passes too, and it would count twice.
func (l *lane) resume(call *store.Call, ambiguous *bool, writer string, observer Observer) {
	if !call.Fence {
		observer.DataLost(writer, l.acked, call.Last)
		if *ambiguous {
			call.Fence = true
			return
		}
	}
	*l = newLane()
	call.Writer, call.Seq, call.Fence = l.id, l.acked+1, false
	*ambiguous = false
}

// fault counts a writer's failures in a row; its actor owns it.
type fault struct {
	attempts int
	since    time.Time
}

// failed notes a failure and returns the reason to panic with.
func (f *fault) failed(writer string, cause error) *redisFailure {
	if f.attempts == 0 {
		f.since = time.Now()
	}
	f.attempts++
	return &redisFailure{writer: writer, attempt: f.attempts, cause: cause}
}

// succeeded notes that Redis has answered.
func (f *fault) succeeded(writer string, observer Observer) {
	if f.attempts > 0 {
		observer.WriterRecovered(writer, f.attempts, time.Since(f.since))
	}
	*f = fault{}
}

// lanes are those of a writer that has several calls under way.
type lanes struct {
	all  []*lane
	free []*lane
}

// get returns a lane that no call is under way on.
func (s *lanes) get() *lane {
	if last := len(s.free) - 1; last >= 0 {
		l := s.free[last]
		s.free = s.free[:last]
		return l
	}
	l := new(lane)
	*l = newLane()
	s.all = append(s.all, l)
	return l
}

// put gives back a lane whose call has its answer.
func (s *lanes) put(l *lane) { s.free = append(s.free, l) }
