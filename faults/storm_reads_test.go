// A storm of reads: it must not keep changes from being written.
package faults_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/distkit/distkit-go"
	"github.com/distkit/distkit-go/internal/chaos"
	"github.com/distkit/distkit-go/internal/redistest"
	"github.com/redis/go-redis/v9"
)

// TestStorm_readsDoNotHoldUpTheFlush: readers touch one new key after the other
// while Redis is 2 ms away, so that a read is waiting whenever one returns. A
// change has to be in Redis all the same after AllowedLag and a few round trips.
// Time is only printed: what is asked is that no more than stormTrips go by.
func TestStorm_readsDoNotHoldUpTheFlush(t *testing.T) {
	t.Parallel()
	run := chaos.Begin(t, "StormReads")
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	client, far := redistest.Client(t), redistest.Client(t)
	trips := &stormDistance{}
	far.AddHook(trips)
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
	key, longest, most := distkit.MustKey("written"), time.Duration(0), int64(0)
	for i := range run.Scale(10, 100) {
		if err := lax.Add(key, 1); err != nil {
			run.Violation("Add: %v", err)
		}
		begun, gone := time.Now(), trips.n.Load()
		for serverStored(t, client, prefix, "lax_counter")[key.String()] != int64(i+1) && !t.Failed() {
			if passed := trips.n.Load() - gone; passed > stormTrips || ctx.Err() != nil {
				run.Violation("a change is not in Redis after %d trips of reads", passed)
			}
			time.Sleep(time.Millisecond)
		}
		longest, most = max(longest, time.Since(begun)), max(most, trips.n.Load()-gone)
		run.Cases(1)
		if t.Failed() {
			break
		}
	}
	t.Logf("a change took %v and %d trips at most", longest.Round(time.Millisecond), most)
	stop()
	readers.Wait()
	if err := system.Shutdown(ctx); err != nil {
		run.Violation("Shutdown: %v", err)
	}
}

// stormTrips take a second, where AllowedLag and two trips are 24 ms.
const stormTrips = 500

// stormDistance is a go-redis hook that puts Redis 2 ms further away, and counts
// the trips there.
type stormDistance struct{ n atomic.Int64 }

// DialHook implements redis.Hook.
func (*stormDistance) DialHook(next redis.DialHook) redis.DialHook { return next }

// ProcessHook implements redis.Hook.
func (d *stormDistance) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		d.travel()
		return next(ctx, cmd)
	}
}

// ProcessPipelineHook implements redis.Hook.
func (d *stormDistance) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		d.travel()
		return next(ctx, cmds)
	}
}

func (d *stormDistance) travel() {
	d.n.Add(1)
	time.Sleep(2 * time.Millisecond)
}
