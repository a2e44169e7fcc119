// Package lax is the lax mode of counting: a key folds its changes in memory and
// answers from what it knows, and a flush coordinator writes what is pending every
// AllowedLag in one pipeline.
//
//	caller ── Space ──► key (an actor each) ──► flush coordinator ──► a call a lane ──► Redis
//
// Files: space (what the engine calls), key with view, wait and changes (the actor
// of a key: what it answers, what it waits for, how its changes leave), coordinator
// with inbox and round (the writer).
package lax

import (
	"context"
	"math"
	"time"

	"github.com/distkit/distkit-go/actors/internal/refresh"
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
	Host         *host.Host
	Redis        redisio.Sender
	Container    *redisio.Container
	Name         string // of the space; its actors' names start with it
	Writer       string // what events call its writer
	Window       string // what events call the window of its counters; "" if they are of none
	Observer     host.Observer
	Watcher      *trace.Watcher // or nil
	Lifetime     time.Duration  // of ledgers
	AllowedLag   time.Duration
	RefreshWait  time.Duration
	MaxStaleness time.Duration // 0: unlimited
	Begins       bool          // there was nothing before: unseen keys count from 0 while Redis is away
	Pending      *limit.Pending
	Woken        func() // told when something comes to life that is to be swept
	FailAt       host.FailPoint
}

// longest is as good as for ever, and leaves room to add to.
const longest = math.MaxInt64 / 2

// Space is a container of lax counters at work. It is safe for concurrent use.
type Space struct {
	keys host.Keyspace[*key]
	at   *coordinator
}

// New returns a space of which nothing lives yet.
func New(cfg Config) *Space {
	c := &coordinator{
		name: cfg.Writer, window: cfg.Window, redis: cfg.Redis, observer: cfg.Observer, watcher: cfg.Watcher, failAt: cfg.FailAt, risen: cfg.Woken, clock: refresh.NewClock(),
		allowedLag: min(cfg.AllowedLag, longest), maxStaleness: cfg.MaxStaleness, pending: cfg.Pending,
		book:  ledger.Book{At: cfg.Container, Lifetime: cfg.Lifetime},
		epoch: 1, since: 1, // a key never listed has 0
	}
	c.actor = host.NewResident(cfg.Host, cfg.Name+"-flush-coordinator", false, c)
	c.refresh = &refresh.Refresher[*key]{
		At: cfg.Container, Redis: cfg.Redis, Clock: c.clock, Lag: cfg.AllowedLag, Wait: cfg.RefreshWait, Post: c.actor.Post,
	}
	s := &Space{at: c}
	tooOld := -c.allowedLag - c.allowedLag/4 - 1 // whatever is under way: see fresh
	s.keys.Init(cfg.Host, cfg.Name, func() *key {
		return &key{at: c, known: cfg.Begins && time.Now().Before(cfg.Container.Expires), seen: tooOld}
	}, cfg.Woken)
	c.keys = s.keys.All
	return s
}

// Do carries out one operation and waits for its outcome within ctx.
func (s *Space) Do(ctx context.Context, key string, o verb.Op) verb.Result {
	if !o.Kind.Reads() && s.refuses(key) {
		return verb.Result{Err: verb.NotApplied(verb.ErrOverloaded)}
	}
	if n, ok := s.Told(key, o.Kind, o.N); ok {
		return resultOf(o, n)
	}
	return s.call(ctx, callOf(key, o))
}

// Told carries out an operation without waking its key's actor, and returns the value
// that it leaves; false if it takes the actor.
func (s *Space) Told(key string, kind verb.Kind, n int64) (int64, bool) {
	if k, ok := s.keys.Find(key); ok {
		return k.told(kind, n)
	}
	return 0, false
}

// resultOf is the result of an operation that was told the value it leaves.
func resultOf(o verb.Op, n int64) verb.Result { return verb.Result{N: n, Applied: !o.Kind.Reads()} }

// callOf is a call of which the key decides, but for a Del: that waits for Redis.
func callOf(key string, o verb.Op) *request.Request {
	r := request.Call(key, o)
	r.Local = o.Kind != verb.Del
	return r
}

// refuses reports whether a change is one too many: of a key that has none pending.
func (s *Space) refuses(key string) bool {
	if !s.at.pending.Full() {
		return false
	}
	k, ok := s.keys.Find(key)
	return !ok || !k.counted.Load()
}

