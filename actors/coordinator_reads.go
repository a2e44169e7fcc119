package actors

import (
	"slices"
	"time"

	"github.com/distkit/distkit-go/internal/store"
)

// The coordinator's reads: all that keys ask for while one is under way travel
// as the next. They have a connection of their own, and a trip that waits for no
// round: somebody waits for them. Whoever waits does so for RefreshWait at most:
// then Redis counts as away, and keys answer from the views they have.
//
//	asked ─► trip: (sent ─► returned)… ─► answered

// reads are the keys that have asked for a read.
type reads struct {
	keys  []asked
	since time.Duration // when the first of them asked
}

// asked is a key that has asked for a read, for the first time or again.
type asked struct {
	cell  *laxCell
	again bool
}

// trip is a read on its way, until it has an answer.
type trip struct {
	reads
	watched  []*laxCell  // keys that are read along, for which nobody waits
	read     *store.Read // the last attempt
	sent     time.Duration
	step     uint64
	inFlight bool
}

// startTrip sends what has been asked for, if nothing is under way. It waits for a
// round of Clears: a key that is new since that was made would not know that what
// it reads may be of before.
func (a coordinator) startTrip() {
	ready := a.trip == nil && !a.clearing()
	a.mu.Lock()
	waiting := a.reads
	if ready {
		a.reads = reads{}
	}
	a.mu.Unlock()
	if len(waiting.keys) > 0 {
		a.boundWait(waiting.since)
	}
	if !ready {
		return
	}
	watched := a.watchedNow()
	if len(waiting.keys)+len(watched) > 0 {
		a.trip = &trip{reads: waiting, watched: watched}
		a.sendTrip()
	}
}

// resumeTrip sends the read again that an earlier incarnation left, even if nobody
// waits for it: Redis counts as away until there is an answer.
func (a coordinator) resumeTrip() {
	if a.trip != nil && !a.trip.inFlight { // else its return is on the way
		a.sendTrip()
	}
}

// awaited reports whether somebody waits for a read.
func (a coordinator) awaited() bool { return a.trip != nil && len(a.trip.keys) > 0 }

// sendTrip makes one attempt at the read, on a goroutine of its own.
func (a coordinator) sendTrip() {
	t := a.trip
	t.read = &store.Read{Keys: make([]string, 0, len(t.keys)+len(t.watched))}
	for _, k := range t.keys {
		t.read.Keys = append(t.read.Keys, k.cell.key)
	}
	for _, cell := range t.watched {
		t.read.Keys = append(t.read.Keys, cell.key)
	}
	t.inFlight, t.sent, t.step = true, a.now(), a.nextStep()
	go func() {
		a.store.Read(contextOfRequests, t.read)
		a.box.PostUserMessage(tripReturned{})
	}()
}

// onTripReturned gives the values to the keys that asked. A read that Redis
// refused as such is answered too; after one that failed, keys go on waiting.
func (a coordinator) onTripReturned() {
	t := a.trip
	t.inFlight = false
	a.failAt.at("coordinator: read returned")
	read := t.read
	if read.Class != store.Applied && read.Class != store.Refused {
		a.note(read.Err)
	}
	wasAway := a.away.Load()
	if !slices.ContainsFunc(a.rounds, func(r *round) bool { return r.failing }) { // else Redis reads, but does not write
		a.note(nil)
	}
	a.endWait()
	a.mu.Lock()
	more, since := len(a.reads.keys) > 0, a.reads.since
	a.mu.Unlock()
	if wasAway {
		since = a.now() // who asked before that does not wait any more
	}
	if more {
		a.boundWait(since)
	}
	answers := make([]seenValue, len(read.Keys))
	for i := range answers {
		answers[i] = seenValue{asked: i < len(t.keys), sent: t.sent, step: t.step}
		if read.Class == store.Refused {
			answers[i].refused = read.Err
		} else {
			answers[i].value = read.Values[i]
		}
	}
	for i, k := range t.keys {
		k.cell.box.post(&answers[i])
		if k.again {
			a.watchKey(k.cell)
		}
	}
	for i, cell := range t.watched {
		cell.box.hint(&answers[len(t.keys)+i])
	}
	a.trip = nil
	a.step()
}

// boundWait bounds the wait for reads of which the first was asked for then.
func (a coordinator) boundWait(since time.Duration) {
	if a.refresh == nil && !a.away.Load() {
		a.refresh = time.AfterFunc(a.refreshWait-a.age(since), func() { a.box.PostUserMessage(refreshOver{}) })
	}
}

func (a coordinator) endWait() {
	if a.refresh != nil {
		a.refresh.Stop()
		a.refresh = nil
	}
}

// onRefreshOver ends the waits for reads: whoever has a view answers from it.
func (a coordinator) onRefreshOver() {
	a.refresh = nil
	a.releaseReads()
}

// releaseReads marks Redis as away and lets the keys that wait for a read
// answer from the views they have. The reads stay asked for.
func (a coordinator) releaseReads() {
	a.endWait()
	a.mu.Lock()
	waiting := slices.Clone(a.reads.keys)
	a.mu.Unlock()
	if a.trip != nil {
		waiting = append(waiting, a.trip.keys...)
	}
	if len(waiting) > 0 {
		a.away.Store(true)
	}
	for _, k := range waiting {
		k.cell.box.PostUserMessage(proceed{})
	}
}
