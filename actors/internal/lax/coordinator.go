package lax

import (
	"context"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/distkit/distkit-go/actors/internal/refresh"
	"github.com/distkit/distkit-go/internal/barrier"
	"github.com/distkit/distkit-go/internal/host"
	"github.com/distkit/distkit-go/internal/ledger"
	"github.com/distkit/distkit-go/internal/limit"
	"github.com/distkit/distkit-go/internal/redisio"
	"github.com/distkit/distkit-go/internal/request"
	"github.com/distkit/distkit-go/internal/trace"
	"github.com/distkit/distkit-go/internal/verb"
)

// The flush coordinator: the writer of a lax space.
//
//	dirty keys ── tick ─┐
//	Dels, Clears ───────┴► round: gather ─► freeze ─► send ─► land ─► keys
//	                                                  ▲        │
//	reads ──► trips of their own (refresh)            └─ again ┘
//
// Invariants:
//   - At most maxRounds are under way, and one of Dels alone beside them, in
//     which a key has one change at most; a round of Clears is alone.
//   - A tick is armed by the first dirty key, and once more by a flush for what
//     comes meanwhile: an idle coordinator holds no timer and sends no command.
//   - What the end of an attempt means the ledger says; a call of increments that
//     Redis refuses stays until it takes it.
//   - On losing Redis the actor panics; the supervisor restarts it after the
//     backoff. What it needs then is in its fields.

// coordinator is the receiver of every incarnation of the actor.
type coordinator struct {
	actor    *host.Resident
	name     string // in events
	window   string // that of the counters, in events; "" if they are of none
	redis    redisio.Sender
	observer host.Observer
	watcher  *trace.Watcher // or nil
	failAt   host.FailPoint
	risen    func()        // told when it comes to life
	keys     func() []*key // every key in memory
	clock    refresh.Clock
	refresh  *refresh.Refresher[*key]

	allowedLag   time.Duration
	maxStaleness time.Duration // 0: unlimited
	pending      *limit.Pending

	hurrying atomic.Bool // a flush of what is dirty is about to begin; set as hurry is

	mu       sync.Mutex // guards the inbox: what keys and callers ask for
	dirty    []*key
	dirtied  time.Time      // when the first of dirty became so; zero while there is none
	oldest   time.Time      // the same of what is in a flush: older; zero if nothing is
	covers   barrier.Covers // Flushes that wait for what of dirty is there
	epoch    uint64         // marks what comes into dirty: see cover
	since    uint64         // the first epoch of what is in dirty
	dels     []urgentDel
	wipes    []*request.Request
	hurry    bool          // do not wait for the tick
	woken    bool          // a wake message is on its way
	closed   bool          // nothing is taken any more: the actor has stopped, or is to
	trouble  error         // what Redis last failed with; nil since it answered
	troubled time.Time     // when that began
	idle     chan struct{} // closed when nothing is left to do; nil unless asked for

	// The rest is the actor's.
	rounds   []*round
	flushing time.Time      // when the first of flushed became dirty
	flushed  []*key         // of the flush under way: keys that are in no round yet
	covered  barrier.Covers // Flushes that wait for them
	book     ledger.Book
	outage   host.Outage
	due      bool // the tick has come
	tick     *time.Timer
}

// urgentDel is a Del on its way from its key.
type urgentDel struct {
	key      *key
	mutation *mutation
}

type (
	// wake: there is something in the inbox.
	wake struct{}
	// tick: AllowedLag has passed since the first key became dirty.
	tick struct{}
	// gathered: every key has answered the round's gather.
	gathered struct{ round *round }
	// returned: an attempt at the round's open calls has ended.
	returned struct{ round *round }
)

// Receive implements host.Receiver.
func (c *coordinator) Receive(message any) {
	switch message := message.(type) {
	case host.Started:
		c.onStarted()
	case wake:
		c.onWake()
	case tick:
		c.tick, c.due = nil, true
		c.step()
	case gathered:
		c.onGathered(message.round)
	case returned:
		c.onReturned(message.round)
	case refresh.Returned:
		c.onReadReturned()
	case refresh.WaitOver:
		c.refresh.OnWaitOver(message)
	case refresh.WatchDue:
		c.refresh.OnWatchDue()
		c.step()
	case host.Stopped:
		c.stopTimers()
	}
}