// call offers a call to its key and waits for its outcome.
func (s *Space) call(ctx context.Context, r *request.Request) verb.Result {
	if !s.keys.Offer(r.Key, r) {
		r.Recycle()
		return verb.Result{Err: verb.NotApplied(verb.ErrClosed)}
	}
	return s.await(ctx, r)
}

// await waits for a call's outcome and lets go of it.
func (s *Space) await(ctx context.Context, r *request.Request) verb.Result {
	name := r.Key
	result, kept := r.Await(ctx, s.at.lastTrouble)
	if !kept {
		r.Recycle()
	} else if r.Withdrawn() {
		if k, ok := s.keys.Find(name); ok {
			k.Box.Post(nudge{})
		}
	}
	return result
}

// DoAll carries out operations, all at once, and returns a result for each: each
// is its key's own.
func (s *Space) DoAll(ctx context.Context, ops []verb.Keyed) []verb.Result {
	calls, results := make([]*request.Request, len(ops)), make([]verb.Result, len(ops))
	for i := range ops {
		if n, ok := s.Told(ops[i].Key, ops[i].Kind, ops[i].N); ok {
			results[i] = resultOf(ops[i].Op, n)
			continue
		}
		r := callOf(ops[i].Key, ops[i].Op)
		calls[i] = r
		if !r.Op.Kind.Reads() && s.refuses(r.Key) {
			r.Fail(verb.NotApplied(verb.ErrOverloaded))
		} else if !s.keys.Offer(r.Key, r) {
			r.Fail(verb.NotApplied(verb.ErrClosed))
		}
	}
	for i, r := range calls {
		if r != nil {
			results[i] = s.await(ctx, r)
		}
	}
	return results
}

// Send carries out an operation that nobody waits for. An error says why it was not
// accepted.
func (s *Space) Send(key string, o verb.Op) error {
	if s.at.pending.Full() {
		return verb.NotApplied(verb.ErrOverloaded)
	}
	if !s.keys.Offer(key, request.Message(key, o, s.at.pending)) {
		s.at.pending.Add(-1)
		return verb.NotApplied(verb.ErrClosed)
	}
	return nil
}

// Add increments a counter for somebody who waits for nothing. An error says why it was
// not accepted.
func (s *Space) Add(key string, n int64) error {
	k, ok := s.keys.Find(key)
	if s.at.pending.Full() && (!ok || !k.counted.Load()) {
		return verb.NotApplied(verb.ErrOverloaded)
	}
	if ok && k.Box.Add(n) == host.Taken ||
		s.keys.Reach(key, func(box *host.Mailbox) host.Offered { return box.Add(n) }) {
		return nil
	}
	return verb.NotApplied(verb.ErrClosed)
}

// Ask carries out an operation whose outcome goes to reply. An error says why it was
// not accepted.
func (s *Space) Ask(key string, o verb.Op, reply func(verb.Op, verb.Result)) error {
	if !o.Kind.Reads() && s.refuses(key) || o.Kind == verb.Del && s.at.pending.Full() {
		return verb.NotApplied(verb.ErrOverloaded)
	}
	if !s.keys.Offer(key, request.Asked(key, o, s.at.pending, reply)) {
		s.at.pending.Add(-1)
		return verb.NotApplied(verb.ErrClosed)
	}
	return nil
}

// Health asks Redis whether a batch would be carried out, and says what is wrong.
func (s *Space) Health(ctx context.Context) error {
	if err := redisio.Probe(ctx, s.at.redis, s.at.book.At); err != nil {
		return err
	}
	return s.at.lastTrouble()
}

// Stats is what there is of the space.
func (s *Space) Stats() request.Stats {
	stats := request.Stats{Resident: s.keys.Size()}
	stats.Woken, stats.Slept = s.keys.Moves()
	s.at.mu.Lock()
	defer s.at.mu.Unlock()
	stats.Queued, stats.Failing, stats.Since = len(s.at.dirty), s.at.trouble, s.at.troubled
	if stats.Oldest = s.at.oldest; stats.Oldest.IsZero() {
		stats.Oldest = s.at.dirtied
	}
	return stats
}

