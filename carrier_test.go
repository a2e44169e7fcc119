package distkit_test

import (
	"context"
	"errors"
	"math/rand/v2"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/distkit/distkit-go"
	"github.com/distkit/distkit-go/internal/redistest"
	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"
)

// A strict call that finds the writer at rest is sent by its caller (actors/internal/strict,
// carrier.go). These tests are of what could go wrong by that: a caller that cannot leave, a
// System that cannot stop, and what either leaves behind on the connection.

// waitingForEver is a fixture on a server of its own, on a client that waits for ever for an answer.
func waitingForEver(t *testing.T, opts ...distkit.Option) (*fixture, *redistest.Server) {
	t.Helper()
	server := redistest.Start(t)
	return fixtureOn(t, redistest.NewClient(t, &redis.Options{Addr: server.Addr, ReadTimeout: -1, WriteTimeout: -1}), opts...), server
}

func TestCarrier_itsContextEnds(t *testing.T) {
	t.Parallel()
	f, server := waitingForEver(t)
	events := recordEvents(t, f.System)
	want := int64(0)
	for _, op := range []func(ctx context.Context) error{
		func(ctx context.Context) error { _, err := f.Strict().Inc(ctx, keyA, 1); return err },
		func(ctx context.Context) error { _, err := f.Strict().Get(ctx, keyA); return err },
	} {
		want++
		n, err := f.Strict().Inc(f.ctx, keyA, 1)
		require.NoError(t, err)
		require.Equal(t, want, n)
		server.Pause(t)
		ctx, cancel := context.WithTimeout(f.ctx, 20*time.Millisecond)
		err = op(ctx)
		cancel()
		require.ErrorIs(t, err, context.DeadlineExceeded)
		if errors.Is(err, distkit.ErrOutcomeUnknown) {
			want++ // by what goes before the next
		}
		server.Resume(t)
	}
	n, err := f.Strict().Get(f.ctx, keyA)
	require.NoError(t, err)
	require.Equal(t, want, n)
	require.EqualValues(t, 3, n, "an increment that was on its way is unknown, a read never")
	require.Empty(t, events.all(), "that a caller leaves is no outage")
}

// Callers that leave at any moment, also just when their answer comes: each is told what
// is true, and nobody else pays for the connection that they had.
func TestCarrier_leavesAtAnyMoment(t *testing.T) {
	t.Parallel()
	f, _ := waitingForEver(t)
	events := recordEvents(t, f.System)
	var callers sync.WaitGroup
	var mu sync.Mutex
	applied, unknown := int64(0), int64(0)
	for g := range 3 {
		callers.Go(func() {
			rng := rand.New(rand.NewPCG(uint64(g), 1))
			for range 500 {
				ctx, cancel := context.WithTimeout(f.ctx, time.Duration(rng.IntN(200))*time.Microsecond)
				_, err := f.Strict().Inc(ctx, keyA, 1)
				cancel()
				mu.Lock()
				switch {
				case err == nil:
					applied++
				case errors.Is(err, distkit.ErrOutcomeUnknown):
					unknown++
				case !errors.Is(err, distkit.ErrNotApplied):
					t.Error(err)
				}
				mu.Unlock()
				time.Sleep(time.Duration(rng.IntN(50)) * time.Microsecond)
			}
		})
	}
	callers.Wait()
	n, err := f.Strict().Get(f.ctx, keyA)
	require.NoError(t, err)
	require.LessOrEqual(t, applied, n)
	require.GreaterOrEqual(t, applied+unknown, n)
	require.Empty(t, events.all(), "that callers leave is no outage")
}

