package lax

import (
	"fmt"
	"sync/atomic"
	"time"

	"github.com/distkit/distkit-go/actors/internal/refresh"
	"github.com/distkit/distkit-go/internal/barrier"
	"github.com/distkit/distkit-go/internal/fold"
	"github.com/distkit/distkit-go/internal/host"
	"github.com/distkit/distkit-go/internal/request"
	"github.com/distkit/distkit-go/internal/verb"
)

// The key: it answers from what it last saw of Redis plus what it has not yet
// written, and hands its changes to the flush coordinator.
//
//	remote ─► flight ─► dels… ─► open        view = all of them, in this order
//	(Redis)  (frozen)  (unsent)  (folding)
//
// Invariants:
//   - Only flight is at the coordinator; what comes after waits until it has
//     landed, so the order of the key's changes is kept under failure.
//   - remote changes by flight's own result, or by a read between whose question
//     and answer nothing was in flight: others may not know of the change. So
//     while flight is under way its result is waited for, not a read. What came
//     before what is told by steps (refresh), not by the clock.
//   - A key that is only added to asks for the total of its changes once in a
//     while (silent): remote follows from them, and grows old.
//   - An operation that has to wait for a read parks, and all later ones of
//     the key park behind it.
//   - The mailbox may keep increments to itself (lazy) just as long as a gather
//     or a landing is on its way to the key.
//   - Between two messages the mailbox may have the view: what it answers, the actor
//     would have answered.
//   - What a panic interrupts is taken up by onRestarting: current and serving
//     say what it was.

// key is a lax counter at work. Only its actor touches it, but for the mailbox and
// where a field says otherwise.
type key struct {
	host.Key
	at *coordinator

	known   bool          // remote and exists have been read
	exists  bool          // there was a counter in Redis when remote was seen
	dirty   bool          // the coordinator knows that open has something
	asked   bool          // a read is owed to us
	wanted  bool          // somebody has needed the view since the last flight took off
	decided bool          // serving has taken effect, with the outcome in it
	lands   bool          // current has landed, else it is to be gathered
	remote  int64         // the last total seen in Redis, 0 where there is none
	seen    time.Duration // when, by the clock
	flown   time.Duration // when flight was gathered
	landed  uint64        // the step at which the last flight's result came

	listed  atomic.Uint64 // the coordinator's epoch when the key last became dirty
	counted atomic.Bool   // it counts as pending: it has what Redis does not have
	used    atomic.Bool   // the actor answered a call from the view since that was last asked
	until   atomic.Int64  // to when the view that the mailbox has may be told, by the clock

	flight *mutation        // frozen, at the coordinator
	open   fold.Change      // nothing, or a change that later ones fold into
	behind *barrier.Barrier // the Flush that waits for open
	queues *queues          // what else waits; nil if nothing

	current *slot            // of the coordinator's message being handled
	serving *request.Request // the operation being served
}

// queues are what a lax key holds at times only.
type queues struct {
	dels    []*mutation    // Dels that wait for flight to land
	parked  host.Fifo[any] // *Request, *Increments and *Barrier that wait for a read, in order
	left    int            // callers that have withdrawn since parked was last looked through
	refused error          // why Redis refused a change, for the next reply
	wiping  *mutation      // a Clear under way whose place as flight a Del has

	forgotten []barrier.Unflushed // set aside, for the next Flush that comes

	patience *refresh.Patience // ends the wait of the parked for flight's result
}

// mutation is a change of one lax counter that Redis does not have yet, frozen.
type mutation struct {
	fold.Change

	dropped   fold.Changes       // of a Del or Clear: what was pending
	unserved  []*request.Request // of a Clear: what nobody waits for, and had not been decided
	request   *request.Request   // the Del to answer
	barrier   *barrier.Barrier   // the Flush that waits for it
	ambiguous bool               // Redis may have it; decided only when everything has stopped
	silent    bool               // the total that it makes is not needed
}

// pass lets the Flush pass that waits for the mutation: refused is what of it is
// not in Redis, or nil.
func (m *mutation) pass(refused *barrier.Unflushed) {
	m.barrier.Pass(refused)
	m.barrier = nil
}

// more are the key's queues, where there have been none so far.
func (k *key) more() *queues {
	if k.queues == nil {
		k.queues = new(queues)
	}
	return k.queues
}

// trim lets go of queues, which there are, if they hold nothing.
func (k *key) trim() {
	q := k.queues
	if q.parked.Len() == 0 {
		k.endPatience()
	}
	if len(q.dels) == 0 && q.parked.Len() == 0 && q.refused == nil && q.wiping == nil && q.forgotten == nil {
		k.queues = nil
	}
}

