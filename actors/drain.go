package actors

import (
	"context"
	"slices"
	"strings"
	"sync"

	"github.com/distkit/distkit-go/internal/barrier"
	"github.com/distkit/distkit-go/internal/verb"
	"golang.org/x/sync/errgroup"
)

// Unflushed is a lax change that is not, or not known to be, in Redis.
type Unflushed = barrier.Unflushed

// Flush writes every change accepted before the call. It returns those that Redis
// refused, and why it could not wait for the others.
func (e *Engine) Flush(ctx context.Context) ([]Unflushed, error) {
	if e.closed.Load() {
		return nil, verb.NotApplied(verb.ErrClosed)
	}
	var refused list
	var flushes errgroup.Group
	for _, s := range e.spaces() {
		flushes.Go(func() error {
			changes, err := s.Flush(ctx, e.shutdown.done)
			refused.add(changes)
			return err
		})
	}
	err := flushes.Wait()
	return refused.sorted(), err
}

// list is filled by several goroutines.
type list struct {
	mu      sync.Mutex
	changes []Unflushed
}

func (l *list) add(changes []Unflushed) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.changes = append(l.changes, changes...)
}

func (l *list) sorted() []Unflushed {
	slices.SortStableFunc(l.changes, func(a, b Unflushed) int { return strings.Compare(a.Key, b.Key) })
	return l.changes
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
	case <-ctx.Done():
		select {
		case <-s.done: // whatever the context says, it is over
		default:
			return nil, ctx.Err()
		}
	}
	return s.left, s.cause
}

func (e *Engine) stop(ctx context.Context) ([]Unflushed, error) {
	e.mu.Lock()
	e.closed.Store(true)
	for _, s := range e.made {
		if s.leave != nil {
			s.leave.Stop()
		}
	}
	e.mu.Unlock()
	e.end()
	spaces := e.spaces()
	for _, s := range spaces {
		s.Close()
	}
	rests := make([]func() []Unflushed, len(spaces))
	var drains errgroup.Group
	for i, s := range spaces {
		drains.Go(func() (err error) {
			rests[i], err = s.Drain(ctx)
			return err
		})
	}
	err := drains.Wait()

	// Nothing runs any more after this: what is left is ours to read.
	e.host.EndRestarts()
	e.sweeper.actor.Stop()
	for _, s := range spaces {
		s.StopWriter()
	}
	for _, s := range spaces {
		s.StopKeys()
	}
	e.host.Stop()
	e.addresses.Release()

	var left list
	for i, s := range spaces {
		left.add(s.Abandon())
		left.add(rests[i]())
	}
	if err == nil {
		e.retire(ctx, spaces)
	}
	return left.sorted(), err
}

// retire shortens the lives of our ledgers in Redis, within ctx. They expire by
// themselves if it fails, only later.
func (e *Engine) retire(ctx context.Context, spaces []mode) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		var retiring errgroup.Group
		for _, s := range spaces {
			retiring.Go(func() error {
				s.Retire(ctx)
				return nil
			})
		}
		_ = retiring.Wait() // none fails
		e.leaves.Wait()
	}()
	select {
	case <-done:
	case <-ctx.Done():
	}
}
