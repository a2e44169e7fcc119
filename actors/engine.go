// Package actors is the engine of distkit: spaces of counters, in which every key
// is a supervised actor, and above them what concerns them all. The root package is
// its only user; it is not part of the library's API and may change in any version.
//
//	caller ── Shards ──► Space ──► key's actor ──► the space's writer ──► Redis
//
// Files: engine (what the root calls), shards (the spaces of a kind of counters), space
// (a container of counters at work),
// drain (Flush and Shutdown), sweeper (which puts to sleep what is idle). Below,
// in internal: strict and lax, the two modes, and refresh, which keeps lax views
// young.
package actors

import (
	"context"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/asynkron/protoactor-go/actor"
	"github.com/distkit/distkit-go/actors/internal/lax"
	"github.com/distkit/distkit-go/actors/internal/strict"
	"github.com/distkit/distkit-go/internal/host"
	"github.com/distkit/distkit-go/internal/limit"
	"github.com/distkit/distkit-go/internal/redisio"
	"github.com/distkit/distkit-go/internal/trace"
	"github.com/distkit/distkit-go/internal/verb"
	"github.com/redis/go-redis/v9"
)

// Config is what an engine is built from; the root package validates it.
type Config struct {
	Client         redis.UniversalClient
	Prefix         string
	Shards         int // over which the counters of a kind are spread; 0 is 1
	ActorSystem    *actor.ActorSystem
	AllowedLag     time.Duration
	RefreshWait    time.Duration
	MaxStaleness   time.Duration // 0: unlimited
	Passivation    time.Duration // idle time after which keys leave memory; 0: never
	LedgerLifetime time.Duration
	Replicas       redisio.Replicas // which are to have each strict batch
	MaxPending     int              // messages that are not answered, and lax keys with changes, together
	BackoffMin     time.Duration
	BackoffMax     time.Duration
	Observer       host.Observer
	Watcher        *trace.Watcher // nil: nobody watches

	// Decode reads a message of Proto.Actor code; Encode makes the reply to it.
	Decode func(message any) (verb.Op, error)
	Encode func(key string, o verb.Op, r verb.Result) any

	redis  redisio.Sender // in place of Client, in tests
	failAt host.FailPoint // in tests
}

// Engine runs the counters of one prefix. It is safe for concurrent use.
type Engine struct {
	cfg       Config
	host      *host.Host
	addresses *host.Addresses
	sweeper   *sweeper
	pending   *limit.Pending

	strict       *Shards
	transactions Transactions
	lax          *LaxShards
	kinds        struct{ strict, lax, laxWindow kind }

	mu     sync.Mutex        // guards what of the spaces has been made
	made   map[string]*Space // by name
	leaves sync.WaitGroup    // of windows that have left: their ledgers are retired
	life   context.Context   // until Shutdown
	end    context.CancelFunc

	closed atomic.Bool // operations are refused

	shutdown shutdown
}

// New builds an engine and starts its supervisor; all else comes to life when it is
// used. It does no I/O.
func New(cfg Config) *Engine {
	cfg.Shards = max(cfg.Shards, 1)
	if cfg.redis == nil {
		cfg.redis = redisio.NewGuarded(cfg.Client, redisio.Layout{Prefix: cfg.Prefix, Shards: cfg.Shards})
	}
	e := &Engine{cfg: cfg, shutdown: shutdown{done: make(chan struct{})}}
	e.host = host.New(cfg.ActorSystem, host.Backoff{Min: cfg.BackoffMin, Max: cfg.BackoffMax}, cfg.Observer)
	e.addresses = host.NewAddresses(e.host)
	e.sweeper = newSweeper(e)
	e.pending = limit.New(cfg.MaxPending, cfg.Observer.Overloaded)
	e.made = map[string]*Space{}
	e.life, e.end = context.WithCancel(context.Background())
	e.kinds.strict = kind{redisio.StrictKind, e.newStrict}
	e.kinds.lax = kind{redisio.LaxKind, e.newLax}
	e.kinds.laxWindow = kind{redisio.LaxKind, e.newLaxWindow}
	e.strict = newShards(e, &e.kinds.strict, nil)
	e.transactions.shards = e.strict
	e.lax = &LaxShards{Shards: *newShards(e, &e.kinds.lax, nil)}
	return e
}

