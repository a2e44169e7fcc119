// A failover to a replica that was behind: Redis loses what it had
// acknowledged. That is said each time, and nothing else is lost or doubled.
package faults_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/distkit/distkit-go"
	"github.com/distkit/distkit-go/internal/chaos"
	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"
)

// TestStaleFailover: the replica stops following, more is counted and
// acknowledged, and the replica becomes the master, while counting goes on.
//
//	warm up ─► part ─► lost window ─► switch ─► go on ─► compare
//	            │ the replica's values: stale
//
// Both writers wrote in the window, so both have to say DataLost; and each
// counter ends at its stale value plus what was counted after the window.
func TestStaleFailover(t *testing.T) {
	t.Parallel()
	run := chaos.Begin(t, "StaleFailover")
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Minute)
	defer cancel()
	pair := startServerPair(ctx, t)
	for i := range run.Scale(4, 50) {
		how := serverFailovers[(int(run.Seed()%4)+i)%len(serverFailovers)]
		f := &serverFailover{
			t: t, run: run, ctx: ctx, pair: pair, rng: run.Rand(uint64(i)),
			name: fmt.Sprintf("failover %d (%s)", i, how.name), prefix: fmt.Sprintf("p%d", i),
			wide: i%3 == 2,
		}
		f.play(how.fail)
		how.mend(f)
		pair.swap() // the promoted replica is the master of the next case
		run.Faults(1)
		if t.Failed() {
			return
		}
	}
}

// serverFailovers are the ways in which the old master may end: dead, cut off,
// hanging, or as a replica of the new one that pooled connections still meet;
// and what it needs before it can follow the new one.
var serverFailovers = []struct {
	name string
	fail func(*serverFailover)
	mend func(*serverFailover)
}{
	{"killed", func(f *serverFailover) {
		f.pair.master.Kill(f.t)
		f.line.to(f.pair.replica.Addr, false)
	}, func(f *serverFailover) { f.pair.master.Restart(f.t) }},
	{"cut off", func(f *serverFailover) {
		f.line.to(f.pair.replica.Addr, true)
	}, func(*serverFailover) {}},
	{"hanging", func(f *serverFailover) {
		f.pair.master.Pause(f.t)
		f.line.to(f.pair.replica.Addr, false)
	}, func(f *serverFailover) { f.pair.master.Resume(f.t) }},
	{"demoted", func(f *serverFailover) {
		f.pair.swap()
		f.pair.join()
		f.line.to(f.pair.master.Addr, false)
		f.pair.swap()
	}, func(*serverFailover) {}},
}

const (
	serverFailoverWorkers = 4
	serverWideKeys        = 2500 // more than one call of a round, so several ledgers
)

// serverFailover is one case.
type serverFailover struct {
	t      *testing.T
	run    *chaos.Run
	ctx    context.Context
	pair   *serverPair
	rng    *rand.Rand
	name   string
	prefix string
	wide   bool // many lax keys as well

	line    *serverSwitch
	system  *distkit.System
	events  *serverEvents
	stop    chan struct{}
	workers sync.WaitGroup
	strict  [serverFailoverWorkers]serverSequence

	busyStarted, busyAccepted atomic.Int64
}

// aside is how much of a lax key events told to be of unknown outcome: of a batch in
// doubt on a lane that the replica does not have.
func (f *serverFailover) aside(key string) (n int64) {
	for _, e := range serverEventsOf[distkit.ChangeRefused](f.events) {
		if e.Key.String() == key {
			n += e.N
		}
		if !errors.Is(e.Err, distkit.ErrOutcomeUnknown) {
			f.run.Violation("%s: %v", f.name, e)
		}
	}
	return n
}

// serverSequence is what one strict worker was answered on its own key.
type serverSequence struct {
	added, replies []int64
	acked          atomic.Int64 // replies so far
}

var (
	serverQuiet = distkit.MustKey("quiet")
	serverBusy  = distkit.MustKey("busy")
)

