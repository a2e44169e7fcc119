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
	Lifetime time.Duration // of the ledgers

	lanes []*lane
	free  []*lane

	// seen is a moment at which the container was there, for all that its writer
	// has been told; zero where it need not be. acked counts the batches
	// acknowledged since it last was not.
	seen  time.Time
	acked int64
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
	full    error     // what Redis said before it was asked to run it in spite of that
}

// Reason says what of the data a writer had been told was stored is not there.
type Reason uint8

// The reasons.
const (
	RolledBack   Reason = iota // the ledger is behind what was acknowledged
	CountersGone               // the container has vanished
	LedgerGone                 // only the ledger has vanished, and a batch was in doubt
)

// Loss is what Redis has lost.
type Loss struct {
	Reason       Reason
	Acknowledged int64     // batches acknowledged: by the ledger, or since the container was last whole
	Found        int64     // those of them that Redis knows of
	Since        time.Time // when it was last known to have them all
}

// NewBatch makes the next batch of a lane that is free. Its operations are ops, or
// what gather and claim make final when it leaves (see redisio.Call).
func (k *Book) NewBatch(ops []verb.Keyed, gather func() []verb.Keyed, claim func() bool) *Batch {
	b := &Batch{book: k}
	b.At, b.Lifetime, b.Nonce = k.At, k.Lifetime, nonce()
	b.Ops, b.Gather, b.Claim = ops, gather, claim
	if last := len(k.free) - 1; last >= 0 {
		b.take(k.free[last])
		k.free = k.free[:last]
	} else {
		b.take(k.newLane())
	}
	return b
}

// Light says that no operation of the batch needs memory in Redis.
func (b *Batch) Light() { b.light = true }

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
	b.Known = !b.book.seen.IsZero()
	if !b.InDoubt {
		b.sent = time.Now()
	}
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

func (b *Batch) judge() Verdict {
	if b.Class == redisio.NoScript {
		b.Text = true
		return Again
	}
	switch b.Task {
	case redisio.Open:
		return b.opened()
	case redisio.Fence:
		return b.fenced()
	case redisio.Bare:
		return b.bare()
	case redisio.Apply, redisio.Read, redisio.Retire:
	}
	return b.applied()
}

func (b *Batch) opened() Verdict {
	switch b.Class {
	case redisio.Answered:
		b.lane.open, b.Task = true, redisio.Apply
		return Again
	case redisio.Unknown:
		b.lane.doubted = true
		return Thaw // it is not the batch that is in doubt
	case redisio.Full:
		return b.overFull()
	case redisio.Refused:
		return b.refuse()
	case redisio.NotYet, redisio.Moving, redisio.NoScript:
	}
	return Thaw
}

func (b *Batch) applied() Verdict {
	switch b.Class {
	case redisio.Answered:
		return b.answered()
	case redisio.Unknown:
		b.InDoubt, b.lane.doubted = true, true
		return Keep
	case redisio.NotYet, redisio.Refused, redisio.Full, redisio.Moving, redisio.NoScript:
	}
	switch {
	case b.Class == redisio.Moving && !b.Unmarked:
		b.Unmarked = true // the mark may be the key that is not there
		return Again
	case b.InDoubt:
		return Keep
	case b.Class == redisio.Moving && b.lane.acked == 0:
		b.Task = redisio.Bare // the ledger went to the other node, and a new one would
		return Again
	case b.Class == redisio.Full:
		return b.overFull()
	case b.Class == redisio.Refused:
		return b.refuse()
	default:
		return Thaw
	}
}

// overFull has a batch that needs no memory run though there is none.
func (b *Batch) overFull() Verdict {
	if !b.light || b.OverFull {
		return b.refuse()
	}
	b.OverFull, b.full = true, b.Err
	return Again
}

// refuse gives the cause: a Redis that cannot run a script over full memory
// cannot even read one that asks for it.
func (b *Batch) refuse() Verdict {
	if b.full != nil {
		b.Err = b.full
	}
	return Refuse
}

