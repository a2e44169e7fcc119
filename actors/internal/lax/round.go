package lax

import (
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/distkit/distkit-go/internal/barrier"
	"github.com/distkit/distkit-go/internal/fold"
	"github.com/distkit/distkit-go/internal/ledger"
	"github.com/distkit/distkit-go/internal/request"
	"github.com/distkit/distkit-go/internal/trace"
	"github.com/distkit/distkit-go/internal/verb"
)

// round is one trip of the flush coordinator to Redis: mutations gathered from
// their keys and frozen into calls.
//
//	gathering ─► frozen ─► (sent ─► returned)… ─► landed ─► recycled
//
// It stays one of the coordinator's rounds, through failures and restarts,
// until every call in it has an answer. Its memory serves another round when
// the last of its keys has taken in what became of its change.
type round struct {
	slots   []slot
	clears  bool               // a round of Clears:
	wipes   []*request.Request // those that wait for it
	missing atomic.Int32       // keys that have not yet answered the gather
	frozen  bool
	calls   []*call

	dirtied time.Time // when the first of its keys became dirty; zero if it has Dels only
	begun   time.Time // for the watcher

	inFlight bool
	failing  bool   // the last attempt failed
	step     uint64 // the step at which it returned

	users   atomic.Int32 // the coordinator, and keys that have yet to handle their landing
	ops     []verb.Keyed
	results []verb.Result
}

// flushOps bounds the operations of a script call of a flush. Reads that somebody
// waits for come between two of them.
const flushOps = 500

// roundSize bounds the keys of one round. A large flush is several rounds, so
// that the keys of one are gathered, and those of another land, while Redis works
// on a third.
const roundSize = 3 * flushOps

// maxRounds bounds the rounds under way at a time; each has a connection.
const maxRounds = 2

var rounds = sync.Pool{New: func() any { return new(round) }}

// newRound returns a round for Dels and for the changes of dirty keys.
func newRound(dels []urgentDel, dirty []*key) *round {
	r := freshRound(len(dels) + len(dirty))
	for i, d := range dels {
		s := &r.slots[i]
		s.key, s.mutation.Change, s.del, s.gathered = d.key, d.mutation.Change, d.mutation, true
	}
	for i, key := range dirty {
		r.slots[len(dels)+i].key = key
	}
	return r
}

// newWipeRound returns a round that carries out Clears: every key drops what is
// pending, then the container goes.
func newWipeRound(wipes []*request.Request, keys []*key) *round {
	r := freshRound(len(keys))
	r.clears, r.wipes = true, wipes
	for i, key := range keys {
		r.slots[i].key = key
	}
	return r
}

func freshRound(size int) *round {
	r := rounds.Get().(*round)
	if cap(r.slots) < size {
		r.slots = make([]slot, size)
	}
	r.slots = r.slots[:size]
	for i := range r.slots {
		r.slots[i].round = r
	}
	r.users.Store(1)
	return r
}

// release lets go of the round's memory when nobody uses it any longer.
func (r *round) release() {
	if r.users.Add(-1) > 0 || cap(r.slots) > roundSize {
		return
	}
	clear(r.slots)
	clear(r.ops)
	clear(r.results)
	*r = round{slots: r.slots[:0], ops: r.ops[:0], results: r.results[:0]}
	rounds.Put(r)
}

// slot is one key's part in a round. Its key's actor fills it, then arrives; the
// coordinator fills in the result, and the actor takes it.
type slot struct {
	round    *round
	key      *key
	mutation mutation
	del      *mutation        // for a Del, which its key has sent by itself: the mutation there
	cover    *barrier.Barrier // the Flush that waits for all that the key has when it is gathered
	result   verb.Result
	sent     time.Duration // when the change left: the total is not older
	step     uint64        // the step at which the result came
	aged     time.Duration // how old the view was that the result makes young; 0 if nobody had needed it
	gathered bool
	late     bool // it was in flight for longer than AllowedLag: what its key has accepted meanwhile is to go at once
	told     bool // the key has been sent its landing
	taken    bool // the key has taken it in
}

// flight is the mutation as its key knows it.
func (s *slot) flight() *mutation {
	if s.del != nil {
		return s.del
	}
	return &s.mutation
}