// View returns what a key knows. It waits, within ctx, only for the first read of a
// key never seen before.
func (s *Space) View(ctx context.Context, key string) (view request.View, err error) {
	r := request.Call(key, verb.Op{Kind: verb.Get})
	r.View, r.Local = &view, true
	if err := s.call(ctx, r).Err; err != nil {
		return request.View{}, err
	}
	return view, nil
}

// Clear deletes every counter.
func (s *Space) Clear(ctx context.Context) error {
	r := request.Clear()
	s.at.wipe(r)
	result, _ := r.Await(ctx, s.at.lastTrouble)
	return result.Err
}

// Flush writes every change accepted before the call. It returns the changes that
// Redis refused, and why it could not wait for the others: the end of ctx, or of
// the engine, which lists what is left.
func (s *Space) Flush(ctx context.Context, stopped <-chan struct{}) ([]barrier.Unflushed, error) {
	b := s.flush()
	select {
	case <-b.Done():
		return b.Refused(), nil
	case <-ctx.Done():
		b.Leave()
		return b.Refused(), verb.Hint(ctx.Err(), s.at.lastTrouble())
	case <-stopped:
		return b.Refused(), verb.ErrClosed
	}
}

// flush begins a flush of all that is pending, and returns what to wait at.
func (s *Space) flush() *barrier.Barrier {
	keys := s.keys.All()
	b := barrier.New(len(keys))
	since, until := s.at.cover(b)
	s.at.flushNow()
	for _, k := range keys {
		listed := k.listed.Load()
		if since <= listed && listed <= until || k.Box.Empty(k.Quiet) || !k.Box.Post(b) {
			b.Pass(nil)
		}
	}
	b.Pass(nil)
	s.at.flushNow() // for what has become dirty meanwhile
	return b
}

// Pending lists the keys of which Redis may not have everything that was accepted
// before.
func (s *Space) Pending() []string {
	var pending []string
	for _, k := range s.keys.All() {
		if !k.Box.Empty(k.Quiet) {
			pending = append(pending, k.Name)
		}
	}
	return pending
}

// Sweep puts to sleep what has been idle, and reports whether anything is awake.
// While Redis is away keys go on answering from what they have.
func (s *Space) Sweep() bool {
	if !s.at.refresh.Away() {
		s.keys.Sweep()
	}
	if s.keys.Size() == 0 {
		s.at.actor.Sweep(s.at.quiet)
	}
	return s.keys.Size() > 0 || s.at.actor.Awake()
}

// Rest puts to sleep what holds nothing, and reports whether nothing is awake. While Redis
// is away keys go on answering from what they have.
func (s *Space) Rest() bool {
	return !s.at.refresh.Away() && s.keys.Rest() && s.at.actor.Rest(s.at.quiet)
}

// Leave refuses operations from now on, if nothing is awake and nothing under way, and
// reports whether that is so.
func (s *Space) Leave() bool {
	return s.at.actor.WhileAsleep(func() bool { return s.at.leave(s.keys.CloseEmpty) })
}

// Close refuses operations from now on.
func (s *Space) Close() { s.keys.Close() }

// Drain waits until everything accepted has its answer. What of that Redis refused
// rest lists, later.
func (s *Space) Drain(ctx context.Context) (rest func() []barrier.Unflushed, err error) {
	b := s.flush()
	for _, settled := range []func() <-chan struct{}{b.Done, s.at.whenIdle} {
		select {
		case <-settled():
		case <-ctx.Done():
			return b.Refused, verb.Hint(ctx.Err(), s.at.lastTrouble())
		}
	}
	return b.Refused, nil
}

// StopWriter ends the coordinator and waits for it.
func (s *Space) StopWriter() { s.at.actor.Stop() }

// StopKeys ends the keys' actors, when the writer has stopped.
func (s *Space) StopKeys() { s.keys.Stop() }

// Abandon answers everybody who still waits, when everything has stopped, and
// lists the changes left.
func (s *Space) Abandon() []barrier.Unflushed {
	s.at.abandon()
	var left []barrier.Unflushed
	for _, k := range s.keys.All() {
		left = append(left, k.remains(k.Box.Drain())...)
	}
	return left
}

// Retire shortens the lives of the ledgers in Redis.
func (s *Space) Retire(ctx context.Context) {
	if calls := s.at.book.Retire(); len(calls) > 0 {
		s.at.redis.Send(ctx, calls)
	}
}
