package strict

import (
	"context"
	"runtime"
	"sync"
	"time"

	"github.com/distkit/distkit-go/internal/host"
	"github.com/distkit/distkit-go/internal/ledger"
	"github.com/distkit/distkit-go/internal/redisio"
	"github.com/distkit/distkit-go/internal/request"
	"github.com/distkit/distkit-go/internal/trace"
	"github.com/distkit/distkit-go/internal/verb"
)

// The strict writer: group commit of everything that keys' actors forward.
//
//	submit ─► queue ─► load ─► send (claim) ─► onReturned ─► callers
//	            ▲               ▲                  │
//	            │               └────── again ─────┤ in doubt, or to go at once
//	            └──────────── thaw ────────────────┘ surely not applied
//
// Invariants:
//   - One batch is in flight; what arrives meanwhile is the next batch.
//   - A batch is fixed when it is about to be written: until then, while a
//     connection is being made, callers may withdraw from it.
//   - What the end of an attempt means the ledger says. A batch in doubt goes again
//     as it is until an answer comes; later operations wait behind it.
//   - A batch that surely was not applied is thawed: its operations go back to
//     the head of the queue, where their callers may withdraw again.
//   - On losing Redis the actor panics; the supervisor restarts it after the
//     backoff. What it needs then is in its fields.

// maxOps bounds the operations of one script call, half as many more where single calls
// go beside a batch call: about 0.5 to 0.9 ms of Redis's time for 1,000, during which it
// serves nobody else.
const maxOps = 1000

// writer is the receiver of every incarnation of the strict writer.
type writer struct {
	actor    *host.Resident
	name     string // in events
	window   string // that of the counters, in events; "" if they are of none
	redis    redisio.Sender
	carries  redisio.Interrupter // the same, if callers can make attempts
	observer host.Observer
	watcher  *trace.Watcher // or nil
	failAt   host.FailPoint
	risen    func() // told when it comes to life

	mu        sync.Mutex
	queue     queue
	woken     bool          // a wake message is on its way
	compactAt int           // length at which withdrawn requests are taken out of the queue
	closed    bool          // nothing is taken any more: the actor has stopped, or is to
	busy      bool          // there is a batch
	trouble   error         // what Redis last failed with; nil since it answered
	since     time.Time     // when that began
	idle      chan struct{} // closed when nothing is left; nil unless asked for

	// The rest is the actor's.
	book     ledger.Book
	batch    *batch // loaded and not yet done with
	inFlight bool
	outbox   chan *batch // to the goroutine that sends; nil until the first batch
	carrier  *carrier    // the caller that makes the attempt, or nil
	outage   host.Outage
	refused  bool // the last batch of changes failed
}

type (
	// wake tells the writer that its queue has work.
	wake struct{}
	// returned tells it that an attempt at its batch has ended.
	returned struct{ batch *batch }
)

// forward takes a request that has passed one of its keys' actors; a batch call
// counts when it has passed the last, so that it keeps the order of each key.
func (w *writer) forward(r *request.Request) {
	if r.Arrive() {
		w.submit(r)
	}
}

// submit enqueues a request. It never blocks.
func (w *writer) submit(r *request.Request) {
	w.mu.Lock()
	if w.closed {
		w.mu.Unlock()
		r.Fail(verb.NotApplied(verb.ErrClosed))
		return
	}
	w.queue.push(r)
	if w.queue.len() >= w.compactAt {
		w.queue.drop()
		w.compactAt = max(2*w.queue.len(), 2*maxOps)
	}
	wakeUp := !w.woken
	w.woken = true
	w.mu.Unlock()
	if wakeUp {
		w.actor.Post(wake{})
	}
}

// lastTrouble is what Redis last failed with, nil if it answers.
func (w *writer) lastTrouble() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.trouble
}

// found notes that Redis has answered somebody else: the writer does not learn that by
// itself if its callers have given up. It returns what it fails with if it has work.
func (w *writer) found() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.trouble != nil && !w.busy && w.queue.len() == 0 {
		w.trouble, w.since = nil, time.Now()
	}
	return w.trouble
}

func (w *writer) setTrouble(err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.trouble == nil || err == nil {
		w.since = time.Now()
	}
	w.trouble = err
}

