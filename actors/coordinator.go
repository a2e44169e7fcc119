package actors

import (
	"sync"
	"sync/atomic"
	"time"

	"github.com/asynkron/protoactor-go/actor"
	"github.com/distkit/distkit-go/internal/op"
	"github.com/distkit/distkit-go/internal/store"
)

// The flush coordinator: the writer of the lax kind.
//
//	dirty keys ── tick ──┐
//	Dels, reads, Clears ─┴► round: gather ─► freeze ─► send ─► settle ─► keys
//	                                                   ▲         │
//	                                                   └─ again ─┘
//
// Invariants:
//   - One round is under way. Whoever comes meanwhile is in the next.
//   - A tick is armed by the first dirty key, and once more by a flush for what
//     comes meanwhile: an idle coordinator holds no timer and sends no command.
//   - A call without an answer stays frozen under its number and goes again;
//     the calls of a round have a lane each, so one that is resent never meets
//     a ledger that another call of the round has moved on.
//   - On losing Redis the actor panics; the supervisor restarts it after the
//     backoff. Everything it needs is in the cell.

// coordinatorCell is what outlives an incarnation of the flush coordinator.
type coordinatorCell struct {
	box      *mailbox
	store    *store.Store
	observer Observer
	failAt   failPoint
	keys     func() []*laxCell // every live lax key
	started  time.Time         // zero of the coordinator's clock

	allowedLag   time.Duration
	refreshWait  time.Duration
	maxStaleness time.Duration // 0: unlimited

	away atomic.Bool // Redis is known not to answer: nobody waits for a refresh

	mu      sync.Mutex // guards the inbox: what keys and callers ask for
	dirty   []*laxCell
	reads   []*laxCell
	dels    []urgentDel
	wipes   []*request
	flush   bool          // do not wait for the tick
	woken   bool          // a wake message is on its way
	closed  bool          // the actor has stopped
	trouble error         // what Redis last failed with; nil since it answered
	idle    chan struct{} // closed when nothing is left to do; nil unless asked for

	// The rest is the actor's.
	round   *round
	lanes   []lane
	fault   fault
	due     bool // the tick has come
	tick    *time.Timer
	refresh *time.Timer // ends the wait for the reads asked for
}

// urgentDel is a Del on its way from its key.
type urgentDel struct {
	cell     *laxCell
	mutation *mutation
}

type (
	// tick: AllowedLag has passed since the first key became dirty.
	tick struct{}
	// gathered: every key has answered the round's gather.
	gathered struct{ round *round }
	// returned: an attempt at the round's open calls has ended.
	returned struct{ round *round }
	// refreshOver: the reads asked for have taken longer than RefreshWait.
	refreshOver struct{}
)

const coordinatorName = "lax"

// age is how long ago the clock showed at.
func (c *coordinatorCell) age(at time.Duration) time.Duration { return c.now() - at }

func (c *coordinatorCell) now() time.Duration { return time.Since(c.started) }

// markDirty asks for the cell to be gathered at the next tick, or at once.
func (c *coordinatorCell) markDirty(cell *laxCell, now bool) {
	c.ask(func() {
		c.dirty = append(c.dirty, cell)
		c.flush = c.flush || now
	})
}

func (c *coordinatorCell) askRead(cell *laxCell) {
	c.ask(func() { c.reads = append(c.reads, cell) })
}

func (c *coordinatorCell) urgent(cell *laxCell, m *mutation) {
	c.ask(func() { c.dels = append(c.dels, urgentDel{cell, m}) })
}

func (c *coordinatorCell) wipe(r *request) {
	c.ask(func() {
		if c.closed {
			r.fail(op.NotApplied(op.ErrClosed))
		} else {
			c.wipes = append(c.wipes, r)
		}
	})
}

// whenIdle returns a channel that is closed once nothing is left to do.
func (c *coordinatorCell) whenIdle() <-chan struct{} {
	idle := make(chan struct{})
	c.ask(func() { c.idle = idle })
	return idle
}

func (c *coordinatorCell) flushNow() {
	c.ask(func() { c.flush = true })
}

// ask puts something into the inbox and sees to it that the actor looks.
func (c *coordinatorCell) ask(put func()) {
	c.mu.Lock()
	put()
	wakeUp := !c.woken
	c.woken = true
	c.mu.Unlock()
	if wakeUp {
		c.box.PostUserMessage(wake{})
	}
}

// lastTrouble is what Redis last failed with, nil if it answers.
func (c *coordinatorCell) lastTrouble() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.trouble
}

// coordinator is the actor.
type coordinator struct{ *coordinatorCell }

// Receive implements actor.Actor.
func (a coordinator) Receive(ctx actor.Context) {
	switch message := ctx.Message().(type) {
	case *actor.Started:
		a.onStarted()
	case wake:
		a.onWake()
	case tick:
		a.tick, a.due = nil, true
		a.step()
	case gathered:
		a.onGathered(message.round)
	case returned:
		a.onReturned(message.round)
	case refreshOver:
		a.onRefreshOver()
	case *actor.Stopped:
		a.stopTimers()
	}
}

