package actors

import (
	"slices"

	"github.com/distkit/distkit-go/internal/op"
)

// The coordinator's inbox: what keys and callers ask of it.

// markDirty asks for the cell to be gathered at the next tick, or at once.
func (c *coordinatorCell) markDirty(cell *laxCell, now bool) {
	c.ask(func() {
		cell.listed.Store(c.epoch)
		c.dirty = append(c.dirty, cell)
		if now {
			c.setFlush(true)
		}
	})
}

// cover makes a Flush wait for every key that is dirty now, and has yet to be
// gathered: the gather takes the barrier along. It returns which these are: those
// listed from since to until. To send each the barrier by itself would be to
// visit them once more.
func (c *coordinatorCell) cover(b *barrier) (since, until uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.covers = slices.DeleteFunc(c.covers, func(other covering) bool { return other.barrier.gone.Load() })
	if len(c.dirty) > 0 {
		b.waiting.Add(int64(len(c.dirty)))
		c.covers = append(c.covers, covering{b, len(c.dirty)})
	}
	c.epoch++ // what comes now is not among them
	return c.since, c.epoch - 1
}

// askRead asks for the cell to be read, because its view is old or, the first
// time, because there is none.
func (c *coordinatorCell) askRead(cell *laxCell, again bool) {
	now := c.now()
	c.ask(func() {
		if len(c.reads.keys) == 0 {
			c.reads.since = now
		}
		c.reads.keys = append(c.reads.keys, asked{cell, again})
	})
}

func (c *coordinatorCell) urgent(cell *laxCell, m *mutation) {
	c.ask(func() { c.dels = append(c.dels, urgentDel{cell, m}) })
}

func (c *coordinatorCell) wipe(r *request) {
	c.ask(func() {
		if c.closed {
			r.fail(op.NotApplied(op.ErrClosed))
		} else {
			c.wipes = append(c.wipes, r)
		}
	})
}

// whenIdle returns a channel that is closed once nothing is left to do.
func (c *coordinatorCell) whenIdle() <-chan struct{} {
	idle := make(chan struct{})
	c.ask(func() { c.idle = idle })
	return idle
}

// flushNow flushes what is dirty without waiting for the tick.
func (c *coordinatorCell) flushNow() {
	if !c.flushing.Load() {
		c.ask(func() { c.setFlush(true) })
	}
}

// setFlush notes whether not to wait for the tick; mu is held.
func (c *coordinatorCell) setFlush(flush bool) {
	c.flush = flush
	c.flushing.Store(flush)
}

// ask puts something into the inbox and sees to it that the actor looks.
func (c *coordinatorCell) ask(put func()) {
	c.mu.Lock()
	put()
	wakeUp := !c.woken
	c.woken = true
	c.mu.Unlock()
	if wakeUp {
		c.box.PostUserMessage(wake{})
	}
}

// lastTrouble is what Redis last failed with, nil if it answers.
func (c *coordinatorCell) lastTrouble() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.trouble
}
