package ledger

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/distkit/distkit-go/internal/redisio"
	"github.com/distkit/distkit-go/internal/verb"
	"github.com/stretchr/testify/require"
)

// What each end of an attempt means: every task, class and status, in doubt or not.

// sender is a redisio.Sender that is a function.
type sender func(*redisio.Call) redisio.Reply

func (s sender) send(calls ...*redisio.Call) {
	for _, c := range calls {
		c.Reply = s(c)
	}
}

// attempt makes one attempt at a batch, which ends so.
func attempt(b *Batch, end redisio.Reply) Verdict {
	b.Sending()
	sender(func(*redisio.Call) redisio.Reply { return end }).send(&b.Call)
	return b.Ended()
}

// What becomes of the batch's lane.
type fate uint8

const (
	same  fate = iota
	fresh      // the batch is given to a fresh one, which is to be opened
	gone       // it is not used any more
)

// row is an end of an attempt and what it means.
type row struct {
	task redisio.Task
	end  redisio.Reply

	verdict Verdict
	next    redisio.Task // the batch's from then on
	lane    fate
	doubt   bool // the batch is in doubt from then on
	doubted bool // and so is its lane
	loss    *Reason
	change  func(*Batch) bool // what else is so from then on
}

var (
	errEnd = errors.New("so it ended")

	opened   = redisio.Reply{Status: redisio.Opened}
	applied  = redisio.Reply{Status: redisio.Done, Existed: true, Before: true, Kept: true, Results: []verb.Result{{N: 1}}}
	behind   = redisio.Reply{Status: redisio.Gap, Last: 1, Existed: true}
	noLedger = redisio.Reply{Status: redisio.Gap, Last: redisio.NoLedger, Existed: true}
	vanished = redisio.Reply{Status: redisio.Gap, Last: redisio.NoLedger}
	onPurp   = redisio.Reply{Status: redisio.Gap, Last: redisio.NoLedger, Emptied: true}
	foreign  = redisio.Reply{Status: redisio.Conflict, Existed: true}
)

func fenced(last int64, nonce uint64) redisio.Reply {
	return redisio.Reply{Status: redisio.Fenced, Last: last, LastNonce: nonce}
}

func ended(class redisio.Class) redisio.Reply { return redisio.Reply{Class: class, Err: errEnd} }

// The batch under test is of number 4 and nonce 44, on a lane that stands at 3.
const number, itsNonce, before = 4, 44, 33

func lost(r Reason) *Reason { return &r }

func text(b *Batch) bool     { return b.Text }
func unmarked(b *Batch) bool { return b.Unmarked }
func overFull(b *Batch) bool { return b.OverFull }
func acked(b *Batch) bool    { return b.lane.acked == number && b.lane.nonce == itsNonce }
func notAcked(b *Batch) bool { return b.lane.acked == number-1 && b.lane.nonce == before }
func isOpen(b *Batch) bool   { return b.lane.open }

// certain are the ends of attempts at a batch that is not in doubt.
var certain = []row{
	{task: redisio.Open, end: opened, verdict: Again, next: redisio.Apply, change: isOpen},
	{task: redisio.Open, end: ended(redisio.Unknown), verdict: Thaw, next: redisio.Open, lane: fresh},
	{task: redisio.Open, end: ended(redisio.NotYet), verdict: Thaw, next: redisio.Open},
	{task: redisio.Open, end: ended(redisio.Refused), verdict: Refuse, next: redisio.Open},
	{task: redisio.Open, end: ended(redisio.Full), verdict: Refuse, next: redisio.Open},
	{task: redisio.Open, end: ended(redisio.Moving), verdict: Thaw, next: redisio.Open},
	{task: redisio.Open, end: ended(redisio.Closed), verdict: Refuse, next: redisio.Open},
	{task: redisio.Open, end: ended(redisio.NoScript), verdict: Again, next: redisio.Open, change: text},

	{task: redisio.Apply, end: applied, verdict: Done, change: acked},
	{task: redisio.Apply, end: behind, verdict: Again, next: redisio.Open, lane: fresh, loss: lost(RolledBack)},
	{task: redisio.Apply, end: noLedger, verdict: Again, next: redisio.Open, lane: fresh},
	{task: redisio.Apply, end: vanished, verdict: Again, next: redisio.Open, lane: fresh, loss: lost(CountersGone)},
	{task: redisio.Apply, end: onPurp, verdict: Again, next: redisio.Open, lane: fresh},
	{task: redisio.Apply, end: foreign, verdict: Again, next: redisio.Open, lane: fresh},
	{task: redisio.Apply, end: ended(redisio.Unknown), verdict: Keep, doubt: true, doubted: true, change: notAcked},
	{task: redisio.Apply, end: ended(redisio.NotYet), verdict: Thaw, change: notAcked},
	{task: redisio.Apply, end: ended(redisio.Refused), verdict: Refuse, change: notAcked},
	{task: redisio.Apply, end: ended(redisio.Full), verdict: Refuse, change: notAcked},
	{task: redisio.Apply, end: ended(redisio.Moving), verdict: Again, change: unmarked},
	{task: redisio.Apply, end: ended(redisio.Closed), verdict: Refuse, change: notAcked},
	{task: redisio.Apply, end: ended(redisio.NoScript), verdict: Again, change: text},

	{task: redisio.Bare, end: applied, verdict: Done, next: redisio.Bare, change: notAcked},
	{task: redisio.Bare, end: ended(redisio.Unknown), verdict: Unknown, next: redisio.Bare, lane: gone},
	{task: redisio.Bare, end: ended(redisio.NotYet), verdict: Thaw, change: notAcked},
	{task: redisio.Bare, end: ended(redisio.Refused), verdict: Refuse, next: redisio.Bare},
	{task: redisio.Bare, end: ended(redisio.Full), verdict: Refuse, next: redisio.Bare},
	{task: redisio.Bare, end: ended(redisio.Moving), verdict: Thaw},
	{task: redisio.Bare, end: ended(redisio.Closed), verdict: Refuse, next: redisio.Bare},
	{task: redisio.Bare, end: ended(redisio.NoScript), verdict: Again, next: redisio.Bare, change: text},
}

