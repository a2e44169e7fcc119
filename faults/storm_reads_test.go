//go:build chaos

// A storm of reads: it must not keep changes from being written.
package faults_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/distkit/distkit-go"
	"github.com/distkit/distkit-go/internal/chaos"
	"github.com/distkit/distkit-go/internal/redistest"
	"github.com/redis/go-redis/v9"
)

// TestStorm_readsDoNotHoldUpTheFlush: readers touch one new key after the other
// while Redis is 2 ms away, so that a read is waiting whenever one returns. A
// change has to be in Redis all the same after AllowedLag and a few round trips;
// a second is allowed, and without reads 30 ms are needed.
func TestStorm_readsDoNotHoldUpTheFlush(t *testing.T) {
	t.Parallel()
	run := chaos.Begin(t, "StormReads")
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	client, far := redistest.Client(t), redistest.Client(t)
	far.AddHook(stormDistance(2 * time.Millisecond))
	prefix := redistest.Prefix(t, client)
	system, _ := serverSystem(t, far, prefix)
	lax := system.Lax()

	reading, stop := context.WithCancel(ctx)
	var readers sync.WaitGroup
	for r := range 8 {
		readers.Go(func() {
			for i := 0; reading.Err() == nil; i++ {
				if _, err := lax.Get(reading, distkit.MustKey(fmt.Sprintf("read-%d-%d", r, i))); err != nil && !errors.Is(err, context.Canceled) {
					run.Violation("Get: %v", err)
					return
				}
			}
		})
	}
	key, longest := distkit.MustKey("written"), time.Duration(0)
	for i := range run.Scale(10, 100) {
		if err := lax.Add(key, 1); err != nil {
			run.Violation("Add: %v", err)
		}
		begun := time.Now()
		for serverStored(t, client, prefix, "lax_counter")[key.String()] != int64(i+1) {
			if time.Since(begun) > time.Second {
				run.Violation("a change is not in Redis after a second of reads")
				break
			}
			time.Sleep(time.Millisecond)
		}
		longest = max(longest, time.Since(begun))
		run.Cases(1)
		if t.Failed() {
			break
		}
	}
	t.Logf("a change took %v at most", longest.Round(time.Millisecond))
	stop()
	readers.Wait()
	if err := system.Shutdown(ctx); err != nil {
		run.Violation("Shutdown: %v", err)
	}
}

// stormDistance is a go-redis hook that puts Redis further away.
type stormDistance time.Duration

// DialHook implements redis.Hook.
func (stormDistance) DialHook(next redis.DialHook) redis.DialHook { return next }

// ProcessHook implements redis.Hook.
func (d stormDistance) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		time.Sleep(time.Duration(d))
		return next(ctx, cmd)
	}
}

// ProcessPipelineHook implements redis.Hook.
func (d stormDistance) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		time.Sleep(time.Duration(d))
		return next(ctx, cmds)
	}
}
