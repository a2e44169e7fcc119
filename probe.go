package distkit

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/distkit/distkit-go/internal/foreign"
	"github.com/distkit/distkit-go/internal/redisio"
	"github.com/distkit/distkit-go/internal/trace"
	"github.com/distkit/distkit-go/internal/verb"
)

// Probe is told what a System does, for metrics and traces: a struct of functions, each
// of which may be nil, like net/http/httptrace.ClientTrace, so that it can grow. The
// module distkit-go/otel has one for OpenTelemetry. Events, and what Stats tells, are not
// told here again.
//
// CallStart and CallEnd run on the caller's goroutine: what they take, the call takes, and
// a panic in them is the caller's. They are told of each call of a Counter that waits for
// an answer, a Windows' and transactions included, of System.Flush, and of no other:
//
//   - LaxCounter.Add, and lax Inc, Dec and Get whose answer is at hand, take tens of
//     nanoseconds, and are not told. Nor is what PIDs are sent.
//   - All, Top, Series and View are not told.
//
// Batch, Flush and Dropped run one at a time and in order on a goroutine that is nobody
// else's. What finds no room among 4,096 that wait is lost to them, and counted by Dropped.
type Probe struct {
	// CallStart is told that a call begins. The call goes on with the context it returns,
	// which CallEnd and Batch are given: the place for a span. Nil stands for ctx.
	CallStart func(ctx context.Context, call Call) context.Context
	// CallEnd is told how it ended.
	CallEnd func(ctx context.Context, call Call, end CallEnd)
	// Batch is told of each attempt to write a batch to Redis, and to read one of strict
	// counters; not of the reads that keep lax views young.
	Batch func(batch Batch)
	// Flush is told of each round of the lax writer: 1,500 counters and as many Dels at
	// most, in several batches. A large flush is several rounds, two of a shard at a time.
	Flush func(round FlushRound)
	// Dropped is told that n of what Batch and Flush should have been told is missing.
	Dropped func(n int)
}

// Call is a call that a Probe is told of.
type Call struct {
	// Kind is "strict" or "lax".
	Kind string
	// Operation is the method in lower case with underscores: "inc", "dec", "get",
	// "lookup", "set", "del", "clear", "inc_if", "set_if", "get_all", "inc_all",
	// "set_all", "inc_all_if", "set_all_if", "del_all", "apply", "outcome" or "flush".
	Operation string
	// Key is the counter's; the zero Key where there are several, or none.
	Key Key
	// Size is how many operations the call is: 1, or those of a batch call, or the steps
	// of a transaction.
	Size int
}

// CallEnd is how a call has ended.
type CallEnd struct {
	Outcome  CallOutcome
	Err      error // what the caller gets; nil where all is well
	Duration time.Duration
	// Batch is the ID of the last batch that a strict call was to travel with; 0 where it
	// came to none, and for lax calls.
	Batch uint64
}

// CallOutcome is what became of a call.
type CallOutcome uint8

// The outcomes of calls.
const (
	// CallApplied: it was carried out; a read was answered. Also where ErrNotReplicated
	// came beside it.
	CallApplied CallOutcome = iota
	// CallConditionFalse: it changed nothing, as its condition did not hold, or none of
	// its conditions did; or it is a transaction of which no step was applied.
	CallConditionFalse
	// CallNotApplied: it failed with ErrNotApplied.
	CallNotApplied
	// CallOutcomeUnknown: it failed with ErrOutcomeUnknown.
	CallOutcomeUnknown
	// CallPartlyApplied: it failed with ErrPartlyApplied.
	CallPartlyApplied
)

// String names the outcome: "applied", "condition_false", "not_applied", "unknown" or
// "partly_applied".
func (o CallOutcome) String() string {
	switch o {
	case CallApplied:
		return "applied"
	case CallConditionFalse:
		return "condition_false"
	case CallNotApplied:
		return "not_applied"
	case CallOutcomeUnknown:
		return "unknown"
	case CallPartlyApplied:
		return "partly_applied"
	default:
		return fmt.Sprintf("CallOutcome(%d)", uint8(o))
	}
}

