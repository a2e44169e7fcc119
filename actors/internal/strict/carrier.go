package strict

import (
	"context"
	"sync/atomic"
	"time"
)

// A caller that finds the writer at rest makes the attempt at its batch itself, instead of
// handing it to the goroutine that sends and waiting to be woken: two switches of
// goroutines less, which take as long as Redis does. It can be ended at any moment, by the
// caller's context or by the writer's stop; the batch may be in doubt then, and goes again
// on the goroutine that sends.

// carrier is an attempt that a caller makes.
type carrier struct {
	batch *batch
	ended atomic.Bool // before it was over
	stop  atomic.Pointer[context.CancelFunc]
	off   atomic.Bool // the writer has stopped
}

// lend has a caller of the batch make the first attempt at it; false if none does.
func (w *writer) lend(b *batch) bool {
	w.carrier = nil
	if b.lent || w.carries == nil || len(b.taken) > 1 || !w.carries.Interrupts(b.call()) {
		return false
	}
	b.lent = true
	w.carrier = &carrier{batch: b}
	if b.taken[0].Lend(w.carrier) {
		return true
	}
	w.carrier = nil
	return false
}

// Carry implements request.Load.
func (c *carrier) Carry(ctx context.Context) {
	b := c.batch
	w := b.writer
	defer w.actor.Post(returned{b})
	if w.watcher != nil {
		defer b.attempted(w.watcher, time.Now())
	}
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	if c.stop.Store(&stop); c.off.Load() {
		stop()
	}
	defer func() { c.ended.Store(over(ctx)) }()
	w.carries.SendWithin(ctx, b.call())
}

// over reports whether a context has ended, or its time has come, of which it may learn
// later than a socket that has the same deadline.
func over(ctx context.Context) bool {
	deadline, has := ctx.Deadline()
	return ctx.Err() != nil || has && !time.Now().Before(deadline)
}

// endedBy reports whether the attempt at a batch was a caller's, and ended before its time.
func (c *carrier) endedBy(b *batch) bool { return c != nil && c.batch == b && c.ended.Load() }

// end ends the attempt: the writer has stopped.
func (c *carrier) end() {
	if c == nil {
		return
	}
	c.off.Store(true)
	if stop := c.stop.Load(); stop != nil {
		(*stop)()
	}
}
