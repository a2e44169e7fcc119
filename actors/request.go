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
type request struct {
	key string
	op  op.Op

	// parts and results are those of a strict batch call: one script call for
	// all; key and op are then unused.
	parts    []store.KeyOp
	results  []op.Result
	arrivals atomic.Int32 // key actors that the batch has yet to pass

	view    *View    // where a View goes, for the Get that asks for one
	held    bool     // the engine may look at it after it is settled: not to be recycled
	barrier *barrier // set for a Flush's marker, which is no operation

	local  bool // claiming decides it: no Redis between
	state  atomic.Int32
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

// claim takes the request for the engine; false if the caller has withdrawn.
func (r *request) claim() bool { return r.state.CompareAndSwap(queued, claimed) }

// thaw gives a claimed request back to the queue, where it may be withdrawn again.
func (r *request) thaw() { r.state.CompareAndSwap(claimed, queued) }

// foldInto adds next, an increment that nobody waits for, to last, if that is one
// too and still queued; its actor must not be able to see last.
func foldInto(last, next any) bool {
	into, ok := last.(*request)
	r, ok2 := next.(*request)
	if !ok || !ok2 || into.op.Kind != op.Inc || r.op.Kind != op.Inc || into.answered() || r.answered() {
		return false
	}
	sum, ok := op.Add(into.op.N, r.op.N)
	if ok {
		into.op.N = sum
	}
	return ok
}

// settle delivers the outcome of a claimed request.
func (r *request) settle(result op.Result) {
	if r.state.Load() != claimed {
		return
	}
	r.result = result
	r.state.Store(done)
	if r.sender != nil {
		r.respond(r.sender, r.op, result)
	}
	if r.done != nil {
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
	select {
	case <-r.done:
		return r.result, r.held
	default:
	}
	select {
	case <-r.done:
		return r.result, r.held
	case <-ctx.Done():
	}
	if r.state.CompareAndSwap(queued, withdrawn) {
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
