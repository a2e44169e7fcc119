// Package actors is the engine of distkit: one supervised actor for each
// counter key, the two writers that carry their work to Redis, and the
// supervisor above them. The root package is its only user; services use that.
//
//	caller ── Do / Send / address ──► key actor ──► writer ──► one script call ──► Redis
//
// Files: engine (what the root calls), drain (Flush and Shutdown), request (an
// operation on its way and its one outcome), keys and mailbox (where key actors
// live), sweeper (which puts them to sleep), strict and strict_writer, lax… and
// coordinator and round, writer (what both writers share), supervisor, address
// (PIDs that Proto.Actor code uses).
package actors

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/asynkron/protoactor-go/actor"
	"github.com/distkit/distkit-go/internal/op"
	"github.com/distkit/distkit-go/internal/store"
	"github.com/puzpuzpuz/xsync/v4"
	"github.com/redis/go-redis/v9"
)

// Config is what an engine is built from; the root package validates it.
type Config struct {
	Client       redis.UniversalClient
	Prefix       string
	ActorSystem  *actor.ActorSystem
	AllowedLag   time.Duration
	RefreshWait  time.Duration
	MaxStaleness time.Duration // 0: unlimited
	Passivation  time.Duration // idle time after which keys leave memory; 0: never
	Backoff      Backoff
	Observer     Observer

	// Decode reads a message of Proto.Actor code; Encode makes the reply to it.
	Decode func(message any) (op.Op, error)
	Encode func(op.Op, op.Result) any

	failAt failPoint
}

// Kind is one of the two kinds of counters.
type Kind uint8

// The kinds; they name the containers in Redis.
const (
	Strict Kind = iota
	Lax
)

// String is the name of the kind's container, after the prefix.
func (k Kind) String() string {
	if k == Lax {
		return "lax_counter"
	}
	return "strict_counter"
}

// Engine runs the counters of one prefix. It is safe for concurrent use.
type Engine struct {
	cfg        Config
	name       string // of the supervisor, and first part of our actors' names
	supervisor *supervisor
	parent     parentContext

	strict    keyspace[*strictCell]
	lax       keyspace[*laxCell]
	writer    *strictWriterCell
	flush     *coordinatorCell
	sweeper   *sweeperCell
	keyBoxes  *boxKind // of the key actors, which callers run
	ownBoxes  *boxKind // of the others
	addresses addresses

	closed   atomic.Bool // operations are refused; set with the keyspaces closed
	shutdown shutdown
}

var (
	errPanicked = errors.New("distkit: the counter's actor panicked while handling the operation")
	errStopped  = errors.New("distkit: the system was shut down before Redis answered")
)

// New builds an engine and starts its supervisor and writers. It does no I/O.
func New(cfg Config) (*Engine, error) {
	e := &Engine{
		cfg: cfg, shutdown: shutdown{done: make(chan struct{})},
		keyBoxes: &boxKind{}, ownBoxes: &boxKind{},
	}
	root := cfg.ActorSystem.Root
	e.supervisor = newSupervisor(cfg.Backoff, cfg.Observer)
	pid := root.SpawnPrefix(actor.PropsFromProducer(func() actor.Actor { return e.supervisor },
		actor.WithSupervisor(e.supervisor)), "distkit")
	e.name = pid.Id
	e.parent = parentContext{root, pid}
	e.addresses = addresses{engine: e}

	e.writer = &strictWriterCell{
		box: &mailbox{boxKind: e.ownBoxes, inline: true}, observer: cfg.Observer, failAt: cfg.failAt, lane: newLane(),
		store: store.New(cfg.Client, cfg.Prefix, Strict.String()),
	}
	e.flush = &coordinatorCell{
		box: &mailbox{boxKind: e.ownBoxes}, observer: cfg.Observer, failAt: cfg.failAt, keys: e.lax.all, started: time.Now(),
		store:      store.New(cfg.Client, cfg.Prefix, Lax.String()),
		allowedLag: cfg.AllowedLag, refreshWait: cfg.RefreshWait, maxStaleness: cfg.MaxStaleness,
		epoch: 1, since: 1, // a key never listed has 0
	}
	e.sweeper = newSweeper(e)
	settle(e, &e.strict, Strict, func(key string) *strictCell {
		return &strictCell{cell: cell{key, mailbox{boxKind: e.keyBoxes, inline: true}}, writer: e.writer}
	}, func() actor.Actor { return &strictKey{keys: &e.strict} })
	settle(e, &e.lax, Lax, func(key string) *laxCell {
		return &laxCell{cell: cell{key, mailbox{boxKind: e.keyBoxes, inline: true}}, flush: e.flush}
	}, func() actor.Actor { return &laxKey{keys: &e.lax} })
	return e, errors.Join(
		e.spawnOwn("strict-writer", e.writer.box, strictWriter{e.writer}),
		e.spawnOwn("flush-coordinator", e.flush.box, coordinator{e.flush}),
		e.spawnOwn("sweeper", e.sweeper.box, sweeper{e.sweeper}))
}