// onStarted resumes the rounds that an earlier incarnation left, at the stages
// that they had reached.
func (c *coordinator) onStarted() {
	c.risen()
	for _, r := range slices.Clone(c.rounds) {
		switch {
		case r.inFlight: // its return is on the way
		case r.frozen:
			c.resume(r)
		case r.missing.Load() == 0:
			c.onGathered(r)
		}
	}
	c.refresh.Resume()
	c.onWake()
}

func (c *coordinator) onWake() {
	c.mu.Lock()
	c.woken = false
	c.mu.Unlock()
	c.failAt.At("coordinator: woken")
	c.step()
}

// step starts what is to be done now, reads first, and arms the tick if something
// is to be done later. A read waits for a round of Clears: a key that is new since
// that was made would not know that what it reads may be of before.
func (c *coordinator) step() {
	c.refresh.Start(c.clearing())
	for {
		r := c.nextRound()
		if r == nil {
			return
		}
		c.rounds = append(c.rounds, r)
		c.gather(r)
	}
}

// nextRound makes a round of what is to be done now; nil if that is nothing, or
// has to wait for the rounds under way.
func (c *coordinator) nextRound() *round {
	c.mu.Lock()
	defer c.mu.Unlock()
	full := len(c.rounds) >= maxRounds
	if (c.due || c.hurry) && !full && len(c.flushed) == 0 {
		c.beginFlush()
	}
	if len(c.dirty) > 0 {
		c.startTick()
	}
	if c.clearing() {
		return nil
	}
	if wipes := c.takeWipes(); len(wipes) > 0 {
		r := newWipeRound(wipes, c.keys())
		r.begun = c.watcher.Begin()
		return r
	}
	if len(c.wipes) > 0 || full && (len(c.dels) == 0 || len(c.rounds) > maxRounds) {
		return nil
	}
	if len(c.flushed)+len(c.dels) == 0 {
		c.tellIdle()
		return nil
	}
	size := min(len(c.flushed), roundSize)
	if full {
		size = 0
	}
	dels := c.dels[:min(len(c.dels), roundSize)]
	dirty := c.flushed[:size]
	r := newRound(dels, dirty)
	r.begun = c.watcher.Begin()
	if len(dirty) > 0 {
		r.dirtied = c.flushing
	}
	covered := r.slots[len(dels):]
	c.covered = c.covered.Take(len(covered), func(i int, b *barrier.Barrier) { covered[i].cover = b })
	clear(dirty)
	c.flushed = c.flushed[size:]
	if c.dels = c.dels[len(dels):]; len(c.dels) == 0 {
		c.dels = nil
	}
	return r
}

// beginFlush takes what is dirty; mu is held.
func (c *coordinator) beginFlush() {
	c.flushed, c.dirty = c.dirty, nil
	c.flushing, c.dirtied = c.dirtied, time.Time{}
	c.age()
	c.covered, c.covers = c.covers, nil
	c.epoch++
	c.since = c.epoch
	c.due = false
	c.setHurry(false)
	if len(c.flushed) > 0 {
		c.startTick() // for what comes while this flush is under way
	}
}

// age finds the oldest change in a flush; mu is held.
func (c *coordinator) age() {
	c.oldest = time.Time{}
	if len(c.flushed) > 0 {
		c.oldest = c.flushing
	}
	for _, r := range c.rounds { // the first has the oldest, unless it has Dels only
		if !r.dirtied.IsZero() && (c.oldest.IsZero() || r.dirtied.Before(c.oldest)) {
			c.oldest = r.dirtied
		}
	}
}

// tellIdle tells who waits for it that nothing is left; mu is held.
func (c *coordinator) tellIdle() {
	if c.idle != nil && len(c.dirty)+len(c.rounds) == 0 && c.refresh.Idle() {
		close(c.idle)
		c.idle = nil
	}
}

// clearing reports whether a round of Clears is under way.
func (c *coordinator) clearing() bool { return len(c.rounds) == 1 && c.rounds[0].clears }

