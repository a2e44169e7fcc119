package actors

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/asynkron/protoactor-go/actor"
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

// redisFailure is the reason with which a writer panics when it has lost
// Redis; attempt counts its failures since the last success.
type redisFailure struct {
	writer  string
	attempt int
	cause   error
}

func (f *redisFailure) Error() string { return f.cause.Error() }
func (f *redisFailure) Unwrap() error { return f.cause }

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
		var lost *redisFailure
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

// parentContext makes actors children of the supervisor though any goroutine
// may spawn them: Proto.Actor takes from it who the parent is.
type parentContext struct {
	*actor.RootContext
	parent *actor.PID
}

// Self implements actor.SpawnerContext.
func (p parentContext) Self() *actor.PID { return p.parent }

// Observer learns what happens to the engine. Its methods are called on actors'
// goroutines and must not block.
type Observer interface {
	// WriterFailed: a writer lost Redis and will be restarted after delay.
	WriterFailed(writer string, attempt int, delay time.Duration, cause error)
	// WriterRecovered: Redis answered a writer again, after attempts failures.
	WriterRecovered(writer string, attempts int, away time.Duration)
	// DataLost: Redis holds an older ledger (found) than it had acknowledged.
	DataLost(writer string, acknowledged, found int64)
	// DeltaRefused: a lax delta, or with assign an assignment, was set aside.
	DeltaRefused(key string, n int64, assign bool, cause error)
	// ActorPanicked: an actor failed by a bug and will be restarted.
	ActorPanicked(actor string, cause error)
	// MessageRefused: a message without a sender could not be taken.
	MessageRefused(key string, cause error)
}

// contextOfRequests is what the engine's own calls to Redis run under: a
// caller's context ends the caller's wait, never a batch on its way.
var contextOfRequests = context.Background()
