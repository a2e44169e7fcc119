// One case of the simulation: its draw, its course, and what is checked at its
// end. All of it runs inside one synctest bubble.
package faults_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"math/rand/v2"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/asynkron/protoactor-go/actor"
	"github.com/distkit/distkit-go"
	"github.com/distkit/distkit-go/internal/redisio"
	"github.com/redis/go-redis/v9"
)

// simCase is one case under way.
type simCase struct {
	seed  uint64
	rng   *rand.Rand // of the case's course; plan and workers have their own
	start time.Time

	// Drawn.
	timeout time.Duration // the client's, for reads and writes
	pause   time.Duration // the longest between a worker's calls
	cluster bool          // through a ClusterClient; the slot may be moving at first
	deletes bool
	clears  bool
	lossy   bool     // Redis falls back to an earlier state; then without the two above
	evicts  simEvict // what Redis evicts in the middle of it
	repeats bool     // a hook of the client repeats what fails
	wide    bool     // so many lax keys that a flush takes several calls
	shards  int      // over which the counters are spread; then Redis loses no counters, and none are cleared
	abrupt  bool     // the first System is shut down in the middle of it
	breaks  simGap   // what happens at rest, between two phases
	closes  bool     // the client is closed in the middle of it, for good

	client   redis.UniversalClient
	server   *fakeServer
	plan     *simPlan
	history  *simHistory
	systems  []*distkit.System
	closed   []atomic.Bool
	workers  []*simWorker
	over     atomic.Bool            // the faults of the phase are over
	shut     atomic.Bool            // the client has been closed
	left     [2][]distkit.Unflushed // what Shutdowns that left something listed, by System
	blind    atomic.Int64           // how often a writer could not learn who had emptied a container
	bares    atomic.Bool            // batches may have gone without a ledger
	vanished [2]atomic.Bool         // the counters of each kind have vanished at rest
	known    [2]bool                // its writers knew them to be there

	mu       sync.Mutex
	problems []string
	trace    []string
	tally    map[string]int // what happened, how often
	losses   map[simLoss]int
	aside    []distkit.ChangeRefused
}

// simLoss is a sort of DataLost.
type simLoss struct {
	writer string
	reason distkit.LossReason
}

// simGap is what happens while nothing is under way.
type simGap string

const (
	simNoGap   simGap = "nothing"
	simForgets simGap = "the ledgers are evicted"
	simEmpties simGap = "the counters are evicted"
	simFlushed simGap = "FLUSHALL"
	simIdle    simGap = "nobody counts for days"
	simRested  simGap = "rest"
)

// simEvict is what Redis evicts.
type simEvict struct{ ledgers, counters bool }

const (
	simPrefix  = "sim"
	simSettled = 30 * time.Second // within which every call has to end once the faults are over
)

var (
	simKeys  = []string{"a", "b", "c"}
	simKinds = [2]string{simPrefix + ":strict_counter", simPrefix + ":lax_counter"}
)

func newSimCase(seed uint64) *simCase {
	s := &simCase{seed: seed, rng: rand.New(rand.NewPCG(seed, 0)), start: time.Now(), tally: map[string]int{}, losses: map[simLoss]int{}}
	oneIn := func(n int) bool { return s.rng.IntN(n) == 0 }
	s.timeout = []time.Duration{300 * time.Millisecond, time.Second, 3 * time.Second}[s.rng.IntN(3)]
	s.pause = []time.Duration{time.Millisecond, 100 * time.Millisecond, time.Second}[s.rng.IntN(3)]
	s.cluster, s.lossy, s.deletes, s.clears = oneIn(4), oneIn(5), oneIn(4), oneIn(6)
	s.evicts = simEvict{oneIn(4), oneIn(10)}
	s.repeats = oneIn(5)
	s.wide = oneIn(50)
	s.breaks = []simGap{simNoGap, simNoGap, simNoGap, simForgets, simEmpties, simFlushed, simIdle, simRested}[s.rng.IntN(8)]
	if rand.New(rand.NewPCG(seed, 1<<33)).IntN(8) == 0 { // then nothing else that only a client brings to light
		s.closes, s.breaks, s.evicts, s.lossy, s.deletes, s.clears = true, simNoGap, simEvict{}, false, false, false
	}
	if s.lossy || s.empties() { // a fall back brings back what was deleted
		s.deletes, s.clears = false, false
	}
	if s.loses() { // else nobody would count by then
		s.pause = max(s.pause, 100*time.Millisecond)
	}
	s.abrupt = oneIn(4) && !s.closes && !s.deletes && !s.clears && !s.lossy && !s.empties() && !s.evicts.ledgers
	s.shards = 1
	if more := rand.New(rand.NewPCG(seed, 1<<32)).IntN(4); more > 1 && !s.lossy && !s.empties() && !s.clears {
		s.shards = more
	}
	s.history = &simHistory{sim: s, digits: map[simKey]int{}, events: map[string]*simReports{}}
	s.plan = newSimPlan(s, rand.New(rand.NewPCG(seed, 1)))
	s.server = newFakeServer(s.plan, simNodes...)
	s.client = s.newClient()
	s.closed = make([]atomic.Bool, 1+s.rng.IntN(2))
	actors := actor.NewActorSystem(actor.WithLoggerFactory(func(*actor.ActorSystem) *slog.Logger { return slog.New(slog.DiscardHandler) }))
	for i := range s.closed { // they may share the actor system, and do: it is slow to make
		s.systems = append(s.systems, s.newSystem(actors, i))
	}
	for i := range 2 + s.rng.IntN(4) {
		s.workers = append(s.workers, newSimWorker(s, rand.New(rand.NewPCG(seed, uint64(2+i))), i))
	}
	return s
}