func (f *serverFailover) play(fail func(*serverFailover)) {
	f.pair.join()
	f.line = &serverSwitch{addr: f.pair.master.Addr}
	options := serverOptions("switched")
	options.Dialer = f.line.dial
	client := redis.NewClient(options)
	defer func() { _ = client.Close() }()
	f.system, f.events = serverSystem(f.t, client, f.prefix)
	f.start()

	// Warm up: both ledgers reach the replica, of every lane.
	f.counted(1 + f.rng.Int64N(20))
	f.addLax(1)
	f.pair.caughtUp()
	f.pair.part()
	staleStrict := serverStored(f.t, f.pair.replica.admin, f.prefix, "strict_counter")
	staleLax := serverStored(f.t, f.pair.replica.admin, f.prefix, "lax_counter")
	found := map[string][]int64{
		"strict": f.pair.replica.ledgers(f.t, f.prefix+":strict_counter"),
		"lax":    f.pair.replica.ledgers(f.t, f.prefix+":lax_counter"),
	}

	// The lost window: acknowledged by the old master alone.
	for range 1 + f.rng.IntN(5) {
		f.counted(1 + f.rng.Int64N(20))
		f.addLax(1 + f.rng.Int64N(9))
	}
	lostBusy := f.busyAccepted.Load()
	f.flush()
	fail(f)
	keptBusy := f.busyStarted.Load()

	// What comes now counts from the stale values. The old master may have
	// acknowledged one batch more to each worker before it was left.
	f.counted(2 + f.rng.Int64N(20))
	after := 1 + f.rng.Int64N(9)
	f.addLax(after)
	for writer, stood := range found {
		f.checkLost(writer, stood)
	}
	close(f.stop)
	f.workers.Wait()
	if err := f.system.Shutdown(f.ctx); err != nil {
		f.run.Violation("%s: Shutdown: %v", f.name, err)
	}

	for i := range f.strict {
		f.checkStrict(i, staleStrict, serverStored(f.t, f.pair.replica.admin, f.prefix, "strict_counter"))
	}
	f.checkLax(staleLax, after, lostBusy, keptBusy)
}

// checkLax: each lax counter ends at its stale value and what came after the
// window; of the busy one, what came between the last flush and the switch may
// be on either side. What was set aside may be missing.
func (f *serverFailover) checkLax(staleLax map[string]int64, after, lostBusy, keptBusy int64) {
	f.t.Helper()
	lax := serverStored(f.t, f.pair.replica.admin, f.prefix, "lax_counter")
	for key, stale := range staleLax {
		if got, all := lax[key], stale+after; key != serverBusy.String() && (got > all || got < all-f.aside(key)) {
			f.run.Violation("%s: lax %s is %d; it was %d on the replica and %d were added since", f.name, key, lax[key], stale, after)
			break
		}
	}
	total, stale := f.busyAccepted.Load(), staleLax[serverBusy.String()]
	if got := lax[serverBusy.String()]; got < stale+total-keptBusy-f.aside(serverBusy.String()) || got > stale+total-lostBusy {
		f.run.Violation("%s: lax busy is %d; it was %d on the replica, and of %d accepted %d came before the last flush and %d before the switch",
			f.name, got, stale, total, lostBusy, keptBusy)
	}
}

// start lets workers count: strict ones each on a key of its own, and a lax one.
func (f *serverFailover) start() {
	f.stop = make(chan struct{})
	running := func() bool {
		select {
		case <-f.stop:
			return false
		default:
			f.run.Cases(1)
			return true
		}
	}
	for i := range f.strict {
		s, rng := &f.strict[i], rand.New(rand.NewPCG(f.rng.Uint64(), uint64(i)))
		f.workers.Go(func() {
			for running() {
				n := 1 + rng.Int64N(9)
				got, err := f.system.Strict().Inc(f.ctx, serverOwnKey(i), n)
				if err != nil {
					f.run.Violation("%s: strict: %v", f.name, err)
					return
				}
				s.added, s.replies = append(s.added, n), append(s.replies, got)
				s.acked.Add(1)
			}
		})
	}
	f.workers.Go(func() {
		for running() {
			f.busyStarted.Add(1)
			if err := f.system.Lax().Add(serverBusy, 1); err != nil {
				f.run.Violation("%s: lax: %v", f.name, err)
				return
			}
			f.busyAccepted.Add(1)
			time.Sleep(100 * time.Microsecond) // leave the processor to the others
		}
	})
}