// Batch is the end of an attempt to write a batch to Redis, or to read one.
type Batch struct {
	// ID names the batch among those of its System. Another attempt has the same.
	ID uint64
	// Kind is "strict" or "lax".
	Kind string
	// Reads: it changes nothing.
	Reads bool
	// Size is how many operations it has.
	Size int
	// Attempt is 1 for the first one.
	Attempt int
	// Resend: an earlier attempt went without an answer, and may have been applied. Redis
	// applies the batch once.
	Resend bool
	// End is what the attempt has left open; Err why, where Redis has not answered.
	End BatchEnd
	Err error
	// Start and Duration are of the attempt. Batches of one flush round are in Redis at a
	// time and have the same.
	Start    time.Time
	Duration time.Duration
	// Calls are the contexts that CallStart has made for calls in it; those for which it
	// returned the context that it was given are left out. Empty for lax batches: a lax
	// call does not wait for its batch.
	Calls []context.Context
}

// BatchEnd says what an attempt at a batch leaves open.
type BatchEnd uint8

// The ends of batches.
const (
	// BatchAnswered: Redis has carried it out, but for operations that fail by themselves.
	BatchAnswered BatchEnd = iota
	// BatchUnknown: there was no answer. Redis may have applied it; it is sent again.
	BatchUnknown
	// BatchUnreachable: Redis could not be reached, is starting, failing over or busy.
	BatchUnreachable
	// BatchRefused: Redis refuses it: permissions, memory, disk, or a slot on the move.
	BatchRefused
	// BatchClosed: the client was closed.
	BatchClosed
	// BatchPrepared: Redis has answered what comes before the batch, which goes at once:
	// its ledger was opened or fenced, or Redis did not know the script.
	BatchPrepared
)

// String names the end: "answered", "unknown", "unreachable", "refused", "closed" or
// "prepared".
func (e BatchEnd) String() string {
	switch e {
	case BatchAnswered:
		return "answered"
	case BatchUnknown:
		return "unknown"
	case BatchUnreachable:
		return "unreachable"
	case BatchRefused:
		return "refused"
	case BatchClosed:
		return "closed"
	case BatchPrepared:
		return "prepared"
	default:
		return fmt.Sprintf("BatchEnd(%d)", uint8(e))
	}
}

func endOf(class redisio.Class, status redisio.Status) BatchEnd {
	switch class {
	case redisio.Answered:
		if status != redisio.Done {
			return BatchPrepared
		}
		return BatchAnswered
	case redisio.Unknown:
		return BatchUnknown
	case redisio.NotYet:
		return BatchUnreachable
	case redisio.Refused, redisio.Full, redisio.Moving:
		return BatchRefused
	case redisio.Closed:
		return BatchClosed
	case redisio.NoScript:
		return BatchPrepared
	}
	return BatchUnknown
}

// FlushRound is a round of the lax writer that has ended: all its batches are answered.
type FlushRound struct {
	// Keys is how many counters were asked for what they have.
	Keys int
	// Batches is how many it took; 0 where there was nothing to write.
	Batches int
	// Start and Duration are from the tick to the last answer, outages included.
	Start    time.Time
	Duration time.Duration
	// ViewAge is how old the oldest of the views had become at the end that callers had
	// needed since the flush before, and that its totals make young: what Get, Inc and
	// View told of counters that change here came from views no older. 0 where nobody had
	// needed any. Views of counters that only others change are read, and are not told.
	ViewAge time.Duration
}

// WithProbe has the System tell a Probe what it does. Default: nobody is told, at no cost.
func WithProbe(probe Probe) Option { return func(o *options) { o.probe = &probe } }

// probe is a user's Probe at work.
type probe struct {
	Probe
	queue *foreign.Queue[any] // Batch, FlushRound, dropped
}

// dropped is a number of missing records.
type dropped int

// maxTold bounds what waits for a slow Probe.
const maxTold = 4096

func newProbe(user *Probe) *probe {
	if user == nil {
		return nil
	}
	p := &probe{Probe: *user}
	p.queue = foreign.NewQueue(p.tell, maxTold, func(n int) any { return dropped(n) })
	return p
}

