package distkit_test

import (
	"context"
	"fmt"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/distkit/distkit-go"
	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"
)

// What shards cost on one node, where they gain nothing: strict increments by so many
// callers on 10,000 keys, and flushes of up to a million lax keys. Beside the time it reports that
// of Redis's CPU, and the operations of a batch.

func BenchmarkShards(b *testing.B) {
	keys := make([]distkit.Key, 1_000_000)
	for i := range keys {
		keys[i] = distkit.MustKey(fmt.Sprint("key:", i))
	}
	for _, shards := range []int{1, 4, 64} {
		for _, callers := range []int{1, 64, 1024, 16384} {
			b.Run(fmt.Sprintf("strict/callers=%d/shards=%d", callers, shards), func(b *testing.B) {
				f := newFixture(b, distkit.WithShards(shards))
				measured(b, f, func() {
					var all sync.WaitGroup
					for caller := range callers {
						all.Go(func() {
							for i := caller; i < b.N; i += callers {
								if _, err := f.Strict().Inc(context.Background(), keys[i*7919%10_000], 1); err != nil {
									b.Error(err)
									return
								}
							}
						})
					}
					all.Wait()
				})
			})
		}
		for _, dirty := range []int{1_000, 100_000, 1_000_000} {
			b.Run(fmt.Sprintf("flush/keys=%d/shards=%d", dirty, shards), func(b *testing.B) {
				f := newFixture(b, distkit.WithShards(shards))
				measured(b, f, func() {
					for done := 0; done < b.N; done += dirty {
						for _, key := range keys[:min(dirty, b.N-done)] {
							_ = f.Lax().Add(key, 1)
						}
						require.NoError(b, f.Flush(context.Background()))
					}
				})
			})
		}
		b.Run(fmt.Sprintf("add/shards=%d", shards), func(b *testing.B) {
			f := newFixture(b, distkit.WithShards(shards))
			for i := 0; b.Loop(); i++ {
				_ = f.Lax().Add(keys[i&1023], 1)
			}
		})
	}
}

// What a million lax keys take in the process, on one shard and on many.
func BenchmarkShardsMemory(b *testing.B) {
	const keys = 1_000_000
	for _, shards := range []int{1, 64} {
		b.Run(fmt.Sprintf("shards=%d", shards), func(b *testing.B) {
			f := newFixture(b, distkit.WithShards(shards))
			for range b.N {
				before := liveBytes()
				for i := range keys {
					_ = f.Lax().Add(distkit.MustKey(fmt.Sprintf("%012d", i)), 1)
				}
				require.NoError(b, f.Flush(context.Background()))
				b.ReportMetric(float64(liveBytes()-before)/keys, "B/key")
			}
		})
	}
}

// liveBytes is what is in use of the heap and the stacks.
func liveBytes() uint64 {
	runtime.GC()
	runtime.GC() // what pools held
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc + m.StackInuse
}

// measured reports what work cost Redis.
func measured(b *testing.B, f *fixture, work func()) {
	b.Helper()
	before, calls := redisCost(b, f.client)
	b.ResetTimer()
	work()
	b.StopTimer()
	after, more := redisCost(b, f.client)
	b.ReportMetric((after-before)*1e9/float64(b.N), "redis-ns/op")
	b.ReportMetric(float64(b.N)/float64(max(1, more-calls)), "ops/script")
}

// redisCost is the CPU time of a Redis, in seconds, and how many scripts it has run.
func redisCost(b *testing.B, client *redis.Client) (cpu float64, scripts int64) {
	b.Helper()
	info, err := client.Info(context.Background(), "cpu", "commandstats").Result()
	require.NoError(b, err)
	for line := range strings.Lines(info) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), ":")
		switch name {
		case "used_cpu_sys", "used_cpu_user":
			n, err := strconv.ParseFloat(value, 64)
			require.NoError(b, err)
			cpu += n
		case "cmdstat_evalsha":
			_, err := fmt.Sscanf(value, "calls=%d", &scripts)
			require.NoError(b, err)
		}
	}
	return cpu, scripts
}