// takeWipes takes the Clears whose callers still wait, if nothing is under way;
// mu is held.
func (c *coordinator) takeWipes() []*request.Request {
	if len(c.rounds) > 0 {
		return nil
	}
	wipes := slices.DeleteFunc(c.wipes, func(r *request.Request) bool { return !r.Claim() })
	c.wipes = nil
	return wipes
}

// startTick sees to it that what is dirty is flushed within AllowedLag, whatever
// other rounds there are until then.
func (c *coordinator) startTick() {
	if c.tick == nil && !c.due {
		c.tick = time.AfterFunc(c.allowedLag, func() { c.actor.Post(tick{}) })
	}
}

// gather asks the round's keys for what they have. The coordinator counts as
// one of those waited for, so that the round moves on when it is asked of all.
func (c *coordinator) gather(r *round) {
	r.missing.Store(int32(len(r.slots)) + 1)
	for i := range r.slots {
		s := &r.slots[i]
		if s.gathered || !s.key.Box.Post(gather{s}) {
			s.cover.Pass(nil) // a Del, or asleep: it has nothing
			c.arrive(r)
		}
	}
	c.arrive(r)
}

// arrive counts a key's answer to the gather; the last one moves the round on.
func (c *coordinator) arrive(r *round) {
	if r.missing.Add(-1) == 0 {
		c.actor.Post(gathered{r})
	}
}

func (c *coordinator) onGathered(r *round) {
	// What says so may be late, and r be another round by now, in the same memory.
	if r.frozen || r.missing.Load() > 0 || !slices.Contains(c.rounds, r) {
		return
	}
	c.failAt.At("coordinator: gathered")
	r.freeze(&c.book)
	c.failAt.At("coordinator: frozen")
	if len(r.calls) == 0 {
		c.finish(r)
		return
	}
	c.send(r)
}

// finish ends a round in which everything has its answer.
func (c *coordinator) finish(r *round) {
	at := slices.Index(c.rounds, r)
	c.rounds = slices.Delete(c.rounds, at, at+1)
	c.mu.Lock()
	c.age()
	c.mu.Unlock()
	if c.watcher != nil {
		c.watcher.Rounded(r.told())
	}
	r.release()
	c.step()
}

// send makes one attempt at the round's open calls, on a goroutine of its own:
// the actor stays free to send reads and to hear of its stop while Redis hangs.
func (c *coordinator) send(r *round) {
	r.inFlight = true
	open := r.open()
	calls := make([]*redisio.Call, len(open))
	for i, call := range open {
		call.Sending()
		calls[i] = &call.Call
	}
	go func() {
		defer c.actor.Post(returned{r}) // whatever a hook of the client does
		if c.watcher != nil {
			defer attempted(c.watcher, open, time.Now())
		}
		c.redis.Send(context.Background(), calls)
	}()
}

func (c *coordinator) stopTimers() {
	c.refresh.Stop()
	if c.tick != nil {
		c.tick.Stop()
		c.tick = nil
	}
}

// quiet reports whether there is nothing to do, and nobody to do it for.
func (c *coordinator) quiet() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.dirty)+len(c.flushed)+len(c.dels)+len(c.wipes)+len(c.rounds) == 0 && c.tick == nil && c.refresh.Quiet()
}

// abandon takes in what has ended, when everything has stopped, marks what Redis may
// have and answers the Clears that are left.
func (c *coordinator) abandon() {
	closed := verb.NotApplied(verb.ErrClosed)
	for _, r := range c.rounds {
		if !r.inFlight {
			_, _ = c.takeIn(r) // a panic had left it for the next incarnation
		}
		for _, call := range r.open() {
			err := closed
			if call.InDoubt || r.inFlight && !call.Revoke() {
				err = verb.Unknown(request.ErrStopped)
				r.doubt(call)
			}
			for _, wipe := range r.wipes {
				wipe.Settle(verb.Result{Err: err})
			}
		}
		for _, wipe := range r.wipes { // of a round without a call so far
			wipe.Settle(verb.Result{Err: closed})
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.closed = true
	for _, r := range c.wipes {
		r.Fail(closed)
	}
}
