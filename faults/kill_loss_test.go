// How much of a lax counter a killed process may lose, and how much it lost.
//
// Exact, whatever the machine does: what was accepted before a Flush that
// returned is in Redis; and what was accepted before a round was written is, at
// the latest, in the round after it (killRounds allows for actors that have no
// processor).
//
// The README allows "20 ms plus one flush". That is time, which a busy machine
// stretches: it is measured and printed for each kill, and only the long form
// asks that it held nearly always. A key is in one flush at a time, so one that
// takes longer than AllowedLag holds up its next: an increment accepted just
// after it left waits for the longer of the two, then for its own flush. The first
// flushes of a process open lanes, each a trip more. To that come times in which
// the process had no processor, which a goroutine that wakes every millisecond
// measures.
package faults_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/distkit/distkit-go/internal/chaos"
)

const (
	killLag = 20 * time.Millisecond // AllowedLag of the child, the default

	// killRounds is how many rounds may pass an increment by before one has to
	// have it: the one that was frozen when it came, and slack. Where a flush took
	// longer than two trips to Redis, its keys wait for it, and rounds of other keys
	// pass them by meanwhile, one each killLag.
	killRounds = 4
	// killHops is for what the goroutines of a flush wait for one another on a
	// busy machine, in pieces too short to count as stalls.
	killHops = 8 * time.Millisecond
	// killStall is the least pause of the child's heart that counts as one in
	// which the process had no processor.
	killStall = 3 * time.Millisecond
)

// killLoss is what of a lax counter did not reach Redis.
type killLoss struct {
	count   int64
	age     time.Duration // of the oldest, at the least, when the process died
	flush   time.Duration // the longest call to Redis meanwhile
	opened  time.Duration // what lanes took to open meanwhile
	stalled time.Duration // for which the process had no processor meanwhile
	rounds  int           // flushes that were written meanwhile and succeeded
}

// over reports whether it is more than the README allows.
func (l killLoss) over() bool { return l.age > l.allowed() }

// allowed is how old the oldest may be.
func (l killLoss) allowed() time.Duration {
	return max(killLag, l.flush) + l.flush + l.opened + l.stalled + killHops
}

func (l killLoss) String() string {
	return fmt.Sprintf("%d increments, the oldest %.1f ms old (allowed %.1f: a flush took %.1f, lanes %.1f to open, the process stood still for %.1f)",
		l.count, killMS(l.age), killMS(l.allowed()), killMS(l.flush), killMS(l.opened), killMS(l.stalled))
}

func killMS(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

// accepted is a burst of increments of a lax key that the child has reported.
type killAccepted struct {
	killRecord
	place int // in the child's records
}

// loss finds the oldest increment of a lax key that is surely missing. The
// child's last record of any kind tells when it was alive for the last time.
func (c *killChild) loss(accepted []killAccepted, stored int64) killLoss {
	total, oldest := int64(0), -1
	for i, a := range accepted {
		if total += a.n; total > stored && oldest < 0 {
			oldest = i
		}
	}
	if oldest < 0 {
		return killLoss{}
	}
	l := killLoss{count: total - stored}
	place, since := accepted[oldest].place, accepted[oldest].at
	death, beat := time.Duration(0), since
	began := map[int64]int{} // calls under way: their place in the records
	for i, r := range c.records {
		death = max(death, r.at)
		switch {
		case r.kind == killCallStart:
			began[r.n] = i
		case r.kind == killCallEnd:
			if r.at >= since-killLag { // one before it may have held it up
				l.flush = max(l.flush, r.at-c.records[began[r.n]].at)
			}
			if r.key == killOpened && r.at >= since-killLag {
				l.opened += r.at - c.records[began[r.n]].at
			}
			if r.key == killWritten && began[r.n] > place {
				l.rounds++
			}
			delete(began, r.n)
		case r.kind == killBeat && r.at > since:
			l.stall(r.at - beat)
			beat = r.at
		}
	}
	l.stall(death - beat)
	for _, i := range began {
		l.flush = max(l.flush, death-c.records[i].at)
	}
	l.age = death - since
	return l
}

// flushed is how much of each lax key was accepted before the last Flush that
// returned was called.
func (c *killChild) flushed() (sums [killLaxKeys]int64) {
	var now [killLaxKeys]int64
	called := map[int64][killLaxKeys]int64{}
	for _, r := range c.records {
		switch r.kind {
		case killLaxEnd:
			now[r.key] += r.n
		case killFlushStart:
			called[r.n] = now
		case killFlushEnd:
			sums = called[r.n] // one at a time
		}
	}
	return sums
}

// checkLax compares the lax counters with the report, and returns the worst loss.
func (c *killChild) checkLax(t *testing.T, run *chaos.Run) (worst killLoss) {
	t.Helper()
	var accepted [killLaxKeys][]killAccepted
	var started [killLaxKeys]int64
	for i, r := range c.records {
		switch r.kind {
		case killLaxStart:
			started[r.key] += r.n
			run.Cases(int(r.n))
		case killLaxEnd:
			accepted[r.key] = append(accepted[r.key], killAccepted{r, i})
		}
	}
	stored := serverStored(t, c.client, c.prefix, "lax_counter")
	flushed, count, rounds := c.flushed(), int64(0), 0
	for i := range killLaxKeys {
		n := stored[killLaxKey(i).String()]
		if n > started[i] || n < flushed[i] {
			run.Violation("lax %d: Redis holds %d; %d were begun, %d accepted before a Flush that returned", i, n, started[i], flushed[i])
		}
		loss := c.loss(accepted[i], n)
		if loss.rounds > killRounds+int(max(loss.flush-2*c.far-killLag, 0)/killLag) {
			run.Violation("lax %d: %d flushes left out what was accepted before them: %v", i, loss.rounds, loss)
		}
		count, rounds = count+loss.count, max(rounds, loss.rounds)
		if loss.age >= worst.age {
			worst = loss
		}
	}
	worst.count, worst.rounds = count, rounds
	return worst
}

// stall counts a pause of the child's heart.
func (l *killLoss) stall(pause time.Duration) {
	if pause > killStall {
		l.stalled += pause - time.Millisecond
	}
}
