package distkit_test

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/asynkron/protoactor-go/actor"
	"github.com/distkit/distkit-go"
	"github.com/distkit/distkit-go/internal/line"
	"github.com/distkit/distkit-go/internal/redistest"
	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"
)

// Whatever a user's actor, mailbox, dispatcher, subscriber, hook or logger does, others
// go on, and Shutdown keeps to its context.

// quiet is a logger of nothing.
var quiet = slog.New(slog.DiscardHandler)

func quietActors() *actor.ActorSystem {
	return actor.NewActorSystem(actor.WithLoggerFactory(func(*actor.ActorSystem) *slog.Logger {
		return slog.New(slog.DiscardHandler)
	}))
}

// requireGoesOn fails unless both kinds count, and Shutdown then ends in time.
func (f *fixture) requireGoesOn(t *testing.T) {
	t.Helper()
	for kind, c := range f.counters() {
		_, err := c.Inc(f.ctx, keyB, 1)
		require.NoError(t, err, kind)
	}
	ctx, cancel := context.WithTimeout(f.ctx, 20*time.Second)
	defer cancel()
	require.NoError(t, f.Shutdown(ctx))
}

func TestSender_withABoundedMailboxThatBlocks(t *testing.T) {
	t.Parallel()
	for _, kind := range []string{"strict_counter", "lax_counter"} {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			system := quietActors()
			f := newFixture(t, distkit.WithActorSystem(system))
			release := make(chan struct{})
			got := make(chan any, 100)
			busy := system.Root.Spawn(actor.PropsFromFunc(func(ctx actor.Context) {
				if v, ok := ctx.Message().(distkit.Value); ok {
					<-release
					got <- v.N
				}
			}, actor.WithMailbox(actor.Bounded(8))))
			for range 40 {
				system.Root.RequestWithCustomSender(f.counters()[kind].PID(keyA).Actor(), distkit.Inc{N: 1}, busy)
			}
			f.requireGoesOn(t)
			close(release)
			for i := range 40 { // late, complete and in order
				require.EqualValues(t, i+1, <-got)
			}
		})
	}
}

func TestSender_thatCountsWhereItGetsItsReply(t *testing.T) {
	t.Parallel()
	for name, opt := range map[string]actor.PropsOption{
		"with a bounded mailbox":         actor.WithMailbox(actor.Bounded(4)),
		"on the synchronized dispatcher": actor.WithDispatcher(actor.NewSynchronizedDispatcher(300)),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			system := quietActors()
			f := newFixture(t, distkit.WithActorSystem(system))
			failed := make(chan error, 100)
			asker := system.Root.Spawn(actor.PropsFromFunc(func(ctx actor.Context) {
				if _, ok := ctx.Message().(distkit.Value); ok {
					_, err := f.Strict().Inc(f.ctx, keyA, 1)
					failed <- err
				}
			}, opt))
			for i := range 50 {
				pid := f.Strict().PID(distkit.MustKey(fmt.Sprint("k", i))).Actor()
				system.Root.RequestWithCustomSender(pid, distkit.Inc{N: 1}, asker)
			}
			for range 50 {
				require.NoError(t, <-failed)
			}
			f.requireGoesOn(t)
		})
	}
}

// A reply to an actor that is gone is a dead letter, whose subscribers Proto.Actor runs
// where it is sent.
func TestDeadLetterSubscriber_thatCounts(t *testing.T) {
	t.Parallel()
	system := quietActors()
	f := newFixture(t, distkit.WithActorSystem(system))
	counted := make(chan error, 2)
	var once sync.Once
	system.EventStream.Subscribe(func(event any) {
		if _, ok := event.(*actor.DeadLetterEvent); ok {
			once.Do(func() {
				_, err := f.Strict().Inc(f.ctx, keyA, 1)
				counted <- err
				_, err = f.Lax().Inc(f.ctx, keyA, 1)
				counted <- err
			})
		}
	})
	gone := system.Root.Spawn(actor.PropsFromFunc(func(actor.Context) {}))
	require.NoError(t, system.Root.StopFuture(gone).Wait())
	system.Root.RequestWithCustomSender(f.Strict().PID(keyA).Actor(), distkit.Get{}, gone)
	require.NoError(t, <-counted)
	require.NoError(t, <-counted)
	f.requireGoesOn(t)
}

