package actors

// fifo is a first-in, first-out queue over one slice.
type fifo[T any] struct {
	items []T
	head  int
}

func (q *fifo[T]) len() int { return len(q.items) - q.head }

func (q *fifo[T]) push(item T) { q.items = append(q.items, item) }

// peek is the oldest item; the queue must not be empty.
func (q *fifo[T]) peek() *T { return &q.items[q.head] }

// last is the newest item; the queue must not be empty.
func (q *fifo[T]) last() *T { return &q.items[len(q.items)-1] }

func (q *fifo[T]) pop() T {
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