// Strict are the counters whose every operation is executed in Redis.
func (e *Engine) Strict() *Shards { return e.strict }

// Transactions are those of the strict counters.
func (e *Engine) Transactions() *Transactions { return &e.transactions }

// Lax are the counters that fold in memory.
func (e *Engine) Lax() *LaxShards { return e.lax }

func (e *Engine) newStrict(at *redisio.Container, name string) mode {
	return strict.New(strict.Config{
		Host: e.host, Redis: e.cfg.redis, Container: at, Name: shortened(name), Writer: writerOf(name), Window: windowOf(name),
		Observer: e.cfg.Observer, Watcher: e.cfg.Watcher, Lifetime: e.cfg.LedgerLifetime, Replicas: e.cfg.Replicas, Pending: e.pending,
		Woken: e.sweeper.arm, FailAt: e.cfg.failAt,
	})
}

func (e *Engine) newLax(at *redisio.Container, name string) mode {
	m := e.newLaxSpace(at, name, false)
	if e.cfg.Shards == 1 {
		e.lax.only.Store(m)
	}
	return m
}

func (e *Engine) newLaxWindow(at *redisio.Container, name string) mode {
	return e.newLaxSpace(at, name, true)
}

func (e *Engine) newLaxSpace(at *redisio.Container, name string, begins bool) *lax.Space {
	return lax.New(lax.Config{
		Host: e.host, Redis: e.cfg.redis, Container: at, Name: shortened(name), Writer: writerOf(name), Window: windowOf(name), Begins: begins,
		Observer: e.cfg.Observer, Watcher: e.cfg.Watcher, Lifetime: e.cfg.LedgerLifetime, Pending: e.pending, Woken: e.sweeper.arm, FailAt: e.cfg.failAt,
		AllowedLag: e.cfg.AllowedLag, RefreshWait: e.cfg.RefreshWait, MaxStaleness: e.cfg.MaxStaleness,
	})
}

// writerOf is what events call the writer of a space: "strict" or "lax", and which shard,
// as in "strict#3".
func writerOf(space string) string {
	shard, _, _ := strings.Cut(shortened(space), "@")
	return shard
}

// shortened is the name of a space as its actors have it, which every key's does.
func shortened(space string) string { return strings.Replace(space, "_counter", "", 1) }

// windowOf is what events call the window of a space: "day@1764288000"; "" if it is none.
func windowOf(space string) string {
	_, window, _ := strings.Cut(space, "@")
	return window
}

// enter has a space be one of the engine's; if there is one of its name, that is it.
func (e *Engine) enter(s *Space) *Space {
	e.mu.Lock()
	defer e.mu.Unlock()
	if known := e.made[s.name]; known != nil {
		return known
	}
	e.made[s.name] = s
	return s
}

// spaces are those that have been made.
func (e *Engine) spaces() []mode {
	var made []mode
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, s := range e.made {
		if m := s.mode.Load(); m != nil {
			made = append(made, *m)
		}
	}
	return made
}

// Pending is how much is pending, and what is the most.
func (e *Engine) Pending() (n, max int) { return e.pending.Count() }

// Full reports whether more that nobody waits for is refused.
func (e *Engine) Full() bool { return e.pending.Full() }

// AwaitReplies returns when the senders of messages have their replies, or ctx ends.
func (e *Engine) AwaitReplies(ctx context.Context) { e.host.AwaitReplies(ctx) }

// QuietLogger is for an actor system of our own: see there.
func QuietLogger(to *slog.Logger) func(*actor.ActorSystem) *slog.Logger { return host.QuietLogger(to) }
