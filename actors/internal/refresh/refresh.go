// Package refresh keeps the views of lax keys young: it reads for keys that have
// to wait for a value, reads ahead for those in use, and says when Redis counts as
// away, so that nobody waits for it.
//
//	asked ─► trip: (sent ─► returned)… ─► answered
//
// All that keys ask for while a trip is under way travels as the next. A trip has a
// connection of its own and waits for no flush: somebody waits for it, for
// RefreshWait at most. Then Redis counts as away, and keys answer from the views
// that they have, until it has answered somebody.
//
// Invariants:
//   - Only this package says whether Redis is away.
//   - One trip is under way at most, of at most maxTrip keys that asked.
//   - A trip that failed goes again until there is an answer, even if nobody waits
//     for it: Redis is away until then.
//
// A Refresher belongs to the flush coordinator's actor; Ask, Away and GiveUp are for
// keys.
package refresh

import (
	"context"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/distkit/distkit-go/internal/ledger"
	"github.com/distkit/distkit-go/internal/redisio"
	"github.com/distkit/distkit-go/internal/verb"
)

// Key is what there is to know of a key whose view is kept.
type Key interface {
	comparable
	ID() string
	Seen(*Answer, bool)       // takes an answer: one that it asked for, or one read ahead
	Proceed()                 // stops waiting for what it asked
	UsedSinceLastAsked() bool // a call was answered from its view
}

// Answer is what a read said of a key.
type Answer struct {
	Result  verb.Result
	Sent    time.Duration // when it was asked, by the clock
	Step    uint64        // the step at which it was
	Refused error         // Redis refused the read as such; Result has no meaning
}

// Clock counts from when it was made.
type Clock struct{ started time.Time }

// NewClock starts a clock.
func NewClock() Clock { return Clock{time.Now()} }

// Now is what the clock shows.
func (c Clock) Now() time.Duration { return time.Since(c.started) }

// At is what it showed then.
func (c Clock) At(then time.Time) time.Duration { return then.Sub(c.started) }

// Age is how long ago it showed at.
func (c Clock) Age(at time.Duration) time.Duration { return c.Now() - at }

// Refresher keeps the views of the keys of one container.
type Refresher[K Key] struct {
	At    *redisio.Container
	Redis redisio.Sender
	Clock Clock
	Lag   time.Duration // how old a view may get
	Wait  time.Duration // how long a key waits for a read
	Post  func(any)     // sends the actor a message, for Receive

	away atomic.Bool // set and cleared with mu held

	mu    sync.Mutex
	asked []asked[K]    // what the next trips are for
	since time.Duration // when the first of them asked
	finds uint64        // how often Redis has been found to answer

	steps   uint64 // reads sent and rounds returned so far: what came before what
	trip    *trip[K]
	bound   *time.Timer // ends the waits for reads
	waits   uint64      // how many bounds there have been
	watch   watch[K]
	wasAway bool // when the trip that is being answered returned
}

// asked is a key that has asked for a read, for the first time or again.
type asked[K Key] struct {
	key   K
	again bool
}

// trip is a read on its way, until it has an answer.
type trip[K Key] struct {
	asked    []asked[K]
	watched  []K             // keys that are read along, for which nobody waits
	calls    []*redisio.Call // the last attempt
	sent     time.Duration
	step     uint64
	inFlight bool
}

// maxTrip bounds the keys that asked and travel together, so that a read is
// answered over a slow link too.
const maxTrip = 3 * redisio.MaxReads

// The messages of a Refresher to its actor.
type (
	// Returned says that an attempt at the trip has ended.
	Returned struct{}
	// WaitOver says that the reads asked for have taken longer than Wait.
	WaitOver struct{ wait uint64 }
	// WatchDue says that it is time to read the keys that are watched.
	WatchDue struct{}
)

// Away reports whether Redis is known not to answer: nobody waits for a read.
func (r *Refresher[K]) Away() bool { return r.away.Load() }

// GiveUp says that a key has waited for long enough: Redis counts as away, unless it
// has answered somebody since the wait began.
func (r *Refresher[K]) GiveUp(p *Patience) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.finds == p.finds {
		r.away.Store(true)
	}
}

// Ask asks for a key to be read, because its view is old or, the first time,
// because there is none.
func (r *Refresher[K]) Ask(key K, again bool) {
	now := r.Clock.Now()
	r.mu.Lock()
	if len(r.asked) == 0 {
		r.since = now
	}
	r.asked = append(r.asked, asked[K]{key, again})
	r.mu.Unlock()
}

// NextStep counts a step of the actor.
func (r *Refresher[K]) NextStep() uint64 {
	r.steps++
	return r.steps
}

// Idle reports whether nobody waits for a read.
func (r *Refresher[K]) Idle() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.asked) == 0 && !r.awaited()
}

// Quiet reports whether there is nothing to do at all.
func (r *Refresher[K]) Quiet() bool { return r.Idle() && r.trip == nil && len(r.watch.keys) == 0 }

// awaited reports whether somebody waits for the trip.
func (r *Refresher[K]) awaited() bool { return r.trip != nil && len(r.trip.asked) > 0 }

// Start sends what has been asked for, if no trip is under way. Where it is held,
// it only bounds the wait.
func (r *Refresher[K]) Start(held bool) {
	ready := r.trip == nil && !held
	r.mu.Lock()
	waiting, since := r.asked, r.since
	if ready {
		size := min(len(waiting), maxTrip)
		if waiting, r.asked = waiting[:size:size], waiting[size:]; len(r.asked) == 0 {
			r.asked = nil
		}
	}
	r.mu.Unlock()
	if len(waiting) > 0 {
		r.boundWait(since)
	}
	if !ready {
		return
	}
	watched := r.watchedNow()
	if len(waiting)+len(watched) > 0 {
		r.trip = &trip[K]{asked: waiting, watched: watched}
		r.send()
	}
}

