// A set under Sentinel: a master, its replica and three Sentinels, of which the
// client asks who the master is. Nothing but a process is touched; the failover
// is the Sentinels' own, and replication as asynchronous as it is.
package faults_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/distkit/distkit-go"
	"github.com/distkit/distkit-go/internal/chaos"
	"github.com/distkit/distkit-go/internal/redistest"
	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"
)

// TestSentinel: what is counted during a failover is in the new master once, or
// not at all; if some of what was acknowledged is not, DataLost has said so. What
// is counted after it is there.
func TestSentinel(t *testing.T) {
	t.Parallel()
	for _, how := range []struct {
		name  string
		fail  func(*sentinelSet)
		leave func(*sentinelSet)
	}{
		{"the master is killed", func(s *sentinelSet) { s.master.Kill(s.t) }, func(*sentinelSet) {}},
		// The old master takes what will be lost, until clients have left it.
		{"the master is replaced", func(s *sentinelSet) {
			require.NoError(s.t, s.watchers[0].Do(s.ctx, "SENTINEL", "FAILOVER", sentinelName).Err())
		}, func(s *sentinelSet) { serverDeserted(s.t, s.master.admin, sentinelName) }},
	} {
		t.Run(how.name, func(t *testing.T) {
			t.Parallel()
			run := chaos.Begin(t, "Sentinel, "+how.name)
			ctx, cancel := context.WithTimeout(context.Background(), serverPatience)
			defer cancel()
			set := startSentinelSet(ctx, t)
			load := startSentinelLoad(run, set)
			load.digits(10)
			set.caughtUp()

			how.fail(set)
			run.Faults(1)
			for set.replica.replication("role") != "master" && ctx.Err() == nil {
				load.digit() // lax counters go on meanwhile
			}
			set.agreed()
			how.leave(set)
			load.counted(5)
			first := load.at
			load.digits(5)
			load.end(first)
		})
	}
}

const sentinelName = "counted"

// sentinelSet is the set of processes.
type sentinelSet struct {
	*serverPair
	addrs    []string // the Sentinels'
	watchers []*redis.Client
}

func startSentinelSet(ctx context.Context, t *testing.T) *sentinelSet {
	t.Helper()
	s := &sentinelSet{serverPair: startServerPair(ctx, t)}
	s.join()
	host, port, err := net.SplitHostPort(s.master.Addr)
	require.NoError(t, err)
	for range 3 {
		settings := filepath.Join(t.TempDir(), "sentinel.conf")
		require.NoError(t, os.WriteFile(settings, fmt.Appendf(nil, "sentinel monitor %[1]s %s %s 2\n"+
			"sentinel down-after-milliseconds %[1]s 500\nsentinel failover-timeout %[1]s 3000\n", sentinelName, host, port), 0o600))
		sentinel := redistest.Start(t, settings, "--sentinel")
		s.addrs = append(s.addrs, sentinel.Addr)
		s.watchers = append(s.watchers, serverAdmin(t, sentinel.Addr))
	}
	s.eventually(func() bool { // they find each other through the master
		return s.all(func(master map[string]string) bool {
			return master["num-slaves"] == "1" && master["num-other-sentinels"] == "2" && master["flags"] == "master"
		})
	})
	return s
}

// all reports whether something holds of what each Sentinel says of the master.
func (s *sentinelSet) all(is func(master map[string]string) bool) bool {
	return !slices.ContainsFunc(s.watchers, func(watcher *redis.Client) bool {
		master := redis.NewMapStringStringCmd(s.ctx, "SENTINEL", "MASTER", sentinelName)
		return watcher.Process(s.ctx, master) != nil || !is(master.Val())
	})
}

// agreed waits until all of them name the replica.
func (s *sentinelSet) agreed() {
	s.t.Helper()
	_, port, err := net.SplitHostPort(s.replica.Addr)
	require.NoError(s.t, err)
	s.eventually(func() bool { return s.all(func(master map[string]string) bool { return master["port"] == port }) })
}

const (
	sentinelWorkers = 4
	sentinelKeys    = 8  // lax
	sentinelDigits  = 31 // of a lax counter, which has as many in base four
)

// sentinelLoad is what counts meanwhile. Strict workers add random amounts, each to
// a key of its own, so that a reply says after which others it came. To each lax
// counter the powers of four are added, once each: in base four a digit of it is 0
// or 1, and tells what became of one addition.
type sentinelLoad struct {
	run     *chaos.Run
	set     *sentinelSet
	client  *redis.Client
	system  *distkit.System
	events  *serverEvents
	stop    chan struct{}
	workers sync.WaitGroup
	acked   [sentinelWorkers]atomic.Int64
	last    [sentinelWorkers]int64 // the value last replied
	maybe   [sentinelWorkers]int64 // added after that, with an unknown outcome
	fell    atomic.Int64           // how many replies went on from an earlier value
	at      int                    // lax additions so far
}

