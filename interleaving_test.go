package distkit_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/distkit/distkit-go"
	"github.com/distkit/distkit-go/internal/redistest"
	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"
)

// Interleavings that once went wrong, each held at its critical moment by a
// gate in the client.

// gate is a go-redis hook and dialer that can hold connections and commands.
type gate struct {
	dials   chan struct{} // closed: dials go on
	dialing chan struct{} // a dial was begun
	ended   chan struct{} // a script call ended
	before  atomic.Pointer[func(names []string)]
}

func newGate(t *testing.T, f *fixture) (*gate, *redis.Client) {
	g := &gate{dials: make(chan struct{}), dialing: make(chan struct{}, 100), ended: make(chan struct{}, 100)}
	options := redistest.Options(t)
	options.DialTimeout = time.Minute
	options.Dialer = func(ctx context.Context, network, addr string) (net.Conn, error) {
		g.dialing <- struct{}{}
		select {
		case <-g.dials:
		case <-f.ctx.Done():
		}
		return new(net.Dialer).DialContext(ctx, network, addr)
	}
	client := redistest.NewClient(t, options)
	client.AddHook(g)
	return g, client
}

func (g *gate) DialHook(next redis.DialHook) redis.DialHook { return next }

func (g *gate) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		defer g.end(cmd.Name())
		g.begin(cmd.Name())
		return next(ctx, cmd)
	}
}

func (g *gate) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		names := make([]string, len(cmds))
		for i, cmd := range cmds {
			names[i] = cmd.Name()
		}
		defer g.end(names...)
		g.begin(names...)
		return next(ctx, cmds)
	}
}

func (g *gate) begin(names ...string) {
	if f := g.before.Load(); f != nil {
		(*f)(names)
	}
}

func (g *gate) end(names ...string) {
	if slices.Contains(names, "evalsha") {
		select {
		case g.ended <- struct{}{}:
		default:
		}
	}
}

// on returns a System of the fixture's prefix on another client.
func (f *fixture) on(t *testing.T, client *redis.Client, opts ...distkit.Option) *distkit.System {
	direct := f.client
	defer func() { f.client = direct }()
	f.client = client
	return f.another(t, opts...)
}

// A Shutdown that is given up while a strict batch waits for a connection must
// neither send the batch afterwards nor touch its requests, which by then may
// be another System's.
func TestShutdownGivenUp_whileDialing_sendsNothingStrict(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	_, err := f.Strict().Inc(f.ctx, keyC, 1) // Redis has the script
	require.NoError(t, err)
	gateA, clientA := newGate(t, f)
	gateB, clientB := newGate(t, f)
	a, b := f.on(t, clientA), f.on(t, clientB)

	const callers = 100
	var waiting sync.WaitGroup
	for range callers {
		waiting.Go(func() {
			if _, err := a.Strict().Inc(f.ctx, keyA, 1); !errors.Is(err, distkit.ErrNotApplied) {
				t.Errorf("got %v", err)
			}
		})
	}
	<-gateA.dialing
	given, up := context.WithCancel(f.ctx)
	up()
	require.Error(t, a.Shutdown(given))
	waiting.Wait()

	var answered sync.WaitGroup
	for range callers {
		answered.Go(func() {
			if _, err := b.Strict().Inc(f.ctx, keyB, 1); err != nil {
				t.Error(err)
			}
		})
	}
	<-gateB.dialing
	close(gateA.dials)
	<-gateA.ended
	close(gateB.dials)
	answered.Wait()
	require.Empty(t, f.stored(t, "strict_counter", keyA), "told not applied")
	require.Equal(t, "100", f.stored(t, "strict_counter", keyB))
}

func TestShutdownGivenUp_whileDialing_sendsNothingLax(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	_, err := f.Lax().Inc(f.ctx, keyC, 1) // Redis has the script
	require.NoError(t, err)
	f.flush(t)
	g, client := newGate(t, f)
	s := f.on(t, client)
	require.NoError(t, s.Lax().Add(keyA, 5))
	<-g.dialing
	given, up := context.WithCancel(f.ctx)
	up()
	var left *distkit.UnflushedError
	require.ErrorAs(t, s.Shutdown(given), &left)
	require.Len(t, left.Changes, 1)
	requireNotApplied(t, left.Changes[0].Err, distkit.ErrClosed)
	close(g.dials)
	<-g.ended
	require.Empty(t, f.stored(t, "lax_counter", keyA), "told not applied")
}

