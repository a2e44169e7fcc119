package actors

import (
	"fmt"
	"time"

	"github.com/distkit/distkit-go/internal/op"
)

// How a lax key's changes leave for Redis, and what becomes of them.

// del queues a Del: it reaches Redis at once, after what is in flight.
func (a *laxKey) del(r *request) {
	open, waiting := a.takeOpen()
	m := &mutation{change: change{verb: remove}, request: r, dropped: changes(nil).then(open), barrier: waiting}
	a.more().dels = append(a.more().dels, m)
	a.sendNext()
}

// sendNext hands the next change to the coordinator if none is in flight.
func (a *laxKey) sendNext() {
	switch {
	case a.flight != nil:
	case len(a.dels()) > 0:
		a.takeOff(a.queues.dels[0])
		a.queues.dels = a.queues.dels[1:]
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
		a.flush.markDirty(a.laxCell, a.flusher != nil)
	}
}

// takeOff freezes a change that is on its way to Redis from now on.
func (a *laxKey) takeOff(m *mutation) {
	a.flight, a.flown = m, a.flush.now()
	a.box.setLazy(true) // its settlement will come
}

// totalsEvery is how old the view of a key that is only added to gets, give or
// take a flush.
const totalsEvery = time.Second

// attach makes a Flush wait for everything that the key has accepted.
func (a *laxKey) attach(b *barrier) {
	switch {
	case a.open.verb != nothing:
		a.flusher = a.flusher.and(b)
		a.flush.flushNow()
	case len(a.dels()) > 0:
		last := a.queues.dels[len(a.queues.dels)-1]
		last.barrier = last.barrier.and(b)
	case a.flight != nil:
		a.flight.barrier = a.flight.barrier.and(b)
	default:
		b.pass(nil)
	}
}

// takeOpen freezes what is open, and the Flush that waits for it.
func (a *laxKey) takeOpen() (c change, waiting *barrier) {
	c, waiting = a.open, a.flusher
	a.open, a.flusher = change{}, nil
	return c, waiting
}

// onGather freezes what is pending and puts it into the round.
func (a *laxKey) onGather(s *slot) {
	if s.gathered { // before a panic
		return
	}
	a.flush.failAt.at("lax key: gathering")
	if len(s.round.wipes) > 0 {
		a.gatherWipe(s)
	} else {
		a.dirty = false
		if a.flight == nil && len(a.dels()) == 0 && a.open.verb != nothing {
			s.mutation.change, s.mutation.barrier = a.takeOpen()
			a.takeOff(&s.mutation)
			s.mutation.silent = a.known && !a.wanted && a.flown-a.seen < totalsEvery
			a.wanted = false
		} else {
			a.box.setLazy(a.flight != nil) // or nothing more is on its way here
		}
	}
	if b := s.cover; b != nil {
		s.cover = nil
		a.onMessage(b)
	}
	a.flush.failAt.at("lax key: gathered")
	s.gathered = true
	s.round.arrive(a.flush)
}

// gatherWipe drops what is pending for a Clear, which takes effect here. A Del
// not yet sent stays, as one that comes after the Clear; so do parked operations
// that somebody waits for.
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
	open, waiting := a.takeOpen()
	m.dropped, m.barrier = m.dropped.then(open), waiting
	a.dropParked(m)
	if a.flight == nil {
		a.takeOff(m)
	} else {
		a.more().wiping = m
	}
}

// dropParked drops, for a Clear, the parked operations that nobody waits for:
// they were accepted before it.
func (a *laxKey) dropParked(m *mutation) {
	for range a.waiting() {
		message := a.queues.parked.pop()
		switch p := message.(type) {
		case *increments:
			m.dropped = m.dropped.then(change{add, p.n})
			continue
		case *request:
			switch {
			case p.answered():
			case p.op.Kind.Conditional() || p.op.Kind == op.Del:
				m.unserved = append(m.unserved, p)
				continue
			default:
				c, _ := changeOf(p.op, 0)
				m.dropped = m.dropped.then(c)
				continue
			}
		}
		a.queues.parked.push(message)
	}
}

