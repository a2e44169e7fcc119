package actors

import (
	"time"

	"github.com/distkit/distkit-go/internal/store"
)

// The coordinator's reads: all that keys ask for at one moment travel as one.
// Whoever waits for a read does so for RefreshWait at most: then Redis counts as
// away, and keys answer from the views they have.

// startRefresh bounds the wait for the reads asked for.
func (a coordinator) startRefresh() {
	if a.refresh == nil && !a.away.Load() {
		a.refresh = time.AfterFunc(a.refreshWait, func() { a.box.PostUserMessage(refreshOver{}) })
	}
}

// settleReads gives the read's values to the keys that asked. A read that
// Redis refused as such is answered too; one that failed is returned, and its
// keys go on waiting.
func (a coordinator) settleReads(r *round) error {
	if r.read == nil {
		return nil
	}
	read, cells := r.read, r.reads
	switch read.Class {
	case store.Applied, store.Refused:
		r.read, r.reads = nil, nil
	default:
		return read.Err
	}
	a.mu.Lock()
	waiting := len(a.reads) > 0
	a.mu.Unlock()
	for _, other := range a.rounds {
		waiting = waiting || len(other.reads) > 0
	}
	if !waiting {
		a.stopRefresh()
	}
	answers := make([]seenValue, len(cells))
	for i, cell := range cells {
		answers[i].sent = r.sent
		if read.Class == store.Refused {
			answers[i].refused = read.Err
		} else {
			answers[i].value = read.Values[i]
		}
		cell.box.PostUserMessage(&answers[i])
	}
	return nil
}

// onRefreshOver ends the waits for reads: whoever has a view answers from it.
func (a coordinator) onRefreshOver() {
	a.refresh = nil
	a.releaseReads()
}

// releaseReads marks Redis as away and lets the keys that wait for a read
// answer from the views they have. The reads stay asked for.
func (a coordinator) releaseReads() {
	a.stopRefresh()
	a.mu.Lock()
	waiting := append([]*laxCell(nil), a.reads...)
	a.mu.Unlock()
	for _, r := range a.rounds {
		waiting = append(waiting, r.reads...)
	}
	if len(waiting) > 0 {
		a.away.Store(true)
	}
	for _, cell := range waiting {
		cell.box.PostUserMessage(proceed{})
	}
}

func (a coordinator) stopRefresh() {
	if a.refresh != nil {
		a.refresh.Stop()
		a.refresh = nil
	}
}
