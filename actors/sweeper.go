package actors

import (
	"sync/atomic"
	"time"

	"github.com/asynkron/protoactor-go/actor"
)

// The sweeper puts keys to sleep that have been idle: it is the one timer for
// all of them. It looks at every key each half of the idle time; a key that had
// no message between three looks, and holds nothing, leaves memory, which is
// after 1 to 1½ times the idle time. What a key is sent once it is asleep is
// refused, and handed to the actor that the key gets next: nothing is lost.
//
// While no key is in memory it holds no timer.

// sweeps is how many looks in a row have to find a key without a message.
const sweeps = 3

// sweeperCell is what outlives an incarnation of the sweeper.
type sweeperCell struct {
	box    *mailbox
	engine *Engine
	every  time.Duration // 0: keys stay in memory
	armed  atomic.Bool   // a look is due some time
	timer  *time.Timer   // the actor's
}

// sweeper is the actor.
type sweeper struct{ *sweeperCell }

type (
	// armed: there are keys again.
	armed struct{}
	// sweep: it is time to look.
	sweep struct{}
)

func newSweeper(e *Engine) *sweeperCell {
	return &sweeperCell{box: &mailbox{boxKind: e.ownBoxes}, engine: e, every: (e.cfg.Passivation + 1) / 2}
}

// arm sees to it that a new key will be looked at.
func (c *sweeperCell) arm() {
	if c.every > 0 && !c.armed.Load() && c.armed.CompareAndSwap(false, true) {
		c.box.post(armed{})
	}
}

// Receive implements actor.Actor.
func (a sweeper) Receive(ctx actor.Context) {
	switch ctx.Message().(type) {
	case armed:
		a.wait()
	case sweep:
		a.sweep()
		a.armed.Store(false)
		if a.engine.strict.cells.Size()+a.engine.lax.cells.Size() > 0 && a.armed.CompareAndSwap(false, true) {
			a.wait()
		}
	case *actor.Restarting:
		a.wait()
	case *actor.Stopped:
		if a.timer != nil {
			a.timer.Stop()
		}
	}
}

func (a sweeper) wait() {
	a.timer = time.AfterFunc(a.every, func() { a.box.post(sweep{}) })
}

// sweep looks at every key once.
func (a sweeper) sweep() {
	sweepKeys(a.engine, &a.engine.strict)
	if !a.engine.flush.away.Load() { // else lax keys go on answering from what they have
		sweepKeys(a.engine, &a.engine.lax)
	}
}

func sweepKeys[C keyCell](e *Engine, k *keyspace[C]) {
	k.cells.Range(func(key string, c C) bool {
		if c.mailbox().doze(sweeps) {
			k.sleep(key, c)
		}
		return !e.closed.Load()
	})
}
