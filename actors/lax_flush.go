package actors

import (
	"fmt"

	"github.com/distkit/distkit-go/internal/op"
)

// How a lax key's changes leave for Redis, and what becomes of them.

// del queues a Del: it reaches Redis at once, after what is in flight.
func (a laxKey) del(r *request) {
	m := &mutation{change: change{verb: remove}, request: r, dropped: changes(nil).then(a.open.change), barriers: a.open.barriers}
	a.open = mutation{}
	a.dels = append(a.dels, m)
	a.sendNext()
}

// sendNext hands the next change to the coordinator if none is in flight.
func (a laxKey) sendNext() {
	switch {
	case a.flight != nil:
	case len(a.dels) > 0:
		a.flight, a.flown = a.dels[0], a.flush.now()
		if a.dels = a.dels[1:]; len(a.dels) == 0 {
			a.dels = nil
		}
		a.flush.urgent(a.laxCell, a.flight)
	default:
		a.markDirty()
	}
}

func (a laxKey) markDirty() {
	if !a.dirty && a.open.verb != nothing && a.flight == nil && len(a.dels) == 0 {
		a.dirty = true
		a.flush.markDirty(a.laxCell, len(a.open.barriers) > 0)
	}
}

// attach makes a Flush wait for everything that the key has accepted.
func (a laxKey) attach(b *barrier) {
	switch {
	case a.open.verb != nothing:
		a.open.barriers = append(a.open.barriers, b)
		a.flush.flushNow()
	case len(a.dels) > 0:
		last := a.dels[len(a.dels)-1]
		last.barriers = append(last.barriers, b)
	case a.flight != nil:
		a.flight.barriers = append(a.flight.barriers, b)
	default:
		b.pass(nil)
	}
}

// onGather freezes what is pending and puts it into the round.
func (a laxKey) onGather(g *gather) {
	if g.slot.gathered { // before a panic
		return
	}
	a.flush.failAt.at("lax key: gathering")
	if g.wipe {
		a.gatherWipe(g.slot)
	} else {
		a.dirty = false
		if a.flight == nil && len(a.dels) == 0 && a.open.verb != nothing {
			g.slot.mutation = a.open
			a.open = mutation{}
			a.flight, a.flown = &g.slot.mutation, a.flush.now()
		}
	}
	a.flush.failAt.at("lax key: gathered")
	g.slot.gathered = true
	g.round.arrive(a.flush)
}

// gatherWipe drops what is pending for a Clear, which takes effect here. A Del
// not yet sent stays, as one that comes after the Clear.
func (a laxKey) gatherWipe(s *slot) {
	m := &s.mutation
	if m.verb == wipe { // before a panic
		return
	}
	m.verb = wipe
	if a.flight != nil {
		m.dropped, a.flight.dropped = a.flight.dropped, nil
	}
	for _, d := range a.dels {
		m.dropped = m.dropped.then(d.dropped...)
		d.dropped = nil
	}
	m.dropped = m.dropped.then(a.open.change)
	m.barriers = a.open.barriers
	a.open = mutation{}
	if a.flight == nil {
		a.flight, a.flown = m, a.flush.now()
	}
}

// onSettlement learns the fate of a change. It can be repeated after a panic:
// each step leaves nothing to do for the next time.
func (a laxKey) onSettlement(s *settlement) {
	m, err := s.mutation, s.result.Err
	a.flush.failAt.at("lax key: settling")
	if a.flight == m {
		a.flight = nil
		a.known = err == nil
		if err == nil {
			a.remote, a.seen = s.result.N, s.sent
		}
		if m.verb == remove {
			a.remote = 0
		}
	}
	a.flush.failAt.at("lax key: landed")
	if m.request != nil {
		r := m.request
		m.request = nil
		if err == nil {
			total := m.dropped.over(s.result.N)
			s.result = op.Result{N: total, Old: total}
		}
		r.settle(s.result)
	}
	switch {
	case err == nil:
		a.passBarriers(m, nil)
	case m.verb == remove || m.verb == wipe:
		a.restore(m)
	default:
		a.setAside(m, err)
	}
	a.flush.failAt.at("lax key: settled")
	a.sendNext()
	a.serveParked(false)
}

// setAside takes a change that Redis refused out of the count: it is reported
// to the observer, to the next reply of the key and to a Flush that waits.
func (a laxKey) setAside(m *mutation, err error) {
	c := m.change
	if c.verb == nothing { // reported before a panic
		return
	}
	a.refused = fmt.Errorf("redis refused an earlier change of %q by %d: %w", a.key, c.amount(), err)
	a.passBarriers(m, &Unflushed{Key: a.key, N: c.amount(), Assign: c.verb == assign, Err: err})
	m.change = change{}
	a.flush.observer.DeltaRefused(a.key, c.amount(), c.verb == assign, err)
}

// restore puts back what a refused Del or Clear had dropped, before the
// changes that came after it.
func (a laxKey) restore(m *mutation) {
	dropped, barriers := m.dropped, m.barriers
	m.dropped, m.barriers = nil, nil
	if len(a.dels) > 0 {
		first := a.dels[0]
		first.dropped = dropped.then(first.dropped...)
		first.barriers = append(barriers, first.barriers...)
		return
	}
	all := dropped.then(a.open.change)
	a.open.change = change{}
	if last := len(all) - 1; last >= 0 {
		a.open.change, all = all[last], all[:last]
	}
	a.open.barriers = append(barriers, a.open.barriers...)
	if a.open.verb == nothing {
		a.passBarriers(&a.open, nil)
	}
	for _, c := range all { // together they are no int64
		a.setAside(&mutation{change: c}, op.NotApplied(op.ErrOverflow))
	}
}

func (a laxKey) passBarriers(m *mutation, left *Unflushed) {
	barriers := m.barriers
	m.barriers = nil
	for _, b := range barriers {
		b.pass(left)
	}
}

// left lists what a stopped key still holds, unhandled being the rest of its
// mailbox, and answers everybody who waits for it.
func (a *laxCell) left(unhandled []any) []Unflushed {
	var left []Unflushed
	note := func(c change, err error) {
		if c.verb == add || c.verb == lift || c.verb == assign {
			left = append(left, Unflushed{Key: a.key, N: c.amount(), Assign: c.verb == assign, Err: err})
		}
	}
	notApplied := op.NotApplied(op.Hint(op.ErrClosed, a.flush.lastTrouble()))
	if m := a.flight; m != nil {
		err := notApplied
		if m.ambiguous {
			err = op.Unknown(op.Hint(errStopped, a.flush.lastTrouble()))
		}
		note(m.change, err)
		for _, c := range m.dropped {
			note(c, err)
		}
		if m.request != nil {
			m.request.settle(op.Result{Err: err})
		}
	}
	for _, d := range a.dels {
		for _, c := range d.dropped {
			note(c, notApplied)
		}
		d.request.settle(op.Result{Err: notApplied})
	}
	note(a.open.change, notApplied)
	for a.parked.len() > 0 {
		unhandled = append(unhandled, a.parked.pop())
	}
	for _, message := range unhandled {
		r, ok := message.(*request)
		if !ok || r.barrier != nil {
			continue
		}
		switch c, applies := changeOf(r.op, 0); {
		case r.answered():
		case r.op.Kind.Conditional() || r.op.Kind == op.Del:
			a.flush.observer.MessageRefused(a.key, notApplied)
		case applies:
			note(c, notApplied)
		}
		r.fail(notApplied)
	}
	return left
}