// onSettlement learns the fate of a change. It can be repeated after a panic:
// each step leaves nothing to do for the next time.
func (a *laxKey) onSettlement(s *slot) {
	m, err := s.flight(), s.result.Err
	a.flush.failAt.at("lax key: settling")
	if a.flight == m {
		a.flight, a.landed = nil, s.step
		if !s.result.Silent { // else whoever waits goes on to wait for a read
			a.endPatience()
		}
		switch {
		case err != nil:
			a.known = false
		case s.result.Silent:
			a.remote = m.over(a.remote)
		default:
			a.remote, a.known, a.seen = s.result.N, true, s.sent
		}
		if m.verb == remove {
			a.remote = 0
		}
	}
	a.flush.failAt.at("lax key: landed")
	if a.queues != nil && a.queues.wiping == m {
		a.queues.wiping = nil
	}
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
		m.land(nil)
	case m.verb == remove || m.verb == wipe:
		a.restore(m, err)
	default:
		a.setAside(m, err)
	}
	a.flush.failAt.at("lax key: settled")
	a.sendNext()
	a.serveParked(!s.result.Silent) // after a total any view will do: it is one flush old at most
	if !s.settled {
		s.settled = true
		s.round.release() // the slot is not ours any more
	}
}

// setAside takes a change that Redis refused out of the count: it is reported
// to the observer, to the next reply of the key and to a Flush that waits.
func (a *laxKey) setAside(m *mutation, err error) {
	c := m.change
	if c.verb == nothing { // reported before a panic
		return
	}
	a.more().refused = fmt.Errorf("redis refused an earlier change of %q by %d: %w", a.key, c.amount(), err)
	m.land(&Unflushed{Key: a.key, N: c.amount(), Assign: c.verb == assign, Err: err})
	m.change = change{}
	a.flush.observer.DeltaRefused(a.key, c.amount(), c.verb == assign, err)
}

// restore puts back what a refused Del or Clear had dropped, before the
// changes that came after it. What had not been decided by then is refused too.
func (a *laxKey) restore(m *mutation, err error) {
	dropped, waiting := m.dropped, m.barrier
	m.dropped, m.barrier = nil, nil
	for len(m.unserved) > 0 {
		m.unserved = m.unserved[1:]
		a.flush.observer.MessageRefused(a.key, err)
	}
	var first *mutation // the Del that comes next
	if f := a.flight; f != nil && f.verb == remove {
		first = f
	} else if dels := a.dels(); len(dels) > 0 {
		first = dels[0]
	}
	if first != nil {
		first.dropped = dropped.then(first.dropped...)
		first.barrier = waiting.and(first.barrier)
		return
	}
	open, flusher := a.takeOpen()
	a.flusher = waiting.and(flusher)
	all := dropped.then(open)
	if last := len(all) - 1; last >= 0 {
		a.open, all = all[last], all[:last]
	}
	if a.open.verb == nothing {
		a.flusher.pass(nil)
		a.flusher = nil
	}
	for _, c := range all { // together they are no int64
		a.setAside(&mutation{change: c}, op.NotApplied(op.ErrOverflow))
	}
}

// land lets the Flush pass that waits for the change: left is what of it is not
// in Redis, or nil.
func (m *mutation) land(left *Unflushed) {
	m.barrier.pass(left)
	m.barrier = nil
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
	under := []*mutation{a.flight}
	if a.queues != nil {
		under = append(under, a.queues.wiping)
	}
	for _, m := range under {
		if m == nil {
			continue
		}
		err := notApplied
		if m.ambiguous {
			err = op.Unknown(op.Hint(errStopped, a.flush.lastTrouble()))
		}
		note(m.change, err)
		for _, c := range m.dropped {
			note(c, err)
		}
		for range m.unserved {
			a.flush.observer.MessageRefused(a.key, err)
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
