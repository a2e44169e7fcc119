package actors

import (
	"fmt"
	"sync/atomic"
	"time"

	"github.com/asynkron/protoactor-go/actor"
	"github.com/distkit/distkit-go/internal/op"
)

// The lax key actor: it answers from what it last saw of Redis plus what it
// has not yet written, and hands its changes to the flush coordinator.
//
//	remote ─► flight ─► dels… ─► open        view = all of them, in this order
//	(Redis)  (frozen)  (unsent)  (folding)
//
// Invariants:
//   - Only flight is at the coordinator; what comes after waits until it has
//     settled, so the order of the key's changes is kept under failure.
//   - remote changes by flight's own result, or by a read between whose question
//     and answer nothing was in flight: others may not know of the change. So
//     while flight is under way its result is waited for, not a read. What came
//     before what is told by the coordinator's steps, not by the clock.
//   - A key that is only added to asks for the total of its changes once in a
//     while (silent): remote follows from them, and grows old.
//   - An operation that has to wait for a read parks, and all later ones of
//     the key park behind it.
//   - The mailbox may keep increments to itself (lazy) just as long as a gather
//     or a settlement is on its way to the key.
//   - What a panic interrupts is taken up by onRestarting: current and serving
//     say what it was.

// laxCell is what outlives an incarnation of a lax key actor. Only the actor
// touches it, but for the box and where a field says otherwise.
type laxCell struct {
	cell
	flush *coordinatorCell

	known  bool          // remote has been read
	dirty  bool          // the coordinator knows that open has something
	asked  bool          // the coordinator owes us a read
	wanted bool          // somebody has needed the view since the last flight took off
	remote int64         // the last total seen in Redis
	seen   time.Duration // when, by the coordinator's clock
	flown  time.Duration // when flight was gathered
	landed uint64        // the coordinator's step at which the last flight's result came

	listed atomic.Uint64 // the coordinator's epoch when the key last became dirty

	watched bool        // the coordinator's: the view is read again before it is old
	used    atomic.Bool // a call was answered from the view since the coordinator looked

	flight  *mutation // frozen, at the coordinator
	open    change    // nothing or a change that later ones fold into
	flusher *barrier  // the Flush that waits for open
	queues  *queues   // what else waits; nil when that is nothing

	current any      // the coordinator's message being handled
	serving *request // the operation being served
	decided bool     // serving has taken effect, with the result in it
}

// queues are what a lax key holds at times only.
type queues struct {
	dels    []*mutation // Dels that wait for flight to settle
	parked  fifo[any]   // *request, *increments and *barrier that wait for a read, in order
	refused error       // why Redis refused a change, for the next reply
	wiping  *mutation   // a Clear under way whose place as flight a Del has

	patience *patience // ends the wait of the parked for flight's result
}

// more are the key's queues, where there have been none so far.
func (c *laxCell) more() *queues {
	if c.queues == nil {
		c.queues = new(queues)
	}
	return c.queues
}

// trim lets go of queues, which there are, if they hold nothing.
func (c *laxCell) trim() {
	q := c.queues
	if q.parked.len() == 0 {
		c.endPatience()
	}
	if len(q.dels) == 0 && q.parked.len() == 0 && q.refused == nil && q.wiping == nil {
		c.queues = nil
	}
}

// dels are the Dels that wait for flight to settle.
func (c *laxCell) dels() []*mutation {
	if c.queues == nil {
		return nil
	}
	return c.queues.dels
}

// waiting is how many operations are parked.
func (c *laxCell) waiting() int {
	if c.queues == nil {
		return 0
	}
	return c.queues.parked.len()
}

// quiet implements keyCell.
func (c *laxCell) quiet() bool {
	return c.flight == nil && c.open.verb == nothing && c.queues == nil && !c.dirty && !c.asked
}

// laxKey is the actor.
type laxKey struct {
	*laxCell // nil until it is started
	keys     *keyspace[*laxCell]
}

// nudge tells a key that a caller has withdrawn.
type nudge struct{}

// Receive implements actor.Actor.
func (a *laxKey) Receive(ctx actor.Context) {
	switch message := ctx.Message().(type) {
	case *request:
		a.onMessage(message)
	case *barrier:
		a.onMessage(message)
	case folded:
		a.onFolded()
	case gather:
		a.current = message
		a.onGather(message.slot)
		a.current = nil
	case settlement:
		a.current = message
		a.onSettlement(message.slot)
		a.current = nil
	case *seenValue:
		a.onSeen(message)
	case proceed:
		a.serveParked(true)
	case impatient:
		a.onImpatient(message.patience)
	case nudge:
		a.serveParked(false)
	case *actor.Started:
		a.laxCell = a.keys.named(ctx.Self())
	case *actor.Restarting:
		a.onRestarting()
	}
	if a.queues != nil {
		a.trim()
	}
}

// onMessage handles what has its place in the key's order.
func (a *laxKey) onMessage(message any) {
	if a.waiting() > 0 || !a.handle(message, false) {
		a.more().parked.push(message)
	}
}

// onFolded takes the increments that the mailbox holds. Parked ones fold too,
// so that parking costs memory by the callers, not by the messages.
func (a *laxKey) onFolded() {
	a.flush.failAt.at("lax key: folding")
	n := a.box.take()
	if a.waiting() == 0 {
		a.fold(n)
		return
	}
	parked := &a.queues.parked
	if last, ok := (*parked.last()).(*increments); !ok || !foldInto(&last.n, n) {
		parked.push(&increments{n})
	}
}