// answered reads the script's answer to a numbered batch.
func (b *Batch) answered() Verdict {
	switch {
	case b.Status == redisio.Done:
		b.lane.acked, b.lane.nonce = b.Seq, b.Nonce
		b.note()
		return Done
	case b.Status == redisio.Gap && b.Last == redisio.NoLedger:
		if b.Vanished() && !b.onPurpose() {
			b.lose(CountersGone)
		} else if b.InDoubt {
			b.lose(LedgerGone)
		}
		if b.InDoubt {
			return b.giveUp(errLedgerGone)
		}
	case b.Status == redisio.Gap:
		b.lose(RolledBack)
		if b.InDoubt {
			// Late copies of the batches before it could bring the old ledger to
			// where a late copy of it passes too.
			b.Task = redisio.Fence
			return Again
		}
	case b.InDoubt: // a conflict: it may be ours that is in, or theirs
		return b.giveUp(errConflict)
	}
	b.move()
	return Again
}

// bare is the end of an attempt without a ledger, which is the only one.
func (b *Batch) bare() Verdict {
	switch b.Class {
	case redisio.Answered:
		b.note()
		return Done
	case redisio.Unknown:
		return b.giveUp(b.Err)
	case redisio.Refused, redisio.Full:
		return b.refuse()
	case redisio.NotYet, redisio.Moving, redisio.NoScript:
	}
	b.Task = redisio.Apply
	return Thaw
}

// fenced looks at where the ledger stood. No copy of the batch passes any more.
func (b *Batch) fenced() Verdict {
	switch {
	case b.Class != redisio.Answered:
		return Keep
	case b.Last == redisio.NoLedger:
		return b.giveUp(errLedgerGone)
	case b.Last == b.Seq && b.LastNonce == b.Nonce:
		b.book.drop(b.lane)
		b.note()
		return Done
	case b.Last >= b.Seq:
		return b.giveUp(errConflict)
	}
	b.move()
	b.InDoubt = false
	return Again
}

// giveUp ends a batch of which nobody will know more.
func (b *Batch) giveUp(cause error) Verdict {
	b.book.drop(b.lane)
	b.Err = cause
	return Unknown
}

// note keeps in mind that a batch is in, and what that says of the container.
func (b *Batch) note() {
	k := b.book
	if b.Vanished() && !b.onPurpose() {
		b.lose(CountersGone)
	}
	k.acked++
	switch {
	case !b.Kept:
		k.seen, k.acked = time.Time{}, 0
	case b.sent.After(k.seen):
		k.seen = b.sent
	}
}

// clocks is how far the age of a mark, which Redis counts in milliseconds, may
// seem to go back behind what we have seen before it was left.
const clocks = 2 * time.Millisecond

// onPurpose reports whether somebody has emptied the container since it was seen.
func (b *Batch) onPurpose() bool {
	seen := b.book.seen
	if seen.IsZero() {
		seen = b.sent
	}
	return b.Emptied && b.EmptiedAgo <= time.Since(seen)+clocks
}

// lose notes a loss; what is there from now on is all that there is.
func (b *Batch) lose(reason Reason) {
	k := b.book
	loss := &Loss{Reason: reason, Acknowledged: b.lane.acked, Since: k.seen}
	switch reason {
	case RolledBack:
		loss.Found = b.Last
	case CountersGone:
		loss.Acknowledged = k.acked
	case LedgerGone:
	}
	if reason != LedgerGone {
		k.seen, k.acked = time.Time{}, 0
	}
	b.Loss = loss
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

// OfRead is what the end of an attempt at a batch of reads means: nothing of it is
// ever in doubt.
func OfRead(call *redisio.Call) Verdict {
	switch call.Class {
	case redisio.Answered:
		if call.Status == redisio.None {
			return Pending
		}
		return Done
	case redisio.Refused, redisio.Full:
		return Refuse
	case redisio.Unknown, redisio.NotYet, redisio.Moving, redisio.NoScript:
	}
	return Thaw
}