// onStarted resumes the round that an earlier incarnation left, at the step
// that it had reached.
func (a coordinator) onStarted() {
	switch r := a.round; {
	case r == nil:
		a.onWake()
	case r.inFlight: // its return is on the way
	case r.frozen:
		a.send()
	case r.left.Load() == 0:
		a.onGathered(r)
	}
}

func (a coordinator) onWake() {
	a.mu.Lock()
	a.woken = false
	reads := len(a.reads) > 0
	a.mu.Unlock()
	a.failAt.at("coordinator: woken")
	if reads {
		a.startRefresh()
	}
	a.step()
}

// startRefresh bounds the wait for the reads asked for.
func (a coordinator) startRefresh() {
	if a.refresh == nil && !a.away.Load() {
		a.refresh = time.AfterFunc(a.refreshWait, func() { a.box.PostUserMessage(refreshOver{}) })
	}
}

// step starts a round if none is under way and something is to be done now,
// and arms the tick if something is to be done later.
func (a coordinator) step() {
	a.mu.Lock()
	if len(a.dirty) > 0 {
		a.startTick()
	}
	if a.round != nil {
		a.mu.Unlock()
		return
	}
	if len(a.wipes) > 0 {
		wipes := a.wipes
		a.wipes = nil
		a.mu.Unlock()
		a.startWipe(wipes)
		return
	}
	flush := (a.due || a.flush) && len(a.dirty) > 0
	if !flush && len(a.reads) == 0 && len(a.dels) == 0 {
		a.due, a.flush = false, false
		if len(a.dirty) == 0 && a.idle != nil {
			close(a.idle)
			a.idle = nil
		}
		a.mu.Unlock()
		return
	}
	r := &round{reads: a.reads}
	a.round, a.reads = r, nil
	dels := a.dels
	a.dels = nil
	var dirty []*laxCell
	if flush {
		dirty, a.dirty = a.dirty, nil
		a.due, a.flush = false, false
		a.startTick() // for what comes while this flush is under way
	}
	r.slots = make([]slot, len(dels)+len(dirty))
	for i, d := range dels {
		r.slots[i] = slot{cell: d.cell, mutation: mutation{change: d.mutation.change}, del: d.mutation, gathered: true}
	}
	for i, cell := range dirty {
		r.slots[len(dels)+i].cell = cell
	}
	a.mu.Unlock()
	if len(r.reads) > 0 {
		a.startRefresh() // the last one ended with an earlier read
	}
	a.gather(r, r.slots[len(dels):], false)
}

// startTick sees to it that what is dirty is flushed within AllowedLag, whatever
// other rounds there are until then.
func (a coordinator) startTick() {
	if a.tick == nil && !a.due {
		a.tick = time.AfterFunc(a.allowedLag, func() { a.box.PostUserMessage(tick{}) })
	}
}

// startWipe starts a round that carries out Clears: every key drops what is
// pending, then the container goes.
func (a coordinator) startWipe(wipes []*request) {
	r := &round{}
	for _, request := range wipes {
		if request.claim() {
			r.wipes = append(r.wipes, request)
		}
	}
	if len(r.wipes) == 0 {
		a.step()
		return
	}
	cells := a.keys()
	r.slots = make([]slot, len(cells))
	for i, cell := range cells {
		r.slots[i].cell = cell
	}
	a.round = r
	a.gather(r, r.slots, true)
}

// gather asks the slots' keys for what they have. The coordinator counts as
// one of those waited for, so that the round moves on when it is asked of all.
func (a coordinator) gather(r *round, slots []slot, wipe bool) {
	r.left.Store(int32(len(slots)) + 1)
	messages := make([]gather, len(slots))
	for i := range slots {
		messages[i] = gather{round: r, slot: &slots[i], wipe: wipe}
		if !slots[i].cell.box.post(&messages[i]) {
			slots[i].gathered = true
			r.arrive(a.coordinatorCell)
		}
	}
	r.arrive(a.coordinatorCell)
}

func (a coordinator) onGathered(r *round) {
	if r != a.round || r.frozen {
		return
	}
	a.failAt.at("coordinator: gathered")
	r.freeze(&a.lanes)
	a.failAt.at("coordinator: frozen")
	if len(r.calls) == 0 && len(r.reads) == 0 {
		a.round = nil
		a.step()
		return
	}
	a.send()
}

// send makes one attempt at the round's open calls and reads, on a goroutine
// of its own: the actor stays free to end the waits for a refresh and to hear
// of its stop while Redis hangs.
func (a coordinator) send() {
	r := a.round
	open := r.open()
	calls := make([]*store.Call, len(open))
	for i, call := range open {
		calls[i] = call.Call
	}
	r.read = nil
	if len(r.reads) > 0 {
		r.read = &store.Read{Keys: make([]string, len(r.reads))}
		for i, cell := range r.reads {
			r.read.Keys[i] = cell.key
		}
	}
	r.inFlight, r.sent = true, a.now()
	go func() {
		a.store.Send(contextOfRequests, calls, r.read)
		a.box.PostUserMessage(returned{r})
	}()
}

