package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/asynkron/protoactor-go/actor"
	"github.com/distkit/distkit-go"
)

// The service is a ticket shop on the evening when three concerts go on sale.
//
//	visitors  look at the shows' pages      lax: counted in memory, never waits
//	buyers    take up to four seats         strict and conditional: never oversold
//	mailroom  an actor, told of purchases   counts tickets and mails by PID.Send
//
// Everybody keeps a tally of what the library told them, apart from it; in the
// end the tallies have to explain what Redis holds.

const (
	// patience is how long a buyer waits for an answer: less than the outage,
	// so that some learn that it did not work, or that nobody knows yet.
	patience = 500 * time.Millisecond
	// slow is when a buyer notices having waited.
	slow = 100 * time.Millisecond
)

var mailsKey = distkit.MustKey("mails")

// show is one concert, its counters, and the tally.
type show struct {
	capacity int64
	views    distkit.Key // lax
	seats    distkit.Key // strict: those left
	tickets  distkit.Key // strict: those issued by the mailroom
	issue    *actor.PID  // the address of tickets

	viewed  atomic.Int64  // page views that the library took
	sold    atomic.Int64  // seats that buyers were told they got
	unknown atomic.Int64  // seats of which buyers were told that nobody knows
	taken   []atomic.Bool // by seat number, from 1: sold to somebody
}

func newShow(name string, capacity int64) *show {
	return &show{
		capacity: capacity,
		views:    distkit.MustKey("views_" + name),
		seats:    distkit.MustKey("seats_" + name),
		tickets:  distkit.MustKey("tickets_" + name),
		taken:    make([]atomic.Bool, capacity+1),
	}
}

type service struct {
	system *distkit.System
	shows  []*show
	mail   *actor.PID

	lax struct {
		failed  atomic.Int64 // views with an error, which there should be none of
		slowest atomic.Int64 // ns, of the views that waited for their number
	}
	buyers struct {
		waiting    atomic.Int64 // in a call now
		calls      atomic.Int64
		purchases  atomic.Int64
		soldOut    atomic.Int64 // the condition did not hold
		late       atomic.Int64 // answered after more than slow
		notApplied atomic.Int64
		unknown    atomic.Int64
		wrong      atomic.Int64 // answers that cannot be; see wrongs
	}
	wrongOnce sync.Once
	wrongs    string // the first of them
}

// openService puts the seats on sale.
func openService(ctx context.Context, system *distkit.System) (*service, error) {
	s := &service{
		system: system,
		shows:  []*show{newShow("theatre", 2_000), newShow("arena", 12_000), newShow("stadium", 90_000)},
	}
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	for _, show := range s.shows {
		if _, err := system.Strict().Set(ctx, show.seats, show.capacity); err != nil {
			return nil, fmt.Errorf("put the seats on sale: %w", err)
		}
		if _, err := system.Lax().Get(ctx, show.views); err != nil {
			return nil, fmt.Errorf("open the pages: %w", err)
		}
		show.issue = system.Strict().PID(show.tickets).Actor()
	}
	room := &mailroom{mails: system.Lax().PID(mailsKey)}
	s.mail = system.ActorSystem().Root.Spawn(actor.PropsFromProducer(func() actor.Actor { return room }))
	return s, nil
}

// run lets n visitors and n buyers loose until ctx ends, and returns when the
// last call has its answer and the mailroom has counted the last purchase.
func (s *service) run(ctx context.Context, n int) {
	var everybody sync.WaitGroup
	for range n {
		everybody.Go(func() { s.visit(ctx) })
		everybody.Go(func() { s.shop(ctx) })
	}
	everybody.Wait()
	s.closeMailroom()
}

func (s *service) closeMailroom() {
	done := make(chan struct{})
	root := s.system.ActorSystem().Root
	root.Send(s.mail, closeBooks{done})
	<-done
	root.Stop(s.mail)
}

// visit looks at pages, a burst of them at a time.
func (s *service) visit(ctx context.Context) {
	lax, calls := s.system.Lax(), context.WithoutCancel(ctx)
	for pause(ctx, between(1*time.Millisecond, 9*time.Millisecond)) {
		show := s.anyShow()
		for range 1 + rand.IntN(20) {
			s.tally(show, lax.Add(show.views, 1))
		}
		start := time.Now() // "you are visitor number …"
		_, err := lax.Inc(calls, show.views, 1)
		s.tally(show, err)
		raise(&s.lax.slowest, int64(time.Since(start)))
	}
}

// tally keeps the books on a page view.
func (s *service) tally(show *show, err error) {
	if err != nil {
		s.lax.failed.Add(1)
		return
	}
	show.viewed.Add(1)
}

// shop buys seats.
func (s *service) shop(ctx context.Context) {
	calls := context.WithoutCancel(ctx) // the evening's end interrupts no purchase
	for pause(ctx, between(5*time.Millisecond, 15*time.Millisecond)) {
		s.buy(calls, s.anyShow(), 1+rand.Int64N(4))
	}
}

// buy takes n seats if that many are left, and keeps the books on the answer.
func (s *service) buy(ctx context.Context, show *show, n int64) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	start := time.Now()
	s.buyers.calls.Add(1)
	s.buyers.waiting.Add(1)
	change, err := s.system.Strict().IncIf(ctx, show.seats, distkit.Ge(n), -n)
	s.buyers.waiting.Add(-1)
	if err == nil && time.Since(start) > slow {
		s.buyers.late.Add(1)
	}
	notApplied, unknown := errors.Is(err, distkit.ErrNotApplied), errors.Is(err, distkit.ErrOutcomeUnknown)
	switch {
	case err == nil && change.Applied:
		show.sold.Add(n)
		s.buyers.purchases.Add(1)
		s.seat(show, change, n)
		s.system.ActorSystem().Root.Send(s.mail, purchase{tickets: show.issue, seats: n})
	case err == nil:
		s.buyers.soldOut.Add(1)
	case notApplied && !unknown:
		s.buyers.notApplied.Add(1)
	case unknown && !notApplied:
		s.buyers.unknown.Add(1)
		show.unknown.Add(n)
	default:
		s.wrong("an error that is not of one class: %v", err)
	}
}

// seat gives the buyer the seats that went from Old to New; nobody else may
// have any of them.
func (s *service) seat(show *show, change distkit.Change, n int64) {
	if change.Old-change.New != n || change.New < 0 || change.Old > show.capacity {
		s.wrong("%s went from %d to %d by a sale of %d", show.seats, change.Old, change.New, n)
		return
	}
	for number := change.New + 1; number <= change.Old; number++ {
		if show.taken[number].Swap(true) {
			s.wrong("%s: number %d was sold twice", show.seats, number)
		}
	}
}

// wrong notes an answer that the library must never give.
func (s *service) wrong(format string, args ...any) {
	s.buyers.wrong.Add(1)
	s.wrongOnce.Do(func() { s.wrongs = fmt.Sprintf(format, args...) })
}

func (s *service) anyShow() *show { return s.shows[rand.IntN(len(s.shows))] }

// total sums one part of the shows' tallies.
func (s *service) total(part func(*show) *atomic.Int64) int64 {
	sum := int64(0)
	for _, show := range s.shows {
		sum += part(show).Load()
	}
	return sum
}

func between(least, most time.Duration) time.Duration {
	return least + rand.N(most-least)
}

// raise makes n the value of most if it is greater.
func raise(most *atomic.Int64, n int64) {
	for old := most.Load(); n > old && !most.CompareAndSwap(old, n); old = most.Load() {
	}
}

// pause waits for d; it reports false if ctx ended first.
func pause(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return ctx.Err() == nil
	}
}
