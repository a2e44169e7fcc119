// What befalls the server of a simulated case as a whole, and the end of the
// case.
package faults_test

import (
	"context"
	"errors"
	"time"

	"github.com/distkit/distkit-go"
)

// weather passes the time of a phase: outages, crashes, falls back to an
// earlier state, the abrupt end of a System.
func (s *simCase) weather(lasts time.Duration) {
	end := time.Now().Add(lasts)
	pass := func(most time.Duration) bool {
		left := time.Until(end)
		if most > left {
			time.Sleep(left)
			return false
		}
		time.Sleep(most)
		return true
	}
	var backup *fakeData
	for pass(time.Duration(s.rng.Int64N(int64(2*time.Second))) + time.Millisecond) {
		switch n := s.rng.IntN(10); {
		case n < 3:
			outage := simOutages[s.rng.IntN(len(simOutages))]
			lasts := time.Duration(s.rng.Int64N(int64(4 * time.Second)))
			s.strike(outage, lasts)
			pass(lasts)
			s.strike("", 0)
		case n < 4:
			s.note("every connection is closed")
			s.server.hangUpAll()
		case n < 6 && s.lossy:
			s.server.mu.Lock()
			backup = s.server.data.clone()
			s.server.mu.Unlock()
		case n < 9 && backup != nil:
			s.restore(backup.clone())
		case s.abrupt && !s.closed[0].Load():
			s.closed[0].Store(true)
			ctx, cancel := context.WithTimeout(context.Background(), time.Duration(s.rng.Int64N(int64(time.Second))))
			s.stopped(0, s.systems[0].Shutdown(ctx), ctx.Err() != nil)
			cancel()
		}
	}
}

func (s *simCase) strike(outage simOutage, lasts time.Duration) {
	s.note("outage: %q for %v", outage, lasts)
	s.server.mu.Lock()
	s.plan.outage, s.plan.until = outage, time.Now().Add(lasts)
	if outage != "" {
		s.plan.counted++
	}
	s.server.mu.Unlock()
	if outage == simDown {
		s.server.hangUpAll()
	}
}

// restore makes the server fall back to an earlier state, as a failover to a
// replica that was behind does.
func (s *simCase) restore(backup *fakeData) {
	s.note("falls back")
	s.server.hangUpAll()
	s.server.mu.Lock()
	s.server.data = backup
	s.plan.watch.restored(backup)
	s.plan.counted++
	s.did("falls back")
	s.server.mu.Unlock()
	s.history.fellBack()
}

// rest waits until nothing is under way any more, late copies of batches
// included, and has something happen then.
func (s *simCase) rest() {
	time.Sleep(20 * time.Second)
	s.note("at rest: %s", s.breaks)
	s.did("rests: " + string(s.breaks))
	switch s.breaks {
	case simEvict:
		s.server.mu.Lock()
		clear(s.server.data.ledgers)
		clear(s.server.data.scripts)
		s.plan.watch.restored(s.server.data)
		s.plan.counted++
		s.server.mu.Unlock()
	case simIdle:
		time.Sleep(time.Duration(s.rng.IntN(10*24)) * time.Hour)
	}
}

// shutdown ends a System in good order, if that has not been done.
func (s *simCase) shutdown(i int) {
	if s.closed[i].Swap(true) {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), simSettled)
	defer cancel()
	s.stopped(i, s.systems[i].Shutdown(ctx), false)
}

// stopped takes the outcome of a Shutdown.
func (s *simCase) stopped(system int, err error, late bool) {
	s.note("shutdown of system %d: %v", system, err)
	if err != nil {
		s.did("Shutdowns that left something")
	}
	var left *distkit.UnflushedError
	switch {
	case err == nil:
	case !late:
		s.broken("a Shutdown that had time left: %v", err)
	case errors.As(err, &left) && errors.Is(err, context.DeadlineExceeded):
		s.left = left.Changes
	default:
		s.broken("a Shutdown whose time was up: %v", err)
	}
}

// unflushed is what the abrupt Shutdown said of an operation: applied if it
// was not listed.
func (s *simCase) unflushed(op *simOp) simOutcome {
	if op.kind == 1 && op.system == 0 {
		for _, change := range s.left {
			if change.Key.String() == op.key && simDigit(change.N, op.digit) != 0 {
				return s.history.outcome("Shutdown", change.Err)
			}
		}
	}
	return simApplied
}

// check is the end of a case: everybody has been answered, nothing is under way.
func (s *simCase) check() {
	held := s.held()
	s.history.check(held)
	for _, w := range s.workers {
		for kind := range w.own {
			if kind == 1 && s.abrupt && w.system == 0 {
				continue // the Shutdown may have left an assignment behind
			}
			w.holds(&w.own[kind], "the end", held[kind][w.own[kind].key.String()])
		}
	}
	s.server.mu.Lock()
	defer s.server.mu.Unlock()
	if gaps := s.plan.watch.gaps(); !s.abrupt && s.losses != gaps {
		s.broken("%d writers met a gap, and %d events told of lost data", gaps, s.losses)
	}
}
