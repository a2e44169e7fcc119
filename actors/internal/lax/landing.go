package lax

import (
	"slices"
	"time"

	"github.com/distkit/distkit-go/internal/fold"
	"github.com/distkit/distkit-go/internal/ledger"
	"github.com/distkit/distkit-go/internal/redisio"
	"github.com/distkit/distkit-go/internal/verb"
)

// What comes back to the coordinator: the ends of attempts, and what they mean for
// the keys that wait.

// onReturned lands what has an answer and sends the rest again: at once
// where Redis has shown that it is there, after a restart where it has not.
func (c *coordinator) onReturned(r *round) {
	r.inFlight, r.step = false, c.refresh.NextStep()
	c.failAt.At("coordinator: returned")
	again, failed := c.takeIn(r)
	if r.failing = failed != nil; r.failing {
		c.lost(failed)
	}
	c.found()
	c.failAt.At("coordinator: settled")
	if again {
		c.send(r)
	} else {
		c.finish(r)
	}
}

// resume goes on with a round whose last attempt has ended, or was never made.
func (c *coordinator) resume(r *round) {
	_, _ = c.takeIn(r) // what is left goes now, whatever it failed with
	if len(r.open()) > 0 {
		c.send(r)
	} else {
		c.finish(r)
	}
}

// takeIn takes in how the attempt at the open calls has ended, and lands what need
// not go again. again says that something is to go at once; failed why something
// has to wait for Redis. It can be repeated after a panic.
func (c *coordinator) takeIn(r *round) (again bool, failed error) {
	for _, call := range r.open() {
		if call.Sent().IsZero() { // a panic came before its first attempt
			again = true
			continue
		}
		verdict := call.Ended()
		if call.Loss != nil {
			c.observer.DataLost(c.name, call.Loss)
			call.Loss = nil
		}
		switch verdict {
		case ledger.Done:
			c.land(r, call, nil)
		case ledger.Unknown:
			c.land(r, call, verb.Unknown(call.Err))
		case ledger.Refuse:
			if call.frees || call.Class == redisio.Closed { // else it waits for somebody to mend Redis
				c.land(r, call, verb.NotApplied(call.Err))
			} else {
				failed = call.Err
			}
		case ledger.Keep, ledger.Thaw:
			failed = call.Err
		case ledger.Again, ledger.Pending:
			again = true
		}
	}
	return again, failed
}

// onReadReturned hands on what a read has brought. Where writes fail, Redis is not
// found again by that.
func (c *coordinator) onReadReturned() {
	err := c.refresh.Return()
	c.failAt.At("coordinator: read returned")
	if err != nil {
		c.lost(err)
	}
	if !slices.ContainsFunc(c.rounds, func(r *round) bool { return r.failing }) {
		c.found()
	}
	c.refresh.Answer()
	c.step()
}

// lost ends this incarnation of the actor: the supervisor makes the next one after
// the backoff.
func (c *coordinator) lost(cause error) {
	c.setTrouble(cause)
	c.refresh.Lost()
	panic(c.outage.Failed(c.name, cause))
}

// found notes that Redis has answered.
func (c *coordinator) found() {
	c.setTrouble(nil)
	c.refresh.Found()
	c.outage.Over(c.name, c.observer)
}

// land tells the keys of a call what became of their mutations: its results, or
// err. It can be repeated after a panic: keys and Clears are told their fate once.
func (c *coordinator) land(r *round, call *call, err error) {
	if err != nil {
		call.Results = make([]verb.Result, len(call.Ops))
		verb.Fail(call.Results, err)
	}
	sent := c.clock.At(call.Sent())
	late := c.clock.Age(sent) >= c.allowedLag
	if call.slots == nil { // Clears: every key is to know
		for i := range r.slots {
			c.tell(&r.slots[i], call.Results[0], sent, late)
		}
	}
	for i, s := range call.slots {
		c.tell(s, call.Results[i], sent, late)
	}
	for len(r.wipes) > 0 {
		request := r.wipes[0]
		r.wipes = r.wipes[1:]
		request.Settle(call.Results[0])
	}
	call.landed = true
	call.Release()
}

// tell sends a key the result of its change, once.
func (c *coordinator) tell(s *slot, result verb.Result, sent time.Duration, late bool) {
	c.failAt.At("coordinator: settling")
	if s.told || s.mutation.Kind == fold.Nothing {
		return
	}
	s.told, s.result, s.sent, s.late, s.step = true, result, sent, late, s.round.step
	s.round.users.Add(1)
	s.key.Box.Post(landing{s})
}