// Receive implements host.Receiver.
func (w *writer) Receive(message any) {
	switch message := message.(type) {
	case host.Started:
		w.onStarted()
	case wake:
		w.onWake()
	case returned:
		w.onReturned(message.batch)
	case host.Stopped:
		if w.outbox != nil {
			close(w.outbox)
			w.outbox = nil
		}
	}
}

// onStarted resumes what an earlier incarnation left: its batch first.
func (w *writer) onStarted() {
	w.risen()
	switch {
	case w.inFlight: // its return is on the way
	case w.batch == nil:
		w.next()
	default:
		w.resume()
	}
}

// resume goes on with a batch whose last attempt has ended, or was never made.
func (w *writer) resume() {
	switch verdict := w.takeIn(w.batch); verdict {
	case ledger.Done, ledger.Refuse, ledger.Unknown:
		w.conclude(w.batch, verdict)
		w.next()
	case ledger.Again, ledger.Keep, ledger.Thaw, ledger.Pending:
		w.send()
	}
}

func (w *writer) onWake() {
	w.mu.Lock()
	w.woken = false
	w.mu.Unlock()
	w.failAt.At("strict writer: woken")
	if w.batch == nil {
		w.next()
	}
}

// next loads and sends what is queued, if anything is.
func (w *writer) next() {
	w.load()
	w.failAt.At("strict writer: loaded")
	if w.batch != nil {
		w.send()
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.idle != nil && w.queue.len() == 0 {
		close(w.idle)
		w.idle = nil
	}
}

// load takes requests off the queue, at most maxOps operations, and makes them
// the next batch. A batch call is never split here.
func (w *writer) load() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if taken := w.queue.take(maxOps); len(taken) > 0 {
		w.batch, w.busy = newBatch(w, taken), true
		w.batch.board(w.watcher)
	}
}

// send makes one attempt at the batch, on the goroutine of one of its callers, or on one
// of its own: the actor stays free to hear of its stop while Redis hangs.
func (w *writer) send() {
	if w.batch.changes != nil {
		w.batch.changes.Sending()
	}
	w.inFlight = true
	if w.lend(w.batch) {
		return
	}
	if w.outbox == nil {
		w.outbox = make(chan *batch, 1) // one is in flight at most
		go w.sendAll(w.outbox)
	}
	w.outbox <- w.batch
}

// sendAll sends batches until the actor has stopped. It runs the actor on
// what came of each: the next one is often here then, and goes without delay. (A
// goroutine made for each batch would have to grow its stack through the client
// library each time.)
func (w *writer) sendAll(outbox <-chan *batch) {
	over := false
	defer func() {
		if !over { // a hook of the client has ended the goroutine
			go w.sendAll(outbox)
		}
	}()
	for b := range outbox {
		w.attempt(b)
	}
	over = true
}

func (w *writer) attempt(b *batch) {
	defer w.actor.Post(returned{b})
	if w.watcher != nil {
		defer b.attempted(w.watcher, time.Now())
	}
	w.redis.Send(context.Background(), []*redisio.Call{b.call()})
}

func (w *writer) onReturned(b *batch) {
	w.inFlight = false
	w.failAt.At("strict writer: returned")
	cut := w.carrier.endedBy(b) || b.call().Stayed
	switch verdict := w.takeIn(b); verdict {
	case ledger.Done, ledger.Refuse, ledger.Unknown:
		w.conclude(b, verdict)
		w.failAt.At("strict writer: settled")
		if len(b.chosen) > 1 || w.waits() { // one alone sends its next call itself
			runtime.Gosched() // those just answered often have their next call ready: it joins the batch
		}
		w.next()
		return
	case ledger.Again:
		w.send()
		return
	case ledger.Thaw:
		if w.thaw(b); cut {
			w.next()
			return
		}
	case ledger.Keep, ledger.Pending:
		if cut {
			w.send()
			return
		}
	}
	w.refused = w.refused || b.changes != nil
	w.setTrouble(b.call().Err)
	panic(w.outage.Failed(w.name, b.call().Err))
}

