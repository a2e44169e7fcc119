package actors

import (
	"context"
	"errors"
	"log/slog"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/asynkron/protoactor-go/actor"
	"github.com/distkit/distkit-go/internal/op"
	"github.com/distkit/distkit-go/internal/redistest"
	"github.com/distkit/distkit-go/internal/store"
	"github.com/stretchr/testify/require"
)

// sleepy is an engine whose keys leave memory as soon as they are idle.
func sleepy(t *testing.T, idle time.Duration) (e *Engine, stored func(kind Kind, key string) int64) {
	client := redistest.Client(t)
	prefix := redistest.Prefix(t, client)
	e, err := New(Config{
		Client: client, Prefix: prefix, Observer: silent{},
		ActorSystem: actor.NewActorSystem(actor.WithLoggerFactory(QuietLogger(slog.New(slog.DiscardHandler)))),
		AllowedLag:  time.Millisecond, RefreshWait: time.Second, Passivation: idle,
		Backoff: Backoff{time.Millisecond, 2 * time.Millisecond},
		Decode:  func(any) (op.Op, error) { return op.Op{}, errors.New("no messages here") },
		Encode:  func(op.Op, op.Result) any { return nil },
	})
	require.NoError(t, err)
	t.Cleanup(func() { _, _ = e.Shutdown(context.Background()) })
	return e, func(kind Kind, key string) int64 {
		n, err := client.HGet(context.Background(), prefix+":"+kind.String(), key).Int64()
		require.NoError(t, err)
		return n
	}
}

func inc(n int64) op.Op { return op.Op{Kind: op.Inc, N: n} }

// requireAsleep waits until no key is in memory.
func requireAsleep(t *testing.T, e *Engine) {
	require.Eventually(t, func() bool { return len(e.lax.all())+len(e.strict.all()) == 0 }, 30*time.Second, time.Millisecond)
}

func TestPassivation_idleKeyLeavesMemory_andWakesWithItsValue(t *testing.T) {
	t.Parallel()
	e, stored := sleepy(t, time.Millisecond)
	ctx := context.Background()
	for range 3 {
		for _, kind := range []Kind{Strict, Lax} {
			require.NoError(t, e.Do(ctx, kind, "a", inc(1)).Err)
			require.True(t, e.Send(kind, "a", inc(1)))
		}
		requireAsleep(t, e)
		require.Eventually(t, func() bool { return !e.sweeper.armed.Load() }, 30*time.Second, time.Millisecond,
			"no timer without a key, once the look that found the last one idle is over")
	}
	for _, kind := range []Kind{Strict, Lax} {
		require.EqualValues(t, 6, stored(kind, "a"))
		require.EqualValues(t, 6, e.Do(ctx, kind, "a", op.Op{Kind: op.Get}).N)
	}
}

func TestPassivation_zero_keysStay(t *testing.T) {
	t.Parallel()
	e, _ := sleepy(t, 0)
	require.NoError(t, e.Do(context.Background(), Lax, "a", inc(1)).Err)
	require.False(t, e.sweeper.armed.Load())
}

func TestPassivation_whileRedisIsAway_laxKeysStay(t *testing.T) {
	t.Parallel()
	e, _ := sleepy(t, time.Hour)
	ctx := context.Background()
	require.NoError(t, e.Do(ctx, Lax, "a", inc(1)).Err)
	require.NoError(t, e.Do(ctx, Strict, "a", inc(1)).Err)
	_, err := e.Flush(ctx)
	require.NoError(t, err)
	e.flush.away.Store(true)
	for range 2 * sweeps {
		sweeper{e.sweeper}.sweep()
	}
	require.Len(t, e.lax.all(), 1)
	require.Empty(t, e.strict.all())
	e.flush.away.Store(false)
	for range sweeps {
		sweeper{e.sweeper}.sweep()
	}
	require.Empty(t, e.lax.all())
}

func TestPassivation_unflushedChange_keepsItsKey(t *testing.T) {
	t.Parallel()
	c := &laxCell{}
	require.True(t, c.quiet())
	for name, hold := range map[string]func(*laxCell){
		"open":    func(c *laxCell) { c.open = change{add, 1} },
		"flight":  func(c *laxCell) { c.flight = &mutation{} },
		"refused": func(c *laxCell) { c.more().refused = op.ErrOverflow },
		"dirty":   func(c *laxCell) { c.dirty = true },
		"asked":   func(c *laxCell) { c.asked = true },
	} {
		c := &laxCell{}
		hold(c)
		require.False(t, c.quiet(), name)
	}
}

// Callers hammer a few keys, with pauses in which the sweeper strikes as fast as
// it can: each message finds the old actor or the new one, none falls between.
func TestPassivation_midTraffic_losesNothing(t *testing.T) {
	t.Parallel()
	e, stored := sleepy(t, time.Nanosecond)
	ctx := context.Background()
	const keys, callers, rounds = 4, 6, 300
	var told [2][keys]atomic.Int64
	var lives atomic.Int64 // how often a caller found another actor than before
	var wait sync.WaitGroup
	for range callers {
		wait.Go(func() {
			var before *laxCell
			for i := range rounds {
				key := i % keys
				name := strconv.Itoa(key)
				for _, kind := range []Kind{Strict, Lax} {
					if r := e.Do(ctx, kind, name, inc(1)); r.Err != nil {
						t.Error(r.Err)
					}
					for range 5 {
						e.Send(kind, name, inc(1))
					}
					all := e.DoAll(ctx, kind, []store.KeyOp{{Key: name, Op: inc(1)}, {Key: "shared", Op: inc(1)}})
					if all[0].Err != nil || all[1].Err != nil {
						t.Error(all)
					}
					told[kind][key].Add(7)
				}
				if c, ok := e.lax.cells.Load("0"); ok && c != before {
					before = c
					lives.Add(1)
				}
				if i%25 == 0 {
					if _, err := e.Flush(ctx); err != nil {
						t.Error(err)
					}
				}
			}
		})
	}
	wait.Wait()
	_, err := e.Shutdown(ctx)
	require.NoError(t, err)
	for kind := range told {
		for key := range told[kind] {
			require.Equal(t, told[kind][key].Load(), stored(Kind(kind), strconv.Itoa(key)))
		}
		require.EqualValues(t, callers*rounds, stored(Kind(kind), "shared"))
	}
	require.Greater(t, lives.Load(), int64(callers), "keys fell asleep in between")
}
