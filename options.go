package distkit

import (
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/asynkron/protoactor-go/actor"
	"github.com/distkit/distkit-go/internal/redisio"
)

// Option changes a default of NewSystem.
type Option func(*options)

type options struct {
	prefix       Key
	shards       int
	allowedLag   time.Duration
	refreshWait  time.Duration
	maxStaleness time.Duration
	passivation  time.Duration
	lifetime     time.Duration
	maxPending   int
	replicas     *redisio.Replicas // nil: none
	backoffMin   time.Duration
	backoffMax   time.Duration
	actorSystem  *actor.ActorSystem
	logger       *slog.Logger
	probe        *Probe // nil: none
	errs         []error
}

// defaults is the one place for them.
func defaults() options {
	return options{
		prefix:      MustKey("distkit"),
		shards:      1,
		allowedLag:  20 * time.Millisecond,
		refreshWait: 50 * time.Millisecond,
		passivation: time.Minute,
		lifetime:    7 * 24 * time.Hour,
		maxPending:  1_000_000,
		backoffMin:  10 * time.Millisecond,
		backoffMax:  time.Second,
		logger:      slog.Default(),
	}
}

// WithPrefix names the counters' containers in Redis: the hashes
// "<prefix>:strict_counter" and "<prefix>:lax_counter". Systems with different
// prefixes do not see each other. A prefix may hold ':', as in "app:env"; an ACL of
// ~app:* then covers it as well as "app". Default: "distkit". In Redis Cluster all
// counters of one kind and prefix live in one slot, unless they have shards; a pair of
// braces in the prefix decides which, as for any Redis key.
func WithPrefix(prefix Key) Option { return func(o *options) { o.prefix = prefix } }

// WithShards spreads the counters of each kind over n containers, so that a Redis Cluster
// serves them with several nodes: "<prefix>:strict_counter#<i>", i from 0. A prefix with a
// pair of braces would keep them in one slot all the same. A key's shard is XXH64 (seed 0)
// of the key, or of what is in its hash tag if it has one, modulo n: keys of one tag, as
// "{order 7}:paid" and "{order 7}:sent", are on one shard.
//
// A batch call is atomic within a shard only, and a transaction has all its keys on one.
// Nothing waits for a shard whose node is away but its own calls.
//
// The number is kept in Redis, as "<prefix>:layout". All Systems of a prefix have to be
// given the same: the operations of one that was given another fail with ErrLayout, not
// applied. Reshard changes the number. Default: 1, the layout of the Rust crate; at most
// 16,384.
func WithShards(n int) Option { return func(o *options) { o.shards = n } }

// WithAllowedLag sets how long lax changes gather in memory before they are
// written, and how old the view of other processes' changes may be before a
// reply waits for a read. Where half of it is 5 ms to 1 s, up to 2,000 keys that
// calls go on using are read each half of it, so that only the first reply waits.
// Default: 20 ms; at least 1 ms.
func WithAllowedLag(d time.Duration) Option { return func(o *options) { o.allowedLag = d } }

// WithRefreshWait sets how long a lax reply waits for that read, or for the
// result of a change already on its way, before it answers from the view there
// is, and Redis counts as away. Default: 50 ms; 0 never waits.
func WithRefreshWait(d time.Duration) Option { return func(o *options) { o.refreshWait = d } }

// WithMaxStaleness makes lax operations that answer a value fail with ErrStale,
// not applied, when what they know of Redis is older than d. Default: 0,
// unlimited.
func WithMaxStaleness(d time.Duration) Option { return func(o *options) { o.maxStaleness = d } }

// WithPassivation sets after which idle time a counter with nothing pending
// leaves memory: after 1 to 1½ times idle. Its PIDs stay valid and wake it again;
// a lax counter is then like one never seen, whose first reply needs a read.
// While Redis is known to be away, lax counters stay. Default: 1 minute; 0
// turns it off.
func WithPassivation(idle time.Duration) Option { return func(o *options) { o.passivation = idle } }

// WithLedgerLifetime sets how long Redis keeps what it needs to tell a batch that
// comes again from a new one, after the last batch of its writer. A batch that went
// without an answer for longer than that is told as ErrOutcomeUnknown. Default: 7
// days; at least 1 hour.
func WithLedgerLifetime(d time.Duration) Option { return func(o *options) { o.lifetime = d } }

