// Many keys and many senders, Systems that come and go on one actor system,
// every way to count at once: no message is lost, and none is a dead letter.
package faults_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/asynkron/protoactor-go/actor"
	"github.com/distkit/distkit-go"
	"github.com/distkit/distkit-go/internal/chaos"
	"github.com/distkit/distkit-go/internal/redisio"
	"github.com/distkit/distkit-go/internal/redistest"
	"github.com/redis/go-redis/v9"
)

const (
	stormLanes      = 2      // Systems alive at a time
	stormMessages   = 10_000 // a System's life
	stormKeys       = 200    // of each kind
	stormSenders    = 8      // goroutines that send
	stormActors     = 4      // actors that send
	stormStragglers = 3      // callers that go on into Shutdown
	// stormIdle is an eager passivation: counters leave while they are sent to.
	// Until passivation exists the option changes nothing.
	stormIdle = 100 * time.Microsecond
)

// TestStorm: spawn, send, stop, respawn, for a million messages.
func TestStorm(t *testing.T) {
	t.Parallel()
	run := chaos.Begin(t, "Storm")
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Minute)
	defer cancel()
	actors := actor.NewActorSystem(actor.WithLoggerFactory(func(*actor.ActorSystem) *slog.Logger {
		return slog.New(slog.DiscardHandler)
	}))
	defer actors.Shutdown()
	dead := actors.EventStream.Subscribe(func(event any) {
		if letter, ok := event.(*actor.DeadLetterEvent); ok {
			run.Violation("dead letter to %v: %T %v", letter.PID, letter.Message, letter.Message)
		}
	})
	defer actors.EventStream.Unsubscribe(dead)

	client := redistest.Client(t)
	prefix := redistest.Prefix(t, client)
	lives := (run.Scale(50_000, 1_000_000) + stormMessages*stormLanes - 1) / (stormMessages * stormLanes)
	var lanes sync.WaitGroup
	for lane := range stormLanes {
		lanes.Go(func() {
			for life := range lives {
				s := &storm{run: run, client: client, prefix: fmt.Sprintf("%s-%d-%d", prefix, lane, life)}
				s.live(ctx, t, actors, run.Rand(uint64(lane*100_000+life)))
			}
		})
	}
	lanes.Wait()
}

// storm is one System's life.
type storm struct {
	run    *chaos.Run
	client *redis.Client
	prefix string
	shards int
	system *distkit.System

	strict, lax [stormKeys]stormTotal
}

// stormTotal is what was sent to one key.
type stormTotal struct{ n atomic.Int64 }

func stormKey(i int) distkit.Key { return distkit.MustKey(fmt.Sprintf("k%d", i)) }

func (s *storm) live(ctx context.Context, t *testing.T, actors *actor.ActorSystem, rng *rand.Rand) {
	s.shards = 1
	if rng.IntN(3) == 0 {
		s.shards = 4
	}
	system, events := serverSystem(t, s.client, s.prefix,
		distkit.WithActorSystem(actors), distkit.WithPassivation(stormIdle), distkit.WithShards(s.shards))
	s.system = system
	senders := s.sendAll(ctx, actors, rng)

	// Half of the Systems settle first; the others are stopped with messages in
	// mailboxes and requests without an answer, and while callers go on.
	var stragglers sync.WaitGroup
	if rng.IntN(2) == 0 {
		if err := system.Flush(ctx); err != nil {
			s.run.Violation("Flush: %v", err)
		}
	} else {
		counting := make(chan struct{}, stormStragglers)
		for i := range stormStragglers {
			own := rand.New(rand.NewPCG(rng.Uint64(), uint64(200+i)))
			stragglers.Go(func() { s.straggle(ctx, own, counting) })
		}
		for range stormStragglers {
			<-counting
		}
	}
	if err := system.Shutdown(ctx); err != nil {
		s.run.Violation("Shutdown: %v", err)
	}
	stragglers.Wait()
	for _, a := range senders {
		a.end(actors)
	}
	for _, e := range events.seen() {
		s.run.Violation("%v", e)
	}
	s.compare(t, redisio.StrictKind, &s.strict)
	s.compare(t, redisio.LaxKind, &s.lax)
	s.run.Cases(stormMessages)
	s.run.Faults(1)
}

// sendAll lets goroutines and actors send their messages, and returns the
// actors, which may wait for replies. All begin at once, so that they meet on
// keys that nobody has touched yet.
func (s *storm) sendAll(ctx context.Context, actors *actor.ActorSystem, rng *rand.Rand) []*stormActor {
	start := make(chan struct{})
	var senders sync.WaitGroup
	each := stormMessages / (stormSenders + stormActors)
	rest := stormMessages - each*(stormSenders+stormActors)
	for i := range stormSenders {
		own := rand.New(rand.NewPCG(rng.Uint64(), uint64(i)))
		n := each
		if i == 0 {
			n += rest
		}
		senders.Go(func() {
			<-start
			for range n {
				s.send(ctx, own)
			}
		})
	}
	senderActors := make([]*stormActor, stormActors)
	for i := range senderActors {
		a := &stormActor{
			storm: s, rng: rand.New(rand.NewPCG(rng.Uint64(), uint64(100+i))), left: each,
			sent: make(chan struct{}), answered: make(chan struct{}), stopped: make(chan struct{}),
		}
		a.pid = actors.Root.Spawn(actor.PropsFromProducer(func() actor.Actor { return a }, stormProps[i%len(stormProps)]...))
		senderActors[i] = a
		senders.Go(func() {
			<-start
			actors.Root.Send(a.pid, stormGo{})
			<-a.sent
		})
	}
	close(start)
	senders.Wait()
	return senderActors
}

