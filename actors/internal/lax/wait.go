package lax

import (
	"github.com/distkit/distkit-go/actors/internal/refresh"
	"github.com/distkit/distkit-go/internal/host"
	"github.com/distkit/distkit-go/internal/request"
	"github.com/distkit/distkit-go/internal/verb"
)

// What a lax key that cannot answer yet waits for: the answer to a read, or the
// result of its change in flight. Neither is waited for longer than RefreshWait
// where there is a view to answer from.

type (
	// askedFor is the answer to a read that the key asked for.
	askedFor struct{ *refresh.Answer }
	// readAhead is the answer to one that nobody waits for.
	readAhead struct{ *refresh.Answer }
	// proceed tells a key not to wait for its read any longer.
	proceed struct{}
	// impatient tells a key that the result of its flight has been waited for
	// as long as RefreshWait.
	impatient struct{ *refresh.Patience }
)

// ID implements refresh.Key.
func (k *key) ID() string { return k.Name }

// Seen implements refresh.Key. A key does without what was read ahead: it does not
// keep it awake.
func (k *key) Seen(answer *refresh.Answer, asked bool) {
	if asked {
		k.Box.Post(askedFor{answer})
	} else {
		k.Box.PostQuietly(readAhead{answer})
	}
}

// Proceed implements refresh.Key.
func (k *key) Proceed() { k.Box.Post(proceed{}) }

// UsedSinceLastAsked implements refresh.Key.
func (k *key) UsedSinceLastAsked() bool {
	told := k.Box.Used(host.ByRead)
	return k.used.Swap(false) || told
}

// viewServes reports whether the view is fit to answer from. Where it is not, or
// only because Redis is away, something that will refresh it is under way.
func (k *key) viewServes(anyAge bool) bool {
	if !k.viewKnown() {
		if k.flight == nil { // else its result is the view; a read could not know of it
			k.askRead()
		}
		return false
	}
	if anyAge || !k.viewFromRemote() || k.fresh() {
		return true
	}
	away := k.at.refresh.Away()
	switch {
	case k.flight == nil:
		k.askRead()
	case !away:
		k.awaitFlight()
	}
	return away
}

// serveParked serves what is parked, in order, until one has to go on waiting.
// With anyAge, a view that exists is good enough.
func (k *key) serveParked(anyAge bool) {
	for k.waiting() > 0 && k.handle(*k.queues.parked.Peek(), anyAge) {
		k.queues.parked.Pop()
	}
}

// onNudge lets go of calls whose callers have withdrawn, so that they do not pile up
// behind one that goes on waiting: all of them, once they may be half of what is parked.
func (k *key) onNudge() {
	if k.waiting() > 0 {
		q := k.queues
		if q.left++; 2*q.left > q.parked.Len() {
			q.left = 0
			for range q.parked.Len() {
				message := q.parked.Pop()
				if r, ok := message.(*request.Request); !ok || !r.Withdrawn() {
					q.parked.Push(message)
				}
			}
		}
	}
	k.serveParked(false)
}

// askRead asks for the value in Redis; nothing is in flight.
func (k *key) askRead() {
	if !k.asked {
		k.asked = true
		k.at.askRead(k, k.known)
	}
}

// awaitFlight bounds the wait for the result of the change in flight.
func (k *key) awaitFlight() {
	if q := k.more(); q.patience == nil {
		q.patience = k.at.refresh.Patience(func(p *refresh.Patience) { k.Box.Post(impatient{p}) })
	}
}

// endPatience ends that bound: the result is there, or nobody waits for it.
func (k *key) endPatience() {
	if q := k.queues; q != nil && q.patience != nil {
		q.patience.End()
		q.patience = nil
	}
}

// onImpatient answers from the view there is: Redis counts as away.
func (k *key) onImpatient(p *refresh.Patience) {
	if k.waiting() > 0 && k.queues.patience == p {
		k.at.refresh.GiveUp(p)
		k.serveParked(true)
	}
}

func (k *key) onSeen(a *refresh.Answer, asked bool) {
	failed := a.Refused != nil || a.Result.Err != nil
	if asked {
		k.asked = false
	} else if failed {
		return // whoever needs the value will ask, and be told
	}
	k.at.failAt.At("lax key: read answered")
	mixed := k.flight != nil || k.landed > a.Step // the read may not know of the change
	switch {
	case a.Refused != nil:
		k.failParked(verb.NotApplied(a.Refused))
	case failed:
		k.known = false
		k.failParked(a.Result.Err)
	case !mixed:
		k.remote, k.known, k.seen = a.Result.N, true, a.Sent
		k.exists = !a.Result.Absent
	}
	k.serveParked(asked && !mixed)
}

// failParked fails what cannot be answered without the read that failed, and
// serves what stands between from the view there is.
func (k *key) failParked(err error) {
	for k.waiting() > 0 {
		message := *k.queues.parked.Peek()
		if r, ok := message.(*request.Request); ok && k.needsView(r) && !k.viewKnown() {
			if !r.Answered() {
				k.at.observer.MessageRefused(k.at.window, k.Name, err)
			}
			r.Fail(err)
		} else if !k.handle(message, true) {
			return
		}
		k.queues.parked.Pop()
	}
}
