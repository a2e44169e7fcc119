package actors

import (
	"context"
	"sync/atomic"

	"github.com/asynkron/protoactor-go/actor"
	"github.com/distkit/distkit-go/actors/internal/lax"
	"github.com/distkit/distkit-go/internal/barrier"
	"github.com/distkit/distkit-go/internal/request"
	"github.com/distkit/distkit-go/internal/verb"
)

// mode is how the counters of a space count: strict or lax. Nothing else asks
// which.
type mode interface {
	// Do carries out one operation and waits for its outcome within ctx.
	Do(ctx context.Context, key string, o verb.Op) verb.Result
	// DoAll carries out several and returns a result for each.
	DoAll(ctx context.Context, ops []verb.Keyed) []verb.Result
	// Send carries out one that nobody waits for; false if the space is closed.
	Send(key string, o verb.Op) bool
	// Add is Send for what there is most of: an increment by n.
	Add(key string, n int64) bool
	// Ask carries out one whose outcome goes to reply; false if the space is closed.
	Ask(key string, o verb.Op, reply func(verb.Op, verb.Result)) bool
	// Clear deletes every counter.
	Clear(ctx context.Context) error
	// Flush writes what was accepted before it, and lists what Redis refused.
	Flush(ctx context.Context, stopped <-chan struct{}) ([]barrier.Unflushed, error)

	// Pending lists the counters of which Redis may not have everything that was
	// accepted before.
	Pending() []string

	// Sweep puts to sleep what is idle, and reports whether anything is awake.
	Sweep() bool

	// The steps of a shutdown, in this order. Drain waits until all that was
	// accepted has its answer; rest lists what of it Redis refused, to the end.
	Close()
	Drain(ctx context.Context) (rest func() []barrier.Unflushed, err error)
	StopWriter()
	StopKeys()
	Abandon() []barrier.Unflushed
	Retire(ctx context.Context)
}

// Space is a container of counters: its keys, its writer and its lanes, which come
// to life when they are used. It is safe for concurrent use.
type Space struct {
	engine *Engine
	name   string // of the container, after the prefix
	make   func(name string) mode
	made   atomic.Bool // mode is there, for good
	mode   mode        // set once, under engine.mu
}

// live is the space at work; nil if it was never used and the engine is closed.
func (s *Space) live() mode {
	if s.made.Load() {
		return s.mode
	}
	e := s.engine
	e.mu.Lock()
	defer e.mu.Unlock()
	if !s.made.Load() && !e.closed.Load() {
		s.mode = s.make(s.name)
		s.made.Store(true)
	}
	return s.mode
}

// begin is live for a caller with a context: an error if that has ended.
func (s *Space) begin(ctx context.Context) (mode, error) {
	if err := ctx.Err(); err != nil {
		return nil, verb.NotApplied(err)
	}
	if m := s.live(); m != nil {
		return m, nil
	}
	return nil, verb.NotApplied(verb.ErrClosed)
}

// Do carries out one operation and waits for its outcome within ctx.
func (s *Space) Do(ctx context.Context, key string, o verb.Op) verb.Result {
	m, err := s.begin(ctx)
	if err != nil {
		return verb.Result{Err: err}
	}
	return m.Do(ctx, key, o)
}

// DoAll carries out a batch of operations and returns a result for each, in
// order.
func (s *Space) DoAll(ctx context.Context, ops []verb.Keyed) []verb.Result {
	m, err := s.begin(ctx)
	if err != nil {
		results := make([]verb.Result, len(ops))
		verb.Fail(results, err)
		return results
	}
	return m.DoAll(ctx, ops)
}

// Send carries out one operation that nobody waits for; false if the engine is
// closed.
func (s *Space) Send(key string, o verb.Op) bool {
	m := s.live()
	return m != nil && m.Send(key, o)
}

// Add increments a counter for somebody who waits for nothing; false if the
// engine is closed.
func (s *Space) Add(key string, n int64) bool {
	m := s.live()
	return m != nil && m.Add(key, n)
}

// Clear deletes every counter.
func (s *Space) Clear(ctx context.Context) error {
	m, err := s.begin(ctx)
	if err == nil && s.engine.closed.Load() {
		err = verb.NotApplied(verb.ErrClosed)
	}
	if err != nil {
		return err
	}
	return m.Clear(ctx)
}

// PID returns the address of a counter for Proto.Actor code.
func (s *Space) PID(key string) *actor.PID {
	// A key may hold what separates the parts of names, the space's name does not.
	return s.engine.addresses.PID("@"+s.name+"/"+key, func(message any, reply func(any)) { s.take(key, message, reply) })
}

// take carries out a message of Proto.Actor code; reply is nil where nobody waits.
func (s *Space) take(key string, message any, reply func(any)) {
	cfg := &s.engine.cfg
	o, err := cfg.Decode(message)
	taken := false
	switch m := s.live(); {
	case err != nil || m == nil:
	case reply == nil && o.Kind == verb.Inc:
		taken = m.Add(key, o.N)
	case reply == nil:
		taken = m.Send(key, o)
	default:
		taken = m.Ask(key, o, func(o verb.Op, r verb.Result) { reply(cfg.Encode(key, o, r)) })
	}
	if taken {
		return
	}
	if err == nil {
		err = verb.NotApplied(verb.ErrClosed)
	}
	if reply != nil {
		reply(cfg.Encode(key, o, verb.Result{Err: err}))
	} else {
		cfg.Observer.MessageRefused(key, err)
	}
}

// LaxSpace is a space of lax counters, of which there is more to ask.
type LaxSpace struct {
	Space
	lax atomic.Pointer[lax.Space] // mode, when it has been made
}

// Add is Space.Add, without a detour: nothing is called more often.
func (s *LaxSpace) Add(key string, n int64) bool {
	if m := s.lax.Load(); m != nil {
		return m.Add(key, n)
	}
	return s.Space.Add(key, n)
}

// View returns what a key knows. It waits, within ctx, only for the first read of
// a key never seen before.
func (s *LaxSpace) View(ctx context.Context, key string) (request.View, error) {
	if _, err := s.begin(ctx); err != nil {
		return request.View{}, err
	}
	return s.lax.Load().View(ctx, key)
}