func TestSubscriber_thatBlocksOrEndsItsGoroutine(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	release, got := make(chan struct{}), make(chan distkit.Event, 10)
	t.Cleanup(f.Subscribe(func(distkit.Event) { <-release }))
	t.Cleanup(f.Subscribe(func(distkit.Event) { runtime.Goexit() }))
	t.Cleanup(f.Subscribe(func(distkit.Event) { panic("a bug of the subscriber's") }))
	t.Cleanup(f.Subscribe(func(e distkit.Event) { got <- e }))
	for i := range 3 { // each is an event
		f.Strict().PID(distkit.Key{}).Send(distkit.Inc{N: int64(i)})
		require.IsType(t, distkit.MessageRefused{}, <-got)
	}
	f.requireGoesOn(t)
	close(release)
}

// slowHandler is a slog.Handler that blocks.
type slowHandler struct {
	slog.Handler
	release chan struct{}
}

func (h slowHandler) Handle(ctx context.Context, r slog.Record) error {
	<-h.release
	return h.Handler.Handle(ctx, r)
}

func TestLogger_thatBlocks(t *testing.T) {
	t.Parallel()
	release := make(chan struct{})
	defer close(release)
	f := newFixture(t, distkit.WithLogger(slog.New(slowHandler{slog.DiscardHandler, release})))
	f.Strict().PID(distkit.Key{}).Send(distkit.Inc{N: 1})
	f.requireGoesOn(t)
}

// A hook of the client that ends its goroutine takes one attempt with it. That may be one
// that a caller makes, who is gone then, as by a call of the client's own; others go on.
func TestHook_thatEndsItsGoroutine(t *testing.T) {
	t.Parallel()
	for _, kind := range []string{"strict_counter", "lax_counter"} {
		for name, before := range map[string]bool{"before the call": true, "after it": false} {
			t.Run(kind+" "+name, func(t *testing.T) {
				t.Parallel()
				var times atomic.Int64
				f, c, _ := hooked(t, kind, func(ctx context.Context, cmd redis.Cmder, next redis.ProcessHook) error {
					if times.Add(1) > 2 {
						return next(ctx, cmd)
					}
					if !before {
						_ = next(ctx, cmd)
					}
					runtime.Goexit()
					return nil
				})
				var callers sync.WaitGroup
				for range 3 {
					callers.Go(func() {
						if _, err := c.Inc(f.ctx, keyA, 1); err != nil {
							t.Error(err)
						}
					})
					callers.Wait()
				}
				f.flush(t)
				n, err := c.Get(f.ctx, keyA)
				require.NoError(t, err)
				require.EqualValues(t, 4, n)
			})
		}
	}
}

// The log has the fields of events as attributes, and of an outage its beginning and
// end.
func TestLog_ofAnOutage(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	var text bytes.Buffer
	logger := slog.New(slog.NewTextHandler(writerFunc(func(p []byte) (int, error) {
		mu.Lock()
		defer mu.Unlock()
		return text.Write(p)
	}), nil))
	line := &line.Line{}
	client := redistest.NewClient(t, line.Lead(*redistest.Options(t)))
	f := fixtureOn(t, client, distkit.WithLogger(logger), distkit.WithBackoff(time.Millisecond, time.Millisecond))
	failures, recovered := make(chan struct{}, 100), make(chan struct{}, 1)
	t.Cleanup(f.Subscribe(func(e distkit.Event) {
		switch e.(type) {
		case distkit.WriterFailed:
			failures <- struct{}{}
		case distkit.WriterRecovered:
			recovered <- struct{}{}
		}
	}))
	line.Down(true)
	result := make(chan error, 1)
	go func() {
		_, err := f.Strict().Inc(f.ctx, keyA, 1)
		result <- err
	}()
	for range 5 {
		<-failures
	}
	line.Down(false)
	require.NoError(t, <-result)
	<-recovered
	require.NoError(t, f.Shutdown(f.ctx)) // waits for the log
	mu.Lock()
	defer mu.Unlock()
	require.Equal(t, 1, bytes.Count(text.Bytes(), []byte(`level=WARN msg="distkit: writer lost Redis" writer=strict attempt=1 `)), text.String())
	require.Equal(t, 1, bytes.Count(text.Bytes(), []byte("lost Redis")), text.String())
	require.Equal(t, 1, bytes.Count(text.Bytes(), []byte(`level=INFO msg="distkit: writer reached Redis again" writer=strict `)), text.String())
}

type writerFunc func([]byte) (int, error)

func (f writerFunc) Write(p []byte) (int, error) { return f(p) }