// WithMaxPending bounds what waits in memory for Redis with nobody waiting for it: lax
// counters with changes that are not written, and messages that are not answered, together.
// What would go beyond fails with ErrOverloaded, not applied; changes of a lax counter
// that has some already still fold into those. About 0.6 kB each. Default: 1,000,000;
// at least 1.
func WithMaxPending(n int) Option { return func(o *options) { o.maxPending = n } }

// WithReplicas has each strict change wait until n replicas have it, for timeout at most
// (WAIT, https://redis.io/docs/latest/commands/wait/). Where they do not, the call
// answers its value and ErrNotReplicated: it is applied, but a failover may lose it. A
// batch takes a round trip more. It makes losses by a failover rarer, and known; it
// does not rule them out, since a replica that has not got the change may be promoted
// all the same. n is at least 1, timeout at least 1 ms and less than the client's
// ReadTimeout. Default: none are waited for.
func WithReplicas(n int, timeout time.Duration) Option {
	return func(o *options) { o.replicas = &redisio.Replicas{N: n, Within: timeout} }
}

// WithBackoff sets the delays before a writer that has lost Redis is restarted:
// min before the first, doubled for each further one, at most max, each reduced
// by up to a half at random. Default: 10 ms to 1 s.
func WithBackoff(min, max time.Duration) Option {
	return func(o *options) { o.backoffMin, o.backoffMax = min, max }
}

// WithActorSystem runs the counters in an actor system of the caller's, which
// Shutdown leaves running. Default: one of our own, without metrics, which all Systems
// of the process with the same logger share.
func WithActorSystem(system *actor.ActorSystem) Option {
	return func(o *options) {
		if system == nil {
			o.errs = append(o.errs, errors.New("WithActorSystem: the actor system is nil"))
		}
		o.actorSystem = system
	}
}

// WithLogger sets where events are logged: lost data and refused changes as
// errors, failures of Redis as warnings. Default: slog.Default().
func WithLogger(logger *slog.Logger) Option {
	return func(o *options) {
		if logger == nil {
			o.errs = append(o.errs, errors.New("WithLogger: the logger is nil; use slog.New(slog.DiscardHandler) for silence"))
		}
		o.logger = logger
	}
}

// validate says everything that is wrong with the options.
func (o *options) validate() error {
	errs := o.errs
	refuse := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	if err := o.prefix.check(); err != nil {
		refuse("WithPrefix: %w", err)
	} else if err := redisio.CheckPrefix(o.prefix.name); err != nil {
		refuse("WithPrefix: %w", err)
	}
	if o.shards < 1 || o.shards > redisio.MaxShards {
		refuse("WithShards: %d is not 1 to %d", o.shards, redisio.MaxShards)
	}
	if o.allowedLag < time.Millisecond {
		refuse("WithAllowedLag: %v is too short; the least is 1ms", o.allowedLag)
	}
	if o.refreshWait < 0 {
		refuse("WithRefreshWait: %v is negative; 0 or more is allowed", o.refreshWait)
	}
	if o.maxStaleness < 0 {
		refuse("WithMaxStaleness: %v is negative; 0 (unlimited) or more is allowed", o.maxStaleness)
	}
	if o.passivation < 0 {
		refuse("WithPassivation: %v is negative; 0 (off) or more is allowed", o.passivation)
	}
	if o.lifetime < time.Hour {
		refuse("WithLedgerLifetime: %v is too short; the least is 1h", o.lifetime)
	}
	if r := o.replicas; r != nil && (r.N < 1 || r.Within < time.Millisecond) {
		refuse("WithReplicas: %d replicas within %v; at least 1 within at least 1ms are allowed", r.N, r.Within)
	}
	if o.maxPending < 1 {
		refuse("WithMaxPending: %d is too few; the least is 1", o.maxPending)
	}
	if o.backoffMin <= 0 || o.backoffMax < o.backoffMin {
		refuse("WithBackoff: %v to %v is no range; min has to be positive and max at least min", o.backoffMin, o.backoffMax)
	}
	return errors.Join(errs...)
}
