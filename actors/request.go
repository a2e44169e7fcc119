package actors

import (
	"context"
	"sync"
	"sync/atomic"

	"github.com/asynkron/protoactor-go/actor"
	"github.com/distkit/distkit-go/internal/op"
	"github.com/distkit/distkit-go/internal/store"
)

// request is one operation on its way, and the place where its one outcome is
// decided. Whoever moves the state out of queued decides: the caller to
// withdrawn (its context ended: not applied), the engine to claimed.
//
//	queued ──► claimed ──► done        the engine took it and answered
//	   ▲          │
//	   └── thaw ──┘                    a strict batch that surely was not applied
//	queued ──► withdrawn               the caller gave up first
//
// A caller that gives up on a claimed request tells "unknown" and leaves the
// request to the engine, which never recycles one that somebody else may hold.
//
// A caller whose operation was decided on its own goroutine, before it began to
// wait, just finds it done. Otherwise it adds the mark waited to the state, and
// only then whoever settles the request touches it once more, to send to done.
type request struct {
	key string
	op  op.Op

	// parts and results are those of a strict batch call: one script call for
	// all; key and op are then unused.
	parts    []store.KeyOp
	results  []op.Result
	arrivals atomic.Int32 // key actors that the batch has yet to pass

	view   *View         // where a View goes, for the Get that asks for one
	held   bool          // the engine may look at it after it is settled: not to be recycled
	local  bool          // claiming decides it: no Redis between
	state  atomic.Int32  // one of those below, perhaps with waited
	done   chan struct{} // nil where nobody waits; capacity 1
	result op.Result     // valid once state is done

	sender  *actor.PID // a Proto.Actor sender to answer, or nil
	respond func(*actor.PID, op.Op, op.Result)
}

const (
	queued int32 = iota
	claimed
	done
	withdrawn

	waited int32 = 1 << 3 // the caller waits at the channel
)

var requests = sync.Pool{New: func() any { return &request{done: make(chan struct{}, 1)} }}

// newCall returns a request somebody waits for.
func newCall(key string, o op.Op) *request {
	r := requests.Get().(*request)
	r.key, r.op = key, o
	return r
}

// newBatch returns a strict batch call somebody waits for. Several mailboxes
// hold it at once, so it is never recycled.
func newBatch(parts []store.KeyOp) *request {
	return &request{parts: parts, done: make(chan struct{}, 1)}
}

// recycle gives back a call whose outcome its waiter has received.
func (r *request) recycle() {
	*r = request{done: r.done}
	requests.Put(r)
}

// answered reports whether anybody learns the outcome.
func (r *request) answered() bool { return r.done != nil || r.sender != nil }

// size is how many operations the request is.
func (r *request) size() int { return max(1, len(r.parts)) }

// is reports whether the request is in a state.
func (r *request) is(state int32) bool { return r.state.Load()&^waited == state }

// move goes from one state to another; false if it was not in the first.
func (r *request) move(from, to int32) bool {
	for {
		mark := r.state.Load()
		if mark&^waited != from {
			return false
		}
		if r.state.CompareAndSwap(mark, to|mark&waited) {
			return true
		}
	}
}

// claim takes the request for the engine; false if the caller has withdrawn.
func (r *request) claim() bool { return r.move(queued, claimed) }

// thaw gives a claimed request back to the queue, where it may be withdrawn again.
func (r *request) thaw() { r.move(claimed, queued) }

// settle delivers the outcome of a claimed request.
func (r *request) settle(result op.Result) {
	if !r.is(claimed) {
		return
	}
	r.result = result
	if r.sender != nil {
		r.respond(r.sender, r.op, result)
	}
	if r.state.Swap(done)&waited != 0 {
		r.done <- struct{}{}
	}
}

// fail claims and settles a request with an error, unless it is decided already.
func (r *request) fail(err error) {
	if r.claim() {
		r.settle(op.Result{Err: err})
	}
}

// await waits for the outcome. trouble gives what Redis last said, as a hint
// for the reader of a timeout. kept reports that the engine may still hold the
// request, which must then not be recycled.
func (r *request) await(ctx context.Context, trouble func() error) (result op.Result, kept bool) {
	for {
		state := r.state.Load()
		if state == done {
			return r.result, r.held
		}
		if r.state.CompareAndSwap(state, state|waited) {
			break
		}
	}
	ended := ctx.Done()
	if ended == nil { // half the cost of a select
		<-r.done
		return r.result, r.held
	}
	select {
	case <-r.done:
		return r.result, r.held
	case <-ended:
	}
	if r.move(queued, withdrawn) {
		return op.Result{Err: op.NotApplied(op.Hint(ctx.Err(), trouble()))}, true
	}
	if r.local {
		<-r.done // it is being decided as we look, without Redis
		return r.result, r.held
	}
	select {
	case <-r.done: // decided while we turned to leave
		return r.result, r.held
	default:
		return op.Result{Err: op.Unknown(op.Hint(ctx.Err(), trouble()))}, true
	}
}