// call is a frozen batch and the slots whose mutations it carries: none, for
// Clears.
type call struct {
	*ledger.Batch
	slots  []*slot
	frees  bool // somebody waits for it, and it is lost to nobody if Redis refuses it
	landed bool

	id       uint64 // for the watcher; 0 until its first attempt has ended
	attempts int    // that have ended, for the watcher
}

type (
	// gather asks a key for its pending change, or, in a round of Clears, to drop it.
	gather struct{ *slot }
	// landing tells a key the fate of the mutation that was in flight.
	landing struct{ *slot }
)

// freeze makes calls of what was gathered, each a batch of its own lane, of at most
// flushOps operations: Dels by themselves, since Redis takes them when it takes
// nothing else; then increments, those last of which the total is not needed.
func (r *round) freeze(book *ledger.Book) {
	r.frozen = true
	if len(r.wipes) > 0 {
		r.add(book, []verb.Keyed{{Op: verb.Op{Kind: verb.Clear}}}, nil, true)
		return
	}
	dels, full := make([]*slot, 0, len(r.slots)), make([]*slot, 0, len(r.slots))
	for i := range r.slots {
		if r.slots[i].mutation.Kind == fold.Remove {
			dels = append(dels, &r.slots[i])
		}
	}
	for _, silent := range []bool{false, true} { // the order in which calls want them
		for i := range r.slots {
			if m := &r.slots[i].mutation; m.Kind != fold.Nothing && m.Kind != fold.Remove && m.silent == silent {
				full = append(full, &r.slots[i])
			}
		}
	}
	r.ops = slices.Grow(r.ops, len(dels)+len(full))
	r.results = slices.Grow(r.results, len(dels)+len(full))[:len(dels)+len(full)]
	r.freezeSlots(book, dels, true)
	r.freezeSlots(book, full, false)
}

func (r *round) freezeSlots(book *ledger.Book, slots []*slot, frees bool) {
	for part := range slices.Chunk(slots, flushOps) {
		from := len(r.ops)
		for _, s := range part {
			r.ops = append(r.ops, verb.Keyed{Key: s.key.Name, Op: s.mutation.Op(), Silent: s.mutation.silent})
		}
		c := r.add(book, r.ops[from:], part, frees)
		c.Results = r.results[from:from:len(r.ops)]
	}
}

func (r *round) add(book *ledger.Book, ops []verb.Keyed, slots []*slot, frees bool) *call {
	c := &call{Batch: book.NewBatch(ops, nil, nil), slots: slots, frees: frees}
	if frees {
		c.Light()
	}
	r.calls = append(r.calls, c)
	return c
}

// open returns the calls that have no answer yet.
func (r *round) open() []*call {
	var open []*call
	for _, c := range r.calls {
		if !c.landed {
			open = append(open, c)
		}
	}
	return open
}

// doubt marks the changes of a call as those that Redis may have.
func (r *round) doubt(call *call) {
	for _, s := range call.slots {
		s.flight().ambiguous = true
	}
	if call.slots == nil { // Clears
		for i := range r.slots {
			r.slots[i].mutation.ambiguous = true
		}
	}
}

// told is the round as the watcher is told of it.
func (r *round) told() trace.Round {
	told := trace.Round{Keys: len(r.slots), Batches: len(r.calls), Start: r.begun, Duration: time.Since(r.begun)}
	for i := range r.slots {
		if aged := r.slots[i].aged; aged > 0 {
			told.ViewAge = max(told.ViewAge, aged+told.Duration)
		}
	}
	return told
}

// kindName is what the watcher knows lax counters by, whatever shard they are on.
const kindName = "lax"

// attempted tells the watcher of an attempt at calls that has ended, on the goroutine
// that made it.
func attempted(watcher *trace.Watcher, calls []*call, start time.Time) {
	took := time.Since(start)
	for _, c := range calls {
		if c.attempts++; c.id == 0 {
			c.id = watcher.Number()
		}
		watcher.Attempted(trace.Attempt{
			ID: c.id, Kind: kindName, Size: len(c.Ops), Number: c.attempts,
			Resend: c.InDoubt, Class: c.Class, Status: c.Status, Err: c.Err, Start: start, Duration: took,
		})
	}
}
