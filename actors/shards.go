package actors

import (
	"context"
	"sync"
	"sync/atomic"

	"github.com/asynkron/protoactor-go/actor"
	"github.com/distkit/distkit-go/actors/internal/lax"
	"github.com/distkit/distkit-go/internal/redisio"
	"github.com/distkit/distkit-go/internal/request"
	"github.com/distkit/distkit-go/internal/verb"
	"golang.org/x/sync/errgroup"
)

// Shards are the counters of a kind, or of one window of it: the spaces over which their
// keys are spread. A key is always on the same one. Each has its own container in Redis,
// its own writer and lanes, and comes to life when it is used; nothing of one waits for
// another. Where counters are not spread there is one space. It is safe for concurrent
// use.
type Shards struct {
	engine *Engine
	kind   *kind
	window *Window                 // nil: they have no end
	spaces []atomic.Pointer[Space] // by shard; nil: not used so far
}

// kind is strict or lax.
type kind struct {
	name string
	make func(at *redisio.Container, name string) mode
}

func newShards(e *Engine, k *kind, w *Window) *Shards {
	return &Shards{engine: e, kind: k, window: w, spaces: make([]atomic.Pointer[Space], e.cfg.Shards)}
}

// Window is what events call the window; "" if they are of none.
func (s *Shards) Window() string {
	if s.window == nil {
		return ""
	}
	return windowOf(s.window.name(""))
}

// shardOf is the shard of a key.
func (s *Shards) shardOf(key string) int { return redisio.ShardOf(key, len(s.spaces)) }

// of is the space of a key. Where there is one only, nothing is called for it.
func (s *Shards) of(key string) *Space {
	if len(s.spaces) == 1 {
		if space := s.spaces[0].Load(); space != nil {
			return space
		}
	}
	return s.at(s.shardOf(key))
}

// at is the space of a shard.
func (s *Shards) at(shard int) *Space {
	if space := s.spaces[shard].Load(); space != nil {
		return space
	}
	return s.enter(shard)
}

func (s *Shards) enter(shard int) *Space {
	space := s.engine.enter(s.newSpace(shard))
	s.spaces[shard].Store(space)
	return space
}

// look is the space of a shard, for who only asks: it does not become one of the
// engine's by that.
func (s *Shards) look(shard int) *Space {
	if space := s.spaces[shard].Load(); space != nil {
		return space
	}
	space := s.newSpace(shard)
	s.engine.mu.Lock()
	defer s.engine.mu.Unlock()
	if known := s.engine.made[space.name]; known != nil {
		return known
	}
	return space
}

func (s *Shards) newSpace(shard int) *Space {
	name := redisio.ShardName(s.kind.name, shard, len(s.spaces))
	if s.window != nil {
		name = s.window.name(name)
	}
	return &Space{engine: s.engine, name: name, kind: s.kind, window: s.window}
}

// Do carries out one operation and waits for its outcome within ctx.
func (s *Shards) Do(ctx context.Context, key string, o verb.Op) verb.Result {
	return s.of(key).Do(ctx, key, o)
}

// DoAll carries out a batch of operations and returns a result for each, in order. Those
// of one shard go together, those of several at the same time.
func (s *Shards) DoAll(ctx context.Context, ops []verb.Keyed) []verb.Result {
	parts := s.split(ops)
	if len(parts) == 1 {
		return s.at(parts[0].shard).DoAll(ctx, ops)
	}
	results := make([]verb.Result, len(ops))
	var calls sync.WaitGroup
	for _, p := range parts {
		calls.Go(func() {
			for i, r := range s.at(p.shard).DoAll(ctx, p.ops) {
				results[p.places[i]] = r
			}
		})
	}
	calls.Wait()
	return results
}

// part are the operations of a batch that are of one shard, and their places in it.
type part struct {
	shard  int
	ops    []verb.Keyed
	places []int
}

