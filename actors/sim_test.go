package actors

import (
	"context"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/distkit/distkit-go/internal/fakeredis"
	"github.com/distkit/distkit-go/internal/ledger"
	"github.com/distkit/distkit-go/internal/redisio"
	"github.com/distkit/distkit-go/internal/verb"
	"github.com/stretchr/testify/require"
)

// Tests in virtual time, on a Redis in memory. They are not parallel: the engine
// has a pool of requests, whose channels must not pass between two bubbles.

// bubble runs f in virtual time.
func bubble(t *testing.T, f func(t *testing.T)) {
	t.Helper()
	emptyPools()
	defer emptyPools()
	synctest.Test(t, f)
}

func emptyPools() {
	runtime.GC() // what is pooled becomes the pools' second choice,
	runtime.GC() // and goes
}

// sim is an engine on a Redis in memory, and what became of it.
type sim struct {
	*Engine
	redis *fakeredis.Redis
	start time.Time
	over  chan struct{} // closed when the test is

	mu     sync.Mutex
	fate   func(*redisio.Call) fakeredis.Fate // nil: all is delivered
	sent   []attempt
	events []any
	bug    func(event any) // of the Observer's; nil: none
}

// attempt is what was sent, and when, by the time since the start.
type attempt struct {
	at     time.Duration
	task   redisio.Task
	writer string
	seq    int64
	nonce  uint64
	ops    []verb.Keyed
}

// The events.
type (
	writerFailed struct {
		writer  string
		attempt int
	}
	writerRecovered struct {
		writer   string
		attempts int
	}
	dataLost struct {
		writer string
		reason ledger.Reason
	}
	changeRefused struct {
		key    string
		n      int64
		assign bool
		err    error
	}
	messageRefused struct {
		key string
		err error
	}
	actorPanicked struct{ err string }
)

const (
	lag     = 20 * time.Millisecond
	wait    = 100 * time.Millisecond
	latency = time.Millisecond

	strictCounters = "p:strict_counter"
	laxCounters    = "p:lax_counter"
)

// newSim starts an engine. What change does to its Config comes before that.
func newSim(t *testing.T, change func(*Config)) *sim {
	t.Helper()
	s := &sim{redis: fakeredis.New(), start: time.Now(), over: make(chan struct{})}
	s.redis.Latency, s.redis.Fate = latency, s.see
	cfg := testConfig(s)
	cfg.Prefix, cfg.AllowedLag, cfg.RefreshWait, cfg.redis = "p", lag, wait, s.redis
	cfg.BackoffMin, cfg.BackoffMax = 10*time.Millisecond, time.Second
	if change != nil {
		change(&cfg)
	}
	s.Engine = New(cfg)
	t.Cleanup(func() { // in the bubble
		close(s.over)
		s.set(nil)
		if !s.closed.Load() {
			_, err := s.Shutdown(context.Background())
			require.NoError(t, err)
		}
		cfg.ActorSystem.Shutdown()
		s.pass(time.Minute) // what is still on its way comes
	})
	return s
}

// set changes what becomes of attempts from now on.
func (s *sim) set(fate func(*redisio.Call) fakeredis.Fate) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.fate = fate
}

// all is a fate for every attempt.
func all(fate fakeredis.Fate) func(*redisio.Call) fakeredis.Fate {
	return func(*redisio.Call) fakeredis.Fate { return fate }
}

// only is a fate for attempts at a task; others are delivered.
func only(task redisio.Task, fate fakeredis.Fate) func(*redisio.Call) fakeredis.Fate {
	return func(c *redisio.Call) fakeredis.Fate {
		if c.Task == task {
			return fate
		}
		return fakeredis.Deliver
	}
}

// hold holds the attempts at a task until the channel is closed.
func (s *sim) hold(task redisio.Task, goOn <-chan struct{}) {
	s.set(func(c *redisio.Call) fakeredis.Fate {
		if c.Task == task {
			select {
			case <-goOn:
			case <-s.over:
			}
		}
		return fakeredis.Deliver
	})
}

func (s *sim) see(c *redisio.Call) fakeredis.Fate {
	s.mu.Lock()
	s.sent = append(s.sent, attempt{time.Since(s.start), c.Task, c.Writer, c.Seq, c.Nonce, slices.Clone(c.Ops)})
	fate := s.fate
	s.mu.Unlock()
	if fate == nil {
		return fakeredis.Deliver
	}
	return fate(c)
}

// attempts are those at some tasks so far.
func (s *sim) attempts(tasks ...redisio.Task) (of []attempt) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, a := range s.sent {
		if slices.Contains(tasks, a.task) {
			of = append(of, a)
		}
	}
	return of
}

// forget forgets the attempts so far.
func (s *sim) forget() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.sent = nil
}