// Resume sends the trip again that an earlier incarnation of the actor left.
func (r *Refresher[K]) Resume() {
	if r.trip != nil && !r.trip.inFlight { // else its return is on the way
		r.send()
	}
}

// send makes one attempt at the trip, on a goroutine of its own.
func (r *Refresher[K]) send() {
	t := r.trip
	ops := make([]verb.Keyed, 0, len(t.asked)+len(t.watched))
	for _, a := range t.asked {
		ops = append(ops, verb.Keyed{Key: a.key.ID(), Op: verb.Op{Kind: verb.Get}})
	}
	for _, key := range t.watched {
		ops = append(ops, verb.Keyed{Key: key.ID(), Op: verb.Op{Kind: verb.Get}})
	}
	calls := make([]*redisio.Call, 0, len(ops)/redisio.MaxReads+1)
	for part := range slices.Chunk(ops, redisio.MaxReads) {
		calls = append(calls, &redisio.Call{Task: redisio.Read, At: r.At, Ops: part})
	}
	t.calls, t.inFlight, t.sent, t.step = calls, true, r.Clock.Now(), r.NextStep()
	go func() {
		defer r.Post(Returned{}) // whatever a hook of the client does
		r.Redis.Send(context.Background(), calls)
	}()
}

// Return takes in how the attempt at the trip has ended: an error if there is no
// answer, and the trip is to go again. Else Answer follows.
func (r *Refresher[K]) Return() error {
	r.trip.inFlight = false
	for _, call := range r.trip.calls {
		if ledger.OfRead(call) == ledger.Thaw {
			return call.Err
		}
	}
	r.wasAway = r.away.Load()
	return nil
}

// Answer gives the values to the keys, and lets the trip go.
func (r *Refresher[K]) Answer() {
	t := r.trip
	r.endWait()
	r.mu.Lock()
	more, since := len(r.asked) > 0, r.since
	r.mu.Unlock()
	if r.wasAway {
		since = r.Clock.Now() // who asked before that does not wait any more
	}
	if more {
		r.boundWait(since)
	}
	answers := make([]Answer, 0, len(t.asked)+len(t.watched))
	for _, call := range t.calls {
		for i := range call.Ops {
			a := Answer{Sent: t.sent, Step: t.step}
			if ledger.OfRead(call) == ledger.Refuse {
				a.Refused = call.Err
			} else {
				a.Result = call.Results[i]
			}
			answers = append(answers, a)
		}
	}
	for i, a := range t.asked {
		a.key.Seen(&answers[i], true)
		if a.again {
			r.watchKey(a.key)
		}
	}
	for i, key := range t.watched {
		key.Seen(&answers[len(t.asked)+i], false)
	}
	r.trip = nil
}

// Lost says that Redis does not answer: nobody waits. What is asked for stays so.
func (r *Refresher[K]) Lost() {
	r.leave()
	r.release()
}

// leave has Redis count as away.
func (r *Refresher[K]) leave() {
	r.mu.Lock()
	r.away.Store(true)
	r.mu.Unlock()
}

// Found says that Redis has answered.
func (r *Refresher[K]) Found() {
	r.mu.Lock()
	r.finds++
	wasAway := r.away.Swap(false)
	r.mu.Unlock()
	if wasAway && !r.Idle() {
		r.boundWait(r.Clock.Now()) // for who waits from now on
	}
}

// boundWait bounds the wait for reads of which the first was asked for then.
func (r *Refresher[K]) boundWait(since time.Duration) {
	if r.bound == nil && !r.away.Load() {
		r.waits++
		over := WaitOver{r.waits}
		r.bound = time.AfterFunc(r.Wait-r.Clock.Age(since), func() { r.Post(over) })
	}
}

func (r *Refresher[K]) endWait() {
	if r.bound != nil {
		r.bound.Stop()
		r.bound = nil
	}
}

// OnWaitOver ends the waits for reads: whoever has a view answers from it.
func (r *Refresher[K]) OnWaitOver(over WaitOver) {
	if r.bound != nil && over.wait == r.waits { // else that wait has ended otherwise
		r.release()
	}
}

// release lets the keys that wait for a read answer from the views they have;
// where there are any, Redis counts as away. The reads stay asked for.
func (r *Refresher[K]) release() {
	r.endWait()
	r.mu.Lock()
	waiting := slices.Clone(r.asked)
	r.mu.Unlock()
	if r.trip != nil {
		waiting = append(waiting, r.trip.asked...)
	}
	if len(waiting) > 0 {
		r.leave()
	}
	for _, a := range waiting {
		a.key.Proceed()
	}
}

// Stop ends the timers.
func (r *Refresher[K]) Stop() {
	r.endWait()
	r.watch.stop()
}

// Patience bounds a key's wait for something else than a read.
type Patience struct {
	timer *time.Timer
	finds uint64 // of the Refresher, when it began
}

// Patience calls over unless it is ended within Wait.
func (r *Refresher[K]) Patience(over func(*Patience)) *Patience {
	p := new(Patience)
	r.mu.Lock()
	p.finds = r.finds
	r.mu.Unlock()
	p.timer = time.AfterFunc(r.Wait, func() { over(p) })
	return p
}

// End ends the wait.
func (p *Patience) End() { p.timer.Stop() }