// onReturned settles what has an answer and sends the rest again: at once
// where Redis has shown that it is there, after a restart where it has not.
func (a coordinator) onReturned(r *round) {
	r.inFlight = false
	a.failAt.at("coordinator: returned")
	var failed error
	again := false
	for _, call := range r.open() {
		switch {
		case call.Gap:
			a.lanes[call.lane].resume(call.Call, coordinatorName, a.observer)
			call.ambiguous = false
			again = true
		case call.Class == store.Applied:
			a.settle(r, call)
		case call.Class == store.NoScript:
			call.Text = true
			again = true
		default:
			call.ambiguous = call.ambiguous || call.Left() && !call.Class.NotApplied()
			failed = call.Err
		}
	}
	if err := a.settleReads(r); err != nil {
		failed = err
	}
	a.note(failed)
	switch {
	case failed != nil:
		a.releaseReads(r)
		panic(a.fault.failed(coordinatorName, failed))
	case again:
		a.send()
	default:
		a.failAt.at("coordinator: settled")
		a.round = nil
		a.step()
	}
}

// note keeps what Redis last answered with.
func (a coordinator) note(failed error) {
	a.mu.Lock()
	a.trouble = failed
	a.mu.Unlock()
	a.away.Store(failed != nil)
	if failed == nil {
		a.fault.succeeded(coordinatorName, a.observer)
	}
}

// settle tells the keys of a call what became of their mutations. It can be
// repeated after a panic: keys and Clears take their fate once.
func (a coordinator) settle(r *round, call *laxCall) {
	a.lanes[call.lane].ack(call.Call)
	slots, wiped := call.slots, len(r.wipes) > 0
	if wiped {
		slots = make([]*slot, len(r.slots))
		for i := range r.slots {
			slots[i] = &r.slots[i]
		}
	}
	settlements := make([]settlement, len(slots))
	for i, s := range slots {
		result := call.Results[0]
		if !wiped {
			result = call.Results[i]
		}
		a.failAt.at("coordinator: settling")
		settlements[i] = settlement{mutation: s.flight(), result: result, sent: r.sent}
		s.cell.box.PostUserMessage(&settlements[i])
	}
	for len(r.wipes) > 0 {
		request := r.wipes[0]
		r.wipes = r.wipes[1:]
		request.settle(call.Results[0])
	}
	call.settled = true
}

// settleReads gives the read's values to the keys that asked. A read that
// Redis refused as such is answered too; one that failed is returned, and its
// keys go on waiting.
func (a coordinator) settleReads(r *round) error {
	if r.read == nil {
		return nil
	}
	read, cells := r.read, r.reads
	switch read.Class {
	case store.Applied, store.Refused:
		r.read, r.reads = nil, nil
	default:
		return read.Err
	}
	a.mu.Lock()
	more := len(a.reads) > 0
	a.mu.Unlock()
	if !more {
		a.stopRefresh()
	}
	answers := make([]seenValue, len(cells))
	for i, cell := range cells {
		answers[i].sent = r.sent
		if read.Class == store.Refused {
			answers[i].refused = read.Err
		} else {
			answers[i].value = read.Values[i]
		}
		cell.box.PostUserMessage(&answers[i])
	}
	return nil
}

// onRefreshOver ends the waits for reads: whoever has a view answers from it.
func (a coordinator) onRefreshOver() {
	a.refresh = nil
	a.releaseReads(a.round)
}

// releaseReads marks Redis as away and lets the keys that wait for a read
// answer from the views they have. The reads stay asked for.
func (a coordinator) releaseReads(r *round) {
	a.stopRefresh()
	a.mu.Lock()
	waiting := append([]*laxCell(nil), a.reads...)
	a.mu.Unlock()
	if r != nil {
		waiting = append(waiting, r.reads...)
	}
	if len(waiting) > 0 {
		a.away.Store(true)
	}
	for _, cell := range waiting {
		cell.box.PostUserMessage(proceed{})
	}
}

func (a coordinator) stopRefresh() {
	if a.refresh != nil {
		a.refresh.Stop()
		a.refresh = nil
	}
}

func (a coordinator) stopTimers() {
	a.stopRefresh()
	if a.tick != nil {
		a.tick.Stop()
		a.tick = nil
	}
}

// abandon, when everything has stopped, marks what Redis may have and settles
// the Clears that are left.
func (c *coordinatorCell) abandon() {
	if r := c.round; r != nil {
		for _, call := range r.open() {
			if !call.ambiguous && (!r.inFlight || call.Revoke()) {
				continue
			}
			for _, s := range call.slots {
				s.flight().ambiguous = true
			}
		}
		for _, request := range r.wipes {
			request.settle(op.Result{Err: op.Unknown(errStopped)})
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.closed = true
	for _, r := range c.wipes {
		r.fail(op.NotApplied(op.ErrClosed))
	}
}