func (s *sim) note(event any) {
	s.mu.Lock()
	s.events = append(s.events, event)
	bug := s.bug
	s.mu.Unlock()
	if bug != nil {
		bug(event)
	}
}

// panicsOnce is a bug of the Observer's, the first time that it is told such an
// event.
func panicsOnce[Event any]() func(any) {
	first := true
	return func(event any) {
		if _, ok := event.(Event); ok && first {
			first = false
			panic("a bug")
		}
	}
}

// told takes the events so far; outages' aside, with quiet.
func (s *sim) told() []any {
	s.mu.Lock()
	defer s.mu.Unlock()
	told := s.events
	s.events = nil
	return told
}

// outages takes the failures and recoveries that were told so far, and leaves the
// other events.
func (s *sim) outages() (told []any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.events = slices.DeleteFunc(s.events, func(event any) bool {
		switch event.(type) {
		case writerFailed, writerRecovered:
			told = append(told, event)
			return true
		}
		return false
	})
	return told
}

func (s *sim) WriterFailed(writer string, attempt int, _ time.Duration, _ error) {
	s.note(writerFailed{writer, attempt})
}

func (s *sim) WriterRecovered(writer string, attempts int, _ time.Duration) {
	s.note(writerRecovered{writer, attempts})
}
func (s *sim) DataLost(writer string, loss *ledger.Loss) { s.note(dataLost{writer, loss.Reason}) }
func (s *sim) ChangeRefused(_, key string, n int64, assign bool, cause error) {
	s.note(changeRefused{key, n, assign, cause})
}
func (s *sim) ActorPanicked(_ string, cause error) { s.note(actorPanicked{cause.Error()}) }
func (*sim) Overloaded(int)                        {}

func (s *sim) MessageRefused(_, key string, cause error) { s.note(messageRefused{key, cause}) }

// now is how long the test has run, by the clock.
func (s *sim) now() time.Duration { return time.Since(s.start) }

// until lets time pass until then.
func (s *sim) until(then time.Duration) {
	time.Sleep(then - s.now())
	synctest.Wait()
}

// pass lets time pass.
func (s *sim) pass(d time.Duration) { s.until(s.now() + d) }

// value is what Redis holds of a counter, 0 if nothing.
func (s *sim) value(container, key string) int64 {
	n, _ := s.redis.Get(container, key)
	return n
}

// within is a context that ends then.
func within(t *testing.T, d time.Duration) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), d)
	t.Cleanup(cancel)
	return ctx
}

func ended() context.Context {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	return ctx
}

// flushing is a Flush or Shutdown under way.
type flushing struct {
	done chan struct{}
	left []Unflushed
	err  error
	took time.Duration
}

func begin(f func(context.Context) ([]Unflushed, error), ctx context.Context) *flushing {
	b, start := &flushing{done: make(chan struct{})}, time.Now()
	go func() {
		defer close(b.done)
		b.left, b.err = f(ctx)
		b.took = time.Since(start)
	}()
	synctest.Wait()
	return b
}

// over reports whether it has ended.
func (b *flushing) over() bool {
	synctest.Wait()
	select {
	case <-b.done:
		return true
	default:
		return false
	}
}

// clearing is a Clear under way.
func (s *sim) clearing(space *Shards) <-chan error {
	cleared := make(chan error, 1)
	go func() { cleared <- space.Clear(context.Background()) }()
	synctest.Wait()
	return cleared
}

// names are those of an engine's actors and addresses that are in the registry: its
// keys' are not.
func names(e *Engine) (of []string) {
	for _, bucket := range e.cfg.ActorSystem.ProcessRegistry.LocalPIDs.LocalPIDs {
		for _, name := range bucket.Keys() {
			if strings.HasPrefix(name, "distkit") {
				of = append(of, name)
			}
		}
	}
	return of
}

// asleep reports whether a writer has no actor.
func (s *sim) asleep(writer string) bool {
	return !slices.ContainsFunc(names(s.Engine), func(name string) bool { return strings.HasSuffix(name, "/"+writer) })
}

const (
	strictWriter = "strict-writer"
	coordinator  = "lax-flush-coordinator"
)

// running is how many goroutines are in a function.
func running(function string) int {
	stacks := make([]byte, 1<<20)
	stacks = stacks[:runtime.Stack(stacks, true)]
	return strings.Count(string(stacks), "\n"+function+"(")
}

func keyed(key string, o verb.Op) verb.Keyed { return verb.Keyed{Key: key, Op: o} }

// kinds are the operations of an attempt, for a failed test to show.
func (a attempt) String() string {
	return fmt.Sprintf("%v task %d of %s, number %d: %v", a.at, a.task, a.writer, a.seq, a.ops)
}