// settle makes a keyspace ready to be lived in.
func settle[C keyCell](e *Engine, k *keyspace[C], kind Kind, fresh func(key string) C, newActor actor.Producer) {
	k.cells = xsync.NewMap[string, C]()
	k.under = e.name + "/" + kind.String() + "/"
	k.fresh = fresh
	props := e.props(newActor, func() actor.Mailbox { return k.born }).Configure(actor.WithOnInit(unlist(e.cfg.ActorSystem)))
	k.spawn = func(name string) error {
		_, err := e.parent.SpawnNamed(props, name)
		e.sweeper.arm()
		return err
	}
}

// props are those of children of the supervisor.
func (e *Engine) props(newActor actor.Producer, box actor.MailboxProducer) *actor.Props {
	return actor.PropsFromProducer(newActor, actor.WithMailbox(box),
		actor.WithSpawnFunc(func(system *actor.ActorSystem, id string, props *actor.Props, _ actor.SpawnerContext) (*actor.PID, error) {
			return actor.DefaultSpawner(system, id, props, e.parent)
		}))
}

// spawnOwn starts one of the actors that are no keys. Every incarnation is the
// same value: state lives in the cell that it points to.
func (e *Engine) spawnOwn(name string, box *mailbox, a actor.Actor) error {
	props := e.props(func() actor.Actor { return a }, func() actor.Mailbox { return box })
	box.gone.Add(1)
	if _, err := e.parent.SpawnNamed(props, e.name+"/"+name); err != nil {
		box.gone.Done()
		return fmt.Errorf("distkit: start actor %s: %w", name, err)
	}
	box.open()
	return nil
}

// offer hands a message to its key's actor; false if the engine is closed.
func (e *Engine) offer(kind Kind, key string, message any) bool {
	if kind == Lax {
		return reach(&e.lax, key, func(box *mailbox) offered { return box.offer(message) })
	}
	return reach(&e.strict, key, func(box *mailbox) offered { return box.offer(message) })
}

// reach hands something to a key's actor; false if the engine is closed. An
// actor that is leaving memory is let go, and the key's next one has it.
func reach[C keyCell](k *keyspace[C], key string, hand func(*mailbox) offered) bool {
	for {
		c, open := k.get(key)
		if !open {
			return false
		}
		switch hand(c.mailbox()) {
		case taken:
			return true
		case refused:
			return false
		}
		k.awaitSleep()
	}
}

// trouble is what Redis last failed with for the kind.
func (e *Engine) trouble(kind Kind) func() error {
	if kind == Lax {
		return e.flush.lastTrouble
	}
	return e.writer.lastTrouble
}

// Do carries out one operation and waits for its outcome within ctx.
func (e *Engine) Do(ctx context.Context, kind Kind, key string, o op.Op) op.Result {
	if err := ctx.Err(); err != nil {
		return op.Result{Err: op.NotApplied(err)}
	}
	r := newCall(key, o)
	r.local = kind == Lax && o.Kind != op.Del
	if !e.offer(kind, key, r) {
		r.recycle()
		return op.Result{Err: op.NotApplied(op.ErrClosed)}
	}
	return e.wait(ctx, kind, r)
}

// wait waits for a call's outcome and lets go of it.
func (e *Engine) wait(ctx context.Context, kind Kind, r *request) op.Result {
	key := r.key
	result, kept := r.await(ctx, e.trouble(kind))
	if !kept {
		r.recycle()
	} else if kind == Lax && r.is(withdrawn) {
		if c, ok := e.lax.cells.Load(key); ok {
			c.box.post(nudge{})
		}
	}
	return result
}

// Send carries out one operation that nobody waits for; false if the engine is
// closed.
func (e *Engine) Send(kind Kind, key string, o op.Op) bool {
	if kind == Lax && o.Kind == op.Inc {
		return e.Add(key, o.N)
	}
	return e.offer(kind, key, &request{key: key, op: o})
}

// Add increments a lax counter for somebody who waits for nothing; false if the
// engine is closed.
func (e *Engine) Add(key string, n int64) bool {
	if c, ok := e.lax.cells.Load(key); ok && c.box.add(n) == taken {
		return true
	}
	return reach(&e.lax, key, func(box *mailbox) offered { return box.add(n) })
}

