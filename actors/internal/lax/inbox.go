package lax

import (
	"time"

	"github.com/distkit/distkit-go/internal/barrier"
	"github.com/distkit/distkit-go/internal/request"
	"github.com/distkit/distkit-go/internal/verb"
)

// The coordinator's inbox: what keys and callers ask of it.

// markDirty asks for the key to be gathered at the next tick, or at once.
func (c *coordinator) markDirty(k *key, now bool) {
	c.ask(func() {
		k.listed.Store(c.epoch)
		if len(c.dirty) == 0 {
			c.dirtied = time.Now()
		}
		c.dirty = append(c.dirty, k)
		if now {
			c.setHurry(true)
		}
	})
}

// cover makes a Flush wait for every key that is dirty now, and has yet to be
// gathered: the gather takes the barrier along. It returns which these are: those
// listed from since to until. To send each the barrier by itself would be to
// visit them once more.
func (c *coordinator) cover(b *barrier.Barrier) (since, until uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.covers = c.covers.Add(b, len(c.dirty))
	c.epoch++ // what comes now is not among them
	return c.since, c.epoch - 1
}

// askRead asks for the key to be read, because its view is old or, the first
// time, because there is none.
func (c *coordinator) askRead(k *key, again bool) {
	c.refresh.Ask(k, again)
	c.ask(func() {})
}

func (c *coordinator) urgent(k *key, m *mutation) {
	c.ask(func() { c.dels = append(c.dels, urgentDel{k, m}) })
}

func (c *coordinator) wipe(r *request.Request) {
	c.ask(func() {
		if c.closed {
			r.Fail(verb.NotApplied(verb.ErrClosed))
		} else {
			c.wipes = append(c.wipes, r)
		}
	})
}

// leave takes no more, if there is nothing and the keys are gone; false if not. The
// coordinator sleeps.
func (c *coordinator) leave(keysGone func() bool) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.closed = c.closed || !c.woken && len(c.dirty)+len(c.dels)+len(c.wipes) == 0 && keysGone()
	return c.closed
}

// whenIdle returns a channel that is closed once nothing is left to do.
func (c *coordinator) whenIdle() <-chan struct{} {
	idle := make(chan struct{})
	c.ask(func() { c.idle = idle })
	return idle
}

// flushNow flushes what is dirty without waiting for the tick.
func (c *coordinator) flushNow() {
	if !c.hurrying.Load() {
		c.ask(func() { c.setHurry(true) })
	}
}

// setHurry notes whether not to wait for the tick; mu is held.
func (c *coordinator) setHurry(hurry bool) {
	c.hurry = hurry
	c.hurrying.Store(hurry)
}

// ask puts something into the inbox and sees to it that the actor looks.
func (c *coordinator) ask(put func()) {
	c.mu.Lock()
	put()
	wakeUp := !c.woken
	c.woken = true
	c.mu.Unlock()
	if wakeUp {
		c.actor.Post(wake{})
	}
}

// lastTrouble is what Redis last failed with, nil if it answers.
func (c *coordinator) lastTrouble() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.trouble
}

func (c *coordinator) setTrouble(err error) {
	c.mu.Lock()
	if c.trouble == nil || err == nil {
		c.troubled = time.Now()
	}
	c.trouble = err
	c.mu.Unlock()
}