// takeIn takes in how the last attempt has ended: what that means, and what it
// shows to be lost. It can be repeated after a panic.
func (w *writer) takeIn(b *batch) ledger.Verdict {
	switch {
	case b.changes == nil:
		return ledger.OfRead(b.reads)
	case b.changes.Sent().IsZero(): // a panic came before its first attempt
		return ledger.Pending
	}
	verdict := b.changes.Ended()
	if loss := b.changes.Loss; loss != nil {
		w.observer.DataLost(w.name, loss)
		b.changes.Loss = nil
	}
	return verdict
}

// conclude ends a batch that need not go again: Redis has answered. It can be
// repeated after a panic.
func (w *writer) conclude(b *batch, verdict ledger.Verdict) {
	switch verdict {
	case ledger.Done:
		b.noteReplicas()
		b.deliver(b.call().Results, w.failAt)
	case ledger.Refuse:
		b.fail(verb.NotApplied(b.call().Err))
	case ledger.Unknown:
		b.fail(verb.Unknown(b.call().Err))
	case ledger.Again, ledger.Keep, ledger.Thaw, ledger.Pending:
		return
	}
	w.failAt.At("strict writer: delivered")
	w.done(b)
	if b.changes == nil && w.refused {
		return // that reads are answered does not say that changes would be
	}
	w.refused = false
	w.setTrouble(nil)
	w.outage.Over(w.name, w.observer)
}

// done lets go of a batch.
func (w *writer) done(b *batch) {
	w.batch = nil
	w.mu.Lock()
	w.busy = false
	w.mu.Unlock()
	if b.changes != nil {
		b.changes.Release()
	}
}

// thaw puts the requests of a batch that was not applied back in front.
func (w *writer) thaw(b *batch) {
	waiting := b.waiting()
	if b.call().Class == redisio.Moving {
		waiting = b.refuseRemembered(waiting)
	}
	for _, r := range waiting {
		r.Thaw()
	}
	w.mu.Lock()
	w.queue.putBack(waiting)
	w.mu.Unlock()
	w.done(b)
}

// waits reports whether something is queued.
func (w *writer) waits() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.queue.len() > 0
}

// quiet reports whether there is nothing to do.
func (w *writer) quiet() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.batch == nil && w.queue.len() == 0
}

// abandon settles what a stopped writer leaves: what may be on its way is
// unknown, the rest was not applied.
func (w *writer) abandon() {
	closed := verb.NotApplied(verb.Hint(verb.ErrClosed, w.lastTrouble()))
	if b := w.batch; b != nil {
		w.carrier.end()
		b.call().Revoke()
		waiting := b.taken
		if !w.inFlight {
			waiting = b.waiting()
		}
		for _, r := range waiting {
			w.abandonOne(r, closed)
		}
	}
	w.mu.Lock()
	left := w.queue.drain()
	w.closed = true
	w.mu.Unlock()
	for _, r := range left {
		w.report(r, closed)
		r.Fail(closed)
	}
}

// abandonOne settles a request of the batch that is left.
func (w *writer) abandonOne(r *request.Request, closed error) {
	err := closed // it was not written, and will not be
	if !r.Claim() {
		if !r.Claimed() {
			return
		}
		err = verb.Unknown(verb.Hint(request.ErrStopped, w.lastTrouble()))
	}
	r.Held = true // the goroutine that sends the batch may look at it
	w.report(r, err)
	r.Settle(verb.Result{Err: err})
}

// report tells of a failure that nobody waits for.
func (w *writer) report(r *request.Request, err error) {
	if err != nil && !r.Answered() {
		w.observer.MessageRefused(w.window, r.Key, err)
	}
}

// leave takes no more, if it has nothing and its keys are gone; false if not. It sleeps.
func (w *writer) leave(keysGone func() bool) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.closed = w.closed || !w.woken && !w.busy && w.queue.len() == 0 && keysGone()
	return w.closed
}

// whenIdle returns a channel that is closed once nothing is queued or under way.
func (w *writer) whenIdle() <-chan struct{} {
	idle := make(chan struct{})
	w.mu.Lock()
	w.idle = idle
	w.mu.Unlock()
	w.actor.Post(wake{})
	return idle
}
