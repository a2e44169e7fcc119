package actors

import (
	"slices"
	"sync"

	"github.com/asynkron/protoactor-go/actor"
	"github.com/distkit/distkit-go/internal/op"
	"github.com/distkit/distkit-go/internal/store"
)

// The strict writer: group commit of everything that strict key actors forward.
//
//	submit ─► queue ─► load ─► send (freeze) ─► onReturned ─► callers
//	            ▲               ▲                  │
//	            │               └────── again ─────┤ unknown, no script, gap
//	            └──────────── thaw ────────────────┘ surely not applied
//
// Invariants:
//   - One batch is in flight; what arrives meanwhile is the next batch.
//   - A batch freezes when it is about to be written: until then, while a
//     connection is being made, callers may withdraw from it.
//   - A batch whose fate is not known stays frozen and goes again under its
//     number until an answer comes; later operations wait behind it.
//   - A batch that surely was not applied is thawed: its operations go back to
//     the head of the queue, where their callers may withdraw again.
//   - On losing Redis the actor panics; the supervisor restarts it after the
//     backoff. Everything it needs is in the cell.

// strictWriterCell is what outlives an incarnation of the strict writer.
type strictWriterCell struct {
	box      *mailbox
	store    *store.Store
	observer Observer
	failAt   failPoint

	mu        sync.Mutex
	queue     []*request
	woken     bool          // a wake message is on its way
	compactAt int           // length at which withdrawn requests are taken out of the queue
	closed    bool          // the actor has stopped
	trouble   error         // what Redis last failed with; nil since it answered
	idle      chan struct{} // closed when nothing is left; nil unless asked for

	// The rest is the actor's.
	lane     lane
	batch    *strictBatch // loaded and not yet settled
	inFlight bool
	outbox   chan *strictBatch // to the goroutine that sends; nil until the first batch
	fault    fault
}

// strictBatch is a batch and whom its results go to. While it is in flight,
// frozen belongs to the goroutine that sends it.
type strictBatch struct {
	observer  Observer
	call      *store.Call
	loaded    []*request // taken off the queue
	frozen    []*request // those of them that had not withdrawn when it was written
	ambiguous bool       // some attempt may have been applied
	delivered int        // frozen requests that have their results, and are no longer ours
	answered  int        // results that those took
}

// strictReturned tells the writer that an attempt at its frozen batch ended.
type strictReturned struct{ batch *strictBatch }

// wake tells a writer that its queue has work.
type wake struct{}

// submit enqueues a request. It never blocks.
func (w *strictWriterCell) submit(r *request) {
	w.mu.Lock()
	if w.closed {
		w.mu.Unlock()
		r.fail(op.NotApplied(op.ErrClosed))
		return
	}
	w.queue = append(w.queue, r)
	if len(w.queue) >= w.compactAt {
		w.queue = present(w.queue)
		w.compactAt = max(2*len(w.queue), 2*maxOps)
	}
	wakeUp := !w.woken
	w.woken = true
	w.mu.Unlock()
	if wakeUp {
		w.box.PostUserMessage(wake{})
	}
}

// present keeps the requests whose callers have not withdrawn.
func present(requests []*request) []*request {
	return slices.DeleteFunc(requests, func(r *request) bool { return r.is(withdrawn) })
}

// lastTrouble is what Redis last failed with, nil if it answers.
func (w *strictWriterCell) lastTrouble() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.trouble
}

func (w *strictWriterCell) setTrouble(err error) {
	w.mu.Lock()
	w.trouble = err
	w.mu.Unlock()
}

// strictWriter is the actor.
type strictWriter struct{ *strictWriterCell }

const strictWriterName = "strict"

// Receive implements actor.Actor.
func (a strictWriter) Receive(ctx actor.Context) {
	switch message := ctx.Message().(type) {
	case *actor.Started:
		a.onStarted()
	case wake:
		a.onWake()
	case strictReturned:
		a.onReturned(message.batch)
	case *actor.Stopped:
		if a.outbox != nil {
			close(a.outbox)
		}
	}
}

// onStarted resumes what an earlier incarnation left: its batch first.
func (a strictWriter) onStarted() {
	switch {
	case a.inFlight: // its return is on the way
	case a.batch != nil:
		a.batch.call.Results = nil // callers may hold what an earlier answer was read into
		a.send()
	default:
		a.next()
	}
}

func (a strictWriter) onWake() {
	a.mu.Lock()
	a.woken = false
	a.mu.Unlock()
	a.failAt.at("strict writer: woken")
	if a.batch == nil {
		a.next()
	}
}

// next loads and sends what is queued, if anything is.
func (a strictWriter) next() {
	a.load()
	a.failAt.at("strict writer: loaded")
	if a.batch != nil {
		a.send()
		return
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.idle != nil && len(a.queue) == 0 {
		close(a.idle)
		a.idle = nil
	}
}

// load takes requests off the queue, at most maxOps operations, and makes them
// the lane's next batch. A batch call is never split here.
func (a strictWriter) load() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.queue = present(a.queue)
	taken, ops := 0, 0
	for _, r := range a.queue {
		if ops > 0 && ops+r.size() > maxOps {
			break
		}
		taken++
		ops += r.size()
	}
	if taken == 0 {
		return
	}
	batch := &strictBatch{observer: a.observer, loaded: a.queue[:taken:taken]}
	if a.queue = a.queue[taken:]; len(a.queue) == 0 {
		a.queue = nil
	}
	batch.call = a.lane.next(nil)
	batch.call.Freeze = batch.freeze
	a.batch = batch
}

