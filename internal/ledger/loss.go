package ledger

import "time"

// What the ends of attempts show of the data: that it is there, or lost.

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

// note keeps in mind that a batch is in, and what that says of the container.
func (b *Batch) note() {
	k := b.book
	if b.vanished() {
		b.lose(CountersGone)
	}
	k.acked++
	switch {
	case !b.Kept, b.Replayed && !b.Existed: // it is not there, or no more
		k.unsee()
	case b.sent.After(k.seen):
		k.seen = b.sent
	}
}

// sight is what a book knew of the container at some time.
type sight struct {
	seen time.Time
	ends int64
}

func (s sight) known() bool { return !s.seen.IsZero() }

// vanished reports whether the attempt shows that the container has vanished, which
// nobody meant, and nobody has been told: the end of another batch that was under
// way at the same time may have said so, or have emptied it. A replay may show that it
// had before the batch came, which has made another.
func (b *Batch) vanished() bool {
	from := b.last
	if b.Replayed && !b.VanishedSince() {
		from = b.came
	}
	told := !b.VanishedSince() && (from.ends != b.book.ends || !from.known())
	return b.Vanished() && !told && !b.onPurpose(from) && !b.expired()
}

// expired reports whether the container may have come to its end: Redis's clock may be
// ahead of ours by a minute.
func (b *Batch) expired() bool {
	end := b.At.Expires
	return !end.IsZero() && time.Until(end) < time.Minute
}

// unsee notes that the container need not be there any more.
func (k *Book) unsee() { k.seen, k.acked, k.ends = time.Time{}, 0, k.ends+1 }

// clocks is how far the age of a mark, which Redis counts in milliseconds, may
// seem to go back behind what we have seen before it was left.
const clocks = 2 * time.Millisecond

// onPurpose reports whether somebody has emptied the container since it was seen: by
// what was known when an attempt was made, for others have ended since.
func (b *Batch) onPurpose(from sight) bool {
	seen := from.seen
	if !from.known() {
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
		k.unsee()
	}
	b.Loss = loss
}
