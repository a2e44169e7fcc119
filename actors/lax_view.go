package actors

import (
	"time"

	"github.com/distkit/distkit-go/internal/op"
)

// What a lax key answers from: the total last seen in Redis, and its own
// changes that Redis does not have yet.

// view is the value as this process sees it; without viewKnown, what it has
// pending over 0.
func (a *laxCell) view() int64 {
	v := a.remote
	if !a.known {
		v = 0
	}
	if a.flight != nil {
		v = a.flight.over(v)
	}
	if len(a.dels()) > 0 {
		v = 0
	}
	return a.open.over(v)
}

// viewFromRemote reports whether the view depends on what was read of Redis.
func (a *laxCell) viewFromRemote() bool {
	if a.open.verb == assign || len(a.dels()) > 0 {
		return false
	}
	return a.flight == nil || a.flight.verb == add || a.flight.verb == lift
}

// viewKnown reports whether there is a view to answer from.
func (a *laxCell) viewKnown() bool { return a.known || !a.viewFromRemote() }

// fresh reports whether the view is young enough to answer from: AllowedLag
// old, or, while a flush is under way, that old when it began. A key with
// changes to flush is about to be refreshed by their result; the slack keeps
// the timer's lateness from turning every flush into reads as well.
func (a *laxCell) fresh() bool {
	allowed, slack := a.flush.allowedLag, a.flush.allowedLag/4
	age := a.flush.age(a.seen)
	if limit := a.flush.maxStaleness; limit > 0 && age > limit {
		return false
	}
	switch {
	case a.flight != nil:
		return a.flown-a.seen <= allowed+slack
	case a.dirty:
		return age <= allowed+slack
	default:
		return age <= allowed
	}
}

// View is what a lax key knows: the value, the part of it that Redis does not
// have yet, and the age of the rest.
type View struct {
	N, Pending int64
	Age        time.Duration
}

// look returns the view.
func (a *laxCell) look() View {
	view := View{N: a.view(), Age: a.flush.age(a.seen)}
	remote := a.remote
	if !a.known {
		remote, view.Age = 0, 0
	}
	if pending, ok := op.Sub(view.N, remote); ok {
		view.Pending = pending
	} else {
		view.Pending = view.N // an assignment further from the last total than an int64 reaches
	}
	return view
}
