// Shutdown in every state that a System can be in: what it reports as not
// written is what is missing, every caller gets one answer, nothing runs on.
package faults_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"reflect"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/distkit/distkit-go"
	"github.com/distkit/distkit-go/internal/chaos"
	"github.com/distkit/distkit-go/internal/redistest"
	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
)

// shutdownState is what a System is in when it is shut down.
type shutdownState struct {
	name    string
	loaded  bool // changes are pending and calls wait
	calling bool // callers go on
	gone    bool // Redis has been killed
	hanging bool // Redis does not answer
	twice   bool // several calls of Shutdown, at once and afterwards
	ended   bool // the context has ended
}

var shutdownStates = []shutdownState{
	{name: "idle"},
	{name: "loaded", loaded: true},
	{name: "Redis gone", loaded: true, gone: true},
	{name: "Redis hanging", loaded: true, hanging: true},
	{name: "twice", loaded: true, twice: true},
	{name: "during calls", loaded: true, calling: true},
	{name: "context ended", loaded: true, ended: true},
	{name: "everything at once", loaded: true, calling: true, hanging: true, twice: true},
	{name: "Redis gone, context ended", loaded: true, gone: true, ended: true},
}

// TestShutdownStates goes through the states; the details of each case (when
// Redis leaves, how long Shutdown may take, how soon changes are written) are
// drawn. It is not parallel: it looks for goroutines left behind.
func TestShutdownStates(t *testing.T) {
	run := chaos.Begin(t, "ShutdownStates")
	server := redistest.Start(t, redistest.Durable...)
	admin := serverAdmin(t, server.Addr)
	for round := range run.Scale(4, 50) {
		for i, state := range shutdownStates {
			c := &shutdownCase{
				t: t, shutdownState: state, server: server, admin: admin,
				rng:  run.Rand(uint64(round*100 + i)),
				book: newShutdownBook(run, fmt.Sprintf("%s, round %d", state.name, round)),
				name: fmt.Sprintf("s%d-%d", round, i),
			}
			c.play()
			run.Cases(1)
			if state.gone || state.hanging {
				run.Faults(1)
			}
			if t.Failed() {
				return
			}
		}
	}
}

// shutdownCase is one System's life and end.
type shutdownCase struct {
	t *testing.T
	shutdownState
	server *redistest.Server
	admin  *redis.Client
	rng    *rand.Rand
	book   *shutdownBook
	name   string // prefix, and name of the client's connections

	system  *distkit.System
	events  *serverEvents
	ctx     context.Context // of callers: they have all the time in the world
	callers sync.WaitGroup
	asking  *shutdownAsker
}

func (c *shutdownCase) play() {
	options := serverOptions(c.server.Addr)
	options.ClientName = c.name
	if c.rng.IntN(2) == 0 {
		options.DialerRetries = 0 // the default: five, 100 ms apart
	}
	client := redis.NewClient(options)
	others := goleak.IgnoreCurrent()
	lag := []time.Duration{time.Millisecond, 20 * time.Millisecond, time.Hour}[c.rng.IntN(3)]
	c.system, c.events = serverSystem(c.t, client, c.name, distkit.WithAllowedLag(lag))
	var cancel context.CancelFunc
	c.ctx, cancel = context.WithTimeout(context.Background(), time.Minute)
	defer cancel()

	c.warmUp()
	if c.loaded {
		c.load()
	}
	err := c.shutDown()
	c.answered()
	if c.gone {
		c.server.Restart(c.t) // at once: nothing of the System may wake up to it
	}
	if c.hanging {
		c.server.Resume(c.t)
	}
	c.closed()
	c.leftNothing(others)
	require.NoError(c.t, client.Close())
	serverDeserted(c.t, c.admin, c.name)
	c.book.check(err, serverStored(c.t, c.admin, c.name, "strict_counter"), serverStored(c.t, c.admin, c.name, "lax_counter"))
	for _, e := range c.events.seen() {
		switch e.(type) {
		case distkit.DataLost, distkit.ActorPanicked, distkit.ChangeRefused, distkit.EventsDropped:
			c.book.run.Violation("%s: %v", c.book.name, e)
		}
	}
}

