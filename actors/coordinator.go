package actors

import (
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/asynkron/protoactor-go/actor"
	"github.com/distkit/distkit-go/internal/op"
	"github.com/distkit/distkit-go/internal/store"
)

// The flush coordinator: the writer of the lax kind.
//
//	dirty keys ── tick ─┐
//	Dels, Clears ───────┴► round: gather ─► freeze ─► send ─► settle ─► keys
//	                                                  ▲         │
//	reads ──► a trip of their own                     └─ again ─┘
//
// Invariants:
//   - At most maxRounds are under way, and one of Dels alone beside them, in
//     which a key has one change at most; a round of Clears is alone.
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

	away     atomic.Bool // Redis is known not to answer: nobody waits for a refresh
	flushing atomic.Bool // a flush of what is dirty is about to begin; set as flush is

	mu      sync.Mutex // guards the inbox: what keys and callers ask for
	dirty   []*laxCell
	covers  covers // Flushes that wait for what of dirty is there
	epoch   uint64 // marks what comes into dirty: see cover
	since   uint64 // the first epoch of what is in dirty
	reads   reads
	dels    []urgentDel
	wipes   []*request
	flush   bool          // do not wait for the tick
	woken   bool          // a wake message is on its way
	closed  bool          // the actor has stopped
	trouble error         // what Redis last failed with; nil since it answered
	idle    chan struct{} // closed when nothing is left to do; nil unless asked for

	// The rest is the actor's.
	steps   uint64 // reads sent and rounds returned so far: what came before what
	rounds  []*round
	trip    *trip // the read under way, or nil
	watch   watch
	flushed []*laxCell // of the flush under way: keys that are in no round yet
	covered covers     // Flushes that wait for them
	lanes   lanes
	fault   fault
	due     bool // the tick has come
	tick    *time.Timer
	refresh *time.Timer // ends the waits for reads
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
	// tripReturned: an attempt at the read under way has ended.
	tripReturned struct{}
	// refreshOver: the reads asked for have taken longer than RefreshWait.
	refreshOver struct{}
	// watchDue: it is time to read the keys that are watched.
	watchDue struct{}
)

const coordinatorName = "lax"

// age is how long ago the clock showed at.
func (c *coordinatorCell) age(at time.Duration) time.Duration { return c.now() - at }

func (c *coordinatorCell) now() time.Duration { return time.Since(c.started) }

// nextStep counts a step of the actor.
func (c *coordinatorCell) nextStep() uint64 {
	c.steps++
	return c.steps
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
	case tripReturned:
		a.onTripReturned()
	case refreshOver:
		a.onRefreshOver()
	case watchDue:
		a.onWatchDue()
	case *actor.Stopped:
		a.stopTimers()
	}
}

// onStarted resumes the rounds that an earlier incarnation left, at the steps
// that they had reached.
func (a coordinator) onStarted() {
	for _, r := range slices.Clone(a.rounds) {
		switch {
		case r.inFlight: // its return is on the way
		case r.frozen:
			a.send(r)
		case r.left.Load() == 0:
			a.onGathered(r)
		}
	}
	a.resumeTrip()
	a.onWake()
}

func (a coordinator) onWake() {
	a.mu.Lock()
	a.woken = false
	a.mu.Unlock()
	a.failAt.at("coordinator: woken")
	a.step()
}

// step starts what is to be done now, reads first, and arms the tick if something
// is to be done later.
func (a coordinator) step() {
	a.startTrip()
	for {
		r := a.nextRound()
		if r == nil {
			return
		}
		a.rounds = append(a.rounds, r)
		a.gather(r)
	}
}

// nextRound makes a round of what is to be done now; nil if that is nothing, or
// has to wait for the rounds under way.
func (a coordinator) nextRound() *round {
	a.mu.Lock()
	defer a.mu.Unlock()
	if (a.due || a.flush) && len(a.flushed) == 0 {
		a.flushed, a.dirty = a.dirty, nil
		a.covered, a.covers = a.covers, nil
		a.epoch++
		a.since = a.epoch
		a.due = false
		a.setFlush(false)
		if len(a.flushed) > 0 {
			a.startTick() // for what comes while this flush is under way
		}
	}
	if len(a.dirty) > 0 {
		a.startTick()
	}
	if a.clearing() {
		return nil
	}
	if wipes := a.takeWipes(); len(wipes) > 0 {
		return newWipeRound(wipes, a.keys())
	}
	full := len(a.rounds) >= maxRounds
	if len(a.wipes) > 0 || full && (len(a.dels) == 0 || len(a.rounds) > maxRounds) {
		return nil
	}
	if len(a.flushed)+len(a.dels) == 0 {
		if len(a.dirty)+len(a.rounds)+len(a.reads.keys) == 0 && !a.awaited() && a.idle != nil {
			close(a.idle)
			a.idle = nil
		}
		return nil
	}
	size := min(len(a.flushed), roundSize)
	if full {
		size = 0
	}
	dirty := a.flushed[:size]
	r := newRound(a.dels, dirty)
	a.covered = a.covered.take(r.slots[len(a.dels):])
	clear(dirty)
	a.flushed, a.dels = a.flushed[size:], nil
	return r
}