// tell hands a record to the user's Probe, on a goroutine of its own.
func (p *probe) tell(record any) {
	switch record := record.(type) {
	case Batch:
		p.Batch(record)
	case FlushRound:
		p.Flush(record)
	case dropped:
		if p.Dropped != nil {
			p.Dropped(int(record))
		}
	}
}

// watcher is what the engine tells; nil if there is nobody to tell it to.
func (p *probe) watcher() *trace.Watcher {
	if p == nil {
		return nil
	}
	w := &trace.Watcher{Attempted: func(trace.Attempt) {}, Rounded: func(trace.Round) {}}
	if p.Batch != nil {
		w.Attempted = func(a trace.Attempt) {
			p.queue.Put(Batch{a.ID, a.Kind, a.Reads, a.Size, a.Number, a.Resend, endOf(a.Class, a.Status), a.Err, a.Start, a.Duration, a.Calls})
		}
	}
	if p.Flush != nil {
		w.Rounded = func(r trace.Round) { p.queue.Put(FlushRound(r)) }
	}
	return w
}

// wait returns when the Probe has been told everything, or ctx ends.
func (p *probe) wait(ctx context.Context) {
	if p != nil {
		p.queue.Wait(ctx)
	}
}

// probing is a call that a Probe is told of; nil if it is not.
type probing struct {
	probe *probe
	call  Call
	trip  trace.Trip
	start time.Time
}

// begin tells the System's Probe that a call begins, and returns the
// context that it goes on with.
func (s *System) begin(ctx context.Context, call Call) (context.Context, *probing) {
	if ctx == nil { // which the call will say
		return ctx, nil
	}
	p := probings.Get().(*probing)
	p.probe, p.call, p.start = s.probe, call, time.Now()
	p.trip.Context = ctx
	if s.probe.CallStart != nil {
		if own := s.probe.CallStart(ctx, call); own != nil && own != ctx {
			p.trip.Context, p.trip.Follow = own, s.probe.Batch != nil
		}
	}
	return &p.trip, p
}

// tellsCalls reports whether the Probe is to be told of calls.
func (p *probe) tellsCalls() bool { return p != nil && (p.CallStart != nil || p.CallEnd != nil) }

var probings = sync.Pool{New: func() any { return new(probing) }}

// recycle gives back what nobody looks at any more.
func (p *probing) recycle() {
	if p != nil {
		p.probe, p.call, p.start = nil, Call{}, time.Time{}
		p.trip.Reset()
		probings.Put(p)
	}
}

// end tells the Probe how the call has ended; changed is whether one without an error did
// what it was to do.
func (p *probing) end(changed bool, err error) {
	if p == nil || p.probe.CallEnd == nil {
		return
	}
	p.probe.CallEnd(p.trip.Context, p.call, CallEnd{
		Outcome: outcomeOf(changed, err), Err: err, Duration: time.Since(p.start), Batch: p.trip.Batch(),
	})
}

// outcomeOf is what became of a call.
func outcomeOf(changed bool, err error) CallOutcome {
	switch {
	case errors.Is(err, ErrOutcomeUnknown):
		return CallOutcomeUnknown
	case errors.Is(err, ErrPartlyApplied):
		return CallPartlyApplied
	case err != nil && !errors.Is(err, ErrNotReplicated):
		return CallNotApplied
	case !changed:
		return CallConditionFalse
	}
	return CallApplied
}

// operation names the method of a kind; several says that it is the batch method.
func operation(kind verb.Kind, several bool) string {
	name := ""
	switch kind {
	case verb.Get:
		name = "get"
	case verb.Inc:
		name = "inc"
	case verb.Dec:
		name = "dec"
	case verb.Set:
		name = "set"
	case verb.Del:
		name = "del"
	case verb.IncIf:
		name = "inc_if"
	case verb.SetIf:
		name = "set_if"
	case verb.Clear:
		name = "clear"
	case verb.Apply:
		name = "apply"
	case verb.Recall:
		name = "outcome"
	case verb.None:
	}
	switch {
	case !several:
		return name
	case kind.Conditional():
		return name[:3] + "_all_if"
	default:
		return name + "_all"
	}
}
