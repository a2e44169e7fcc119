// What befalls the server of a simulated case as a whole, and the end of the
// case.
package faults_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/distkit/distkit-go"
)

// weather passes the time of a phase: outages, crashes, falls back to an
// earlier state, evictions, the abrupt end of a System, or of the client.
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
	outage := func(outage simOutage) {
		lasts := time.Duration(s.rng.Int64N(int64(4 * time.Second)))
		s.strike(outage, lasts)
		pass(lasts)
		s.strike("", 0)
	}
	if s.cluster && s.rng.IntN(2) == 0 {
		outage(simMoving) // from the beginning: lanes are opened in it
	}
	most := 2 * time.Second
	if s.loses() {
		most /= 4
	}
	var backup *fakeData
	for pass(time.Duration(s.rng.Int64N(int64(most))) + time.Millisecond) {
		switch n := s.rng.IntN(10); {
		case n < 2 || n < 3 && !s.loses():
			outage(simOutages[s.rng.IntN(len(simOutages))])
		case s.closes && n < 6 && !s.shut.Swap(true):
			s.note("the client is closed")
			s.did("clients closed")
			_ = s.client.Close()
		case n < 4:
			s.note("every connection is closed")
			s.hangUp()
		case n < 5 && (s.evicts.ledgers || s.evicts.counters):
			s.evict(s.evicts)
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
	s.server.data.full = outage == simFull
	if outage != "" {
		s.plan.counted++
		s.did("outage: " + string(outage))
	}
	s.server.mu.Unlock()
	if outage == simDown {
		s.hangUp()
	}
}

// hangUp closes every connection, whatever is on it.
func (s *simCase) hangUp() {
	s.server.mu.Lock()
	s.plan.hungUp = true
	s.server.mu.Unlock()
	s.server.hangUpAll()
}

// restore makes the server fall back to an earlier state, as a failover to a
// replica that was behind does.
func (s *simCase) restore(backup *fakeData) {
	s.note("falls back")
	s.hangUp()
	s.server.mu.Lock()
	backup.full = s.server.data.full
	s.server.data = backup
	s.plan.watch.restored(backup)
	s.plan.counted++
	s.did("falls back")
	s.server.mu.Unlock()
	s.history.lose()
}

// evict deletes ledgers or counters, or both, as a Redis that is short of memory
// does with what has not been used for long.
func (s *simCase) evict(what simEvict) {
	s.note("evicts %+v", what)
	s.did(fmt.Sprintf("evictions %+v", what))
	s.server.mu.Lock()
	for name := range s.server.data.keys {
		switch counters := slices.Contains(simKinds[:], name); {
		case counters && what.counters, !counters && what.ledgers && strings.Contains(name, ":writer:"):
			delete(s.server.data.keys, name)
		}
	}
	s.plan.watch.restored(s.server.data)
	s.plan.counted++
	s.server.mu.Unlock()
	if what.counters {
		s.history.lose()
	}
}

// rest waits until nothing is under way any more, late copies of batches
// included, and has something happen then.
func (s *simCase) rest() {
	time.Sleep(20 * time.Second)
	s.note("at rest: %s", s.breaks)
	s.did("rests: " + string(s.breaks))
	switch s.breaks {
	case simForgets:
		s.evict(simEvict{ledgers: true})
		s.server.mu.Lock()
		clear(s.server.data.scripts)
		s.server.mu.Unlock()
	case simEmpties, simFlushed:
		for kind, counters := range s.held() {
			s.vanished[kind].Store(len(counters) > 0)
			s.server.mu.Lock()
			s.known[kind] = s.plan.watch.known(simKinds[kind])
			s.server.mu.Unlock()
		}
		s.evict(simEvict{s.breaks == simFlushed, true})
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
	case s.shut.Load() && errors.As(err, &left) && left.Cause == nil:
		s.left[system] = left.Changes
	case !late:
		if !s.setAside(err) {
			s.broken("a Shutdown that had time left: %v", err)
		}
	case errors.As(err, &left) && errors.Is(err, context.DeadlineExceeded):
		s.left[system] = left.Changes
	default:
		s.broken("a Shutdown whose time was up: %v", err)
	}
}

// setAside reports whether an error of a Flush or a Shutdown tells of nothing but
// changes of which nobody will know whether they are in.
func (s *simCase) setAside(err error) bool {
	var left *distkit.UnflushedError
	if !errors.As(err, &left) || left.Cause != nil {
		return false
	}
	for _, change := range left.Changes {
		if !errors.Is(change.Err, distkit.ErrOutcomeUnknown) || !s.mayBeUnknown(1, change.Key.String(), change.N) {
			return false
		}
	}
	s.did("Flushes that told of changes set aside")
	return true
}

// unflushed is what a Shutdown that left something, or an event, said of an operation: applied
// if it was not told of.
func (s *simCase) unflushed(op *simOp) simOutcome {
	if op.kind != 1 || op.digit < 0 {
		return simApplied
	}
	for _, change := range s.left[op.system] {
		if change.Key.String() == op.key && simDigit(change.N, op.digit) != 0 {
			return s.history.outcome("Shutdown", change.Err)
		}
	}
	for _, change := range s.aside {
		if change.Key.String() == op.key && simDigit(change.N, op.digit) != 0 {
			return s.history.outcome("event", change.Err)
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
			if kind == 1 && (s.abrupt && w.system == 0 || s.shut.Load()) {
				continue // the Shutdown may have left an assignment behind
			}
			w.holds(kind, "the end", held[kind][w.own[kind].key.String()])
		}
	}
	s.server.mu.Lock()
	gaps := s.plan.watch.told()
	s.plan.watch.checkApplied(s.server.data)
	s.server.mu.Unlock()
	if !s.abrupt && !s.shut.Load() {
		s.checkLosses(gaps)
	}
}

// checkLosses checks that of what Redis lost, and of nothing else, events have told.
func (s *simCase) checkLosses(gaps [simGoneDoubt + 1]int) {
	told := func(reason distkit.LossReason) int {
		return s.losses[simLoss{"strict", reason}] + s.losses[simLoss{"lax", reason}]
	}
	if n := told(distkit.RolledBack); n != gaps[simRolled] {
		s.broken("%d writers found a ledger behind, and %d events told of it", gaps[simRolled], n)
	}
	if n := told(distkit.LedgerGone); n < gaps[simGoneDoubt] || n > s.plan.watch.without {
		s.broken("%d writers lost a ledger while in doubt, at most %d, and %d events told of it", gaps[simGoneDoubt], s.plan.watch.without, n)
	}
	for kind, writer := range []string{"strict", "lax"} {
		n, vanished := s.losses[simLoss{writer, distkit.CountersGone}], s.vanished[kind].Load()
		falseAlarm := s.breaks == simIdle || s.blind.Load() > 0 // the mark has expired, or could not be read or left
		switch {
		case n > 0 && !vanished && !s.lossy && !s.evicts.counters && !falseAlarm:
			s.broken("%d events told of lost %s counters, which nobody had taken", n, writer)
		case n == 0 && !s.lossy && len(s.systems) == 1 && s.known[kind] && s.plan.watch.found(simKinds[kind]):
			s.broken("all %s counters were lost, and nobody was told", writer)
		case n > len(s.systems) && vanished && !s.lossy && !s.evicts.counters:
			s.broken("all %s counters were lost once, and %d events told of it", writer, n)
		}
	}
}
