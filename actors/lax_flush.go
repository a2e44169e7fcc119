package actors

import (
	"fmt"

	"github.com/distkit/distkit-go/internal/op"
)

// How a lax key's changes leave for Redis, and what becomes of them.

// del queues a Del: it reaches Redis at once, after what is in flight.
func (a *laxKey) del(r *request) {
	q := a.more()
	m := &mutation{change: change{verb: remove}, request: r, dropped: changes(nil).then(a.open), barriers: q.barriers}
	a.open, q.barriers = change{}, nil
	q.dels = append(q.dels, m)
	a.sendNext()
}

// sendNext hands the next change to the coordinator if none is in flight.
func (a *laxKey) sendNext() {
	switch {
	case a.flight != nil:
	case len(a.dels()) > 0:
		a.flight, a.flown = a.queues.dels[0], a.flush.now()
		a.queues.dels = a.queues.dels[1:]
		a.box.setLazy(true) // its settlement will come
		a.flush.urgent(a.laxCell, a.flight)
	default:
		a.box.setLazy(a.dirty)
		a.markDirty()
	}
}

// markDirty has the coordinator gather what is open, unless it is to be done
// anyway when the change in flight has settled.
func (a *laxKey) markDirty() {
	if !a.dirty && a.open.verb != nothing && a.flight == nil && len(a.dels()) == 0 {
		a.dirty = true
		a.box.setLazy(true) // a gather will come
		a.flush.markDirty(a.laxCell, a.queues != nil && len(a.queues.barriers) > 0)
	}
}

// attach makes a Flush wait for everything that the key has accepted.
func (a *laxKey) attach(b *barrier) {
	switch {
	case a.open.verb != nothing:
		a.more().barriers = append(a.more().barriers, b)
		a.flush.flushNow()
	case len(a.dels()) > 0:
		last := a.queues.dels[len(a.queues.dels)-1]
		last.barriers = append(last.barriers, b)
	case a.flight != nil:
		a.flight.barriers = append(a.flight.barriers, b)
	default:
		b.pass(nil)
	}
}

// takeOpen freezes what is open, and the Flushes that wait for it.
func (a *laxKey) takeOpen() (c change, barriers []*barrier) {
	c, a.open = a.open, change{}
	if a.queues != nil {
		barriers, a.queues.barriers = a.queues.barriers, nil
	}
	return c, barriers
}

// onGather freezes what is pending and puts it into the round.
func (a *laxKey) onGather(g *gather) {
	if g.slot.gathered { // before a panic
		return
	}
	a.flush.failAt.at("lax key: gathering")
	if g.wipe {
		a.gatherWipe(g.slot)
	} else {
		a.dirty = false
		if a.flight == nil && len(a.dels()) == 0 && a.open.verb != nothing {
			m := &g.slot.mutation
			m.change, m.barriers = a.takeOpen()
			a.flight, a.flown = m, a.flush.now()
		}
		a.box.setLazy(a.flight != nil) // or nothing more is on its way here
	}
	a.flush.failAt.at("lax key: gathered")
	g.slot.gathered = true
	g.round.arrive(a.flush)
}

// gatherWipe drops what is pending for a Clear, which takes effect here. A Del
// not yet sent stays, as one that comes after the Clear.
func (a *laxKey) gatherWipe(s *slot) {
	m := &s.mutation
	if m.verb == wipe { // before a panic
		return
	}
	m.verb = wipe
	if a.flight != nil {
		m.dropped, a.flight.dropped = a.flight.dropped, nil
	}
	for _, d := range a.dels() {
		m.dropped = m.dropped.then(d.dropped...)
		d.dropped = nil
	}
	open, barriers := a.takeOpen()
	m.dropped, m.barriers = m.dropped.then(open), barriers
	if a.flight == nil {
		a.flight, a.flown = m, a.flush.now()
	}
}

// onSettlement learns the fate of a change. It can be repeated after a panic:
// each step leaves nothing to do for the next time.
func (a *laxKey) onSettlement(s *settlement) {
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
func (a *laxKey) setAside(m *mutation, err error) {
	c := m.change
	if c.verb == nothing { // reported before a panic
		return
	}
	a.more().refused = fmt.Errorf("redis refused an earlier change of %q by %d: %w", a.key, c.amount(), err)
	a.passBarriers(m, &Unflushed{Key: a.key, N: c.amount(), Assign: c.verb == assign, Err: err})
	m.change = change{}
	a.flush.observer.DeltaRefused(a.key, c.amount(), c.verb == assign, err)
}

// restore puts back what a refused Del or Clear had dropped, before the
// changes that came after it.
func (a *laxKey) restore(m *mutation) {
	dropped, barriers := m.dropped, m.barriers
	m.dropped, m.barriers = nil, nil
	if dels := a.dels(); len(dels) > 0 {
		first := dels[0]
		first.dropped = dropped.then(first.dropped...)
		first.barriers = append(barriers, first.barriers...)
		return
	}
	open, waiting := a.takeOpen()
	barriers = append(barriers, waiting...)
	all := dropped.then(open)
	if last := len(all) - 1; last >= 0 {
		a.open, all = all[last], all[:last]
	}
	if a.open.verb == nothing {
		for _, b := range barriers {
			b.pass(nil)
		}
	} else if len(barriers) > 0 {
		a.more().barriers = barriers
	}
	for _, c := range all { // together they are no int64
		a.setAside(&mutation{change: c}, op.NotApplied(op.ErrOverflow))
	}
}

func (a *laxKey) passBarriers(m *mutation, left *Unflushed) {
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
	for _, d := range a.dels() {
		for _, c := range d.dropped {
			note(c, notApplied)
		}
		d.request.settle(op.Result{Err: notApplied})
	}
	note(a.open, notApplied)
	for a.waiting() > 0 {
		unhandled = append(unhandled, a.queues.parked.pop())
	}
	for _, message := range unhandled {
		switch m := message.(type) {
		case *increments:
			note(change{add, m.n}, notApplied)
		case *request:
			a.abandon(m, notApplied, note)
		}
	}
	return left
}

// abandon fails an operation that was not handled. A change that nobody waits
// for is noted.
func (a *laxCell) abandon(r *request, err error, note func(change, error)) {
	switch c, applies := changeOf(r.op, 0); {
	case r.answered():
	case r.op.Kind.Conditional() || r.op.Kind == op.Del:
		a.flush.observer.MessageRefused(a.key, err)
	case applies:
		note(c, err)
	}
	r.fail(err)
}
