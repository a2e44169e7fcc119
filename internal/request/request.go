// Package request is an operation on its way through the engine, and the place
// where its one outcome is decided.
//
// Whoever moves the state out of queued decides: the caller to withdrawn (its
// context ended: not applied), the engine to claimed.
//
//	queued ──► claimed ──► done        the engine took it and answered
//	   ▲          │
//	   └── thaw ──┘                    a strict batch that surely was not applied
//	queued ──► withdrawn               the caller gave up first
//
// A caller that gives up on a claimed request tells "unknown" and leaves the
// request to the engine, which never recycles one that somebody else may hold.
//
// A caller may be lent an attempt at sending its operation, before it waits: the mark lent.
//
// A caller whose operation was decided on its own goroutine, before it began to
// wait, just finds it done. Otherwise it adds the mark waited to the state, and
// only then whoever settles the request touches it once more, to send to done.
package request

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"github.com/distkit/distkit-go/internal/limit"
	"github.com/distkit/distkit-go/internal/trace"
	"github.com/distkit/distkit-go/internal/verb"
)

// The causes of outcomes that the engine decides by itself.
var (
	ErrPanicked = errors.New("distkit: the counter's actor panicked while handling the operation")
	ErrStopped  = errors.New("distkit: the system was shut down before Redis answered")
)

// Request is one operation on its way.
type Request struct {
	Key string
	Op  verb.Op

	// Parts and Results are those of a strict batch call: one script call for
	// all; Key and Op are then unused.
	Parts    []verb.Keyed
	Results  []verb.Result
	arrivals atomic.Int32 // key actors that the batch has yet to pass

	View    *View          // where a View goes, for the Get that asks for one
	Pending *limit.Pending // counts it until it is settled; nil if it does not count
	Trip    *trace.Trip    // of a strict call that is watched, or nil
	Turn    uint64         // its place among those that wait for the strict writer
	Held    bool           // the engine may look at it after it is settled: not to be recycled
	Local   bool           // claiming decides it: no Redis between
	Lends   bool           // its caller can carry what goes to Redis

	state  atomic.Int32               // one of those below, perhaps with waited
	done   chan struct{}              // nil where nobody waits; capacity 1
	result verb.Result                // valid once state is done
	load   Load                       // lent to the caller
	reply  func(verb.Op, verb.Result) // answers a sender that is no caller, or nil
}

const (
	queued int32 = iota
	claimed
	done
	withdrawn

	waited int32 = 1 << 3 // the caller waits at the channel
	lent   int32 = 1 << 4 // the caller is to carry what it was lent before it waits
	marks        = waited | lent
)

// Load is what a caller may be lent: an attempt to make on its own goroutine, which ends
// soon after ctx does.
type Load interface{ Carry(ctx context.Context) }

var requests = sync.Pool{New: func() any { return &Request{done: make(chan struct{}, 1)} }}

// View is what a lax key knows: the value, the part of it that Redis does not
// have yet, and the age of the rest.
type View struct {
	N, Pending int64
	Age        time.Duration
}

// Call returns a request that somebody waits for.
func Call(key string, o verb.Op) *Request {
	r := requests.Get().(*Request)
	r.Key, r.Op = key, o
	return r
}

// Batch returns a strict batch call that somebody waits for, and that passes so
// many key actors and its maker. Several mailboxes hold it at once, so it is never
// recycled.
func Batch(parts []verb.Keyed, actors int) *Request {
	r := &Request{Parts: parts, done: make(chan struct{}, 1)}
	r.arrivals.Store(int32(actors) + 1)
	return r
}

// Message returns a request that nobody waits for. It is pending until it is settled.
func Message(key string, o verb.Op, pending *limit.Pending) *Request {
	pending.Add(1)
	return &Request{Key: key, Op: o, Pending: pending}
}

// Asked returns a request whose outcome goes to reply, which must not block. Nobody is
// held up while it waits, so it is pending until it is settled.
func Asked(key string, o verb.Op, pending *limit.Pending, reply func(verb.Op, verb.Result)) *Request {
	pending.Add(1)
	return &Request{Key: key, Op: o, Pending: pending, reply: reply}
}

// Clear returns a request to delete a container, that somebody waits for.
func Clear() *Request {
	return &Request{Op: verb.Op{Kind: verb.Clear}, done: make(chan struct{}, 1)}
}

// Arrive counts an actor that the request has passed, and reports whether it was
// the last: at once for one that is no batch call.
func (r *Request) Arrive() bool { return r.Parts == nil || r.arrivals.Add(-1) == 0 }

// Recycle gives back a call whose outcome its waiter has received.
func (r *Request) Recycle() {
	*r = Request{done: r.done}
	requests.Put(r)
}

