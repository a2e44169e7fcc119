// A Redis that is killed, hangs, refuses, forgets its scripts and drops its
// connections, but keeps its data: every counter is exact throughout.
package faults_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/distkit/distkit-go"
	"github.com/distkit/distkit-go/internal/chaos"
	"github.com/distkit/distkit-go/internal/redistest"
	"github.com/stretchr/testify/require"
)

// TestServerFaults counts from several goroutines while one fault follows the
// other. A worker's own keys are changed by nobody else, so every reply on them
// is known beforehand, whatever happens to Redis; shared keys are held against
// Redis at the end.
func TestServerFaults(t *testing.T) {
	t.Parallel()
	run := chaos.Begin(t, "ServerFaults")
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Minute)
	defer cancel()
	rng := run.Rand(0)
	victim := startServerVictim(ctx, t, rng)
	system, events := serverSystem(t, redistest.NewClient(t, serverOptions(victim.server.Addr)), "p")
	load := startServerLoad(ctx, t, run, system, victim.delsOverFull)

	for faults := 0; faults < run.Scale(20, 240); {
		for _, i := range rng.Perm(len(serverFaults)) { // each kind as often
			fault := serverFaults[i]
			fault.inflict(victim)
			run.Faults(1)
			faults++
			if !load.recovered(ctx) {
				run.Violation("after %s (fault %d) Redis is back and counting is not: %v", fault.name, faults, events.seen())
				load.end()
				return
			}
		}
	}
	load.end()
	if err := system.Shutdown(ctx); err != nil {
		run.Violation("Shutdown with Redis there: %v", err)
	}
	for _, e := range events.seen() { // Shutdown has waited for the last
		switch e := e.(type) {
		case distkit.WriterFailed, distkit.WriterRecovered:
		case distkit.MessageRefused: // nobody else learns of a Send that Redis refused
			if e.Key != serverSent || !errors.Is(e.Err, distkit.ErrNotApplied) {
				run.Violation("%v", e)
			}
			load.sent.Add(-1)
		default:
			run.Violation("Redis kept its data and refused nothing for good, but: %v", e)
		}
	}
	load.check(t, victim)
}

const (
	serverStrictWorkers = 6
	serverLaxWorkers    = 3
)

// serverLoad is what counts meanwhile.
type serverLoad struct {
	run     *chaos.Run
	system  *distkit.System
	stop    chan struct{}
	workers sync.WaitGroup
	dels    bool // go through when memory is full

	own                       sync.Map // "<kind> <key>" -> the value that its worker last saw
	shared, impatient, paired serverAccount
	laxShared                 atomic.Int64
	sent                      atomic.Int64 // strict messages that nobody waits for, less those refused
	probes                    serverAccount
}

func startServerLoad(ctx context.Context, t testing.TB, run *chaos.Run, system *distkit.System, dels bool) *serverLoad {
	t.Helper()
	l := &serverLoad{run: run, system: system, stop: make(chan struct{}), dels: dels}
	for i := range serverLaxWorkers {
		// A lax key answers from memory once it has been seen.
		_, err := system.Lax().Get(ctx, serverOwnKey(i))
		require.NoError(t, err)
		l.workers.Go(func() { l.workLax(ctx, serverOwnKey(i), run.Rand(uint64(100+i))) })
	}
	for i := range serverStrictWorkers {
		l.workers.Go(func() { l.workStrict(ctx, serverOwnKey(i), run.Rand(uint64(200+i))) })
	}
	require.True(t, l.recovered(ctx))
	return l
}

func serverOwnKey(i int) distkit.Key { return distkit.MustKey(fmt.Sprintf("own-%d", i)) }

var (
	serverShared    = distkit.MustKey("shared")
	serverImpatient = distkit.MustKey("impatient")
	serverLeft      = distkit.MustKey("left")
	serverRight     = distkit.MustKey("right")
	serverSent      = distkit.MustKey("sent")
	serverProbe     = distkit.MustKey("probe")
)

// expect holds a reply on a worker's own key against what it has to be.
func (l *serverLoad) expect(what string, key distkit.Key, got, want int64) {
	if got != want {
		l.run.Violation("%s on %v answered %d instead of %d", what, key, got, want)
	}
}

func (l *serverLoad) running() bool {
	select {
	case <-l.stop:
		return false
	default:
		l.run.Cases(1)
		return true
	}
}