// counted waits until each strict worker has been answered n times more.
func (f *serverFailover) counted(n int64) {
	f.t.Helper()
	for i := range f.strict {
		s := &f.strict[i]
		want := s.acked.Load() + n
		require.Eventually(f.t, func() bool { return s.acked.Load() >= want || f.t.Failed() }, serverPatience, time.Millisecond, f.name)
	}
}

// addLax adds to the lax keys that have one writer and no other changes, and
// sees them into Redis.
func (f *serverFailover) addLax(n int64) {
	f.t.Helper()
	require.NoError(f.t, f.system.Lax().Add(serverQuiet, n))
	if f.wide {
		for i := range serverWideKeys {
			require.NoError(f.t, f.system.Lax().Add(distkit.MustKey(fmt.Sprintf("wide-%d", i)), n))
		}
	}
	f.flush()
}

func (f *serverFailover) flush() {
	f.t.Helper()
	ctx, cancel := context.WithTimeout(f.ctx, serverPatience)
	defer cancel()
	var left *distkit.UnflushedError
	if err := f.system.Flush(ctx); errors.As(err, &left) && left.Cause == nil {
		return // events tell of it
	} else if err != nil {
		require.NoError(f.t, err, f.name)
	}
}

// checkLost waits for the writer's DataLost and compares it with the ledgers
// that the replica had. A round of more than one call has a ledger for each,
// and the gap shows when the ledger is used again: the first one's does always. A
// ledger that was new in the window is not on the replica at all: that is told where
// a batch was in doubt.
func (f *serverFailover) checkLost(writer string, stood []int64) {
	f.t.Helper()
	several := writer == "lax" // its calls and overlapping rounds have a ledger each
	came := f.events.await(func(e distkit.Event) bool {
		lost, ok := e.(distkit.DataLost)
		return ok && lost.Writer == writer && lost.Reason == distkit.RolledBack
	})
	events := 0
	for _, lost := range serverEventsOf[distkit.DataLost](f.events) {
		if lost.Writer != writer {
			continue
		}
		events++
		rolled := lost.Reason == distkit.RolledBack && lost.Acknowledged > lost.Found && slices.Contains(stood, lost.Found)
		if !rolled && (lost.Reason != distkit.LedgerGone || !several) || events == 1 && lost.Since.IsZero() {
			f.run.Violation("%s: %v; its ledgers stood at %v", f.name, lost, stood)
		}
	}
	if !came || events > 1 && !several {
		f.run.Violation("%s: %d DataLost of the %s writer", f.name, events, writer)
	}
}

// checkStrict follows a worker's replies: each goes on from the one before it,
// but for the one that goes on from the stale value.
func (f *serverFailover) checkStrict(i int, stale, stored map[string]int64) {
	key := serverOwnKey(i).String()
	value, fell := int64(0), 0
	for j, n := range f.strict[i].added {
		switch f.strict[i].replies[j] {
		case value + n:
		case stale[key] + n:
			fell++
		default:
			f.run.Violation("%s: %s: adding %d to %d answered %d (the replica had %d)", f.name, key, n, value, f.strict[i].replies[j], stale[key])
		}
		value = f.strict[i].replies[j]
	}
	if fell != 1 || stored[key] != value {
		f.run.Violation("%s: %s fell back %d times; the last reply was %d, Redis holds %d", f.name, key, fell, value, stored[key])
	}
}
