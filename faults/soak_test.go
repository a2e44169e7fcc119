// A soak: Redis hangs half of the time, and callers give up at random. What callers were
// told adds up, and nothing piles up.
package faults_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime"
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

// soakRounds are how often Redis goes away and comes back: in the long form for twenty
// minutes in all.
const soakShort, soakLong = 4, 240

// soakSlack is by how much the heap may differ at the ends of two rounds, in MB, and the
// goroutines in number: the runtime's and the client library's pools breathe.
const soakSlack = 24

// soakCount is what callers were told of one counter.
type soakCount struct{ applied, unknown atomic.Int64 }

func (c *soakCount) told(err error) {
	switch {
	case err == nil:
		c.applied.Add(1)
	case errors.Is(err, distkit.ErrOutcomeUnknown):
		c.unknown.Add(1)
	}
}

func TestSoak(t *testing.T) {
	run := chaos.Begin(t, "Soak")
	rounds, each := run.Scale(soakShort, soakLong), 300*time.Millisecond
	if run.Long() {
		each = 2500 * time.Millisecond
	}
	server := redistest.Start(t)
	options := serverOptions(server.Addr)
	options.PoolSize = 20
	client := redis.NewClient(options)
	t.Cleanup(func() { _ = client.Close() })
	system, _ := serverSystem(t, client, "soak")
	var strict, lax soakCount
	daily, err := system.Lax().Per(distkit.Daily(time.UTC), time.Hour)
	require.NoError(t, err)

	ctx, stop := context.WithCancel(context.Background())
	var workers sync.WaitGroup
	for w := range 16 {
		workers.Go(func() { soakWork(ctx, run, run.Rand(uint64(w)), system, daily, &strict, &lax) })
	}
	var heaps, goroutines []int
	for range rounds {
		server.Pause(t)
		run.Faults(1)
		time.Sleep(each)
		server.Resume(t)
		time.Sleep(each)
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		heaps, goroutines = append(heaps, int(m.HeapAlloc>>20)), append(goroutines, runtime.NumGoroutine())
	}
	stop()
	workers.Wait()
	settled, cancel := context.WithTimeout(context.Background(), serverPatience)
	defer cancel()
	require.NoError(t, system.Shutdown(settled))

	for kind, c := range map[string]*soakCount{"strict_counter": &strict, "lax_counter": &lax} {
		n, err := serverAdmin(t, server.Addr).HGet(settled, "soak:"+kind, "sum").Int64()
		require.NoError(t, err)
		if low := c.applied.Load(); n < low || n > low+c.unknown.Load() {
			run.Violation("%s: %d in Redis, %d told applied, %d unknown", kind, n, low, c.unknown.Load())
		}
	}
	t.Logf("heap at the ends of rounds, MB: %v; goroutines: %v", soakEnds(heaps), soakEnds(goroutines))
	warm := rounds / 4
	for i := warm; i < rounds; i++ {
		if heaps[i] > heaps[warm]+soakSlack || goroutines[i] > goroutines[warm]+soakSlack {
			run.Violation("after round %d: %d MB and %d goroutines, after round %d %d and %d", i, heaps[i], goroutines[i], warm, heaps[warm], goroutines[warm])
			return
		}
	}
}

// soakEnds is a row of figures, of many the first and the last few.
func soakEnds(all []int) string {
	if len(all) <= 16 {
		return fmt.Sprint(all)
	}
	return fmt.Sprint(all[:8], "…", all[len(all)-8:])
}

// soakWork counts, in all ways, with contexts that end at random.
func soakWork(ctx context.Context, run *chaos.Run, rng *rand.Rand, system *distkit.System, daily *distkit.Windows, strict, lax *soakCount) {
	sum := distkit.MustKey("sum")
	for ctx.Err() == nil {
		key := distkit.MustKey(fmt.Sprint("k", rng.IntN(500)))
		patience := []time.Duration{time.Microsecond, time.Millisecond, 20 * time.Millisecond, 400 * time.Millisecond}[rng.IntN(4)]
		call, cancel := context.WithTimeout(context.Background(), patience)
		run.Cases(1)
		switch rng.IntN(10) {
		case 0, 1:
			_, err := system.Strict().Inc(call, sum, 1)
			strict.told(err)
		case 2:
			_, err := system.Lax().Inc(call, sum, 1)
			lax.told(err)
		case 3:
			lax.told(system.Lax().Add(sum, 1))
		case 4:
			_, _ = system.Lax().IncIf(call, key, distkit.Ge(0), 1)
		case 5:
			_, _ = system.Strict().IncAll(call, distkit.Update{Key: key, N: 1}, distkit.Update{Key: sum, N: 0})
		case 6:
			_, _ = system.Lax().Del(call, key)
		case 7:
			_ = system.Flush(call)
		case 8:
			_, _ = system.Strict().Apply(call, distkit.Tx{ID: fmt.Sprint(rng.Uint64()), Keep: time.Minute, Steps: []distkit.Step{{Key: key, Do: distkit.Inc{N: 1}}}})
		case 9:
			_ = daily.Add(key, 1)
		}
		cancel()
		time.Sleep(time.Duration(rng.IntN(2000)) * time.Microsecond)
	}
}
