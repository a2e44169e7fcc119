// Package foreign hands things to code that is not ours: actors that get replies,
// subscribers and loggers that get events. Such code may block, panic or end its
// goroutine, so it never runs on a goroutine of the engine's: each receiver has a
// queue of its own, and a goroutine that lives while there is something in it.
package foreign

import (
	"context"
	"sync"
)

// Queue hands items to one receiver, in order and one at a time. It is safe for
// concurrent use.
type Queue[T any] struct {
	hand  func(T)       // foreign code
	limit int           // how many items may wait; 0: any number
	lost  func(n int) T // the item that tells of n that found no room

	mu      sync.Mutex
	items   []T
	dropped int
	running bool
	settled chan struct{} // closed when nothing is left; nil unless asked for
}

// NewQueue returns the queue of a receiver. Where limit is not 0, what finds no room
// among so many that wait is dropped, and the receiver is handed lost in its place.
func NewQueue[T any](hand func(T), limit int, lost func(n int) T) *Queue[T] {
	return &Queue[T]{hand: hand, limit: limit, lost: lost}
}

// Put hands over an item. It never blocks.
func (q *Queue[T]) Put(item T) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.limit > 0 && len(q.items) >= q.limit {
		q.dropped++
		return
	}
	q.items = append(q.items, item)
	if !q.running {
		q.running = true
		go q.run()
	}
}

// run hands over what waits, until nothing does. A receiver that panics, or ends the
// goroutine, loses its item and no other.
func (q *Queue[T]) run() {
	over := false
	defer func() {
		if !over {
			_ = recover() // it is the receiver's own affair
			go q.run()
		}
	}()
	for {
		item, ok := q.take()
		if !ok {
			over = true
			return
		}
		q.hand(item)
	}
}

// take is the next item; false if there is none, and run is over.
func (q *Queue[T]) take() (item T, ok bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	switch {
	case len(q.items) > 0:
		item = q.items[0]
		var zero T
		q.items[0] = zero
		q.items = q.items[1:]
		return item, true
	case q.dropped > 0:
		item = q.lost(q.dropped)
		q.dropped = 0
		return item, true
	}
	q.items, q.running = nil, false
	if q.settled != nil {
		close(q.settled)
		q.settled = nil
	}
	return item, false
}

// Wait returns when everything has been handed over, or ctx ends.
func (q *Queue[T]) Wait(ctx context.Context) {
	q.mu.Lock()
	if !q.running {
		q.mu.Unlock()
		return
	}
	if q.settled == nil {
		q.settled = make(chan struct{})
	}
	settled := q.settled
	q.mu.Unlock()
	select {
	case <-settled:
	case <-ctx.Done():
	}
}