func TestPID_addressesAndKeysCannotTakeEachOthersNames(t *testing.T) {
	t.Parallel()
	both(t, func(t *testing.T, f *fixture, c distkit.Counter, _ string) {
		root := f.ActorSystem().Root
		for _, name := range []string{"x", "x/address", "address", "strict-writer", "../x", "$1"} {
			pid := c.PID(distkit.MustKey(name)).Actor()
			reply, err := root.RequestFuture(pid, distkit.Inc{N: 1}, time.Minute).Result()
			require.NoError(t, err, name)
			require.Equal(t, distkit.Value{N: 1}, reply, name)
		}
	})
}

func TestFlush_underLoad_waitsForNoTick(t *testing.T) {
	t.Parallel()
	f := newFixture(t, distkit.WithAllowedLag(never))
	stop := make(chan struct{})
	var adders sync.WaitGroup
	for range 4 {
		adders.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
					if err := f.Lax().Add(keyA, 1); err != nil {
						t.Error(err)
					}
				}
			}
		})
	}
	for range 300 {
		f.flush(t)
	}
	close(stop)
	adders.Wait()
}

// The second read begins while the first is under way, and Redis then hangs.
func TestRefreshWait_boundsAReadThatFollowsAnother(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	g, client := newGate(t, f)
	close(g.dials)
	s := f.on(t, client, distkit.WithAllowedLag(time.Millisecond))
	for _, key := range []distkit.Key{keyA, keyB} {
		_, err := s.Lax().Get(f.ctx, key)
		require.NoError(t, err)
		require.Eventually(t, func() bool {
			view, err := s.Lax().View(f.ctx, key)
			return err == nil && view.Age > 2*time.Millisecond
		}, 10*time.Second, time.Millisecond)
	}
	first, goOn, hang := make(chan struct{}), make(chan struct{}), make(chan struct{})
	var reads atomic.Int64
	hold := func(names []string) {
		if !slices.Contains(names, "hmget") {
			return
		}
		if reads.Add(1) == 1 {
			close(first)
			<-goOn
		} else {
			<-hang
		}
	}
	g.before.Store(&hold)
	var getting sync.WaitGroup
	getting.Go(func() { _, _ = s.Lax().Get(f.ctx, keyA) })
	<-first
	asked := make(chan error, 1)
	go func() {
		_, err := s.Lax().Get(f.ctx, keyB)
		asked <- err
	}()
	close(goOn)
	require.NoError(t, <-asked, "it answers from its view although the read never ends")
	close(hang)
	getting.Wait()
}

// A key whose first change is under way is asked for its value: it waits for the
// result of that change, and does not ask Redis over and over meanwhile.
func TestLax_unseenKeyInFlight_doesNotReadInALoop(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	g, client := newGate(t, f)
	close(g.dials)
	s := f.on(t, client, distkit.WithAllowedLag(time.Millisecond), distkit.WithRefreshWait(time.Minute))
	flushing, goOn := make(chan struct{}), make(chan struct{})
	var reads atomic.Int64
	var held atomic.Bool
	hold := func(names []string) {
		if slices.Contains(names, "hmget") {
			reads.Add(1)
		} else if slices.Contains(names, "evalsha") && held.CompareAndSwap(false, true) {
			close(flushing)
			<-goOn
		}
	}
	g.before.Store(&hold)
	require.NoError(t, s.Lax().Add(keyA, 1))
	<-flushing
	answer := make(chan int64, 1)
	go func() {
		got, _ := s.Lax().Get(f.ctx, keyA)
		answer <- got
	}()
	const others = 50
	for i := range others {
		_, err := s.Lax().Get(f.ctx, distkit.MustKey(fmt.Sprint(i)))
		require.NoError(t, err)
	}
	close(goOn)
	require.EqualValues(t, 1, <-answer)
	require.LessOrEqual(t, reads.Load(), int64(others+2), "one for each key")
}
