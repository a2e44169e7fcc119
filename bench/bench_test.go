// Package bench measures distkit beside what one would write with go-redis, on
// the same Redis in the same run. It is a module of its own, so that what it
// compares with stays out of the library's go.mod.
//
// make bench runs it; REDIS_URL says where, and the prefix "bench-…" is all it
// touches.
package bench

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/distkit/distkit-go"
	"github.com/redis/go-redis/v9"
)

// start returns a client and a System on a prefix of its own.
func start(b *testing.B) (*redis.Client, *distkit.System, string) {
	b.Helper()
	url := os.Getenv("REDIS_URL")
	if url == "" {
		b.Fatal("REDIS_URL is not set; run make bench, which starts a Redis")
	}
	options, err := redis.ParseURL(url)
	if err != nil {
		b.Fatal(err)
	}
	client := redis.NewClient(options)
	prefix := fmt.Sprintf("bench-%016x", rand.Uint64())
	system, err := distkit.NewSystem(client, distkit.WithPrefix(distkit.MustKey(prefix)),
		distkit.WithLogger(slog.New(slog.DiscardHandler)))
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		ctx := context.Background()
		if err := system.Shutdown(ctx); err != nil {
			b.Error(err)
		}
		client.Del(ctx, prefix+":strict_counter", prefix+":lax_counter", prefix+":script")
		if err := client.Close(); err != nil {
			b.Error(err)
		}
	})
	return client, system, prefix
}

func keys(n int) []distkit.Key {
	out := make([]distkit.Key, n)
	for i := range out {
		out[i] = distkit.MustKey(strconv.Itoa(i))
	}
	return out
}

// callers runs op b.N times from so many goroutines.
func callers(b *testing.B, n int, op func(i int) error) {
	b.Helper()
	var next atomic.Int64
	var wait sync.WaitGroup
	b.ResetTimer()
	for range n {
		wait.Go(func() {
			for i := next.Add(1); i <= int64(b.N); i = next.Add(1) {
				if err := op(int(i)); err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	wait.Wait()
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "ops/s")
}

// hincrby is what one would write by hand: no ledger, applied twice when a
// reply is lost.
var hincrby = redis.NewScript("return redis.call('HINCRBY', KEYS[1], ARGV[1], ARGV[2])")

func BenchmarkStrictInc(b *testing.B) {
	for _, n := range []int{1, 64, 256, 1024} {
		b.Run(fmt.Sprintf("distkit/callers=%d", n), func(b *testing.B) {
			_, system, _ := start(b)
			names, c := keys(1000), system.Strict()
			callers(b, n, func(i int) error {
				_, err := c.Inc(context.Background(), names[i%len(names)], 1)
				return err
			})
		})
		b.Run(fmt.Sprintf("goredis-script/callers=%d", n), func(b *testing.B) {
			client, _, prefix := start(b)
			names := keys(1000)
			callers(b, n, func(i int) error {
				return hincrby.Run(context.Background(), client, []string{prefix + ":script"}, names[i%len(names)].String(), 1).Err()
			})
		})
	}
}

func BenchmarkLax(b *testing.B) {
	for _, n := range []int{1, 2, 64} {
		for _, count := range []int{1, 1000} {
			name := fmt.Sprintf("callers=%d/keys=%d", n, count)
			b.Run("Add/"+name, func(b *testing.B) {
				_, system, _ := start(b)
				names, c := keys(count), system.Lax()
				callers(b, n, func(i int) error { return c.Add(names[i%count], 1) })
			})
			b.Run("Inc/"+name, func(b *testing.B) {
				_, system, _ := start(b)
				names, c := keys(count), system.Lax()
				callers(b, n, func(i int) error {
					_, err := c.Inc(context.Background(), names[i%count], 1)
					return err
				})
			})
		}
	}
}

func BenchmarkFlush(b *testing.B) {
	for _, count := range []int{1000, 100_000} {
		b.Run(fmt.Sprintf("keys=%d", count), func(b *testing.B) {
			_, system, _ := start(b)
			names, c := keys(count), system.Lax()
			b.ResetTimer()
			for range b.N {
				for _, name := range names {
					if err := c.Add(name, 1); err != nil {
						b.Fatal(err)
					}
				}
				if err := system.Flush(context.Background()); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(b.N*count)/b.Elapsed().Seconds(), "keys/s")
		})
	}
}
