// Package actors is the engine of distkit: spaces of counters, in which every key
// is a supervised actor, and above them what concerns them all. The root package is
// its only user; it is not part of the library's API and may change in any version.
//
//	caller ── Space ──► key's actor ──► the space's writer ──► Redis
//
// Files: engine (what the root calls), space (a container of counters at work),
// drain (Flush and Shutdown), sweeper (which puts to sleep what is idle). Below,
// in internal: strict and lax, the two modes, and refresh, which keeps lax views
// young.
package actors

import (
	"context"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/asynkron/protoactor-go/actor"
	"github.com/distkit/distkit-go/actors/internal/lax"
	"github.com/distkit/distkit-go/actors/internal/strict"
	"github.com/distkit/distkit-go/internal/host"
	"github.com/distkit/distkit-go/internal/redisio"
	"github.com/distkit/distkit-go/internal/verb"
	"github.com/redis/go-redis/v9"
)

// Config is what an engine is built from; the root package validates it.
type Config struct {
	Client         redis.UniversalClient
	Prefix         string
	ActorSystem    *actor.ActorSystem
	AllowedLag     time.Duration
	RefreshWait    time.Duration
	MaxStaleness   time.Duration // 0: unlimited
	Passivation    time.Duration // idle time after which keys leave memory; 0: never
	LedgerLifetime time.Duration
	BackoffMin     time.Duration
	BackoffMax     time.Duration
	Observer       host.Observer

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

	strict       *Space
	transactions Transactions
	lax          *LaxSpace

	mu     sync.Mutex  // guards what of the spaces has been made
	closed atomic.Bool // operations are refused

	shutdown shutdown
}

// New builds an engine and starts its supervisor; all else comes to life when it is
// used. It does no I/O.
func New(cfg Config) *Engine {
	if cfg.redis == nil {
		cfg.redis = redisio.New(cfg.Client)
	}
	e := &Engine{cfg: cfg, shutdown: shutdown{done: make(chan struct{})}}
	e.host = host.New(cfg.ActorSystem, host.Backoff{Min: cfg.BackoffMin, Max: cfg.BackoffMax}, cfg.Observer)
	e.addresses = host.NewAddresses(e.host)
	e.sweeper = newSweeper(e)
	e.strict = &Space{engine: e, name: "strict_counter", make: e.newStrict}
	e.transactions.space = e.strict
	e.lax = &LaxSpace{Space: Space{engine: e, name: "lax_counter", make: e.newLax}}
	return e
}

// Strict are the counters whose every operation is executed in Redis.
func (e *Engine) Strict() *Space { return e.strict }

// Transactions are those of the strict counters.
func (e *Engine) Transactions() *Transactions { return &e.transactions }

// Lax are the counters that fold in memory.
func (e *Engine) Lax() *LaxSpace { return e.lax }

func (e *Engine) newStrict(name string) mode {
	s := strict.New(strict.Config{
		Host: e.host, Redis: e.cfg.redis, Container: redisio.NewContainer(e.cfg.Prefix, name), Name: name,
		Observer: e.cfg.Observer, Lifetime: e.cfg.LedgerLifetime, Woken: e.sweeper.arm, FailAt: e.cfg.failAt,
	})
	e.transactions.mode.Store(s)
	return s
}

func (e *Engine) newLax(name string) mode {
	s := lax.New(lax.Config{
		Host: e.host, Redis: e.cfg.redis, Container: redisio.NewContainer(e.cfg.Prefix, name), Name: name,
		Observer: e.cfg.Observer, Lifetime: e.cfg.LedgerLifetime, Woken: e.sweeper.arm, FailAt: e.cfg.failAt,
		AllowedLag: e.cfg.AllowedLag, RefreshWait: e.cfg.RefreshWait, MaxStaleness: e.cfg.MaxStaleness,
	})
	e.lax.lax.Store(s)
	return s
}

// spaces are those that have been made.
func (e *Engine) spaces() []mode {
	var made []mode
	for _, s := range []*Space{e.strict, &e.lax.Space} {
		if s.made.Load() {
			made = append(made, s.mode)
		}
	}
	return made
}

// AwaitReplies returns when the senders of messages have their replies, or ctx ends.
func (e *Engine) AwaitReplies(ctx context.Context) { e.host.AwaitReplies(ctx) }

// QuietLogger is for an actor system of our own: see there.
func QuietLogger(to *slog.Logger) func(*actor.ActorSystem) *slog.Logger { return host.QuietLogger(to) }