func (s *simCase) newClient() redis.UniversalClient {
	pool, retries := []int{1, 2, 10}[s.rng.IntN(3)], []int{-1, 3}[s.rng.IntN(2)]
	var client redis.UniversalClient
	if s.cluster {
		options := s.server.clusterOptions(s.timeout)
		options.PoolSize, options.MaxRetries = pool, retries
		client = redis.NewClusterClient(options)
	} else {
		options := s.server.clientOptions(s.timeout)
		options.PoolSize, options.MaxRetries = pool, retries
		client = redis.NewClient(options)
	}
	client.AddHook(simHook{s})
	return client
}

func (s *simCase) newSystem(actors *actor.ActorSystem, number int) *distkit.System {
	lag := []time.Duration{time.Millisecond, 20 * time.Millisecond, 500 * time.Millisecond}[s.rng.IntN(3)]
	wait := []time.Duration{0, 50 * time.Millisecond, 2 * time.Second}[s.rng.IntN(3)]
	idle := []time.Duration{0, time.Minute, 10 * time.Millisecond}[s.rng.IntN(3)]
	if s.breaks == simIdle {
		idle = max(idle, time.Second) // else keys that cannot sleep are looked at through days of it
	}
	system, err := distkit.NewSystem(s.client, distkit.WithPrefix(distkit.MustKey(simPrefix)), distkit.WithShards(s.shards),
		distkit.WithActorSystem(actors), distkit.WithAllowedLag(lag), distkit.WithRefreshWait(wait), distkit.WithPassivation(idle),
		distkit.WithLogger(slog.New(slog.DiscardHandler)))
	if err != nil {
		panic(err)
	}
	system.Subscribe(func(e distkit.Event) { s.onEvent(number, e) })
	return system
}

func (s *simCase) onEvent(system int, e distkit.Event) {
	s.note("event of system %d: %v", system, e)
	switch e := e.(type) {
	case distkit.DataLost:
		s.did("data lost: " + e.Reason.String())
		s.mu.Lock()
		kind, _, _ := strings.Cut(e.Writer, "#")
		s.losses[simLoss{kind, e.Reason}]++
		s.mu.Unlock()
	case distkit.ChangeRefused:
		s.onSetAside(e)
	case distkit.ActorPanicked, distkit.EventsDropped:
		s.broken("event: %v", e)
	case distkit.MessageRefused:
		s.did("messages refused")
		s.history.refused(e)
	}
}

// reborn reports whether an operation may come again that had been ruled out.
func (s *simCase) reborn(op *simOp) bool {
	s.server.mu.Lock()
	defer s.server.mu.Unlock()
	return op.digit >= 0 && s.plan.watch.reborn[simID(simKinds[op.kind], op.key, strconv.FormatInt(op.delta(), 10))]
}

// onSetAside takes a change of which nobody will know whether it is in: of a batch
// that was in doubt when its ledger vanished.
func (s *simCase) onSetAside(e distkit.ChangeRefused) {
	s.did("changes set aside")
	if !s.shut.Load() && (!errors.Is(e.Err, distkit.ErrOutcomeUnknown) || errors.Is(e.Err, distkit.ErrNotApplied) || !s.mayBeUnknown(1, e.Key.String(), e.N)) {
		s.broken("event: %v", e)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.aside = append(s.aside, e)
}

// gaveUp reports whether an error says that its caller, or the System, gave up.
func (s *simCase) gaveUp(err error) bool {
	return errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled) || s.abrupt || s.shut.Load()
}

// opMayBeUnknown is mayBeUnknown for an operation of a caller's.
func (s *simCase) opMayBeUnknown(op *simOp) bool {
	if op.digit < 0 {
		return s.keyMayBeUnknown(op.kind, op.key)
	}
	return s.mayBeUnknown(op.kind, op.key, op.delta())
}

// keyMayBeUnknown reports whether some operation on a key may be told so.
func (s *simCase) keyMayBeUnknown(kind int, key string) bool {
	s.server.mu.Lock()
	defer s.server.mu.Unlock()
	unknown, container := s.plan.watch.unknown, simKinds[kind]
	return unknown[simUnknownKey(container, key)] || unknown[simUnknownKey(container, "")]
}