// draw picks a counter. A few keys get most of the messages.
func (s *storm) draw(rng *rand.Rand) (c distkit.Counter, lax bool, key distkit.Key, total *stormTotal) {
	i := rng.IntN(stormKeys)
	if rng.IntN(3) > 0 {
		i %= 8
	}
	if rng.IntN(4) == 0 {
		return s.system.Strict(), false, stormKey(i), &s.strict[i]
	}
	return s.system.Lax(), true, stormKey(i), &s.lax[i]
}

// send counts in one of the ways that goroutines have.
func (s *storm) send(ctx context.Context, rng *rand.Rand) {
	c, lax, key, total := s.draw(rng)
	n := 1 + rng.Int64N(9)
	var err error
	switch rng.IntN(6) {
	case 0:
		_, err = c.Inc(ctx, key, n)
	case 1:
		_, err = c.PID(key).Request(ctx, distkit.Inc{N: n})
	case 2:
		s.system.ActorSystem().Root.Send(c.PID(key).Actor(), distkit.Inc{N: n})
	case 3:
		if lax {
			err = s.system.Lax().Add(key, n)
			break
		}
		fallthrough
	default:
		c.PID(key).Send(distkit.Inc{N: n})
	}
	if err != nil {
		s.run.Violation("%v", err)
		return
	}
	total.n.Add(n)
}

// straggle counts, in ways that tell the outcome, until the System is closed.
func (s *storm) straggle(ctx context.Context, rng *rand.Rand, counting chan<- struct{}) {
	for i := 0; ; i++ {
		if i == 1 {
			counting <- struct{}{}
		}
		c, lax, key, total := s.draw(rng)
		var err error
		if lax && rng.IntN(2) == 0 {
			err = s.system.Lax().Add(key, 1)
		} else {
			_, err = c.Inc(ctx, key, 1)
		}
		switch {
		case err == nil:
			total.n.Add(1)
			s.run.Cases(1)
		case errors.Is(err, distkit.ErrClosed) && errors.Is(err, distkit.ErrNotApplied):
			return
		default:
			s.run.Violation("a call that met Shutdown: %v", err)
		}
	}
}

// compare holds Redis against what was sent.
func (s *storm) compare(t *testing.T, kind string, totals *[stormKeys]stormTotal) {
	stored := map[string]int64{}
	for shard := range s.shards {
		maps.Copy(stored, serverStored(t, s.client, s.prefix, redisio.ShardName(kind, shard, s.shards)))
	}
	for i := range totals {
		if want := totals[i].n.Load(); stored[stormKey(i).String()] != want {
			s.run.Violation("%s %v: %d were sent, Redis holds %d", kind, stormKey(i), want, stored[stormKey(i).String()])
		}
	}
}

// stormProps are the actors' mailboxes and dispatchers: the usual ones, a mailbox that
// blocks who sends when it is full, and a dispatcher that runs the actor on the goroutine
// of who sends.
var stormProps = [][]actor.PropsOption{
	nil,
	{actor.WithMailbox(actor.Bounded(4))},
	{actor.WithDispatcher(actor.NewSynchronizedDispatcher(300))},
}

type (
	// stormGo lets an actor send its next messages.
	stormGo struct{}
	// stormActor is a Proto.Actor user: it sends to counters and asks them.
	stormActor struct {
		*storm
		rng     *rand.Rand
		pid     *actor.PID
		left    int // messages to send
		waiting int // replies to come

		sent, answered, stopped chan struct{} // closed when it is so
	}
)

// Receive implements actor.Actor.
func (a *stormActor) Receive(ctx actor.Context) {
	switch m := ctx.Message().(type) {
	case stormGo:
		a.onGo(ctx)
	case *actor.Stopped:
		close(a.stopped)
	case distkit.Value:
		a.settle(1)
	case distkit.Change:
		if !m.Applied {
			a.run.Violation("an unconditional IncIf did not apply")
		}
		a.settle(1)
	case distkit.Failure:
		a.run.Violation("a request of an actor failed: %v", m.Err)
		a.settle(1)
	}
}

// onGo sends a few messages, then lets replies in between.
func (a *stormActor) onGo(ctx actor.Context) {
	for range min(a.left, 20) {
		c, _, key, total := a.draw(a.rng)
		n := 1 + a.rng.Int64N(9)
		pid := c.PID(key).Actor()
		switch a.rng.IntN(4) {
		case 0:
			a.ask(ctx, pid, distkit.Inc{N: n})
		case 1:
			a.ask(ctx, pid, distkit.IncIf{If: distkit.Always(), N: n})
		default:
			ctx.Send(pid, distkit.Inc{N: n})
		}
		total.n.Add(n)
		a.left--
	}
	if a.left > 0 {
		self := ctx.Self()
		go ctx.ActorSystem().Root.Send(self, stormGo{}) // its own mailbox may be full of replies
		return
	}
	close(a.sent)
	a.settle(0)
}

func (a *stormActor) ask(ctx actor.Context, pid *actor.PID, m distkit.Message) {
	a.waiting++
	ctx.Request(pid, m)
}

// end waits for the last reply and stops the actor.
func (a *stormActor) end(actors *actor.ActorSystem) {
	select {
	case <-a.answered:
	case <-time.After(serverPatience):
		a.run.Violation("an actor waits for replies that do not come")
	}
	actors.Root.Stop(a.pid)
	<-a.stopped
	if a.waiting != 0 {
		a.run.Violation("an actor's requests had %d replies too few", a.waiting)
	}
}

// settle counts replies; it says so when the last is there.
func (a *stormActor) settle(replies int) {
	a.waiting -= replies
	if a.left == 0 && a.waiting == 0 {
		close(a.answered)
	}
}
