package strict

import (
	"cmp"
	"slices"

	"github.com/distkit/distkit-go/internal/request"
	"github.com/distkit/distkit-go/internal/verb"
)

// queue is what waits for the writer, in two lines: single calls, each with somebody who
// waits for it, and bulk, which is large batch calls, messages that nobody waits for, and
// Clears. Both get their turn in each batch, so that neither waits behind the whole of the
// other. Each key's operations keep their order:
//
//   - A call with a key of which bulk holds an operation joins bulk, behind it; while
//     there is a Clear, all do.
//   - What is in bulk goes only when all single calls that are older have gone.
//
// Its owner holds a lock.
type queue struct {
	turn   uint64 // the last one given
	single []*request.Request
	bulk   []*request.Request
	keys   map[string]int // how many operations of a key are in bulk
}

// largeCall is how many operations make a call bulk.
const largeCall = 100

func (q *queue) len() int { return len(q.single) + len(q.bulk) }

// push adds a request.
func (q *queue) push(r *request.Request) {
	q.turn++
	r.Turn = q.turn
	if !r.Answered() || r.Size() > largeCall || r.Clears() || len(q.keys) > 0 && q.inBulk(r) {
		q.bulk = append(q.bulk, r)
		q.count(r, 1)
	} else {
		q.single = append(q.single, r)
	}
}

// take takes off requests of up to ops operations; where both lines wait, up to half as
// many of single calls, and of bulk at least one request, whatever its size. It looks no
// further than it takes.
func (q *queue) take(ops int) []*request.Request {
	var taken []*request.Request
	room := ops
	if len(q.bulk) > 0 {
		room -= ops / 2
	}
	taken, room = q.takeSingle(taken, room)
	if len(q.bulk) > 0 {
		room += ops / 2
	}
	first := true
	for len(q.bulk) > 0 && (len(q.single) == 0 || q.single[0].Turn > q.bulk[0].Turn) {
		r := q.bulk[0]
		if !r.Withdrawn() {
			if !first && r.Size() > room || apart(taken, r) {
				break
			}
			taken, room, first = append(taken, r), room-r.Size(), false
		}
		q.count(r, -1)
		q.bulk = behind(q.bulk)
	}
	if room > 0 {
		taken, _ = q.takeSingle(taken, room)
	}
	return taken
}

func (q *queue) takeSingle(taken []*request.Request, room int) ([]*request.Request, int) {
	for len(q.single) > 0 {
		r := q.single[0]
		if !r.Withdrawn() {
			if len(taken) > 0 && r.Size() > room || apart(taken, r) {
				break
			}
			taken, room = append(taken, r), room-r.Size()
		}
		q.single = behind(q.single)
	}
	return taken, room
}

// apart reports whether a request cannot go with what is taken: outcomes of
// transactions are read by a command of their own.
func apart(taken []*request.Request, r *request.Request) bool {
	return len(taken) > 0 && taken[0].Recalls() != r.Recalls()
}

// behind is what comes behind the first.
func behind(requests []*request.Request) []*request.Request {
	requests[0] = nil
	if len(requests) == 1 {
		return nil
	}
	return requests[1:]
}

// putBack puts what was taken last back in front. The single calls that came meanwhile
// join bulk, as one may have come for a key that is in bulk again.
func (q *queue) putBack(taken []*request.Request) {
	for _, r := range slices.Concat(taken, q.single) {
		q.count(r, 1)
	}
	if len(q.single) > 0 {
		q.bulk = append(q.single, q.bulk...)
		slices.SortFunc(q.bulk, func(a, b *request.Request) int { return cmp.Compare(a.Turn, b.Turn) })
		q.single = nil
	}
	q.bulk = append(taken[:len(taken):len(taken)], q.bulk...)
}

// drop lets go of requests whose callers have withdrawn.
func (q *queue) drop() {
	q.single = slices.DeleteFunc(q.single, (*request.Request).Withdrawn)
	q.bulk = slices.DeleteFunc(q.bulk, func(r *request.Request) bool {
		gone := r.Withdrawn()
		if gone {
			q.count(r, -1)
		}
		return gone
	})
}

// drain takes out everything.
func (q *queue) drain() []*request.Request {
	left := append(q.single, q.bulk...)
	*q = queue{turn: q.turn}
	return left
}

// inBulk reports whether bulk holds an operation of one of the request's keys, or a
// Clear, which is of all and has none.
func (q *queue) inBulk(r *request.Request) bool {
	if q.keys[""] > 0 {
		return true
	}
	if r.Parts == nil {
		return q.keys[r.Key] > 0
	}
	return slices.ContainsFunc(r.Parts, func(o verb.Keyed) bool { return q.keys[o.Key] > 0 })
}

func (q *queue) count(r *request.Request, n int) {
	if q.keys == nil {
		q.keys = map[string]int{}
	}
	if r.Parts == nil {
		q.add(r.Key, n)
	}
	for i := range r.Parts {
		q.add(r.Parts[i].Key, n)
	}
}

func (q *queue) add(key string, n int) {
	if left := q.keys[key] + n; left > 0 {
		q.keys[key] = left
	} else {
		delete(q.keys, key)
	}
}