// dels are the Dels that wait for flight to land.
func (k *key) dels() []*mutation {
	if k.queues == nil {
		return nil
	}
	return k.queues.dels
}

// waiting is how many operations are parked.
func (k *key) waiting() int {
	if k.queues == nil {
		return 0
	}
	return k.queues.parked.Len()
}

// Quiet implements host.Cell.
func (k *key) Quiet() bool {
	return k.flight == nil && k.open.Kind == fold.Nothing && k.queues == nil && !k.dirty && !k.asked
}

// nudge tells a key that a caller has withdrawn.
type nudge struct{}

// Receive implements host.Receiver.
func (k *key) Receive(message any) {
	k.Box.Retract()
	switch message := message.(type) {
	case *request.Request:
		k.onMessage(message)
	case *barrier.Barrier:
		k.onMessage(message)
	case host.Folded:
		k.onFolded()
	case gather:
		k.current, k.lands = message.slot, false
		k.onGather(message.slot)
		k.current = nil
	case landing:
		k.current, k.lands = message.slot, true
		k.onLanding(message.slot)
		k.current = nil
	case askedFor:
		k.onSeen(message.Answer, true)
	case readAhead:
		k.onSeen(message.Answer, false)
	case proceed:
		k.serveParked(true)
	case impatient:
		k.onImpatient(message.Patience)
	case nudge:
		k.onNudge()
	case host.Restarting:
		k.onRestarting()
	}
	if k.queues != nil {
		k.trim()
	}
	k.count()
	k.publish()
}

// count has the key count as pending while it has changes that Redis does not have.
func (k *key) count() {
	pending := k.flight != nil || k.open.Kind != fold.Nothing || len(k.dels()) > 0
	switch {
	case pending == k.counted.Load():
		return
	case pending:
		k.at.pending.Add(1)
	default:
		k.at.pending.Add(-1)
	}
	k.counted.Store(pending)
}

// onMessage handles what has its place in the key's order.
func (k *key) onMessage(message any) {
	if k.waiting() > 0 || !k.handle(message, false) {
		k.park(message)
	}
}

// park has a message wait, but not one whose sender goes on meanwhile if too much is
// pending.
func (k *key) park(message any) {
	if r, ok := message.(*request.Request); ok && r.Asked() && k.at.pending.Full() {
		r.Fail(verb.NotApplied(verb.ErrOverloaded))
		return
	}
	k.more().parked.Push(message)
}

// onFolded takes the increments that the mailbox holds. Parked ones fold too,
// so that parking costs memory by the callers, not by the messages.
func (k *key) onFolded() {
	k.at.failAt.At("lax key: folding")
	n := k.Box.Take()
	if k.waiting() == 0 {
		k.fold(n)
		return
	}
	parked := &k.queues.parked
	if last, ok := (*parked.Last()).(*host.Increments); !ok || !host.FoldInto(&last.N, n) {
		parked.Push(&host.Increments{N: n})
	}
}

// handle deals with a message, or reports false if it has to wait for a read.
func (k *key) handle(message any, anyAge bool) bool {
	switch m := message.(type) {
	case *request.Request:
		return m.Withdrawn() || k.serve(m, anyAge)
	case *host.Increments:
		n := m.N
		m.N = 0 // should a panic bring it here again
		k.fold(n)
	case *barrier.Barrier:
		k.attach(m)
	}
	return true
}

// serve answers a request, or reports false if it has to wait for a read.
func (k *key) serve(r *request.Request, anyAge bool) bool {
	needsView := k.needsView(r)
	k.wanted = k.wanted || r.View != nil || needsView
	if needsView {
		if !k.viewServes(anyAge || r.View != nil) {
			return false
		}
		if !k.used.Load() {
			k.used.Store(true)
		}
	}
	k.serving, k.decided = r, false
	k.at.failAt.At("lax key: serving")
	if r.Claim() {
		k.at.failAt.At("lax key: claimed")
		switch {
		case r.View != nil:
			*r.View = k.look()
			k.decide(verb.Result{})
		case k.queues != nil && k.queues.refused != nil && r.Answered():
			k.decide(verb.Result{Err: verb.NotApplied(k.queues.refused)})
			k.queues.refused = nil
		case needsView && k.stale():
			k.decide(verb.Result{Err: verb.NotApplied(k.staleness())})
		case r.Op.Kind == verb.Del:
			k.del(r)
			k.at.failAt.At("lax key: del queued")
			k.serving = nil
			return true
		default:
			k.apply(r)
		}
		k.at.failAt.At("lax key: decided")
		k.answer()
	}
	k.serving = nil
	return true
}