// warmUp makes the known counters known.
func (c *shutdownCase) warmUp() {
	lax := c.system.Lax()
	for _, key := range shutdownKnown {
		_, err := lax.Inc(c.ctx, key, 1)
		c.book.lax[key.String()].note(c.book.run, 1, err)
	}
	for _, key := range []distkit.Key{shutdownAssigned, shutdownDeleted} {
		_, err := lax.Set(c.ctx, key, shutdownOld)
		require.NoError(c.t, err)
	}
	for _, key := range shutdownStrict {
		_, err := c.system.Strict().Inc(c.ctx, key, 1)
		c.book.strict[key.String()].note(c.book.run, 1, err)
	}
	require.NoError(c.t, c.system.Flush(c.ctx))
}

// load counts in every way, with some of it before and some after Redis leaves.
func (c *shutdownCase) load() {
	steps := []func(){c.assign, c.delete, c.ask}
	for range 5 + c.rng.IntN(60) {
		steps = append(steps, c.step)
	}
	c.rng.Shuffle(len(steps), func(i, j int) { steps[i], steps[j] = steps[j], steps[i] })
	leaves := c.rng.IntN(len(steps))
	for i, step := range steps {
		if i == leaves {
			c.leave()
		}
		step()
	}
	if (c.gone || c.hanging) && c.rng.IntN(2) == 0 {
		// A strict call, so that a writer surely meets the fault; half of the
		// time the System has then begun to try again.
		c.strictInc(shutdownStrict[0], 1)
		c.events.await(func(e distkit.Event) bool { _, failed := e.(distkit.WriterFailed); return failed })
	}
	if c.calling {
		c.goOn()
	}
}

// leave takes Redis away, in the states in which it goes.
func (c *shutdownCase) leave() {
	if c.gone {
		c.server.Kill(c.t)
	}
	if c.hanging {
		c.server.Pause(c.t)
	}
}

// step is one operation; those that may wait do so on goroutines of their own.
func (c *shutdownCase) step() {
	n := 1 + c.rng.Int64N(9)
	key := shutdownKnown[c.rng.IntN(len(shutdownKnown))]
	if c.rng.IntN(3) == 0 {
		key = shutdownFresh[c.rng.IntN(len(shutdownFresh))]
	}
	account := c.book.lax[key.String()]
	strict := shutdownStrict[c.rng.IntN(len(shutdownStrict))]
	switch c.rng.IntN(7) {
	case 0, 1:
		account.note(c.book.run, n, c.system.Lax().Add(key, n))
	case 2:
		c.system.Lax().PID(key).Send(distkit.Inc{N: n})
		account.note(c.book.run, n, nil) // nobody is refused yet
	case 3:
		c.callers.Go(func() {
			_, err := c.system.Lax().Inc(c.ctx, key, n)
			account.note(c.book.run, n, err)
		})
	case 4:
		c.callers.Go(func() {
			_, err := c.system.Strict().IncAll(c.ctx, distkit.Update{Key: shutdownPair[0], N: n}, distkit.Update{Key: shutdownPair[1], N: n})
			c.book.pair.note(c.book.run, n, err)
		})
	default:
		c.strictInc(strict, n)
	}
}

func (c *shutdownCase) strictInc(key distkit.Key, n int64) {
	c.callers.Go(func() {
		_, err := c.system.Strict().Inc(c.ctx, key, n)
		c.book.strict[key.String()].note(c.book.run, n, err)
	})
}

func (c *shutdownCase) assign() {
	_, err := c.system.Lax().Set(c.ctx, shutdownAssigned, shutdownSet)
	require.NoError(c.t, err)
	require.NoError(c.t, c.system.Lax().Add(shutdownAssigned, shutdownMore))
	c.book.assigned = true
}

