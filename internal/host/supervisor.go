package host

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/asynkron/protoactor-go/actor"
	"github.com/distkit/distkit-go/internal/ledger"
)

// Backoff is the supervisor's delay before a restart: exponential from Min,
// capped at Max, with jitter over the upper half of each step so that
// processes that lost the same Redis do not return as one
// (https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/,
// "equal jitter").
type Backoff struct {
	Min, Max time.Duration
}

// Delay is the wait before restart number attempt, 1, 2, 3, …; random is in
// [0, 1). It lies in [step/2, step), step being Min·2^(attempt-1), at most Max.
func (b Backoff) Delay(attempt int, random float64) time.Duration {
	step := b.Min
	for range attempt - 1 {
		if step >= b.Max/2 {
			step = b.Max
			break
		}
		step *= 2
	}
	step = min(step, b.Max)
	return step/2 + time.Duration(random*float64(step-step/2))
}

// Outage counts a writer's failures to reach Redis in a row; its actor owns it.
type Outage struct {
	attempts int
	since    time.Time
}

// Failed notes a failure and returns the reason to panic with, which has the
// supervisor restart the writer after the backoff.
func (o *Outage) Failed(writer string, cause error) error {
	if o.attempts == 0 {
		o.since = time.Now()
	}
	o.attempts++
	return &lostRedis{writer: writer, attempt: o.attempts, cause: cause}
}

// Over notes that Redis has answered.
func (o *Outage) Over(writer string, observer Observer) {
	ended := *o
	*o = Outage{}
	if ended.attempts > 0 {
		observer.WriterRecovered(writer, ended.attempts, time.Since(ended.since))
	}
}

// lostRedis is the reason with which a writer panics when it has lost Redis.
type lostRedis struct {
	writer  string
	attempt int // failures since the last success
	cause   error
}

func (f *lostRedis) Error() string { return f.cause.Error() }
func (f *lostRedis) Unwrap() error { return f.cause }

// supervisor is the parent of all our actors, and their strategy: every child
// is restarted, for ever; none is stopped for failing. A writer that lost
// Redis waits for the backoff. An actor that panicked otherwise (a bug) is
// restarted at once the first time and with the backoff when it goes on.
type supervisor struct {
	backoff  Backoff
	observer Observer

	mu      sync.Mutex
	pending map[*time.Timer]struct{} // restarts that wait for their time
	ended   bool

	stopped chan struct{} // closed when the supervisor has stopped
}

var (
	_ actor.Actor              = (*supervisor)(nil)
	_ actor.SupervisorStrategy = (*supervisor)(nil)
)

func newSupervisor(backoff Backoff, observer Observer) *supervisor {
	return &supervisor{backoff: backoff, observer: observer, pending: map[*time.Timer]struct{}{}, stopped: make(chan struct{})}
}

// Receive implements actor.Actor.
func (s *supervisor) Receive(ctx actor.Context) {
	if _, ok := ctx.Message().(*actor.Stopped); ok {
		close(s.stopped)
	}
}

// bugWindow is how long an actor's panic counts against it.
const bugWindow = 10 * time.Second

// HandleFailure implements actor.SupervisorStrategy.
func (s *supervisor) HandleFailure(_ *actor.ActorSystem, parent actor.Supervisor, child *actor.PID, stats *actor.RestartStatistics, reason, _ any) {
	var delay time.Duration
	if err, ok := reason.(error); ok {
		var lost *lostRedis
		if errors.As(err, &lost) {
			delay = s.backoff.Delay(lost.attempt, rand.Float64())
			s.observer.WriterFailed(lost.writer, lost.attempt, delay, lost.cause)
			s.restartAfter(delay, parent, child)
			return
		}
	}
	stats.Fail()
	if failures := stats.NumberOfFailures(bugWindow); failures > 1 {
		delay = s.backoff.Delay(failures-1, rand.Float64())
	} else {
		stats.Reset()
		stats.Fail()
	}
	s.observer.ActorPanicked(child.Id, fmt.Errorf("panic: %v", reason))
	s.restartAfter(delay, parent, child)
}

func (s *supervisor) restartAfter(delay time.Duration, parent actor.Supervisor, child *actor.PID) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ended {
		return
	}
	if delay == 0 {
		parent.RestartChildren(child)
		return
	}
	var timer *time.Timer
	timer = time.AfterFunc(delay, func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		if _, due := s.pending[timer]; due { // a restart after cancel would revive a stopped actor
			delete(s.pending, timer)
			parent.RestartChildren(child)
		}
	})
	s.pending[timer] = struct{}{}
}

// cancel drops the restarts that wait for their time; none starts after it.
func (s *supervisor) cancel() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ended = true
	for timer := range s.pending {
		timer.Stop()
	}
	clear(s.pending)
}

// Observer learns what happens to the engine. Its methods are called on actors'
// goroutines and must not block.
type Observer interface {
	// WriterFailed: a writer lost Redis and will be restarted after delay.
	WriterFailed(writer string, attempt int, delay time.Duration, cause error)
	// WriterRecovered: Redis answered a writer again, after attempts failures.
	WriterRecovered(writer string, attempts int, away time.Duration)
	// DataLost: Redis does not have what it had acknowledged.
	DataLost(writer string, loss *ledger.Loss)
	// ChangeRefused: a lax change by n, or with assign an assignment of n, was set
	// aside. The window is that of the counter, "" if it is of none.
	ChangeRefused(window, key string, n int64, assign bool, cause error)
	// ActorPanicked: an actor failed by a bug and will be restarted.
	ActorPanicked(actor string, cause error)
	// Overloaded: max is pending, and more is refused.
	Overloaded(max int)
	// MessageRefused: a message without a sender could not be taken.
	MessageRefused(window, key string, cause error)
}
