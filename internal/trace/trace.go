// Package trace is what the engine tells of its work to somebody who watches: which
// batches and rounds there were, and which batch a call travelled with. Where nobody
// watches the Watcher is nil, and the engine asks no clock.
package trace

import (
	"context"
	"sync/atomic"
	"time"

	"github.com/distkit/distkit-go/internal/redisio"
)

// Trip is a call on its way whose caller is watched. It is the context that the call
// goes through the engine with.
type Trip struct {
	context.Context
	// Follow: the batch is to be told of the context.
	Follow bool
	batch  atomic.Uint64
}

// Of is the trip that a call's context is; nil if it is none.
func Of(ctx context.Context) *Trip {
	t, _ := ctx.(*Trip)
	return t
}

// Batch is the last batch that the call was to travel with; 0 if it came to none.
func (t *Trip) Batch() uint64 { return t.batch.Load() }

// Reset makes the trip ready for another call.
func (t *Trip) Reset() {
	t.Context, t.Follow = nil, false
	t.batch.Store(0)
}

// Board notes a batch that the call is to travel with. A call that is not watched has no
// trip.
func (t *Trip) Board(batch uint64) {
	if t != nil {
		t.batch.Store(batch)
	}
}

// Attempt is the end of an attempt at a batch.
type Attempt struct {
	ID       uint64 // the batch's
	Kind     string // the writer's
	Reads    bool   // it changes nothing
	Size     int    // operations
	Number   int    // which attempt at this batch: 1, 2, …
	Resend   bool   // an earlier one may have been applied
	Class    redisio.Class
	Status   redisio.Status
	Err      error // the cause, where Class is not Answered
	Start    time.Time
	Duration time.Duration
	Calls    []context.Context // of the trips that are to be followed
}

// Round is the end of a round of a flush.
type Round struct {
	Keys     int // counters, Dels included
	Batches  int
	Start    time.Time
	Duration time.Duration
	ViewAge  time.Duration // of the oldest view in use that it made young; 0: of none
}

// Watcher is told by writers, on their goroutines: it must not block. Nil watches
// nothing.
type Watcher struct {
	Attempted func(Attempt)
	Rounded   func(Round)
	last      atomic.Uint64
}

// Number is a number for a batch, which no other of the watcher's has; 0 where nobody
// watches.
func (w *Watcher) Number() uint64 {
	if w == nil {
		return 0
	}
	return w.last.Add(1)
}

// Begin is the time at which something begins that is to be told; zero where nobody
// watches.
func (w *Watcher) Begin() time.Time {
	if w == nil {
		return time.Time{}
	}
	return time.Now()
}
