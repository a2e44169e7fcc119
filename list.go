package distkit

import (
	"cmp"
	"container/heap"
	"context"
	"fmt"
	"iter"
	"slices"

	"github.com/distkit/distkit-go/internal/verb"
)

// Entry is a counter that All or Top has found.
type Entry struct {
	Key Key
	N   int64
}

// All implements Counter.
func (c *counter) All(ctx context.Context) iter.Seq2[Entry, error] {
	return func(yield func(Entry, error) bool) {
		if err := c.each(ctx, yield); err != nil {
			yield(Entry{}, err)
		}
	}
}

// each hands every counter to take, and those that cannot be read with why, until
// take returns false. The error is what kept it from the rest.
func (c *counter) each(ctx context.Context, take func(Entry, error) bool) error {
	if err := c.ready(ctx); err != nil {
		return err
	}
	return c.space.List(ctx, func(name string, r verb.Result) bool {
		err := r.Err
		if _, invalid := ParseKey(name); invalid != nil { // somebody else's field
			err = notApplied(invalid)
		}
		if err != nil {
			return take(Entry{Key: Key{name}}, verb.Named(name, err))
		}
		return take(Entry{Key{name}, r.N}, nil)
	})
}

// Top implements Counter.
func (c *counter) Top(ctx context.Context, n int) ([]Entry, error) {
	if n <= 0 {
		return nil, notApplied(fmt.Errorf("distkit: Top(%d): ask for 1 counter at least", n))
	}
	top, unread := topmost{at: map[Key]int{}}, unreadable{}
	err := c.each(ctx, func(e Entry, err error) bool {
		if err != nil {
			unread.note(err)
		} else {
			top.offer(e, n)
		}
		return true
	})
	if err != nil {
		return nil, err
	}
	slices.SortFunc(top.entries, func(a, b Entry) int { return compareRanks(b, a) })
	if unread.number > 0 {
		return top.entries, &unread
	}
	return top.entries, nil
}

// compareRanks compares how far up two entries are: by value, and by key, the first of
// which is further up.
func compareRanks(a, b Entry) int {
	return cmp.Or(cmp.Compare(a.N, b.N), cmp.Compare(b.Key.name, a.Key.name))
}

// topmost are the entries that are furthest up, a heap, the last of them on top. An
// entry that comes again counts by the larger of its values: were it the later one,
// another that had to make room for it could be missing.
type topmost struct {
	entries []Entry
	at      map[Key]int
}

func (t *topmost) offer(e Entry, most int) {
	at, known := t.at[e.Key]
	switch {
	case known && e.N > t.entries[at].N:
		t.entries[at].N = e.N
		heap.Fix(t, at)
	case known:
	case len(t.entries) < most:
		heap.Push(t, e)
	case compareRanks(e, t.entries[0]) > 0:
		delete(t.at, t.entries[0].Key)
		t.entries[0], t.at[e.Key] = e, 0
		heap.Fix(t, 0)
	}
}

// Len implements heap.Interface.
func (t *topmost) Len() int { return len(t.entries) }

// Less implements heap.Interface.
func (t *topmost) Less(i, j int) bool { return compareRanks(t.entries[i], t.entries[j]) < 0 }

// Swap implements heap.Interface.
func (t *topmost) Swap(i, j int) {
	t.entries[i], t.entries[j] = t.entries[j], t.entries[i]
	t.at[t.entries[i].Key], t.at[t.entries[j].Key] = i, j
}

// Push implements heap.Interface.
func (t *topmost) Push(e any) {
	entry := e.(Entry)
	t.at[entry.Key] = len(t.entries)
	t.entries = append(t.entries, entry)
}

// Pop implements heap.Interface. Nothing is popped: what is replaced is fixed.
func (t *topmost) Pop() any { panic("distkit: nothing is popped") }

// unreadable are the counters that could not be read among others that could.
type unreadable struct {
	number int
	first  error
}

func (u *unreadable) note(err error) {
	if u.number == 0 {
		u.first = err
	}
	u.number++
}

// Error counts them and shows the first.
func (u *unreadable) Error() string {
	return fmt.Sprintf("distkit: %d of the counters could not be read, the first: %s", u.number, verb.Bare(u.first))
}

// Unwrap is the first error.
func (u *unreadable) Unwrap() error { return u.first }
