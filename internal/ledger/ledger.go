// Package ledger keeps the books of a writer: which batch of which lane is under
// way, and what the end of an attempt at it means. It decides; the writers, strict
// and lax, do what it says.
//
//	open ─► apply ─┬─► Done
//	               ├─► Again    at once: with the text, on a fresh lane, fenced, …
//	               ├─► Keep     it may be in: the same again when Redis is back
//	               ├─► Thaw     it is not in, Redis is away: when it is back, or never
//	               ├─► Refuse   it is not in, and Redis says why it will not be
//	               └─► Unknown  nobody will ever know
//
// Invariants:
//   - A lane has one batch under way at most. Its ledger in Redis stands at the
//     last one applied, with that one's nonce.
//   - A batch is applied only on a ledger that is there: a lane is opened before its
//     first batch leaves. So a ledger that is missing has vanished, and what was in
//     doubt then is never applied again. No clock decides anything.
//   - A batch in doubt is sent under its number and nonce only, until the answer
//     shows what became of it.
package ledger

import (
	"crypto/rand"
	"encoding/binary"
	"encoding/hex"
	"time"

	"github.com/distkit/distkit-go/internal/redisio"
	"github.com/distkit/distkit-go/internal/verb"
)

// Verdict is what the end of an attempt means for the batch.
type Verdict uint8

// The verdicts.
const (
	Pending Verdict = iota // no attempt has ended since the last was begun
	Done                   // Results are those of the operations
	Again                  // send it at once
	Keep                   // it may have been applied: send it when Redis is back
	Thaw                   // it was not applied: send it when Redis is back, or let it go
	Refuse                 // it was not applied, and Redis refuses it: Err says why
	Unknown                // it may have been applied, and nobody will ever know: Err says why
)

// Book is what the writer of a container knows of it. It belongs to the writer's
// actor.
type Book struct {
	At       *redisio.Container
	Lifetime time.Duration    // of the ledgers
	Replicas redisio.Replicas // which are to have each batch

	lanes []*lane
	free  []*lane

	// seen is a moment at which the container was there, for all that its writer
	// has been told; zero where it need not be. acked counts the batches
	// acknowledged since it last was not.
	seen  time.Time
	acked int64
	ends  int64 // how often seen ended: a loss was told, or somebody emptied it
}

// lane numbers the batches of one writer id, which was never used before.
type lane struct {
	id      string
	open    bool   // its ledger was there
	acked   int64  // the last batch known to be applied
	nonce   uint64 // its nonce, or that of the opening
	doubted bool   // some attempt went without an answer: late copies may be about
}

func newLane() *lane {
	var id [12]byte
	_, _ = rand.Read(id[:]) // never fails: see there
	return &lane{id: hex.EncodeToString(id[:]), nonce: nonce()}
}

// nonce is 64 random bits, never from a generator of the process's own: one that
// is cloned would give them twice.
func nonce() uint64 {
	var b [8]byte
	_, _ = rand.Read(b[:])
	return binary.LittleEndian.Uint64(b[:])
}

// Batch is a batch on its way. While an attempt is under way it belongs to the
// goroutine that sends it.
type Batch struct {
	redisio.Call
	book *Book
	lane *lane

	// InDoubt: some attempt may have been applied.
	InDoubt bool
	// Loss is what an attempt showed to be lost, and nobody has been told yet; nil
	// if nothing.
	Loss *Loss

	light   bool // it needs no memory
	ended   bool // verdict is that of the last attempt
	verdict Verdict
	sent    time.Time // the first attempt that may have been applied
	came    sight     // what the book knew when that was made
	last    sight     // and when the last attempt was
	full    error     // what Redis said before it was asked to run it in spite of that
}

// NewBatch makes the next batch of a lane that is free. Its operations are ops, or
// what gather and claim make final when it leaves (see redisio.Call).
func (k *Book) NewBatch(ops []verb.Keyed, gather func() []verb.Keyed, claim func() bool) *Batch {
	b := &Batch{book: k}
	b.At, b.Lifetime, b.Replicas, b.Nonce = k.At, k.Lifetime, k.Replicas, nonce()
	b.Ops, b.Gather, b.Claim = ops, gather, claim
	b.take(k.freeLane())
	return b
}

// Light says that no operation of the batch needs memory in Redis.
func (b *Batch) Light() { b.light = true }

// freeLane is a lane that no batch is under way on.
func (k *Book) freeLane() *lane {
	last := len(k.free) - 1
	if last < 0 {
		return k.newLane()
	}
	l := k.free[last]
	k.free = k.free[:last]
	return l
}

func (k *Book) newLane() *lane {
	l := newLane()
	k.lanes = append(k.lanes, l)
	return l
}

// take makes the batch the lane's next.
func (b *Batch) take(l *lane) {
	b.lane = l
	b.Writer, b.Seq, b.Previous, b.Task = l.id, l.acked+1, l.nonce, redisio.Apply
	if !l.open {
		b.Task = redisio.Open
	}
}

// move gives the batch to a fresh lane, and lets its old one go.
func (b *Batch) move() {
	b.book.drop(b.lane)
	b.take(b.book.newLane())
}

func (k *Book) drop(l *lane) {
	kept := k.lanes[:0]
	for _, other := range k.lanes {
		if other != l {
			kept = append(kept, other)
		}
	}
	k.lanes = kept
}

// Release gives the lane back of a batch that will not be sent any more, and is not
// in doubt. The last thing to do with it.
func (b *Batch) Release() {
	if b.verdict != Unknown && b.Task != redisio.Fence {
		b.book.free = append(b.book.free, b.lane)
	}
}

// Sending notes that an attempt is about to be made.
func (b *Batch) Sending() {
	b.ended, b.verdict = false, Pending
	b.last = sight{b.book.seen, b.book.ends}
	if !b.InDoubt {
		b.sent, b.came = time.Now(), b.last
	}
	b.Known = b.came.known() || b.last.known()
}

// Sent is when the first attempt was made that may have been applied: what the
// batch answers is not older.
func (b *Batch) Sent() time.Time { return b.sent }

// Ended takes in how the attempt has ended, and says what is to be done. It takes
// that in once: asked again before the next attempt, it says the same.
func (b *Batch) Ended() Verdict {
	if !b.ended {
		b.ended = true
		b.verdict = b.judge()
	}
	return b.verdict
}

// Retire returns the calls that shorten the lives of the ledgers of all lanes no
// late copy of whose batches can be about.
func (k *Book) Retire() []*redisio.Call {
	var calls []*redisio.Call
	for _, l := range k.lanes {
		if l.open && !l.doubted {
			calls = append(calls, &redisio.Call{Task: redisio.Retire, At: k.At, Writer: l.id})
		}
	}
	return calls
}