// mayBeUnknown reports whether a change may be told as of unknown outcome though
// nobody gave up waiting for it: it was in a batch that lost its ledger, or it had
// been dropped for a Del or a Clear that was.
func (s *simCase) mayBeUnknown(kind int, key string, n int64) bool {
	s.server.mu.Lock()
	told := s.plan.watch.unknown[simID(simKinds[kind], key, strconv.FormatInt(n, 10))]
	s.server.mu.Unlock()
	return told || (s.deletes || s.clears) && s.keyMayBeUnknown(kind, key)
}

func (s *simCase) counter(system, kind int) distkit.Counter {
	if kind == 0 {
		return s.systems[system].Strict()
	}
	return s.systems[system].Lax()
}

// loses reports whether Redis loses something in the middle of a phase.
func (s *simCase) loses() bool { return s.lossy || s.evicts.ledgers || s.evicts.counters }

// forgets reports whether ledgers may vanish, or have by now.
func (s *simCase) forgets() bool {
	return s.lossy || s.evicts.ledgers || s.breaks == simForgets || s.breaks == simFlushed || s.breaks == simIdle
}

// empties reports whether the counters vanish.
func (s *simCase) empties() bool {
	return s.evicts.counters || s.breaks == simEmpties || s.breaks == simFlushed
}

// emptied reports whether a container vanished, at rest, while its writers knew it.
func (s *simCase) emptied(container string) bool {
	return container == simKinds[0] && s.vanished[0].Load() || container == simKinds[1] && s.vanished[1].Load()
}

// grows reports whether nothing but additions can change an additive key.
func (s *simCase) grows() bool { return !s.deletes && !s.clears && !s.lossy && !s.empties() }

// broken notes a broken promise.
func (s *simCase) broken(format string, args ...any) {
	s.note("BROKEN: "+format, args...)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.problems = append(s.problems, fmt.Sprintf(format, args...))
}

// did counts what happened.
func (s *simCase) did(what string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.tally[what]++
}

func (s *simCase) note(format string, args ...any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.trace = append(s.trace, fmt.Sprintf("%12v ", time.Since(s.start))+fmt.Sprintf(format, args...))
}

func (s *simCase) noteRequest(c *fakeConn, a *simArrival, f fakeFate) {
	s.note("%p %s: %v %v%v %.40q", c, f.name, a, f.before, f.after, f.instead)
}

// held is what Redis holds of each kind.
func (s *simCase) held() (held [2]map[string]int64) {
	s.server.mu.Lock()
	defer s.server.mu.Unlock()
	for kind := range simKinds {
		held[kind] = map[string]int64{}
		for shard := range s.shards {
			name := redisio.ShardName([]string{redisio.StrictKind, redisio.LaxKind}[kind], shard, s.shards)
			maps.Copy(held[kind], s.server.data.counters(simPrefix+":"+name))
		}
	}
	return held
}

// run is the course of a case.
func (s *simCase) run() {
	// A ClusterClient asks for COMMAND once, and holds a mutex meanwhile; who
	// waits for a mutex keeps a bubble's time from passing.
	s.setHealed(true)
	_ = s.client.HMGet(context.Background(), simKinds[0], "nothing").Err()
	s.phase()
	if s.breaks != simNoGap {
		s.rest()
		s.phase()
	}
	for i := range s.systems {
		s.shutdown(i)
	}
	time.Sleep(2 * time.Minute) // what is still on its way arrives; ledgers expire
	s.check()
	_ = s.client.Close()
	time.Sleep(time.Minute) // go-redis's own goroutines end
}

// phase lets the workers count while things go wrong, ends that, and sees
// whether every call comes back.
func (s *simCase) phase() {
	s.setHealed(false)
	var all sync.WaitGroup
	for _, w := range s.workers {
		calls := 5 + s.rng.IntN(20)
		all.Go(func() { w.work(calls) })
	}
	s.weather(time.Duration(s.rng.Int64N(int64(8 * time.Second))))
	s.setHealed(true)
	healed := time.Now()
	done := make(chan struct{})
	go func() { all.Wait(); close(done) }()
	select {
	case <-done:
	case <-time.After(simSettled):
		s.broken("%v after the faults were over, calls had not ended", simSettled)
		s.giveUp()
		<-done
		return
	}
	for i, system := range s.systems {
		if s.closed[i].Load() || s.shut.Load() {
			continue
		}
		ctx, cancel := context.WithDeadline(context.Background(), healed.Add(simSettled))
		if err := system.Flush(ctx); err != nil && !s.setAside(err) {
			s.broken("a Flush after the faults were over: %v", err)
		}
		cancel()
	}
}

// giveUp ends a case that would not end.
func (s *simCase) giveUp() {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	for i, system := range s.systems {
		s.closed[i].Store(true)
		_ = system.Shutdown(ctx)
	}
}

func (s *simCase) setHealed(healed bool) {
	s.note("healed: %v", healed)
	s.over.Store(healed)
	s.server.mu.Lock()
	defer s.server.mu.Unlock()
	s.plan.healed, s.plan.outage = healed, ""
	s.server.data.full = false
}
