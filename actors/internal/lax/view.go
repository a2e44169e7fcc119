package lax

import (
	"time"

	"github.com/distkit/distkit-go/internal/fold"
	"github.com/distkit/distkit-go/internal/request"
	"github.com/distkit/distkit-go/internal/verb"
)

// What a lax key answers from: the total last seen in Redis, and its own
// changes that Redis does not have yet.

// view is the value as this process sees it; without viewKnown, what it has
// pending over 0.
func (k *key) view() int64 {
	v := k.remote
	if !k.known {
		v = 0
	}
	if k.flight != nil {
		v = k.flight.Over(v)
	}
	if len(k.dels()) > 0 {
		v = 0
	}
	return k.open.Over(v)
}

// viewExists reports whether there is a counter as this process sees it: in Redis
// when that was last seen, and by the changes that Redis does not have yet.
func (k *key) viewExists() bool {
	exists := k.known && k.exists
	if k.flight != nil {
		exists = k.flight.Leaves(exists)
	}
	return k.open.Leaves(exists && len(k.dels()) == 0)
}

// viewFromRemote reports whether the view depends on what was read of Redis.
func (k *key) viewFromRemote() bool {
	if k.open.Kind == fold.Assign || len(k.dels()) > 0 {
		return false
	}
	return k.flight == nil || k.flight.Kind == fold.Add || k.flight.Kind == fold.Lift
}

// viewKnown reports whether there is a view to answer from.
func (k *key) viewKnown() bool { return k.known || !k.viewFromRemote() }

// freshUntil is to when the view is young enough to answer from: until it is AllowedLag
// old, or, while a flush is under way, if it was that old when it began. A key with
// changes to flush is about to be refreshed by their result; the slack keeps
// the timer's lateness from turning every flush into reads as well.
func (k *key) freshUntil() time.Duration {
	allowed, slack := k.at.allowedLag, k.at.allowedLag/4
	until := k.seen + allowed
	switch {
	case !k.viewFromRemote():
		return longest
	case k.flight != nil && k.flown-k.seen <= allowed+slack:
		until = longest
	case k.flight != nil:
		return 0
	case k.dirty:
		until += slack
	}
	if limit := k.at.maxStaleness; limit > 0 {
		until = min(until, k.seen+limit)
	}
	return until
}

// fresh reports whether the view is young enough to answer from.
func (k *key) fresh() bool { return k.at.clock.Now() <= k.freshUntil() }

// publish lets callers have the view without waking the actor, if it would answer them
// from it and do nothing else.
func (k *key) publish() {
	if k.viewKnown() && k.viewExists() && k.waiting() == 0 && (k.queues == nil || k.queues.refused == nil) {
		k.until.Store(int64(k.freshUntil()))
		k.Box.Publish(k.view())
	}
}

// told carries out an operation of which the mailbox has the answer, and returns the
// value that it leaves; false if it takes the actor. It is for callers.
func (k *key) told(kind verb.Kind, n int64) (int64, bool) {
	switch {
	case int64(k.at.clock.Now()) > k.until.Load():
		return 0, false
	case kind == verb.Get:
		return k.Box.Value()
	case kind == verb.Inc:
		return k.Box.AddAndTell(n)
	case kind == verb.Dec:
		return k.Box.AddAndTell(-n) // the least int64 is too much for the mailbox either way
	default:
		return 0, false
	}
}

// look returns the view.
func (k *key) look() request.View {
	view := request.View{N: k.view(), Age: k.at.clock.Age(k.seen)}
	remote := k.remote
	if !k.known {
		remote, view.Age = 0, 0
	}
	if pending, ok := verb.Sub(view.N, remote); ok {
		view.Pending = pending
	} else {
		view.Pending = view.N // an assignment further from the last total than an int64 reaches
	}
	return view
}
