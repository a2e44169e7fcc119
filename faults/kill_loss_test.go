//go:build chaos

// How much of a lax counter a killed process may lose, and how much it lost.
//
// The README allows "20 ms plus one flush". Only one flush is under way at a
// time, so one that takes longer than AllowedLag holds up the next: an
// increment accepted just after it left waits for the longer of the two, then
// for its own flush. To that come times in which the process had no processor,
// which a goroutine that wakes every millisecond measures.
package faults_test

import (
	"fmt"
	"slices"
	"time"
)

const (
	killLag = 20 * time.Millisecond // AllowedLag of the child, the default

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
	stalled time.Duration // for which the process had no processor meanwhile
}

// allowed is how old the oldest may be.
func (l killLoss) allowed() time.Duration {
	return max(killLag, l.flush) + l.flush + l.stalled + killHops
}

func (l killLoss) String() string {
	return fmt.Sprintf("%d increments, the oldest %.1f ms old (allowed %.1f: a flush took %.1f, the process stood still for %.1f)",
		l.count, killMS(l.age), killMS(l.allowed()), killMS(l.flush), killMS(l.stalled))
}

func killMS(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

// loss finds the oldest increment of a lax key that is surely missing. Accepted
// are the records of the key; the child's last record of any kind tells when it
// was alive for the last time.
func (c *killChild) loss(accepted []killRecord, stored int64) killLoss {
	slices.SortFunc(accepted, func(a, b killRecord) int { return int(a.at - b.at) })
	total, since := int64(0), time.Duration(-1)
	for _, r := range accepted {
		if total += r.n; total > stored && since < 0 {
			since = r.at
		}
	}
	if since < 0 {
		return killLoss{}
	}
	l := killLoss{count: total - stored}
	death, beat := time.Duration(0), since
	open := map[int64]time.Duration{}
	for _, r := range c.records {
		death = max(death, r.at)
		switch {
		case r.kind == killCallStart:
			open[r.n] = r.at
		case r.kind == killCallEnd:
			if r.at >= since-killLag { // one before it may have held it up
				l.flush = max(l.flush, r.at-open[r.n])
			}
			delete(open, r.n)
		case r.kind == killBeat && r.at > since:
			l.stall(r.at - beat)
			beat = r.at
		}
	}
	l.stall(death - beat)
	for _, at := range open {
		l.flush = max(l.flush, death-at)
	}
	l.age = death - since
	return l
}

// stall counts a pause of the child's heart.
func (l *killLoss) stall(pause time.Duration) {
	if pause > killStall {
		l.stalled += pause - time.Millisecond
	}
}