// View returns what a lax key knows. It waits, within ctx, only for the first
// read of a key never seen before.
func (e *Engine) View(ctx context.Context, key string) (View, error) {
	if err := ctx.Err(); err != nil {
		return View{}, op.NotApplied(err)
	}
	var view View
	r := newCall(key, op.Op{Kind: op.Get})
	r.view, r.local = &view, true
	if !e.offer(Lax, key, r) {
		return View{}, op.NotApplied(op.ErrClosed)
	}
	if err := e.wait(ctx, Lax, r).Err; err != nil {
		return View{}, err
	}
	return view, nil
}

// Clear deletes every counter of a kind.
func (e *Engine) Clear(ctx context.Context, kind Kind) error {
	if err := ctx.Err(); err != nil {
		return op.NotApplied(err)
	}
	if e.closed.Load() {
		return op.NotApplied(op.ErrClosed)
	}
	clear := op.Op{Kind: op.Clear}
	if kind == Lax {
		r := &request{op: clear, done: make(chan struct{}, 1)}
		e.flush.wipe(r)
		result, _ := r.await(ctx, e.flush.lastTrouble)
		return result.Err
	}
	r := newBatch([]store.KeyOp{{Op: clear}})
	e.clearStrict(r)
	if result, _ := r.await(ctx, e.writer.lastTrouble); result.Err != nil {
		return result.Err
	}
	return r.results[0].Err
}

// clearStrict sends a Clear to the writer through the actors that have work,
// so that it comes after what was sent to them before.
func (e *Engine) clearStrict(r *request) {
	var busy []*strictCell
	for _, c := range e.strict.all() {
		if c.box.busy() {
			busy = append(busy, c)
		}
	}
	r.arrivals.Store(int32(len(busy)) + 1)
	for _, c := range busy {
		switch c.box.offer(r) {
		case sleeping: // by now it has no work
			forward(r, e.writer)
		case refused:
			r.fail(op.NotApplied(op.ErrClosed)) // it can no longer reach the writer
			return
		}
	}
	forward(r, e.writer)
}

// DoAll carries out a batch of operations and returns a result for each, in
// order. On strict counters up to maxOps of them travel in one script call,
// with nothing in between; on lax counters each is its key's own.
func (e *Engine) DoAll(ctx context.Context, kind Kind, ops []store.KeyOp) []op.Result {
	results := make([]op.Result, len(ops))
	if err := ctx.Err(); err != nil {
		return fill(results, op.NotApplied(err))
	}
	if kind == Lax {
		e.doEach(ctx, ops, results)
		return results
	}
	calls := make([]*request, 0, len(ops)/maxOps+1)
	for at := 0; at < len(ops); at += maxOps {
		calls = append(calls, e.offerParts(ops[at:min(at+maxOps, len(ops))]))
	}
	for i, r := range calls {
		part := results[i*maxOps : i*maxOps+len(r.parts)]
		if result, _ := r.await(ctx, e.trouble(kind)); result.Err != nil {
			fill(part, result.Err)
		} else {
			copy(part, r.results)
		}
	}
	return results
}

// offerParts sends one script call's worth of a strict batch through its keys.
func (e *Engine) offerParts(ops []store.KeyOp) *request {
	r := newBatch(ops)
	r.arrivals.Store(int32(len(ops)) + 1)
	for i := range ops {
		if !e.offer(Strict, ops[i].Key, r) {
			r.fail(op.NotApplied(op.ErrClosed)) // it can no longer reach the writer
			return r
		}
	}
	forward(r, e.writer)
	return r
}

// doEach carries out the operations of a lax batch, all at once.
func (e *Engine) doEach(ctx context.Context, ops []store.KeyOp, results []op.Result) {
	calls := make([]*request, len(ops))
	for i := range ops {
		r := newCall(ops[i].Key, ops[i].Op)
		r.local = true
		calls[i] = r
		if !e.offer(Lax, r.key, r) {
			r.fail(op.NotApplied(op.ErrClosed))
		}
	}
	for i, r := range calls {
		results[i] = e.wait(ctx, Lax, r)
	}
}

func fill(results []op.Result, err error) []op.Result {
	for i := range results {
		results[i] = op.Result{Err: err}
	}
	return results
}

// QuietLogger passes on what Proto.Actor warns of, and drops its reports of
// restarts, which are our events.
func QuietLogger(to *slog.Logger) func(*actor.ActorSystem) *slog.Logger {
	return func(*actor.ActorSystem) *slog.Logger { return slog.New(&warnings{to.Handler()}) }
}

type warnings struct{ slog.Handler }

func (h *warnings) Enabled(ctx context.Context, level slog.Level) bool {
	return level >= slog.LevelWarn && h.Handler.Enabled(ctx, level)
}

func (h *warnings) WithAttrs(attrs []slog.Attr) slog.Handler {
	return &warnings{h.Handler.WithAttrs(attrs)}
}
func (h *warnings) WithGroup(name string) slog.Handler { return &warnings{h.Handler.WithGroup(name)} }
