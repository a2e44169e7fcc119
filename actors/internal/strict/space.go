// Package strict is the strict mode of counting: every operation is executed in
// Redis, many callers' in one script call.
//
//	caller ── Space ──► key (an actor each) ──► writer ──► one script call ──► Redis
//
// Files: space (what the engine calls), key (the actor of a key), writer with queue and
// batch (who goes, and what they are told), carrier (a caller that sends itself).
package strict

import (
	"context"
	"time"

	"github.com/distkit/distkit-go/internal/barrier"
	"github.com/distkit/distkit-go/internal/host"
	"github.com/distkit/distkit-go/internal/ledger"
	"github.com/distkit/distkit-go/internal/limit"
	"github.com/distkit/distkit-go/internal/redisio"
	"github.com/distkit/distkit-go/internal/request"
	"github.com/distkit/distkit-go/internal/trace"
	"github.com/distkit/distkit-go/internal/verb"
)

// Config is what a space is made from.
type Config struct {
	Host      *host.Host
	Redis     redisio.Sender
	Container *redisio.Container
	Name      string // of the space; its actors' names start with it
	Writer    string // what events call its writer
	Window    string // what events call the window of its counters; "" if they are of none
	Observer  host.Observer
	Watcher   *trace.Watcher // or nil
	Lifetime  time.Duration  // of ledgers
	Replicas  redisio.Replicas
	Pending   *limit.Pending
	Woken     func() // told when something comes to life that is to be swept
	FailAt    host.FailPoint
}

// Space is a container of strict counters at work. It is safe for concurrent use.
type Space struct {
	keys    host.Keyspace[*key]
	writer  *writer
	pending *limit.Pending
}

// New returns a space of which nothing lives yet.
func New(cfg Config) *Space {
	w := &writer{
		name: cfg.Writer, window: cfg.Window, redis: cfg.Redis, observer: cfg.Observer, watcher: cfg.Watcher, failAt: cfg.FailAt, risen: cfg.Woken,
		book: ledger.Book{At: cfg.Container, Lifetime: cfg.Lifetime, Replicas: cfg.Replicas},
	}
	w.carries, _ = cfg.Redis.(redisio.Interrupter)
	w.actor = host.NewResident(cfg.Host, cfg.Name+"-writer", true, w)
	s := &Space{writer: w, pending: cfg.Pending}
	s.keys.Init(cfg.Host, cfg.Name, func() *key { return &key{writer: w} }, cfg.Woken)
	return s
}

// Do carries out one operation and waits for its outcome within ctx.
func (s *Space) Do(ctx context.Context, key string, o verb.Op) verb.Result {
	r := request.Call(key, o)
	r.Trip, r.Lends = trace.Of(ctx), true
	if !s.keys.Offer(key, r) {
		r.Recycle()
		return verb.Result{Err: verb.NotApplied(verb.ErrClosed)}
	}
	result, kept := r.Await(ctx, s.writer.lastTrouble)
	if !kept {
		r.Recycle()
	}
	return result
}

// DoAll carries out a batch of operations and returns a result for each, in
// order. Up to maxOps of them travel in one script call, with nothing in between.
func (s *Space) DoAll(ctx context.Context, ops []verb.Keyed) []verb.Result {
	results := make([]verb.Result, len(ops))
	calls := make([]*request.Request, 0, len(ops)/maxOps+1)
	for at := 0; at < len(ops); at += maxOps {
		part := ops[at:min(at+maxOps, len(ops))]
		calls = append(calls, s.offerParts(ctx, part, part))
	}
	for i, r := range calls {
		part := results[i*maxOps : i*maxOps+len(r.Parts)]
		if result, _ := r.Await(ctx, s.writer.lastTrouble); result.Err != nil {
			verb.Fail(part, result.Err)
		} else {
			copy(part, r.Results)
		}
	}
	return results
}

// offerParts sends one script call's worth of a batch through the keys of those of
// its operations that have one.
func (s *Space) offerParts(ctx context.Context, ops, keyed []verb.Keyed) *request.Request {
	r := request.Batch(ops, len(keyed))
	r.Trip = trace.Of(ctx)
	for i := range keyed {
		if !s.keys.Offer(keyed[i].Key, r) {
			r.Fail(verb.NotApplied(verb.ErrClosed)) // it can no longer reach the writer
			return r
		}
	}
	s.writer.forward(r)
	return r
}

// Apply carries out the operations of a transaction, and returns their results.
func (s *Space) Apply(ctx context.Context, ops []verb.Keyed) ([]verb.Result, error) {
	r := s.offerParts(ctx, ops, ops[1:]) // all but the head have a key
	if result, _ := r.Await(ctx, s.writer.lastTrouble); result.Err != nil {
		return nil, result.Err
	}
	return r.Results, r.Results[0].Err
}

// Recall returns the outcome of the transaction with an ID: the result of its head,
// Replayed if there is an outcome, and behind it those of its steps. It goes by the
// writer, so that it comes after what that has under way, a batch in doubt included.
func (s *Space) Recall(ctx context.Context, id string) ([]verb.Result, error) {
	r := request.Batch([]verb.Keyed{{Op: verb.Op{Kind: verb.Recall}, Tx: &verb.Tx{ID: id}}}, 0)
	r.Trip = trace.Of(ctx)
	s.writer.forward(r)
	if result, _ := r.Await(ctx, s.writer.lastTrouble); result.Err != nil {
		return nil, result.Err
	}
	return r.Results, r.Results[0].Err
}

