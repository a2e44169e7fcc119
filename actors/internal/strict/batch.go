package strict

import (
	"fmt"
	"time"

	"github.com/distkit/distkit-go/internal/host"
	"github.com/distkit/distkit-go/internal/ledger"
	"github.com/distkit/distkit-go/internal/redisio"
	"github.com/distkit/distkit-go/internal/request"
	"github.com/distkit/distkit-go/internal/trace"
	"github.com/distkit/distkit-go/internal/verb"
)

// batch is what travels to Redis as one call, and whom its results go to: changes,
// as a numbered batch of the ledger's, or nothing but reads, which need no number.
//
// While an attempt is under way taken and chosen belong to the goroutine that sends
// it. Until the call leaves, callers may withdraw from it.
type batch struct {
	writer  *writer
	changes *ledger.Batch // nil for reads
	reads   *redisio.Call // nil for changes

	taken     []*request.Request // off the queue
	chosen    []*request.Request // those of them that go: not withdrawn when it was written
	delivered int                // chosen requests that have their results, and are no longer ours
	answered  int                // results that those took
	failing   bool               // all that are ours get an error, from the first to the last
	lent      bool               // a caller was to make the first attempt

	id       uint64 // for the watcher; 0 where there is none
	attempts int    // that have ended, for the watcher
}

// newBatch makes a batch of requests.
func newBatch(w *writer, taken []*request.Request) *batch {
	b := &batch{writer: w, taken: taken}
	if taken[0].Recalls() {
		b.reads = &redisio.Call{Task: redisio.Recall, At: w.book.At, Gather: b.gather}
		return b
	}
	if every(taken, verb.Kind.Reads) {
		b.reads = &redisio.Call{Task: redisio.Read, At: w.book.At, Gather: b.gather}
		return b
	}
	b.changes = w.book.NewBatch(nil, b.gather, b.claim)
	if every(taken, func(k verb.Kind) bool { return k.Reads() || k.Frees() || k == verb.Apply }) { // whose steps follow
		b.changes.Light()
	}
	return b
}

// every reports whether all operations are of a kind that is so.
func every(requests []*request.Request, is func(verb.Kind) bool) bool {
	for _, r := range requests {
		if r.Parts == nil && !is(r.Op.Kind) {
			return false
		}
		for i := range r.Parts {
			if !is(r.Parts[i].Kind) {
				return false
			}
		}
	}
	return true
}

// call is what is to be sent.
func (b *batch) call() *redisio.Call {
	if b.reads != nil {
		return b.reads
	}
	return &b.changes.Call
}

// gather chooses the requests whose callers have not withdrawn, for an attempt.
func (b *batch) gather() []verb.Keyed {
	ops := make([]verb.Keyed, 0, len(b.taken))
	b.chosen = make([]*request.Request, 0, len(b.taken))
	for _, r := range b.taken {
		if r.Withdrawn() {
			continue
		}
		b.chosen = append(b.chosen, r)
		if r.Parts != nil {
			ops = append(ops, r.Parts...)
		} else {
			ops = append(ops, verb.Keyed{Key: r.Key, Op: r.Op})
		}
	}
	return ops
}

// claim fixes the batch to the requests chosen; false if a caller has withdrawn
// since.
func (b *batch) claim() bool {
	for i, r := range b.chosen {
		if !r.Claim() {
			for _, claimed := range b.chosen[:i] {
				claimed.Thaw()
			}
			return false
		}
	}
	return true
}

// waiting are the requests that are still ours, when no attempt is under way.
func (b *batch) waiting() []*request.Request {
	if b.call().HasLeft() || b.failing || b.delivered > 0 {
		return b.chosen[b.delivered:]
	}
	return b.taken
}

// noteReplicas gives the changes of a batch that too few replicas have that error, beside
// their values.
func (b *batch) noteReplicas() {
	if b.changes == nil || b.changes.Replicated >= b.changes.Replicas.N {
		return
	}
	call := &b.changes.Call
	err := fmt.Errorf("%w: %d of %d have it after %v", verb.ErrNotReplicated, call.Replicated, call.Replicas.N, call.Replicas.Within)
	if call.NotReplicated != nil {
		err = fmt.Errorf("%w: %w", verb.ErrNotReplicated, call.NotReplicated)
	}
	for i := range call.Results {
		r, kind := &call.Results[i], call.Ops[i].Kind
		if r.Err == nil && !kind.Reads() && (r.Applied || !kind.Conditional()) {
			r.Err = err
		}
	}
}

// deliver gives each request its results, in the order of the batch. A second
// delivery, after a panic in the first, goes on where that stopped: a request
// that has its result may already serve another operation.
func (b *batch) deliver(results []verb.Result, failAt host.FailPoint) {
	for b.delivered < len(b.chosen) {
		failAt.At("strict writer: delivering")
		r := b.chosen[b.delivered]
		from, size := b.answered, r.Size()
		if r.Recalls() {
			size += int(results[from].N)
		}
		b.delivered++
		b.answered += size
		r.Claim() // a read is not claimed before: its caller may withdraw to the end
		if r.Parts == nil {
			b.writer.report(r, results[from].Err)
			r.Settle(results[from])
			continue
		}
		if r.Claimed() {
			r.Results = results[from : from+size : from+size]
			r.Settle(verb.Result{})
		}
	}
}

// fail fails the requests with an error, each once, as deliver does.
func (b *batch) fail(err error) {
	if !b.failing {
		b.chosen, b.delivered, b.failing = b.waiting(), 0, true
	}
	for b.delivered < len(b.chosen) {
		r := b.chosen[b.delivered]
		b.delivered++
		b.writer.report(r, err)
		r.Claim()
		r.Settle(verb.Result{Err: err})
	}
}

// refuseRemembered fails the transactions with an ID, and returns the other requests.
// While the slot is being moved, Redis carries out nothing with a key that is not
// there yet, as their once-keys: the others must not wait until all of it has moved.
func (b *batch) refuseRemembered(waiting []*request.Request) []*request.Request {
	others := make([]*request.Request, 0, len(waiting))
	for _, r := range waiting {
		if r.Remembered() {
			r.Claim()
			r.Settle(verb.Result{Err: verb.NotApplied(b.call().Err)})
		} else {
			others = append(others, r)
		}
	}
	return others
}

// board gives the batch a number, where somebody watches, and tells its calls.
func (b *batch) board(watcher *trace.Watcher) {
	if watcher == nil {
		return
	}
	b.id = watcher.Number()
	for _, r := range b.taken {
		r.Trip.Board(b.id)
	}
}

// kindName is what the watcher knows strict counters by, whatever shard they are on.
const kindName = "strict"

// attempted tells the watcher of an attempt that has ended, on the goroutine that made it.
func (b *batch) attempted(watcher *trace.Watcher, start time.Time) {
	b.attempts++
	call := b.call()
	told := trace.Attempt{
		ID: b.id, Kind: kindName, Reads: b.reads != nil, Number: b.attempts,
		Resend: b.changes != nil && b.changes.InDoubt, Class: call.Class, Status: call.Status, Err: call.Err,
		Start: start, Duration: time.Since(start),
	}
	for _, r := range b.waiting() {
		told.Size += r.Size()
		if r.Trip != nil && r.Trip.Follow {
			told.Calls = append(told.Calls, r.Trip.Context)
		}
	}
	watcher.Attempted(told)
}