// handle deals with a message, or reports false if it has to wait for a read.
func (a *laxKey) handle(message any, anyAge bool) bool {
	switch m := message.(type) {
	case *request:
		return m.is(withdrawn) || a.serve(m, anyAge)
	case *increments:
		n := m.n
		m.n = 0 // should a panic bring it here again
		a.fold(n)
	case *barrier:
		a.attach(m)
	}
	return true
}

// serve answers a request, or reports false if it has to wait for a read.
func (a *laxKey) serve(r *request, anyAge bool) bool {
	a.wanted = a.wanted || r.view != nil || a.needsView(r)
	if a.needsView(r) {
		if !a.viewServes(anyAge || r.view != nil) {
			return false
		}
		if !a.used.Load() {
			a.used.Store(true)
		}
	}
	a.serving, a.decided = r, false
	a.flush.failAt.at("lax key: serving")
	if r.claim() {
		a.flush.failAt.at("lax key: claimed")
		switch {
		case r.view != nil:
			*r.view = a.look()
			a.decide(op.Result{})
		case a.queues != nil && a.queues.refused != nil && r.answered():
			a.decide(op.Result{Err: op.NotApplied(a.queues.refused)})
			a.queues.refused = nil
		case a.needsView(r) && a.stale():
			a.decide(op.Result{Err: op.NotApplied(a.staleness())})
		case r.op.Kind == op.Del:
			a.del(r)
			a.flush.failAt.at("lax key: del queued")
			a.serving = nil
			return true
		default:
			a.apply(r)
		}
		a.flush.failAt.at("lax key: decided")
		a.answer()
	}
	a.serving = nil
	return true
}

// stale reports whether the view is older than the user allows.
func (a *laxKey) stale() bool {
	limit := a.flush.maxStaleness
	return limit > 0 && a.viewFromRemote() && a.flush.age(a.seen) > limit
}

func (a *laxKey) staleness() error {
	err := fmt.Errorf("%w: seen %v ago, allowed are %v", op.ErrStale, a.flush.age(a.seen).Round(time.Millisecond), a.flush.maxStaleness)
	return op.Hint(err, a.flush.lastTrouble())
}

// decide notes the outcome of the operation being served.
func (a *laxKey) decide(result op.Result) { a.decided, a.serving.result = true, result }

// answer delivers the outcome. A failure that nobody waits for is reported.
func (a *laxKey) answer() {
	result := a.serving.result
	if result.Err != nil && !a.serving.answered() {
		a.flush.observer.MessageRefused(a.key, result.Err)
	}
	a.serving.settle(result)
}

// needsView reports whether the answer, or the decision, needs a value of Redis.
func (a *laxKey) needsView(r *request) bool {
	switch r.op.Kind {
	case op.Set, op.Del:
		return false
	case op.Get, op.Inc, op.Dec:
		return r.answered()
	default:
		return true
	}
}

// apply carries out an operation on the view.
func (a *laxKey) apply(r *request) {
	view := a.view()
	c, applies := changeOf(r.op, view)
	if !applies {
		a.decide(op.Result{N: view, Old: view})
		return
	}
	after, ok := a.change(c, view)
	if !ok {
		a.decide(op.Result{Err: op.NotApplied(op.ErrOverflow)})
		return
	}
	a.decide(op.Result{N: after, Old: view, Applied: true})
	a.flush.failAt.at("lax key: folded")
	a.markDirty()
}

// fold adds increments that nobody waits for.
func (a *laxKey) fold(n int64) {
	if n == 0 {
		return
	}
	if _, ok := a.change(change{add, n}, a.view()); !ok {
		a.flush.observer.MessageRefused(a.key, op.NotApplied(op.ErrOverflow))
		return
	}
	a.flush.failAt.at("lax key: increments folded")
	a.markDirty()
}

// change folds a change into what is open; after is what it makes of the view.
// It reports false, and does nothing, if the result would be no int64.
func (a *laxKey) change(c change, view int64) (after int64, ok bool) {
	after, ok = view, true
	if a.viewKnown() || c.verb == assign {
		after, ok = c.on(view)
	}
	folded, foldable := a.open.then(c)
	if !ok || !foldable {
		return view, false
	}
	a.open = folded
	return after, true
}

// changeOf is the change that an operation makes of a view, and whether it
// applies at all.
func changeOf(o op.Op, view int64) (c change, applies bool) {
	switch o.Kind {
	case op.Inc:
		return change{add, o.N}, o.N != 0
	case op.Dec:
		if n, ok := op.Sub(0, o.N); ok {
			return change{add, n}, o.N != 0
		}
		return change{verb: lift}, true
	case op.Set:
		return change{assign, o.N}, true
	case op.IncIf:
		return change{add, o.N}, o.If.Holds(view)
	case op.SetIf:
		return change{assign, o.N}, o.If.Holds(view)
	default:
		return change{}, false
	}
}

// onRestarting takes up what a panic interrupted: the operation gets its one
// outcome, the coordinator's message is handled to its end.
func (a *laxKey) onRestarting() {
	if r := a.serving; r != nil {
		if a.waiting() > 0 && *a.queues.parked.peek() == any(r) {
			a.queues.parked.pop()
		}
		switch {
		case a.decided:
			r.settle(r.result)
		case !a.holds(r):
			r.claim()
			r.settle(op.Result{Err: op.NotApplied(errPanicked)})
		}
		a.serving = nil
	}
	switch message := a.current.(type) {
	case gather:
		a.onGather(message.slot)
	case settlement:
		a.onSettlement(message.slot)
	}
	a.current = nil
	a.sendNext()
	a.serveParked(false)
}

// holds reports whether a Del is on its way and will be answered by its result.
func (a *laxKey) holds(r *request) bool {
	if a.flight != nil && a.flight.request == r {
		return true
	}
	for _, d := range a.dels() {
		if d.request == r {
			return true
		}
	}
	return false
}
