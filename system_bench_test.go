package distkit_test

import (
	"context"
	"fmt"
	"log/slog"
	"runtime"
	"testing"
	"time"

	"github.com/distkit/distkit-go"
	"github.com/distkit/distkit-go/internal/redistest"
	"github.com/stretchr/testify/require"
)

// BenchmarkSystems shows what a thousand Systems on one client cost: when they have just
// been made, when each has counted once, strict and lax, and when all of that sleeps
// again. make bench-systems runs it; docs/OPERATIONS.md has its figures. It takes 3 GB.
func BenchmarkSystems(b *testing.B) {
	const count = 1000
	client := redistest.Client(b)
	for name, logger := range map[string]func() *slog.Logger{
		"an actor system each": func() *slog.Logger { return slog.New(slog.DiscardHandler) }, // Systems with the same logger share one
		"one actor system":     func() *slog.Logger { return quiet },
	} {
		b.Run(name, func(b *testing.B) {
			ctx := context.Background()
			prefix := redistest.Prefix(b, client)
			require.NoError(b, client.Ping(ctx).Err())
			memory, goroutines := inUse()
			report := func(when string) {
				m, g := inUse()
				b.ReportMetric(float64(m-memory)/count, "B/"+when)
				b.ReportMetric(float64(g-goroutines)/count, "goroutines/"+when)
			}
			systems := make([]*distkit.System, count)
			for i := range systems {
				options := []distkit.Option{
					distkit.WithPrefix(distkit.MustKey(fmt.Sprintf("%s:%d", prefix, i))),
					distkit.WithPassivation(10 * time.Second), distkit.WithLogger(logger()),
				}
				var err error
				systems[i], err = distkit.NewSystem(client, options...)
				require.NoError(b, err)
			}
			report("new")
			for _, s := range systems {
				_, err := s.Strict().Inc(ctx, keyA, 1)
				require.NoError(b, err)
				_, err = s.Lax().Inc(ctx, keyA, 1)
				require.NoError(b, err)
				require.NoError(b, s.Flush(ctx))
			}
			report("used")
			require.Eventually(b, func() bool {
				for _, s := range systems {
					if stats := s.Stats(); stats.Strict.Resident+stats.Lax.Resident > 0 {
						return false
					}
				}
				return true
			}, time.Minute, 100*time.Millisecond)
			time.Sleep(20 * time.Second) // the writers fall asleep after their keys
			report("asleep")
			for _, s := range systems {
				require.NoError(b, s.Shutdown(ctx))
			}
			b.ReportMetric(0, "ns/op")
		})
	}
}

// inUse is the memory and the goroutines that are in use.
func inUse() (memory int64, goroutines int) {
	var m runtime.MemStats
	for range 3 {
		runtime.GC()
		time.Sleep(100 * time.Millisecond)
	}
	runtime.ReadMemStats(&m)
	return int64(m.HeapInuse + m.StackInuse), runtime.NumGoroutine()
}
