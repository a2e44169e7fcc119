package ledger

import (
	"errors"

	"github.com/distkit/distkit-go/internal/redisio"
)

// What the end of an attempt means. docs/DESIGN.md has it as a table.

var (
	errLedgerGone = errors.New("redis lost the ledger of the writer (it expired, or was evicted or deleted) while no reply to the batch had come")
	errConflict   = errors.New("another writer has used the ledger of the batch while no reply to it had come")
)

func (b *Batch) judge() Verdict {
	if b.Repeated { // by a hook of the client: of the other copies we have not heard
		b.InDoubt, b.lane.doubted = b.InDoubt || b.Task == redisio.Apply, true
	}
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
	case redisio.Apply, redisio.Read, redisio.Scan, redisio.Recall, redisio.Retire:
	}
	return b.applied()
}

func (b *Batch) opened() Verdict {
	switch b.Class {
	case redisio.Answered:
		if b.Repeated { // as below
			b.move()
			return Again
		}
		b.lane.open, b.Task = true, redisio.Apply
		return Again
	case redisio.Unknown:
		// A late copy would bring the ledger back if it vanished, and a batch that
		// had been in would pass once more. The batch itself is not in doubt.
		b.move()
		return Thaw
	case redisio.Full:
		return b.overFull()
	case redisio.Refused, redisio.Closed:
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
	case redisio.Closed:
		if b.InDoubt {
			return b.giveUp(b.Err)
		}
		return b.refuse()
	case redisio.NotYet, redisio.Refused, redisio.Full, redisio.Moving, redisio.NoScript:
	}
	switch {
	case b.Class == redisio.Moving && !b.Unmarked:
		b.Unmarked = true // the mark may be the key that is not there
		return Again
	case b.Class == redisio.Full && b.light && !b.OverFull:
		return b.overFull()
	case b.InDoubt:
		if b.OverFull && b.Class == redisio.Refused { // maybe it was only that
			b.OverFull, b.Err = false, b.full
		}
		return Keep
	case b.Class == redisio.Moving && b.lane.acked == 0:
		b.Task = redisio.Bare // the ledger went to the other node, and a new one would
		return Again
	case b.Class == redisio.Full, b.Class == redisio.Refused:
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
		if b.vanished() {
			b.lose(CountersGone)
		} else if b.InDoubt {
			b.lose(LedgerGone)
		}
		if b.InDoubt {
			return b.giveUp(errLedgerGone)
		}
		// An older lane, if there is one, tells whether Redis fell back to before
		// this one was opened.
		b.book.drop(b.lane)
		b.take(b.book.freeLane())
		return Again
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
	case redisio.Full:
		return b.overFull()
	case redisio.Refused, redisio.Closed:
		return b.refuse()
	case redisio.NotYet, redisio.Moving, redisio.NoScript:
	}
	b.Task = redisio.Apply
	return Thaw
}

// fenced looks at where the ledger stood. No copy of the batch passes any more.
func (b *Batch) fenced() Verdict {
	switch {
	case b.Class == redisio.Closed:
		return b.giveUp(b.Err)
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

// OfRead is what the end of an attempt at a batch of reads means: nothing of it is
// ever in doubt.
func OfRead(call *redisio.Call) Verdict {
	switch call.Class {
	case redisio.Answered:
		if call.Status == redisio.None {
			return Pending
		}
		return Done
	case redisio.Refused, redisio.Full, redisio.Closed:
		return Refuse
	case redisio.Unknown, redisio.NotYet, redisio.Moving, redisio.NoScript:
	}
	return Thaw
}