func (c *shutdownCase) delete() {
	require.NoError(c.t, c.system.Lax().Add(shutdownDeleted, shutdownMore))
	c.book.deleting = true
	c.callers.Go(func() { c.book.deleted, c.book.delErr = c.system.Lax().Del(c.ctx, shutdownDeleted) })
}

// goOn lets callers count until they are refused, from before Shutdown on.
func (c *shutdownCase) goOn() {
	account := c.book.lax[shutdownKnown[0].String()]
	counting := make(chan struct{})
	var first sync.Once
	for range 4 {
		c.callers.Go(func() {
			for {
				_, err := c.system.Lax().Inc(c.ctx, shutdownKnown[0], 1)
				if !account.note(c.book.run, 1, err) {
					c.refused(err)
					return
				}
				first.Do(func() { close(counting) })
			}
		})
		c.callers.Go(func() {
			for {
				_, err := c.system.Strict().Inc(c.ctx, shutdownStrict[1], 1)
				if !c.book.strict[shutdownStrict[1].String()].note(c.book.run, 1, err) {
					return // closed, or given up with Redis away
				}
			}
		})
	}
	<-counting
}

func (c *shutdownCase) refused(err error) {
	if !errors.Is(err, distkit.ErrClosed) {
		c.book.run.Violation("%s: a caller was refused with %v", c.book.name, err)
	}
}

// shutDown ends the System and returns what it reported.
func (c *shutdownCase) shutDown() error {
	ctx, cancel := context.WithTimeout(context.Background(), serverPatience)
	if c.gone || c.hanging {
		cancel()
		ctx, cancel = context.WithTimeout(context.Background(), time.Duration(1+c.rng.IntN(400))*time.Millisecond)
	}
	if c.ended {
		cancel()
	}
	defer cancel()
	if !c.twice {
		err := c.system.Shutdown(ctx)
		if err != nil && !c.gone && !c.hanging && !c.ended {
			c.book.run.Violation("%s: with Redis there, Shutdown returned %v", c.book.name, err)
		}
		return err
	}
	// Callers that wait with all the time in the world learn the same, while
	// the first one's context counts.
	reports := make([]error, 4)
	var waiting sync.WaitGroup
	for i := range reports {
		waiting.Go(func() { reports[i] = c.system.Shutdown(ctx) })
	}
	waiting.Wait()
	last := c.system.Shutdown(context.Background())
	for _, report := range reports {
		// One that came second may be told of its context's end alone.
		if waited := len(c.book.left(report)) == 0 && errors.Is(report, context.DeadlineExceeded); !waited && !reflect.DeepEqual(report, last) {
			c.book.run.Violation("%s: one Shutdown returned %v, another %v", c.book.name, report, last)
		}
	}
	return last
}

// answered waits for every caller and every actor's request. None waits for
// Redis any more, nor for its own context.
func (c *shutdownCase) answered() {
	done := make(chan struct{})
	go func() {
		c.callers.Wait()
		if c.asking != nil {
			c.asking.end(c.book)
		}
		close(done)
	}()
	select {
	case <-done:
	case <-time.After(serverPatience):
		stacks := make([]byte, 1<<20)
		c.book.run.Violation("%s: callers still wait after Shutdown:\n%s", c.book.name, stacks[:runtime.Stack(stacks, true)])
		c.t.FailNow()
	}
}

// closed: whatever comes later is refused.
func (c *shutdownCase) closed() {
	_, err := c.system.Strict().Inc(c.ctx, shutdownStrict[0], 1)
	c.refused(err)
	c.refused(c.system.Lax().Add(shutdownKnown[0], 1))
}

// shutdownServerWait waits for the end of the server that was started again.
var shutdownServerWait = goleak.IgnoreAnyFunction("github.com/distkit/distkit-go/internal/redistest.(*Server).launch.func1")

// leftNothing: no goroutine of the System outlives it by more than the client's
// own timeouts.
func (c *shutdownCase) leftNothing(others goleak.Option) {
	deadline := time.Now().Add(serverPatience)
	for {
		err := goleak.Find(others, shutdownServerWait)
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			c.book.run.Violation("%s: %v", c.book.name, err)
			return
		}
	}
}