// doubtful are those of attempts at a batch that is.
var doubtful = []row{
	{task: redisio.Apply, end: applied, verdict: Done, doubt: true, change: acked},
	{task: redisio.Apply, end: behind, verdict: Again, next: redisio.Fence, doubt: true, loss: lost(RolledBack)},
	{task: redisio.Apply, end: noLedger, verdict: Unknown, lane: gone, doubt: true, loss: lost(LedgerGone)},
	{task: redisio.Apply, end: vanished, verdict: Unknown, lane: gone, doubt: true, loss: lost(CountersGone)},
	{task: redisio.Apply, end: onPurp, verdict: Unknown, lane: gone, doubt: true, loss: lost(LedgerGone)},
	{task: redisio.Apply, end: foreign, verdict: Unknown, lane: gone, doubt: true},
	{task: redisio.Apply, end: ended(redisio.Unknown), verdict: Keep, doubt: true, doubted: true},
	{task: redisio.Apply, end: ended(redisio.NotYet), verdict: Keep, doubt: true},
	{task: redisio.Apply, end: ended(redisio.Refused), verdict: Keep, doubt: true},
	{task: redisio.Apply, end: ended(redisio.Full), verdict: Keep, doubt: true},
	{task: redisio.Apply, end: ended(redisio.Moving), verdict: Again, doubt: true, change: unmarked},
	{task: redisio.Apply, end: ended(redisio.Closed), verdict: Unknown, lane: gone, doubt: true},
	{task: redisio.Apply, end: ended(redisio.NoScript), verdict: Again, doubt: true, change: text},

	{task: redisio.Fence, end: fenced(redisio.NoLedger, 0), verdict: Unknown, next: redisio.Fence, lane: gone, doubt: true},
	{task: redisio.Fence, end: fenced(0, 7), verdict: Again, next: redisio.Open, lane: fresh},
	{task: redisio.Fence, end: fenced(number-1, 7), verdict: Again, next: redisio.Open, lane: fresh},
	{task: redisio.Fence, end: fenced(number, itsNonce), verdict: Done, next: redisio.Fence, lane: gone, doubt: true},
	{task: redisio.Fence, end: fenced(number, 7), verdict: Unknown, next: redisio.Fence, lane: gone, doubt: true},
	{task: redisio.Fence, end: fenced(number+1, 7), verdict: Unknown, next: redisio.Fence, lane: gone, doubt: true},
	{task: redisio.Fence, end: ended(redisio.Unknown), verdict: Keep, next: redisio.Fence, doubt: true},
	{task: redisio.Fence, end: ended(redisio.NotYet), verdict: Keep, next: redisio.Fence, doubt: true},
	{task: redisio.Fence, end: ended(redisio.Refused), verdict: Keep, next: redisio.Fence, doubt: true},
	{task: redisio.Fence, end: ended(redisio.Full), verdict: Keep, next: redisio.Fence, doubt: true},
	{task: redisio.Fence, end: ended(redisio.Moving), verdict: Keep, next: redisio.Fence, doubt: true},
	{task: redisio.Fence, end: ended(redisio.Closed), verdict: Unknown, next: redisio.Fence, lane: gone, doubt: true},
	{task: redisio.Fence, end: ended(redisio.NoScript), verdict: Again, next: redisio.Fence, doubt: true, change: text},
}