// Answered reports whether anybody learns the outcome.
func (r *Request) Answered() bool { return r.done != nil || r.reply != nil }

// Asked reports whether its outcome goes to somebody who is not held up meanwhile.
func (r *Request) Asked() bool { return r.reply != nil }

// Size is how many operations the request is.
func (r *Request) Size() int { return max(1, len(r.Parts)) }

// Clears reports whether the request is to delete a container.
func (r *Request) Clears() bool { return len(r.Parts) == 1 && r.Parts[0].Kind == verb.Clear }

// Recalls reports whether it asks for the outcome of a transaction.
func (r *Request) Recalls() bool { return len(r.Parts) == 1 && r.Parts[0].Kind == verb.Recall }

// Remembered reports whether it is a transaction whose outcome is kept.
func (r *Request) Remembered() bool {
	return len(r.Parts) > 0 && r.Parts[0].Kind == verb.Apply && r.Parts[0].Tx.ID != ""
}

// is reports whether the request is in a state.
func (r *Request) is(state int32) bool { return r.state.Load()&^marks == state }

// Withdrawn reports whether its caller gave up before anything was decided.
func (r *Request) Withdrawn() bool { return r.is(withdrawn) }

// Claimed reports whether the engine has taken it and not yet answered.
func (r *Request) Claimed() bool { return r.is(claimed) }

// Decide notes the outcome of a claimed request, for Answer to deliver.
func (r *Request) Decide(result verb.Result) { r.result = result }

// Answer delivers the outcome noted by Decide.
func (r *Request) Answer() {
	if r.is(claimed) {
		r.deliver()
	}
}

// Outcome is what was noted, or delivered.
func (r *Request) Outcome() verb.Result { return r.result }

// move goes from one state to another; false if it was not in the first.
func (r *Request) move(from, to int32) bool {
	for {
		mark := r.state.Load()
		if mark&^marks != from {
			return false
		}
		if r.state.CompareAndSwap(mark, to|mark&marks) {
			return true
		}
	}
}

// Claim takes the request for the engine; false if the caller has withdrawn.
func (r *Request) Claim() bool { return r.move(queued, claimed) }

// Thaw gives a claimed request back to the queue, where it may be withdrawn again.
func (r *Request) Thaw() { r.move(claimed, queued) }

// Settle delivers the outcome of a claimed request.
func (r *Request) Settle(result verb.Result) {
	if !r.is(claimed) {
		return
	}
	r.result = result
	r.deliver()
}

// Drop lets go of a message that has come to nothing, or is carried on as something else.
func (r *Request) Drop() {
	if r.Pending != nil {
		r.Pending.Add(-1)
		r.Pending = nil
	}
}

func (r *Request) deliver() {
	r.Drop()
	if r.reply != nil {
		r.reply(r.Op, r.result)
	}
	if r.state.Swap(done)&waited != 0 {
		r.done <- struct{}{}
	}
}

// Lend has the caller carry a load, once and unless it waits already; false if it does
// not.
func (r *Request) Lend(load Load) bool {
	if !r.Lends {
		return false
	}
	r.Lends, r.load = false, load
	return r.state.CompareAndSwap(queued, queued|lent)
}

// Fail claims and settles a request with an error, unless it is decided already.
func (r *Request) Fail(err error) {
	if r.Claim() {
		r.Settle(verb.Result{Err: err})
	}
}

// Await waits for the outcome. trouble gives what Redis last said, as a hint
// for the reader of a timeout. kept reports that the engine may still hold the
// request, which must then not be recycled.
func (r *Request) Await(ctx context.Context, trouble func() error) (result verb.Result, kept bool) {
	for {
		state := r.state.Load()
		if state == done {
			return r.result, r.Held
		}
		if state&lent != 0 {
			if r.state.CompareAndSwap(state, state&^lent) {
				r.load.Carry(ctx)
			}
			continue
		}
		if r.state.CompareAndSwap(state, state|waited) {
			break
		}
	}
	ended := ctx.Done()
	if ended == nil { // half the cost of a select
		<-r.done
		return r.result, r.Held
	}
	select {
	case <-r.done:
		return r.result, r.Held
	case <-ended:
	}
	if r.move(queued, withdrawn) {
		return verb.Result{Err: verb.NotApplied(verb.Hint(ctx.Err(), trouble()))}, true
	}
	if r.Local {
		<-r.done // it is being decided as we look, without Redis
		return r.result, r.Held
	}
	select {
	case <-r.done: // decided while we turned to leave
		return r.result, r.Held
	default:
		return verb.Result{Err: verb.Unknown(verb.Hint(ctx.Err(), trouble()))}, true
	}
}