// clearing reports whether a round of Clears is under way.
func (a coordinator) clearing() bool { return len(a.rounds) == 1 && a.rounds[0].clears }

// takeWipes takes the Clears whose callers still wait, if nothing is under way;
// mu is held.
func (a coordinator) takeWipes() []*request {
	if len(a.rounds) > 0 {
		return nil
	}
	wipes := slices.DeleteFunc(a.wipes, func(r *request) bool { return !r.claim() })
	a.wipes = nil
	return wipes
}

// startTick sees to it that what is dirty is flushed within AllowedLag, whatever
// other rounds there are until then.
func (a coordinator) startTick() {
	if a.tick == nil && !a.due {
		a.tick = time.AfterFunc(a.allowedLag, func() { a.box.PostUserMessage(tick{}) })
	}
}

// gather asks the round's keys for what they have. The coordinator counts as
// one of those waited for, so that the round moves on when it is asked of all.
func (a coordinator) gather(r *round) {
	r.left.Store(int32(len(r.slots)) + 1)
	for i := range r.slots {
		s := &r.slots[i]
		if s.gathered || !s.cell.box.post(gather{s}) {
			s.cover.pass(nil) // a Del, or asleep: it has nothing
			r.arrive(a.coordinatorCell)
		}
	}
	r.arrive(a.coordinatorCell)
}

func (a coordinator) onGathered(r *round) {
	if r.frozen || !slices.Contains(a.rounds, r) {
		return
	}
	a.failAt.at("coordinator: gathered")
	r.freeze(&a.lanes)
	a.failAt.at("coordinator: frozen")
	if len(r.calls) == 0 {
		a.finish(r)
		return
	}
	a.send(r)
}

// finish ends a round in which everything has its answer.
func (a coordinator) finish(r *round) {
	at := slices.Index(a.rounds, r)
	a.rounds = slices.Delete(a.rounds, at, at+1)
	r.release()
	a.step()
}

// send makes one attempt at the round's open calls, on a goroutine of its own:
// the actor stays free to send reads and to hear of its stop while Redis hangs.
func (a coordinator) send(r *round) {
	r.inFlight, r.sent = true, a.now()
	open := r.open()
	calls := make([]*store.Call, len(open))
	for i, call := range open {
		calls[i] = call.Call
		if !call.ambiguous {
			call.sent = r.sent
		}
	}
	go func() {
		a.store.Send(contextOfRequests, calls)
		a.box.PostUserMessage(returned{r})
	}()
}

// onReturned settles what has an answer and sends the rest again: at once
// where Redis has shown that it is there, after a restart where it has not.
func (a coordinator) onReturned(r *round) {
	r.inFlight, r.step = false, a.nextStep()
	a.failAt.at("coordinator: returned")
	var failed error
	again := false
	for _, call := range r.open() {
		switch {
		case call.Gap:
			call.lane.resume(call.Call, &call.ambiguous, coordinatorName, a.observer)
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
	r.failing = failed != nil
	a.note(failed)
	switch {
	case again:
		a.send(r)
	default:
		a.failAt.at("coordinator: settled")
		a.finish(r)
	}
}

// note keeps what Redis last answered with. A failure is the actor's: it does
// not return from it.
func (a coordinator) note(failed error) {
	a.mu.Lock()
	a.trouble = failed
	asked := len(a.reads.keys) > 0
	a.mu.Unlock()
	wasAway := a.away.Swap(failed != nil)
	if failed != nil {
		a.releaseReads()
		panic(a.fault.failed(coordinatorName, failed))
	}
	a.fault.succeeded(coordinatorName, a.observer)
	if wasAway && (asked || a.awaited()) {
		a.boundWait(a.now()) // for who waits from now on
	}
}

// settle tells the keys of a call what became of their mutations. It can be
// repeated after a panic: keys and Clears are told their fate once.
func (a coordinator) settle(r *round, call *laxCall) {
	call.lane.ack(call.Call)
	if call.slots == nil { // Clears: every key is to know
		for i := range r.slots {
			a.tell(&r.slots[i], call.Results[0], call.sent)
		}
	}
	for i, s := range call.slots {
		a.tell(s, call.Results[i], call.sent)
	}
	for len(r.wipes) > 0 {
		request := r.wipes[0]
		r.wipes = r.wipes[1:]
		request.settle(call.Results[0])
	}
	call.settled = true
	a.lanes.put(call.lane)
}

// tell sends a key the result of its change, once.
func (a coordinator) tell(s *slot, result op.Result, sent time.Duration) {
	a.failAt.at("coordinator: settling")
	if s.told || s.mutation.verb == nothing {
		return
	}
	s.told, s.result, s.sent, s.step = true, result, sent, s.round.step
	s.round.users.Add(1)
	s.cell.box.post(settlement{s})
}

func (a coordinator) stopTimers() {
	a.endWait()
	a.watch.stop()
	if a.tick != nil {
		a.tick.Stop()
		a.tick = nil
	}
}

// abandon, when everything has stopped, marks what Redis may have and settles
// the Clears that are left.
func (c *coordinatorCell) abandon() {
	for _, r := range c.rounds {
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