// underWay is the batch under test, before an attempt at a task.
func underWay(task redisio.Task, inDoubt bool) *Batch {
	book := &Book{At: redisio.NewContainer("p", "strict_counter"), Lifetime: time.Hour}
	l := book.newLane()
	l.open, l.acked, l.nonce = true, number-1, before
	book.free, book.seen, book.acked = []*lane{l}, time.Now().Add(-time.Minute), number-1
	b := book.NewBatch([]verb.Keyed{{Key: "a", Op: verb.Op{Kind: verb.Inc, N: 1}}}, nil, nil)
	b.Nonce, b.Task, b.InDoubt = itsNonce, task, inDoubt
	if task == redisio.Open {
		l.open, l.acked = false, 0
		b.Seq = 1
	}
	return b
}

func TestEnded_meansWhatTheTableSays(t *testing.T) {
	t.Parallel()
	for i, rows := range [][]row{certain, doubtful} {
		inDoubt := i == 1
		for _, r := range rows {
			name := fmt.Sprintf("task %d, class %d, status %d, last %d, in doubt %v", r.task, r.end.Class, r.end.Status, r.end.Last, inDoubt)
			b := underWay(r.task, inDoubt)
			old, book := b.lane, b.book
			require.Equal(t, r.verdict, attempt(b, r.end), name)
			require.Equal(t, r.verdict, b.Ended(), "it takes that in once: %s", name)
			require.Equal(t, r.next, b.Task, name)
			require.Equal(t, r.doubt, b.InDoubt, name)
			switch r.lane {
			case same:
				require.Same(t, old, b.lane, name)
				require.Equal(t, []*lane{old}, book.lanes, name)
			case fresh:
				require.NotSame(t, old, b.lane, name)
				require.Equal(t, []*lane{b.lane}, book.lanes, name)
				require.Equal(t, []any{b.lane.id, int64(1), b.lane.nonce}, []any{b.Writer, b.Seq, b.Previous}, name)
				require.NotEqual(t, old.id, b.lane.id, name)
				require.False(t, b.lane.open || b.lane.doubted || b.lane.acked != 0, name)
			case gone:
				require.Empty(t, book.lanes, name)
			}
			if r.lane == same {
				require.Equal(t, r.doubted, b.lane.doubted, name)
			}
			if r.loss == nil {
				require.Nil(t, b.Loss, name)
			} else {
				require.NotNil(t, b.Loss, name)
				require.Equal(t, *r.loss, b.Loss.Reason, name)
			}
			if r.change != nil {
				require.True(t, r.change(b), name)
			}
			if (r.verdict == Refuse || r.verdict == Unknown) && r.end.Class != redisio.Answered {
				require.Equal(t, errEnd, b.Err, name)
			} else if r.verdict == Unknown {
				require.Error(t, b.Err, name)
			}
		}
	}
}

// The tables hold every class of every task.
func TestEnded_tableIsWhole(t *testing.T) {
	t.Parallel()
	for i, want := range []map[redisio.Task]bool{
		{redisio.Open: true, redisio.Apply: true, redisio.Bare: true},
		{redisio.Apply: true, redisio.Fence: true}, // nothing else is in doubt
	} {
		seen := map[[2]int]bool{}
		for _, r := range [][]row{certain, doubtful}[i] {
			require.True(t, want[r.task])
			seen[[2]int{int(r.task), int(r.end.Class)}] = true
		}
		for task := range want {
			for class := redisio.Answered; class <= redisio.NoScript; class++ {
				require.True(t, seen[[2]int{int(task), int(class)}], "task %d, class %d", task, class)
			}
		}
	}
}

// A batch that another hand repeated at one attempt is in doubt, whatever the last
// copy was told.
func TestEnded_ofACallThatWasRepeated_isInDoubt(t *testing.T) {
	t.Parallel()
	repeated := func(r redisio.Reply) redisio.Reply {
		r.Repeated = true
		return r
	}
	b := underWay(redisio.Apply, false)
	require.Equal(t, Unknown, attempt(b, repeated(noLedger)))
	b = underWay(redisio.Apply, false)
	require.Equal(t, Unknown, attempt(b, repeated(foreign)))
	b = underWay(redisio.Apply, false)
	require.Equal(t, Again, attempt(b, repeated(behind)))
	require.Equal(t, redisio.Fence, b.Task)
	b = underWay(redisio.Apply, false)
	require.Equal(t, Done, attempt(b, repeated(applied)))
	require.True(t, b.lane.doubted)
	b = underWay(redisio.Open, false)
	was := b.lane
	require.Equal(t, Again, attempt(b, repeated(opened)))
	require.NotSame(t, was, b.lane, "a late copy of its opening would bring its ledger back")
	require.Equal(t, redisio.Open, b.Task)
	require.False(t, b.InDoubt)
}