// Send carries out an operation that nobody waits for. An error says why it was not
// accepted.
func (s *Space) Send(key string, o verb.Op) error {
	if s.pending.Full() {
		return verb.NotApplied(verb.ErrOverloaded)
	}
	r := request.Message(key, o, s.pending)
	if !s.keys.Offer(key, r) {
		s.pending.Add(-1)
		return verb.NotApplied(verb.ErrClosed)
	}
	return nil
}

// Add is Send of an increment.
func (s *Space) Add(key string, n int64) error {
	return s.Send(key, verb.Op{Kind: verb.Inc, N: n})
}

// Ask carries out an operation whose outcome goes to reply. An error says why it was
// not accepted.
func (s *Space) Ask(key string, o verb.Op, reply func(verb.Op, verb.Result)) error {
	if s.pending.Full() {
		return verb.NotApplied(verb.ErrOverloaded)
	}
	if !s.keys.Offer(key, request.Asked(key, o, s.pending, reply)) {
		s.pending.Add(-1)
		return verb.NotApplied(verb.ErrClosed)
	}
	return nil
}

// Health asks Redis whether a batch would be carried out, and says what is wrong.
func (s *Space) Health(ctx context.Context) error {
	if err := redisio.Probe(ctx, s.writer.redis, s.writer.book.At); err != nil {
		return err
	}
	return s.writer.found()
}

// Stats is what there is of the space.
func (s *Space) Stats() request.Stats {
	stats := request.Stats{Resident: s.keys.Size()}
	stats.Woken, stats.Slept = s.keys.Moves()
	s.writer.mu.Lock()
	defer s.writer.mu.Unlock()
	stats.Queued, stats.Failing, stats.Since = s.writer.queue.len(), s.writer.trouble, s.writer.since
	return stats
}

// Clear deletes every counter. It goes to the writer through the actors that have
// work, so that it comes after what was sent to them before.
func (s *Space) Clear(ctx context.Context) error {
	var busy []*key
	for _, k := range s.keys.All() {
		if k.Box.Busy() {
			busy = append(busy, k)
		}
	}
	r := request.Batch([]verb.Keyed{{Op: verb.Op{Kind: verb.Clear}}}, len(busy))
	r.Trip = trace.Of(ctx)
	s.clearThrough(busy, r)
	if result, _ := r.Await(ctx, s.writer.lastTrouble); result.Err != nil {
		return result.Err
	}
	return r.Results[0].Err
}

func (s *Space) clearThrough(busy []*key, r *request.Request) {
	for _, k := range busy {
		switch k.Box.Offer(r) {
		case host.Taken:
		case host.Sleeping: // by now it has no work
			s.writer.forward(r)
		case host.Refused:
			r.Fail(verb.NotApplied(verb.ErrClosed)) // it can no longer reach the writer
			return
		}
	}
	s.writer.forward(r)
}

// Flush has nothing to write: what is accepted is on its way.
func (s *Space) Flush(context.Context, <-chan struct{}) ([]barrier.Unflushed, error) {
	return nil, nil
}

// Pending is nothing: what is accepted is answered when Redis has it.
func (s *Space) Pending() []string { return nil }

// Sweep puts to sleep what has been idle, and reports whether anything is awake.
func (s *Space) Sweep() bool {
	s.keys.Sweep()
	if s.keys.Size() == 0 {
		s.writer.actor.Sweep(s.writer.quiet)
	}
	return s.keys.Size() > 0 || s.writer.actor.Awake()
}

// Rest puts to sleep what holds nothing, and reports whether nothing is awake.
func (s *Space) Rest() bool { return s.keys.Rest() && s.writer.actor.Rest(s.writer.quiet) }

// Leave refuses operations from now on, if nothing is awake and nothing under way, and
// reports whether that is so.
func (s *Space) Leave() bool {
	return s.writer.actor.WhileAsleep(func() bool { return s.writer.leave(s.keys.CloseEmpty) })
}

// Close refuses operations from now on.
func (s *Space) Close() { s.keys.Close() }

// Drain waits until everything accepted has its answer.
func (s *Space) Drain(ctx context.Context) (rest func() []barrier.Unflushed, err error) {
	rest = func() []barrier.Unflushed { return nil }
	keys := s.keys.All()
	b := barrier.New(len(keys))
	for _, k := range keys {
		if !k.Box.Post(b) {
			b.Pass(nil)
		}
	}
	b.Pass(nil)
	for _, settled := range []func() <-chan struct{}{b.Done, s.writer.whenIdle} {
		select {
		case <-settled():
		case <-ctx.Done():
			return rest, verb.Hint(ctx.Err(), s.writer.lastTrouble())
		}
	}
	return rest, nil
}

// StopWriter ends the writer and waits for it.
func (s *Space) StopWriter() { s.writer.actor.Stop() }

// StopKeys ends the keys' actors, when the writer has stopped.
func (s *Space) StopKeys() { s.keys.Stop() }

// Abandon answers everybody who still waits, when everything has stopped.
func (s *Space) Abandon() []barrier.Unflushed {
	s.writer.abandon()
	for _, k := range s.keys.All() {
		k.onRestarting() // a panic may have left an operation
		for _, message := range k.Box.Drain() {
			if r, ok := message.(*request.Request); ok {
				closed := verb.NotApplied(verb.ErrClosed)
				s.writer.report(r, closed)
				r.Fail(closed)
			}
		}
	}
	return nil
}

// Retire shortens the life of the ledger in Redis.
func (s *Space) Retire(ctx context.Context) {
	if calls := s.writer.book.Retire(); len(calls) > 0 {
		s.writer.redis.Send(ctx, calls)
	}
}
