package distkit

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/asynkron/protoactor-go/actor"
	"github.com/distkit/distkit-go/actors"
	"github.com/distkit/distkit-go/internal/verb"
	"github.com/redis/go-redis/v9"
)

// System runs the counters of one prefix: a supervisor, an actor for each key
// in use, and two writers. Make one a process and prefix, and share it; it is
// safe for concurrent use. Using the zero System, or one after Shutdown, gives
// ErrClosed.
type System struct {
	engine      *actors.Engine
	strict      StrictCounter
	lax         LaxCounter
	events      *events
	probe       *probe // nil: nobody is told
	actorSystem *actor.ActorSystem
	release     func() // lets go of the actor system
}

// NewSystem returns a running System on client, which stays the caller's to
// close, after Shutdown. It does no I/O: a Redis that is away is found out by
// the first operation. An error says which options are wrong and what is
// allowed.
//
// The System never lets the client repeat a command by itself, whatever its
// MaxRetries. The client's ReadTimeout bounds how long a Redis that hangs can
// keep a batch on its way before it is sent again.
func NewSystem(client redis.UniversalClient, opts ...Option) (*System, error) {
	o := defaults()
	for _, opt := range opts {
		if opt == nil {
			o.errs = append(o.errs, errors.New("an Option is nil"))
			continue
		}
		opt(&o)
	}
	if err := checkClient(client); err != nil {
		o.errs = append(o.errs, err)
	}
	if err := o.checkReplicas(client); err != nil {
		o.errs = append(o.errs, err)
	}
	if err := o.validate(); err != nil {
		return nil, fmt.Errorf("distkit: new system: %w", err)
	}
	s := &System{events: newEvents(o.logger), probe: newProbe(o.probe), actorSystem: o.actorSystem, release: func() {}}
	if s.actorSystem == nil {
		s.actorSystem, s.release = shareActors(o.logger)
	}
	s.engine = actors.New(actors.Config{
		Client:         client,
		Prefix:         o.prefix.name,
		Shards:         o.shards,
		ActorSystem:    s.actorSystem,
		AllowedLag:     o.allowedLag,
		RefreshWait:    o.refreshWait,
		MaxStaleness:   o.maxStaleness,
		Passivation:    o.passivation,
		LedgerLifetime: o.lifetime,
		MaxPending:     o.maxPending,
		Replicas:       o.waitedFor(),
		BackoffMin:     o.backoffMin,
		BackoffMax:     o.backoffMax,
		Observer:       observer{s.events},
		Watcher:        s.probe.watcher(),
		Decode:         decode,
		Encode:         func(key string, o verb.Op, r verb.Result) any { return encode(key, o, r) },
	})
	s.strict = StrictCounter{counter{s, s.engine.Strict(), strictKind}, s.engine.Transactions()}
	s.lax = LaxCounter{counter{s, s.engine.Lax(), laxKind}, s.engine.Lax()}
	return s, nil
}

// Strict returns the counters whose every operation is executed in Redis.
func (s *System) Strict() *StrictCounter {
	if s == nil {
		return &StrictCounter{}
	}
	return &s.strict
}

// Lax returns the counters that fold in memory and flush.
func (s *System) Lax() *LaxCounter {
	if s == nil {
		return &LaxCounter{}
	}
	return &s.lax
}

// Flush writes every lax change accepted before the call and returns nil when
// all of it is in Redis. Otherwise the error is an *UnflushedError: it lists
// the changes that Redis refused, which are set aside, and matches the
// context's error if that ended the wait; what was not refused stays pending
// and is written later.
func (s *System) Flush(ctx context.Context) error {
	if s == nil || s.engine == nil {
		return notApplied(ErrClosed)
	}
	if ctx == nil {
		return errNilContext
	}
	var probing *probing
	if s.probe.tellsCalls() {
		ctx, probing = s.begin(ctx, Call{Kind: laxKind, Operation: "flush", Size: 1})
	}
	err := unflushed(s.engine.Flush(ctx))
	probing.end(true, err)
	return err
}

// Shutdown refuses new operations (ErrClosed), writes every lax change, waits
// for every strict operation, and stops all actors and goroutines of the
// System; an actor system given by WithActorSystem stays running. It returns
// nil when everything accepted is in Redis.
//
// When ctx ends first, it stops all the same: callers still waiting get
// ErrNotApplied or ErrOutcomeUnknown, and the *UnflushedError lists the lax
// changes that are not, or not known to be, in Redis. A call to Redis that
// hangs then ends with the client's own timeouts.
//
// Calling it again waits for the first call and returns the same. At the end it
// waits for subscribers to have their events, and for Proto.Actor code to have its
// replies, for a second at most.
func (s *System) Shutdown(ctx context.Context) error {
	if s == nil || s.engine == nil {
		return nil
	}
	if ctx == nil {
		return errNilContext
	}
	err := unflushed(s.engine.Shutdown(ctx))
	delivered, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	s.engine.AwaitReplies(delivered)
	s.events.wait(delivered)
	s.probe.wait(delivered)
	s.release()
	return err
}

// unflushed makes the error of what was not written.
func unflushed(left []actors.Unflushed, cause error) error {
	if len(left) == 0 && cause == nil {
		return nil
	}
	err := &UnflushedError{Cause: cause, Changes: make([]Unflushed, len(left))}
	for i, u := range left {
		err.Changes[i] = Unflushed{Key: Key{u.Key}, Window: u.Window, N: u.N, Assigned: u.Assign, Err: u.Err}
	}
	return err
}

// ActorSystem returns the Proto.Actor system that the counters run in; nil for
// the zero System. One that WithActorSystem has not given is shared with other Systems
// of the process: do not shut it down.
func (s *System) ActorSystem() *actor.ActorSystem {
	if s == nil {
		return nil
	}
	return s.actorSystem
}

// Subscribe calls f for every event from now on, one at a time and in order, on a
// goroutine that is nobody else's: whatever f does, counting and other subscribers go
// on. A slow f loses what finds no room among 16,384 events that wait
// (EventsDropped). cancel ends it; a call under way may still finish.
func (s *System) Subscribe(f func(Event)) (cancel func()) {
	if s == nil || s.events == nil || f == nil {
		return func() {}
	}
	return s.events.subscribe(f)
}

// observe publishes an event, where there is a System to do so.
func (s *System) observe(event Event) {
	if s != nil && s.events != nil {
		s.events.publish(event)
	}
}