func TestEnded_ofALightBatch_asksForItInSpiteOfFullMemory(t *testing.T) {
	t.Parallel()
	for _, task := range []redisio.Task{redisio.Open, redisio.Apply} {
		b := underWay(task, false)
		b.Light()
		require.Equal(t, Again, attempt(b, ended(redisio.Full)))
		require.True(t, overFull(b))
		require.Equal(t, task, b.Task)
		for _, again := range []redisio.Class{redisio.Refused, redisio.Full} { // Redis 6 cannot even read such a script
			c := underWay(task, false)
			c.Light()
			attempt(c, ended(redisio.Full))
			require.Equal(t, Refuse, attempt(c, redisio.Reply{Class: again, Err: errors.New("cannot read that")}))
			require.Equal(t, errEnd, c.Err, "the cause is what was said first")
		}
	}
}

// In doubt it asks too, since it is carried out once; but it is not refused.
func TestEnded_ofALightBatchInDoubt_asksForItInSpiteOfFullMemory(t *testing.T) {
	t.Parallel()
	b := underWay(redisio.Apply, true)
	b.Light()
	for range 2 {
		require.Equal(t, Again, attempt(b, ended(redisio.Full)))
		require.True(t, overFull(b))
		require.Equal(t, Keep, attempt(b, redisio.Reply{Class: redisio.Refused, Err: errors.New("cannot read that")}))
		require.Equal(t, errEnd, b.Err)
		require.False(t, overFull(b), "a Redis that cannot read such a script may have memory again")
	}
	require.Equal(t, Again, attempt(b, ended(redisio.Full)))
	require.Equal(t, Keep, attempt(b, ended(redisio.Full)))
	require.Equal(t, Done, attempt(b, applied))
}

// While the keys are being moved: first without the mark; a lane that is new then
// without a ledger; a lane that has one waits.
func TestEnded_whileTheKeysAreBeingMoved(t *testing.T) {
	t.Parallel()
	moving := ended(redisio.Moving)
	b := underWay(redisio.Apply, false)
	require.Equal(t, Again, attempt(b, moving))
	require.Equal(t, Thaw, attempt(b, moving), "its ledger will come along")
	require.Equal(t, redisio.Apply, b.Task)

	b = underWay(redisio.Apply, true)
	b.lane.acked, b.Seq = 0, 1
	require.Equal(t, Again, attempt(b, moving))
	require.Equal(t, Keep, attempt(b, moving), "it may be in, with a ledger")

	b = underWay(redisio.Apply, false)
	b.lane.acked, b.Seq = 0, 1
	require.Equal(t, Again, attempt(b, moving))
	require.Equal(t, Again, attempt(b, moving))
	require.Equal(t, redisio.Bare, b.Task)
	require.Equal(t, Thaw, attempt(b, moving), "nor can that be")
	require.Equal(t, redisio.Apply, b.Task)
	require.Equal(t, Again, attempt(b, moving))
	require.Equal(t, redisio.Bare, b.Task)
	require.Equal(t, Done, attempt(b, applied))
	b.Release()
	next := b.book.NewBatch(nil, nil, nil)
	require.EqualValues(t, 1, next.Seq, "of the lane's ledger it was no batch")
}

// Sending and Sent: what a batch answers is not older than its first attempt that
// may have been applied.
func TestSent_isTheFirstAttemptThatMayBeIn(t *testing.T) {
	t.Parallel()
	b := underWay(redisio.Apply, false)
	attempt(b, ended(redisio.NotYet))
	first := b.Sent()
	attempt(b, ended(redisio.Unknown))
	second := b.Sent()
	require.True(t, second.After(first) || second.Equal(first))
	b.Sending()
	require.Equal(t, second, b.Sent())
	require.Equal(t, Pending, b.verdict)
}

func TestOfRead_everyClass(t *testing.T) {
	t.Parallel()
	for class, want := range map[redisio.Class]Verdict{
		redisio.Unknown: Thaw, redisio.NotYet: Thaw, redisio.Moving: Thaw, redisio.NoScript: Thaw,
		redisio.Refused: Refuse, redisio.Full: Refuse, redisio.Closed: Refuse, redisio.Answered: Pending,
	} {
		c := &redisio.Call{Task: redisio.Read}
		c.Reply = ended(class)
		require.Equal(t, want, OfRead(c), class)
	}
	c := &redisio.Call{Task: redisio.Read}
	c.Reply = applied
	require.Equal(t, Done, OfRead(c))
}
