package actors

import (
	"context"
	"sync/atomic"
	"time"

	"github.com/asynkron/protoactor-go/actor"
	"github.com/distkit/distkit-go/internal/barrier"
	"github.com/distkit/distkit-go/internal/redisio"
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
	// Send carries out one that nobody waits for; an error if it is not accepted.
	Send(key string, o verb.Op) error
	// Add is Send for what there is most of: an increment by n.
	Add(key string, n int64) error
	// Ask carries out one whose outcome goes to reply; an error if it is not accepted.
	Ask(key string, o verb.Op, reply func(verb.Op, verb.Result)) error
	// Clear deletes every counter.
	Clear(ctx context.Context) error
	// Flush writes what was accepted before it, and lists what Redis refused.
	Flush(ctx context.Context, stopped <-chan struct{}) ([]barrier.Unflushed, error)

	// Health asks Redis by the way that batches go, and says what is wrong.
	Health(ctx context.Context) error
	Stats() request.Stats
	// Pending lists the counters of which Redis may not have everything that was
	// accepted before.
	Pending() []string

	// Sweep puts to sleep what is idle, and reports whether anything is awake.
	Sweep() bool

	// Rest puts to sleep what holds nothing, and reports whether nothing is awake. Leave
	// then refuses operations from now on, and reports whether nothing was under way: else
	// it does nothing.
	Rest() bool
	Leave() bool

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
	kind   *kind
	mode   atomic.Pointer[mode] // nil: it is not at work; set under engine.mu

	window *Window     // nil: it has no end
	leave  *time.Timer // has a window leave memory; guarded by engine.mu
}

// container is where the space's counters are in Redis.
func (s *Space) container() *redisio.Container {
	at := redisio.NewContainer(s.engine.cfg.Prefix, s.name)
	if s.window != nil {
		at.Expires = s.window.Expires
	}
	return at
}

// over says why nothing can be asked any more.
func (s *Space) over(ctx context.Context) error {
	if s.engine.closed.Load() {
		return verb.ErrClosed
	}
	return ctx.Err()
}

// live is the space at work; nil if it was never used and the engine is closed.
func (s *Space) live() *mode {
	if m := s.mode.Load(); m != nil {
		return m
	}
	e := s.engine
	e.mu.Lock()
	defer e.mu.Unlock()
	of := s
	if other := e.made[s.name]; other != nil { // a window may have left memory, and another have taken its place
		of = other
	} else {
		e.made[s.name] = s
	}
	if of.mode.Load() == nil && !e.closed.Load() {
		m := of.kind.make(of.container(), of.name)
		of.mode.Store(&m)
		if of.window != nil {
			e.begun(of)
		}
	}
	return of.mode.Load()
}

// begin is live for a caller with a context: an error if that has ended.
func (s *Space) begin(ctx context.Context) (*mode, error) {
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
	for {
		m, err := s.begin(ctx)
		if err != nil {
			return verb.Result{Err: err}
		}
		if r := (*m).Do(ctx, key, o); !s.left(m, r.Err) {
			return r
		}
	}
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
	results := (*m).DoAll(ctx, ops)
	var late []verb.Keyed // refused since the window has left memory
	var places []int
	for i, r := range results {
		if s.left(m, r.Err) {
			late, places = append(late, ops[i]), append(places, i)
		}
	}
	if len(late) > 0 {
		for i, r := range s.DoAll(ctx, late) {
			results[places[i]] = r
		}
	}
	return results
}

// Send carries out one operation that nobody waits for. An error says why it was not
// accepted.
func (s *Space) Send(key string, o verb.Op) error {
	return s.offer(func(m mode) error { return m.Send(key, o) })
}

// Add increments a counter for somebody who waits for nothing. An error says why it was
// not accepted.
func (s *Space) Add(key string, n int64) error {
	if m := s.mode.Load(); m != nil { // what follows takes longer than an Add
		if err := (*m).Add(key, n); err == nil || !s.left(m, err) {
			return err
		}
	}
	return s.offer(func(m mode) error { return m.Add(key, n) })
}

// offer offers an operation that its caller does not wait for.
func (s *Space) offer(to func(mode) error) error {
	for {
		m := s.live()
		if m == nil {
			return verb.NotApplied(verb.ErrClosed)
		}
		if err := to(*m); !s.left(m, err) {
			return err
		}
	}
}

// Health asks Redis by the way that batches go, and says what is wrong. It brings nothing
// to life.
func (s *Space) Health(ctx context.Context) error {
	if err := s.over(ctx); err != nil {
		return err
	}
	if m := s.mode.Load(); m != nil {
		return (*m).Health(ctx)
	}
	return redisio.Probe(ctx, s.engine.cfg.redis, s.container())
}

// Stats is what there is of the space.
func (s *Space) Stats() request.Stats {
	if m := s.mode.Load(); m != nil {
		return (*m).Stats()
	}
	return request.Stats{}
}

// Clear deletes every counter.
func (s *Space) Clear(ctx context.Context) error {
	for {
		m, err := s.begin(ctx)
		if err == nil && s.engine.closed.Load() {
			err = verb.NotApplied(verb.ErrClosed)
		}
		if err != nil {
			return err
		}
		if err := (*m).Clear(ctx); !s.left(m, err) {
			return err
		}
	}
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
	switch {
	case err != nil:
	case reply == nil && o.Kind == verb.Inc:
		err = s.Add(key, o.N)
	case reply == nil:
		err = s.Send(key, o)
	default:
		err = s.offer(func(m mode) error {
			return m.Ask(key, o, func(o verb.Op, r verb.Result) { reply(cfg.Encode(key, o, r)) })
		})
	}
	switch {
	case err == nil:
	case reply != nil:
		reply(cfg.Encode(key, o, verb.Result{Err: err}))
	default:
		cfg.Observer.MessageRefused(windowOf(s.name), key, err)
	}
}