// stale reports whether the view is older than the user allows.
func (k *key) stale() bool {
	limit := k.at.maxStaleness
	return limit > 0 && k.viewFromRemote() && k.at.clock.Age(k.seen) > limit
}

func (k *key) staleness() error {
	err := fmt.Errorf("%w: seen %v ago, allowed are %v", verb.ErrStale, k.at.clock.Age(k.seen).Round(time.Millisecond), k.at.maxStaleness)
	return verb.Hint(err, k.at.lastTrouble())
}

// decide notes the outcome of the operation being served.
func (k *key) decide(result verb.Result) {
	k.decided = true
	k.serving.Decide(result)
}

// answer delivers the outcome. A failure that nobody waits for is reported.
func (k *key) answer() {
	if err := k.serving.Outcome().Err; err != nil && !k.serving.Answered() {
		k.at.observer.MessageRefused(k.at.window, k.Name, err)
	}
	k.serving.Answer()
}

// needsView reports whether the answer, or the decision, needs a value of Redis.
func (k *key) needsView(r *request.Request) bool {
	switch r.Op.Kind {
	case verb.Set, verb.Del:
		return false
	case verb.Get, verb.Inc, verb.Dec:
		return r.Answered()
	case verb.IncIf, verb.SetIf, verb.Clear, verb.Apply, verb.Recall, verb.None:
	}
	return true
}

// apply carries out an operation on the view.
func (k *key) apply(r *request.Request) {
	view, exists := k.view(), k.viewExists()
	c, applies := fold.Of(r.Op, view, exists)
	if !applies {
		k.decide(verb.Result{N: view, Old: view, Absent: r.Op.Kind.Reads() && !exists})
		return
	}
	after, ok := k.change(c, view)
	if !ok {
		k.decide(verb.Result{Err: verb.NotApplied(verb.ErrOverflow)})
		return
	}
	k.decide(verb.Result{N: after, Old: view, Applied: true})
	k.at.failAt.At("lax key: folded")
	k.markDirty(false)
}

// fold adds increments that nobody waits for. If they come to 0, they make a counter
// all the same.
func (k *key) fold(n int64) {
	if n == 0 && k.viewExists() {
		return
	}
	c := fold.Change{Kind: fold.Add, N: n}
	if _, ok := k.change(c, k.view()); !ok { // it was accepted: a Flush is to tell of it
		err := verb.NotApplied(verb.ErrOverflow)
		k.remember(k.unflushed(c, err))
		k.at.observer.ChangeRefused(k.at.window, k.Name, n, false, err)
		return
	}
	k.at.failAt.At("lax key: increments folded")
	k.markDirty(false)
}

// change folds a change into what is open; after is what it makes of the view.
// It reports false, and does nothing, if the result would be no int64.
func (k *key) change(c fold.Change, view int64) (after int64, ok bool) {
	after, ok = view, true
	if k.viewKnown() || c.Kind == fold.Assign {
		after, ok = c.On(view)
	}
	folded, foldable := k.open.Then(c)
	if !ok || !foldable {
		return view, false
	}
	k.open = folded
	return after, true
}

// onRestarting takes up what a panic interrupted: the operation gets its one
// outcome, the coordinator's message is handled to its end.
func (k *key) onRestarting() {
	k.endServing()
	switch {
	case k.current == nil:
	case k.lands:
		k.onLanding(k.current)
	default:
		k.onGather(k.current)
	}
	k.current = nil
	k.sendNext(false)
	k.serveParked(false)
}

// endServing gives the operation that a panic interrupted its outcome.
func (k *key) endServing() {
	r := k.serving
	if r == nil {
		return
	}
	if k.waiting() > 0 && *k.queues.parked.Peek() == any(r) {
		k.queues.parked.Pop()
	}
	switch {
	case k.decided:
		r.Answer()
	case !k.underWay(r) && (r.Claim() || r.Claimed()):
		k.decide(verb.Result{Err: verb.NotApplied(request.ErrPanicked)})
		k.answer()
	}
	k.serving = nil
}

// underWay reports whether a Del is on its way and will be answered by its result.
func (k *key) underWay(r *request.Request) bool {
	if k.flight != nil && k.flight.request == r {
		return true
	}
	for _, d := range k.dels() {
		if d.request == r {
			return true
		}
	}
	return false
}