// workStrict calls with all the time in the world: a call fails only where
// Redis refuses it, and is then surely not applied. Impatient calls have a key
// of their own.
func (l *serverLoad) workStrict(ctx context.Context, own distkit.Key, rng *rand.Rand) {
	c := l.system.Strict()
	model, told := int64(0), serverAccount{}
	for l.running() {
		n := 1 + rng.Int64N(9)
		switch rng.IntN(7) {
		case 0, 1:
			got, err := c.Inc(ctx, own, n)
			if told.note(l.run, n, err) {
				model += n
				l.expect("strict Inc", own, got, model)
			}
		case 2:
			change, err := c.IncIf(ctx, own, distkit.Eq(model), n)
			if told.note(l.run, n, err) {
				l.expect("strict IncIf (old)", own, change.Old, model)
				model += n
				l.expect("strict IncIf", own, change.New, model)
			}
		case 3:
			_, err := c.PID(serverShared).Request(ctx, distkit.Inc{N: n})
			l.shared.note(l.run, n, err)
		case 4:
			_, err := c.IncAll(ctx, distkit.Update{Key: serverLeft, N: n}, distkit.Update{Key: serverRight, N: n})
			l.paired.note(l.run, n, err)
		case 5:
			c.PID(serverSent).Send(distkit.Inc{N: 1})
			l.sent.Add(1)
		default:
			brief, cancel := context.WithTimeout(ctx, time.Duration(1+rng.IntN(40))*time.Millisecond)
			_, err := c.Inc(brief, serverImpatient, n)
			cancel()
			l.impatient.note(l.run, n, err)
		}
	}
	if n := told.unknown.Load(); n > 0 {
		l.run.Violation("a caller who did not give up was told %d times that the outcome is unknown", n)
	}
	l.own.Store("strict_counter "+own.String(), model)
}

// workLax expects every operation to succeed: a lax counter that has been seen
// once goes on whatever Redis does. A Del waits for Redis, which before 7.0 may
// refuse it for want of memory; the counter then goes on as if it had not been.
func (l *serverLoad) workLax(ctx context.Context, own distkit.Key, rng *rand.Rand) {
	c := l.system.Lax()
	model := int64(0)
	for i := 0; l.running(); i++ {
		var got int64
		var err error
		what, n := "Inc", rng.Int64N(19)-9
		switch p := rng.IntN(1000); {
		case p < 500:
			got, err = c.Inc(ctx, own, n)
			model += n
		case p < 600:
			what = "Get"
			got, err = c.Get(ctx, own)
		case p < 680:
			what = "IncIf"
			var change distkit.Change
			change, err = c.IncIf(ctx, own, distkit.Ge(model), n)
			got, model = change.New, model+n
		case p < 700:
			what, model = "Set", n
			got, err = c.Set(ctx, own, n)
		case p < 701:
			what = "Del"
			got, err = c.Del(ctx, own)
			if !l.dels && errors.Is(err, distkit.ErrNotApplied) && strings.Contains(err.Error(), "OOM ") {
				what, got, err = "what a refused Del left", model, nil
			}
		default:
			if err = c.Add(serverShared, 1); err == nil {
				l.laxShared.Add(1)
			}
			got = model
		}
		if err != nil {
			l.run.Violation("lax %s: %v", what, err)
			return
		}
		l.expect("lax "+what, own, got, model)
		if what == "Del" {
			model = 0
		}
		if i%16 == 0 {
			time.Sleep(500 * time.Microsecond) // leave the processor to the others
		}
	}
	l.own.Store("lax_counter "+own.String(), model)
}

// recovered waits until a strict call and a flush go through.
func (l *serverLoad) recovered(ctx context.Context) bool {
	ctx, cancel := context.WithTimeout(ctx, serverPatience)
	defer cancel()
	for {
		_, err := l.system.Strict().Inc(ctx, serverProbe, 1)
		if l.probes.note(l.run, 1, err) {
			break
		}
		if ctx.Err() != nil {
			return false
		}
	}
	return l.system.Flush(ctx) == nil
}

func (l *serverLoad) end() {
	close(l.stop)
	l.workers.Wait()
}

// check compares every counter with Redis.
func (l *serverLoad) check(t testing.TB, victim *serverVictim) {
	for _, kind := range []string{"strict_counter", "lax_counter"} {
		stored := serverStored(t, victim.admin, "p", kind)
		l.own.Range(func(name, want any) bool {
			var of, key string
			_, err := fmt.Sscan(name.(string), &of, &key)
			require.NoError(t, err)
			if of == kind && stored[key] != want {
				l.run.Violation("%s: Redis holds %d instead of %d", name, stored[key], want)
			}
			return true
		})
		if kind == "lax_counter" {
			if want := l.laxShared.Load(); stored["shared"] != want {
				l.run.Violation("lax shared: Redis holds %d instead of %d", stored["shared"], want)
			}
			continue
		}
		if want := l.sent.Load(); stored["sent"] != want {
			l.run.Violation("strict sent: Redis holds %d instead of %d", stored["sent"], want)
		}
		l.shared.check(l.run, "strict shared", stored["shared"])
		l.impatient.check(l.run, "strict impatient", stored["impatient"])
		l.paired.check(l.run, "strict pair, left", stored["left"])
		l.probes.check(l.run, "strict probe", stored["probe"])
		if stored["left"] != stored["right"] {
			l.run.Violation("a batch call was torn: %d and %d", stored["left"], stored["right"])
		}
		for name, account := range map[string]*serverAccount{"shared": &l.shared, "pair": &l.paired, "probe": &l.probes} {
			if n := account.unknown.Load(); n > 0 {
				l.run.Violation("%s: a caller who did not give up was told %d times that the outcome is unknown", name, n)
			}
		}
		t.Logf("strict: %d in own keys and others, %d of %d impatient ones unknown",
			l.shared.applied.Load()+l.paired.applied.Load(), l.impatient.unknown.Load(), l.impatient.applied.Load())
	}
}
