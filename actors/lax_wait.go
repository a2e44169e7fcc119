package actors

import (
	"time"

	"github.com/distkit/distkit-go/internal/op"
	"github.com/distkit/distkit-go/internal/store"
)

// What a lax key that cannot answer yet waits for: the answer to a read, or the
// result of its change in flight. Neither is waited for longer than RefreshWait
// where there is a view to answer from.

type (
	// seenValue is the answer to a read.
	seenValue struct {
		value   store.Value
		asked   bool // by the key; else it is watched
		sent    time.Duration
		step    uint64 // the coordinator's, when it was sent
		refused error  // Redis refused the read as such; value has no meaning
	}
	// proceed tells a key not to wait for its read any longer.
	proceed struct{}
	// impatient tells a key that the result of its flight has been waited for
	// as long as RefreshWait.
	impatient struct{ *patience }
)

// patience bounds a wait.
type patience struct{ timer *time.Timer }

// viewServes reports whether the view is fit to answer from. Where it is not, or
// only because Redis is away, something that will refresh it is under way.
func (a *laxKey) viewServes(anyAge bool) bool {
	if !a.viewKnown() {
		if a.flight == nil { // else its result is the view; a read could not know of it
			a.askRead()
		}
		return false
	}
	if anyAge || !a.viewFromRemote() || a.fresh() {
		return true
	}
	away := a.flush.away.Load()
	switch {
	case a.flight == nil:
		a.askRead()
	case !away:
		a.awaitFlight()
	}
	return away
}

// serveParked serves what is parked, in order, until one has to go on waiting.
// With anyAge, a view that exists is good enough.
func (a *laxKey) serveParked(anyAge bool) {
	for a.waiting() > 0 && a.handle(*a.queues.parked.peek(), anyAge) {
		a.queues.parked.pop()
	}
}

// askRead asks the coordinator for the value in Redis; nothing is in flight.
func (a *laxKey) askRead() {
	if !a.asked {
		a.asked = true
		a.flush.askRead(a.laxCell, a.known)
	}
}

// awaitFlight bounds the wait for the result of the change in flight.
func (a *laxKey) awaitFlight() {
	q := a.more()
	if q.patience == nil {
		box, p := &a.box, new(patience)
		p.timer = time.AfterFunc(a.flush.refreshWait, func() { box.PostUserMessage(impatient{p}) })
		q.patience = p
	}
}

// endPatience ends that bound: the result is there, or nobody waits for it.
func (c *laxCell) endPatience() {
	if q := c.queues; q != nil && q.patience != nil {
		q.patience.timer.Stop()
		q.patience = nil
	}
}

// onImpatient answers from the view there is: Redis counts as away.
func (a *laxKey) onImpatient(p *patience) {
	if a.waiting() > 0 && a.queues.patience == p {
		a.flush.away.Store(true)
		a.serveParked(true)
	}
}

func (a *laxKey) onSeen(s *seenValue) {
	failed := s.refused != nil || s.value.Err != nil
	if s.asked {
		a.asked = false
	} else if failed {
		return // whoever needs the value will ask, and be told
	}
	a.flush.failAt.at("lax key: read answered")
	mixed := a.flight != nil || a.landed > s.step // the read may not know of the change
	switch {
	case s.refused != nil:
		a.failParked(op.NotApplied(s.refused))
	case failed:
		a.known = false
		a.failParked(s.value.Err)
	case !mixed:
		a.remote, a.known, a.seen = s.value.N, true, s.sent
	}
	a.serveParked(s.asked && !mixed)
}

// failParked fails what cannot be answered without the read that failed, and
// serves what stands between from the view there is.
func (a *laxKey) failParked(err error) {
	for a.waiting() > 0 {
		message := *a.queues.parked.peek()
		if r, ok := message.(*request); ok && a.needsView(r) && !a.viewKnown() {
			if !r.answered() {
				a.flush.observer.MessageRefused(a.key, err)
			}
			r.fail(err)
		} else if !a.handle(message, true) {
			return
		}
		a.queues.parked.pop()
	}
}