func startSentinelLoad(run *chaos.Run, set *sentinelSet) *sentinelLoad {
	l := &sentinelLoad{run: run, set: set, stop: make(chan struct{})}
	l.client = redis.NewFailoverClient(&redis.FailoverOptions{
		MasterName: sentinelName, SentinelAddrs: set.addrs, ClientName: sentinelName, DialerRetries: 1,
		ReadTimeout: 250 * time.Millisecond, WriteTimeout: 250 * time.Millisecond, DialTimeout: time.Second,
	})
	l.system, l.events = serverSystem(set.t, l.client, "p")
	for i := range sentinelWorkers {
		l.workers.Go(func() { l.work(i, run.Rand(uint64(i))) })
	}
	l.counted(100)
	return l
}

// work counts on a key of its own until the load ends. A reply goes on from the one
// before it, or, where the new master was behind, from an earlier one.
func (l *sentinelLoad) work(i int, rng *rand.Rand) {
	earlier := map[int64]bool{0: true}
	for {
		select {
		case <-l.stop:
			return
		default:
		}
		l.run.Cases(1)
		n := 1 + rng.Int64N(1<<40)
		got, err := l.system.Strict().Inc(l.set.ctx, serverOwnKey(i), n)
		switch before := got - n; {
		case errors.Is(err, distkit.ErrOutcomeUnknown) && l.maybe[i] == 0:
			l.maybe[i] = n
			earlier[l.last[i]+n] = true
			continue
		case err != nil:
			l.run.Violation("strict: %v", err)
			return
		case before == l.last[i] || l.maybe[i] != 0 && before == l.last[i]+l.maybe[i]:
		case earlier[before]:
			l.fell.Add(1)
		default:
			l.run.Violation("strict %d: adding %d answered %d, after %d; %d was never its value", i, n, got, l.last[i], before)
		}
		l.last[i], l.maybe[i] = got, 0
		earlier[got] = true
		l.acked[i].Add(1)
	}
}

// counted waits until each strict worker has been answered n times more.
func (l *sentinelLoad) counted(n int64) {
	l.set.t.Helper()
	for i := range l.acked {
		want := l.acked[i].Load() + n
		l.set.eventually(func() bool { return l.acked[i].Load() >= want || l.set.t.Failed() })
	}
}

// digit adds the next power of four to each lax counter, unless the last ones are
// next, and lets some time go by.
func (l *sentinelLoad) digit() {
	if l.at < sentinelDigits-5 {
		l.add()
	}
	time.Sleep(50 * time.Millisecond)
}

// digits adds n of them, and sees each into Redis.
func (l *sentinelLoad) digits(n int) {
	l.set.t.Helper()
	for range n {
		l.add()
		require.NoError(l.set.t, l.system.Flush(l.set.ctx))
	}
}

func (l *sentinelLoad) add() {
	for k := range sentinelKeys {
		if err := l.system.Lax().Add(sentinelKey(k), 1<<(2*l.at)); err != nil {
			l.run.Violation("lax: %v", err)
		}
		l.run.Cases(1)
	}
	l.at++
}

func sentinelKey(k int) distkit.Key { return distkit.MustKey(fmt.Sprintf("lax-%d", k)) }

// end ends the load and compares it with the new master. Lax additions from first on
// came after the failover.
func (l *sentinelLoad) end(first int) {
	t := l.set.t
	t.Helper()
	close(l.stop)
	l.workers.Wait()
	if err := l.system.Shutdown(l.set.ctx); err != nil {
		l.run.Violation("Shutdown: %v", err)
	}
	require.NoError(t, l.client.Close())
	strict := serverStored(t, l.set.replica.admin, "p", "strict_counter")
	lax := serverStored(t, l.set.replica.admin, "p", "lax_counter")

	for i, last := range l.last {
		if got := strict[serverOwnKey(i).String()]; got != last && got != last+l.maybe[i] {
			l.run.Violation("strict %d: the new master holds %d; the last reply was %d", i, got, last)
		}
	}
	if l.fell.Load() > 0 && !l.told("strict") {
		l.run.Violation("strict counters fell back, and nobody said so: %v", l.events.seen())
	}

	missing := 0
	for k := range sentinelKeys {
		key := sentinelKey(k).String()
		digits := strconv.FormatInt(lax[key], 4)
		if strings.Trim(digits, "01") != "" || len(digits) > l.at {
			l.run.Violation("lax %s: %s in base four, of powers added once each", key, digits)
		}
		for i := range l.at {
			switch in := i < len(digits) && digits[len(digits)-1-i] == '1'; {
			case in || l.aside(key)>>(2*i)&3 != 0:
			case i >= first:
				l.run.Violation("lax %s: what was added after the failover is missing: %s in base four", key, digits)
			default:
				missing++
			}
		}
	}
	if missing > 0 && !l.told("lax") {
		l.run.Violation("%d lax additions are lost, and nobody said so: %v", missing, l.events.seen())
	}
	t.Logf("%d strict replies fell back, %d lax additions were lost", l.fell.Load(), missing)
}

// told reports whether a DataLost of the writer came.
func (l *sentinelLoad) told(writer string) bool {
	return slices.ContainsFunc(serverEventsOf[distkit.DataLost](l.events), func(lost distkit.DataLost) bool { return lost.Writer == writer })
}

// aside is how much of a lax key events told to be of unknown outcome.
func (l *sentinelLoad) aside(key string) (n int64) {
	for _, e := range serverEventsOf[distkit.ChangeRefused](l.events) {
		if e.Key.String() == key {
			n += e.N
		}
	}
	return n
}