// freeze fixes the batch to the requests whose callers have not withdrawn.
func (b *strictBatch) freeze() []store.KeyOp {
	ops := make([]store.KeyOp, 0, len(b.loaded))
	b.frozen = make([]*request, 0, len(b.loaded))
	for _, r := range b.loaded {
		if !r.claim() {
			continue
		}
		b.frozen = append(b.frozen, r)
		if r.parts != nil {
			ops = append(ops, r.parts...)
		} else {
			ops = append(ops, store.KeyOp{Key: r.key, Op: r.op})
		}
	}
	return ops
}

// send makes one attempt at the batch, on a goroutine of its own: the actor
// stays free to hear of its stop while Redis hangs.
func (a strictWriter) send() {
	if a.outbox == nil {
		a.outbox = make(chan *strictBatch, 1) // one is in flight at most
		go a.sendAll(a.outbox)
	}
	a.inFlight = true
	a.outbox <- a.batch
}

// sendAll sends batches until the actor has stopped. It runs the actor on
// what came of each: the next one is often here then, and goes without delay.
func (w *strictWriterCell) sendAll(outbox <-chan *strictBatch) {
	for batch := range outbox {
		w.store.Send(contextOfRequests, []*store.Call{batch.call})
		w.box.post(strictReturned{batch})
	}
}

func (a strictWriter) onReturned(batch *strictBatch) {
	a.inFlight = false
	a.failAt.at("strict writer: returned")
	call := batch.call
	switch {
	case call.Gap:
		a.lane.resume(call, &batch.ambiguous, strictWriterName, a.observer)
		a.send()
	case call.Class == store.Applied:
		batch.deliver(call.Results, a.failAt)
		a.failAt.at("strict writer: delivered")
		a.lane.ack(call)
		a.batch = nil
		a.failAt.at("strict writer: settled")
		a.setTrouble(nil)
		a.fault.succeeded(strictWriterName, a.observer)
		a.next()
	case call.Class == store.NoScript:
		call.Text = true
		a.send()
	case call.Class == store.Refused && !batch.ambiguous:
		a.batch = nil
		a.fault.succeeded(strictWriterName, a.observer)
		batch.refuse(op.NotApplied(call.Err))
		a.next()
	default:
		a.setTrouble(call.Err)
		if !batch.ambiguous && (call.Class.NotApplied() || !call.Left()) {
			a.thaw(batch)
		} else {
			batch.ambiguous = true
		}
		panic(a.fault.failed(strictWriterName, call.Err))
	}
}

// thaw puts the requests of a batch that was not applied back in front.
func (a strictWriter) thaw(batch *strictBatch) {
	left := batch.loaded
	if batch.call.Left() {
		left = batch.frozen
	}
	for _, r := range left {
		r.thaw()
	}
	left = present(left)
	a.mu.Lock()
	a.queue = append(left, a.queue...)
	a.mu.Unlock()
	a.batch = nil
}

// refuse fails the requests of a batch that was not applied.
func (b *strictBatch) refuse(err error) {
	refused := b.frozen
	if !b.call.Left() {
		refused = b.loaded
	}
	for _, r := range refused {
		b.report(r, err)
		r.claim()
		r.settle(op.Result{Err: err})
	}
}

// report tells of a failure that nobody waits for.
func (b *strictBatch) report(r *request, err error) {
	if err != nil && !r.answered() {
		b.observer.MessageRefused(r.key, err)
	}
}

// deliver gives each request its results, in the order of the batch. A second
// delivery, after a panic in the first, goes on where that stopped: a request
// that has its result may already serve another operation.
func (b *strictBatch) deliver(results []op.Result, failAt failPoint) {
	for b.delivered < len(b.frozen) {
		failAt.at("strict writer: delivering")
		r := b.frozen[b.delivered]
		from, size := b.answered, r.size()
		b.delivered++
		b.answered += size
		if r.parts == nil {
			b.report(r, results[from].Err)
			r.settle(results[from])
			continue
		}
		r.results = results[from : from+size : from+size]
		r.settle(op.Result{})
	}
}

// abandon settles what a stopped writer leaves: what may be on its way is
// unknown, the rest was not applied.
func (w *strictWriterCell) abandon() {
	closed := op.NotApplied(op.Hint(op.ErrClosed, w.lastTrouble()))
	if batch := w.batch; batch != nil {
		waiting := batch.loaded
		if !w.inFlight && batch.call.Left() {
			waiting = batch.frozen[batch.delivered:]
		}
		batch.call.Revoke()
		for _, r := range waiting {
			err := closed // it was not written, and will not be
			if !r.claim() {
				if !r.is(claimed) {
					continue
				}
				err = op.Unknown(op.Hint(errStopped, w.lastTrouble()))
			}
			r.held = true // the goroutine that sends the batch may look at it
			batch.report(r, err)
			r.settle(op.Result{Err: err})
		}
	}
	w.mu.Lock()
	left := w.queue
	w.queue, w.closed = nil, true
	w.mu.Unlock()
	for _, r := range left {
		if !r.answered() {
			w.observer.MessageRefused(r.key, closed)
		}
		r.fail(closed)
	}
}

// whenIdle returns a channel that is closed once nothing is queued or frozen.
func (w *strictWriterCell) whenIdle() <-chan struct{} {
	w.mu.Lock()
	idle := make(chan struct{})
	w.idle = idle
	w.mu.Unlock()
	w.box.PostUserMessage(wake{})
	return idle
}
