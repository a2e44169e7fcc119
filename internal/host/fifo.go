package host

// Fifo is a first-in, first-out queue over one slice.
type Fifo[T any] struct {
	items []T
	head  int
}

// Len is how many items there are.
func (q *Fifo[T]) Len() int { return len(q.items) - q.head }

// Push adds an item.
func (q *Fifo[T]) Push(item T) { q.items = append(q.items, item) }

// Peek is the oldest item; the queue must not be empty.
func (q *Fifo[T]) Peek() *T { return &q.items[q.head] }

// Last is the newest item; the queue must not be empty.
func (q *Fifo[T]) Last() *T { return &q.items[len(q.items)-1] }

// Pop takes the oldest item; the queue must not be empty.
func (q *Fifo[T]) Pop() T {
	var zero T
	item := q.items[q.head]
	q.items[q.head] = zero
	q.head++
	switch {
	case q.head == len(q.items):
		q.items, q.head = q.items[:0], 0
		if cap(q.items) > 64 { // a burst's memory goes back
			q.items = nil
		}
	case q.head >= 1024 && q.head*2 >= len(q.items): // a queue that never empties stays small
		kept := copy(q.items, q.items[q.head:])
		clear(q.items[kept:])
		q.items, q.head = q.items[:kept], 0
	}
	return item
}