// split parts a batch by shards. One that is of one shard only has no operations in its
// part.
func (s *Shards) split(ops []verb.Keyed) []*part {
	first := &part{shard: s.shardOf(ops[0].Key)}
	same := 1
	for same < len(ops) && s.shardOf(ops[same].Key) == first.shard {
		same++
	}
	if same == len(ops) {
		return []*part{first}
	}
	parts, by := []*part{}, map[int]*part{}
	for i, o := range ops {
		shard := s.shardOf(o.Key)
		p := by[shard]
		if p == nil {
			p = &part{shard: shard}
			parts, by[shard] = append(parts, p), p
		}
		p.ops, p.places = append(p.ops, o), append(p.places, i)
	}
	return parts
}

// Send carries out one operation that nobody waits for. An error says why it was not
// accepted.
func (s *Shards) Send(key string, o verb.Op) error { return s.of(key).Send(key, o) }

// Add increments a counter for somebody who waits for nothing. An error says why it was
// not accepted.
func (s *Shards) Add(key string, n int64) error { return s.of(key).Add(key, n) }

// PID returns the address of a counter for Proto.Actor code.
func (s *Shards) PID(key string) *actor.PID { return s.of(key).PID(key) }

// Clear deletes every counter, of each shard by itself.
func (s *Shards) Clear(ctx context.Context) error {
	return verb.Spread(s.each(func(shard int) error { return s.at(shard).Clear(ctx) }))
}

// List hands every counter to take, shard by shard: see Space.List.
func (s *Shards) List(ctx context.Context, take func(name string, r verb.Result) bool) error {
	more := true
	for shard := 0; more && shard < len(s.spaces); shard++ {
		err := s.look(shard).List(ctx, func(name string, r verb.Result) bool {
			more = take(name, r)
			return more
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// Health asks Redis of each shard by the way that batches go, and says what is wrong.
func (s *Shards) Health(ctx context.Context) error {
	return verb.SpreadRead(s.each(func(shard int) error { return s.look(shard).Health(ctx) }))
}

// atOnce bounds the shards that are asked at the same time.
const atOnce = 64

// each calls f for each shard, and returns its errors.
func (s *Shards) each(f func(shard int) error) []error {
	errs := make([]error, len(s.spaces))
	var calls errgroup.Group
	calls.SetLimit(atOnce)
	for shard := range errs {
		calls.Go(func() error {
			errs[shard] = f(shard)
			return nil
		})
	}
	_ = calls.Wait() // none fails
	return errs
}

// Stats is what there is of all shards.
func (s *Shards) Stats() (all request.Stats) {
	for shard := range s.spaces {
		if space := s.spaces[shard].Load(); space != nil {
			all.Add(space.Stats())
		}
	}
	return all
}

// LaxShards are lax counters, of which there is more to ask.
type LaxShards struct {
	Shards
	only atomic.Pointer[lax.Space] // the mode of the one space, when it has been made
}

// Add is Shards.Add, without a detour: nothing is called more often.
func (s *LaxShards) Add(key string, n int64) error {
	if m := s.only.Load(); m != nil {
		return m.Add(key, n)
	}
	return s.Shards.Add(key, n)
}

// Told carries out an operation of which it has the answer at hand, without a detour
// too; false if it takes Do.
func (s *LaxShards) Told(key string, kind verb.Kind, n int64) (int64, bool) {
	m := s.only.Load()
	if m == nil {
		at := s.of(key).mode.Load()
		if at == nil {
			return 0, false
		}
		m = (*at).(*lax.Space)
	}
	return m.Told(key, kind, n)
}

// View returns what a key knows. It waits, within ctx, only for the first read of a
// key never seen before.
func (s *LaxShards) View(ctx context.Context, key string) (request.View, error) {
	m, err := s.of(key).begin(ctx)
	if err != nil {
		return request.View{}, err
	}
	return (*m).(*lax.Space).View(ctx, key)
}