func TestCarrier_theSystemStops(t *testing.T) {
	t.Parallel()
	f, server := waitingForEver(t)
	_, err := f.Strict().Inc(f.ctx, keyA, 1)
	require.NoError(t, err)
	begun := make(chan struct{})
	f.client.AddHook(hook(func(ctx context.Context, cmd redis.Cmder, next redis.ProcessHook) error {
		if cmd.Name() == "evalsha" {
			close(begun)
		}
		return next(ctx, cmd)
	}))
	server.Pause(t)
	left := make(chan error, 1)
	go func() {
		_, err := f.Strict().Inc(context.Background(), keyA, 1)
		left <- err
	}()
	<-begun
	ctx, cancel := context.WithTimeout(f.ctx, 20*time.Millisecond)
	defer cancel()
	require.ErrorIs(t, f.Shutdown(ctx), context.DeadlineExceeded)
	select {
	case err := <-left:
		require.True(t, errors.Is(err, distkit.ErrOutcomeUnknown) || errors.Is(err, distkit.ErrNotApplied), "%v", err)
	case <-time.After(20 * time.Second):
		require.FailNow(t, "the call goes on waiting")
	}
	server.Resume(t)
}

// A hook that ends the goroutine of a caller whose context has ended leaves the batch to be
// sent again, by nobody whose end matters any more.
func TestCarrier_itsGoroutineEnds(t *testing.T) {
	t.Parallel()
	f, _ := waitingForEver(t)
	_, err := f.Strict().Inc(f.ctx, keyA, 1)
	require.NoError(t, err)
	leaving, leave := context.WithCancel(f.ctx)
	f.client.AddHook(hook(func(ctx context.Context, cmd redis.Cmder, next redis.ProcessHook) error {
		err := next(ctx, cmd)
		if ctx.Done() == nil || leaving.Err() != nil { // not by a caller, or not by the one
			return err
		}
		cmd.SetErr(errors.New("the answer is hidden"))
		ended := make(chan struct{})
		context.AfterFunc(ctx, func() { close(ended) })
		leave()
		<-ended
		runtime.Goexit()
		return nil
	}))
	want := int64(1)
	for leaving.Err() == nil { // the writer may not be at rest yet
		want++
		var caller sync.WaitGroup
		caller.Go(func() { _, _ = f.Strict().Inc(leaving, keyA, 1) })
		caller.Wait()
	}
	n, err := f.Strict().Inc(f.ctx, keyA, 1)
	require.NoError(t, err)
	require.Equal(t, want+1, n)
}

// A caller leaves just when its batch has found that the container is gone: whether that
// was meant is looked up all the same, and nobody is alarmed.
func TestCarrier_leavesBeforeTheMarkIsRead(t *testing.T) {
	t.Parallel()
	f, server := waitingForEver(t)
	events := recordEvents(t, f.System)
	clearer := fixtureOn(t, redistest.NewClient(t, &redis.Options{Addr: server.Addr}), distkit.WithPrefix(distkit.MustKey(f.prefix)))
	leaving, leave := context.WithCancel(f.ctx)
	f.client.AddHook(hook(func(ctx context.Context, cmd redis.Cmder, next redis.ProcessHook) error {
		err := next(ctx, cmd)
		if ctx.Value(leaver{}) != nil && ctx.Done() != nil {
			leave()
			<-ctx.Done()
		}
		return err
	}))
	for leaving.Err() == nil { // the writer may not be at rest yet
		_, err := f.Strict().Inc(f.ctx, keyA, 1)
		require.NoError(t, err)
		require.NoError(t, clearer.Strict().Clear(f.ctx))
		_, _ = f.Strict().Inc(context.WithValue(leaving, leaver{}, true), keyA, 1)
	}
	n, err := f.Strict().Get(f.ctx, keyA)
	require.NoError(t, err)
	require.EqualValues(t, 1, n)
	require.Empty(t, events.all(), "it was emptied on purpose")
}

// leaver marks the context of a caller that is to leave.
type leaver struct{}

// A client that has connections of before is one on which no caller can be ended.
func TestCarrier_clientInUse(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	client := redistest.NewClient(t, &redis.Options{Addr: server.Addr, ReadTimeout: -1, WriteTimeout: -1})
	require.NoError(t, client.Ping(t.Context()).Err())
	f := fixtureOn(t, client)
	_, err := f.Strict().Inc(f.ctx, keyA, 1)
	require.NoError(t, err)
	server.Pause(t)
	ctx, cancel := context.WithTimeout(f.ctx, 20*time.Millisecond)
	defer cancel()
	_, err = f.Strict().Inc(ctx, keyA, 1)
	require.ErrorIs(t, err, context.DeadlineExceeded)
	server.Resume(t)
}
