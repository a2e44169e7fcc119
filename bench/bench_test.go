package bench

import (
	"errors"
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/distkit/distkit-go/bench/report"
)

// env is the Redis of a benchmark, which cannot be without.
func env(b *testing.B) *Env {
	b.Helper()
	e, err := NewEnv(b.Context())
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = e.Close() })
	return e
}

// start makes a contestant ready; all its keys are known.
func start(b *testing.B, c Contestant, keys int) (Counter, int64) {
	b.Helper()
	counter, err := c.Start(env(b), keys)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		if err := counter.Close(); err != nil {
			b.Error(err)
		}
	})
	for key := range keys {
		if err := counter.Count(key); err != nil {
			b.Fatal(err)
		}
	}
	if err := counter.Settle(); err != nil {
		b.Fatal(err)
	}
	return counter, int64(keys)
}

// benchmarkLoad divides b.N operations among the callers.
func benchmarkLoad(b *testing.B, c Contestant, callers, keys int) {
	counter, counted := start(b, c, keys)
	var left atomic.Int64
	var wait sync.WaitGroup
	left.Store(int64(b.N))
	b.ReportAllocs()
	b.ResetTimer()
	for caller := range callers {
		wait.Go(func() {
			key := caller * keys / callers
			for share := max(int64(b.N/callers/16), 1); ; {
				n := min(left.Add(-share)+share, share)
				if n <= 0 {
					return
				}
				for range n {
					if err := counter.Count(key); err != nil {
						b.Error(err)
						return
					}
					if key++; key == keys {
						key = 0
					}
				}
			}
		})
	}
	wait.Wait()
	if err := counter.Settle(); err != nil {
		b.Fatal(err)
	}
	b.StopTimer()
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "ops/s")
	if err := verify(counter, counted+int64(b.N)); err != nil {
		b.Error(err)
	}
}

func BenchmarkStrict(b *testing.B) {
	for _, callers := range strictCallers {
		for _, keys := range keyCounts {
			for _, c := range StrictContestants() {
				b.Run(fmt.Sprintf("callers=%d/keys=%d/%s", callers, keys, c.Name()), func(b *testing.B) {
					benchmarkLoad(b, c, callers, keys)
				})
			}
		}
	}
}

func BenchmarkLax(b *testing.B) {
	for _, keys := range keyCounts {
		for _, c := range LaxContestants() {
			b.Run(fmt.Sprintf("keys=%d/callers=1/%s", keys, c.Name()), func(b *testing.B) {
				benchmarkLoad(b, c, 1, keys)
			})
			b.Run(fmt.Sprintf("keys=%d/callers=all/%s", keys, c.Name()), func(b *testing.B) {
				benchmarkLoad(b, c, runtime.GOMAXPROCS(0), keys)
			})
		}
	}
}

func BenchmarkFlush(b *testing.B) {
	for _, c := range FlushContestants() {
		b.Run(fmt.Sprintf("keys=%d/%s", dirtyKeys, c.Name()), func(b *testing.B) {
			counter, counted := start(b, c, dirtyKeys)
			var took time.Duration
			flushes := 0
			for b.Loop() {
				t, err := dirtyAndFlush(counter, dirtyKeys)
				if err != nil {
					b.Fatal(err)
				}
				flushes++
				took += t
			}
			b.ReportMetric(float64(flushes*dirtyKeys)/took.Seconds(), "keys/s")
			if err := verify(counter, counted+int64(flushes*dirtyKeys)); err != nil {
				b.Error(err)
			}
		})
	}
}

func BenchmarkTail(b *testing.B) {
	for _, c := range tailContestants() {
		b.Run(fmt.Sprintf("dirty=%d/%s", dirtyKeys, c.Name()), func(b *testing.B) {
			e := env(b)
			var last map[string]float64
			for b.Loop() {
				var err error
				if last, err = measureTail(c, e, time.Second); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(last[report.P999], "p99.9-µs")
			b.ReportMetric(last[report.Throughput], "keys/s")
		})
	}
}

// BenchmarkGrowth is an Add that goes round all keys; memory wants a process of
// its own, and is make bench's.
func BenchmarkGrowth(b *testing.B) {
	for _, keys := range GrowthSizes {
		b.Run(fmt.Sprintf("keys=%d", keys), func(b *testing.B) { benchmarkLoad(b, distkitAdd(lag), 1, keys) })
	}
}

// needRedis skips a test where there is none.
func needRedis(t *testing.T) *Env {
	t.Helper()
	e, err := NewEnv(t.Context())
	if errors.Is(err, ErrNoRedis) {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = e.Close() })
	return e
}
