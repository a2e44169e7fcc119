package actors

import (
	"context"
	"github.com/asynkron/protoactor-go/actor"
	"github.com/distkit/distkit-go/internal/op"
	"github.com/distkit/distkit-go/internal/store"
	"slices"
	"strings"
	"sync"
)

// Flush writes every lax change accepted before the call. It returns the
// changes that Redis refused, and why it could not wait for the others.
func (e *Engine) Flush(ctx context.Context) ([]Unflushed, error) {
	if e.closed.Load() {
		return nil, op.NotApplied(op.ErrClosed)
	}
	return e.flushAll(ctx, e.lax.all())
}

func (e *Engine) flushAll(ctx context.Context, cells []*laxCell) ([]Unflushed, error) {
	b := newBarrier(len(cells) + 1)
	since, until := e.flush.cover(b)
	e.flush.flushNow()
	for _, c := range cells {
		listed := c.listed.Load()
		if since <= listed && listed <= until || c.box.empty(c.quiet) || !c.box.post(b) {
			b.pass(nil)
		}
	}
	b.pass(nil)
	e.flush.flushNow() // for what has become dirty meanwhile
	select {
	case <-b.done:
		return b.refused(), nil
	case <-ctx.Done():
		b.gone.Store(true)
		return b.refused(), ctx.Err()
	case <-e.shutdown.done: // it lists what is left
		return b.refused(), op.ErrClosed
	}
}

// shutdown is the state of Shutdown: the first call does it, others wait.
type shutdown struct {
	once  sync.Once
	done  chan struct{}
	left  []Unflushed
	cause error // the end of the context, if that came first
}

// Shutdown refuses new operations, writes and settles those accepted, and
// stops every actor. When ctx ends first it stops them all the same; what then
// is not, or not known to be, in Redis is returned, and every caller still
// waiting is answered. Further calls wait for the first and return the same.
func (e *Engine) Shutdown(ctx context.Context) ([]Unflushed, error) {
	s := &e.shutdown
	first := false
	s.once.Do(func() { first = true })
	if first {
		defer close(s.done)
		s.left, s.cause = e.stop(ctx)
		return s.left, s.cause
	}
	select {
	case <-s.done:
		return s.left, s.cause
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func (e *Engine) stop(ctx context.Context) ([]Unflushed, error) {
	e.closed.Store(true)
	strict, lax := e.strict.close(), e.lax.close()
	for _, c := range strict {
		c.box.close()
	}
	for _, c := range lax {
		c.box.close()
	}
	refused, err := e.flushAll(ctx, lax)
	if err == nil {
		err = e.drain(ctx, strict)
	}

	// Nothing runs any more after this: the cells are ours to read.
	e.supervisor.cancel()
	stop(&e.ownBoxes.gone, e.sweeper.box, e.writer.box, e.flush.box)
	boxes := make([]*mailbox, 0, len(strict)+len(lax))
	for _, c := range strict {
		boxes = append(boxes, &c.box)
	}
	for _, c := range lax {
		boxes = append(boxes, &c.box)
	}
	stop(&e.keyBoxes.gone, boxes...)
	e.stopSupervisor()
	e.addresses.release(e.cfg.ActorSystem.ProcessRegistry)

	left := append(refused, e.abandon(strict, lax)...)
	slices.SortStableFunc(left, func(a, b Unflushed) int { return strings.Compare(a.Key, b.Key) })
	if err == nil {
		e.retire(ctx)
	}
	return left, err
}

// drain waits until every strict operation and every Clear has its answer.
func (e *Engine) drain(ctx context.Context, cells []*strictCell) error {
	b := newBarrier(len(cells))
	for _, c := range cells {
		if !c.box.post(b) {
			b.pass(nil)
		}
	}
	for _, settled := range []func() <-chan struct{}{
		func() <-chan struct{} { return b.done },
		e.writer.whenIdle,
		e.flush.whenIdle,
	} {
		select {
		case <-settled():
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

// stop ends the actors of the mailboxes and waits for it. That takes no time
// worth a context: no handler of ours blocks.
func stop(gone *sync.WaitGroup, boxes ...*mailbox) {
	for _, box := range boxes {
		box.PostSystemMessage(&actor.Stop{})
	}
	gone.Wait()
}

func (e *Engine) stopSupervisor() {
	e.cfg.ActorSystem.Root.Stop(e.parent.parent)
	<-e.supervisor.stopped
}

// abandon answers everybody who still waits, and lists the lax changes left.
func (e *Engine) abandon(strict []*strictCell, lax []*laxCell) []Unflushed {
	e.writer.abandon()
	for _, c := range strict {
		for _, message := range c.box.drain() {
			if r, ok := message.(*request); ok {
				if !r.answered() {
					e.cfg.Observer.MessageRefused(r.key, op.NotApplied(op.ErrClosed))
				}
				r.fail(op.NotApplied(op.ErrClosed))
			}
		}
	}
	e.flush.abandon()
	var left []Unflushed
	for _, c := range lax {
		left = append(left, c.left(c.box.drain())...)
	}
	return left
}

// retire shortens the lives of our ledgers in Redis, within ctx. They expire by
// themselves if it fails, only later.
func (e *Engine) retire(ctx context.Context) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		e.retireLedgers(ctx)
	}()
	select {
	case <-done:
	case <-ctx.Done():
	}
}

func (e *Engine) retireLedgers(ctx context.Context) {
	for _, own := range []struct {
		store *store.Store
		lanes []*lane
	}{
		{e.writer.store, []*lane{&e.writer.lane}},
		{e.flush.store, e.flush.lanes.all},
	} {
		var used []string
		for _, l := range own.lanes {
			if l.acked > 0 {
				used = append(used, l.id)
			}
		}
		_ = own.store.Retire(ctx, used)
	}
}
