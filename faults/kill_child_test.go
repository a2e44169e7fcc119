//go:build chaos

// The process that TestProcessKilled kills: this test binary again.
package faults_test

import (
	"context"
	"log/slog"
	"math/rand/v2"
	"os"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/distkit/distkit-go"
	"github.com/distkit/distkit-go/internal/redistest"
	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"
)

// killEnv names the prefix to count under; it makes TestChildKilled the child.
const (
	killEnv     = "DISTKIT_FAULTS_KILL_UNDER"
	killSeedEnv = "DISTKIT_FAULTS_KILL_SEED"
	killFarEnv  = "DISTKIT_FAULTS_KILL_FAR" // how far away Redis is, "0s" or more
)

const (
	killStrictWorkers = 4
	killPairWorkers   = 2
	killLaxWorkers    = 3
	killLaxKeys       = 3
)

var (
	killSingle = distkit.MustKey("single")
	killLeft   = distkit.MustKey("left")
	killRight  = distkit.MustKey("right")
)

func killLaxKey(i int) distkit.Key { return distkit.MustKey("lax-" + strconv.Itoa(i)) }

// TestChildKilled counts until it is killed, as the child of TestProcessKilled.
func TestChildKilled(t *testing.T) {
	prefix := os.Getenv(killEnv)
	if prefix == "" {
		t.Skip("only as the child of TestProcessKilled")
	}
	seed, err := strconv.ParseUint(os.Getenv(killSeedEnv), 10, 64)
	require.NoError(t, err)
	far, err := time.ParseDuration(os.Getenv(killFarEnv))
	require.NoError(t, err)
	// A parent that dies closes the pipe; one that hangs must not keep us.
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	pipe := &killPipe{os.NewFile(3, "report"), time.Now()}
	options := redistest.Options(t)
	options.ClientName = prefix
	client := redis.NewClient(options)
	client.AddHook(&killHook{pipe: pipe, far: far})
	system, err := distkit.NewSystem(client, distkit.WithPrefix(distkit.MustKey(prefix)),
		distkit.WithLogger(slog.New(slog.DiscardHandler)))
	require.NoError(t, err)

	var workers sync.WaitGroup
	worker := func(stream int, work func(*rand.Rand) error) {
		rng := rand.New(rand.NewPCG(seed, uint64(stream)))
		workers.Go(func() {
			for ctx.Err() == nil {
				if err := work(rng); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	for i := range killStrictWorkers {
		worker(i, func(*rand.Rand) error {
			pipe.tell(killStrictStart, 0, 1)
			got, err := system.Strict().Inc(ctx, killSingle, 1)
			if err == nil {
				pipe.tell(killStrictEnd, 0, got)
			}
			return err
		})
	}
	for i := range killPairWorkers {
		worker(100+i, func(*rand.Rand) error {
			pipe.tell(killPairStart, 0, 1)
			_, err := system.Strict().IncAll(ctx, distkit.Update{Key: killLeft, N: 1}, distkit.Update{Key: killRight, N: 1})
			if err == nil {
				pipe.tell(killPairEnd, 0, 1)
			}
			return err
		})
	}
	for i := range killLaxWorkers {
		worker(200+i, func(rng *rand.Rand) error { return killLaxBurst(ctx, system.Lax(), pipe, rng) })
	}
	worker(300, func(*rand.Rand) error {
		pipe.tell(killBeat, 0, 0)
		time.Sleep(time.Millisecond)
		return nil
	})
	workers.Wait()
}

// killLaxBurst adds to a lax key a few times, with and without waiting.
func killLaxBurst(ctx context.Context, lax *distkit.LaxCounter, pipe *killPipe, rng *rand.Rand) error {
	at, n := rng.IntN(killLaxKeys), 1+rng.Int64N(20)
	key := killLaxKey(at)
	pipe.tell(killLaxStart, at, n)
	for i := range n {
		var err error
		if i == 0 {
			_, err = lax.Inc(ctx, key, 1)
		} else {
			err = lax.Add(key, 1)
		}
		if err != nil {
			return err
		}
	}
	pipe.tell(killLaxEnd, at, n)
	time.Sleep(time.Duration(100+rng.IntN(300)) * time.Microsecond) // leave the processor to the writers
	return nil
}

// killHook tells of each call to Redis, so that the parent knows how long a
// flush took, and delays each where Redis is to be far away. It does not look
// at arguments: those are made last.
type killHook struct {
	pipe  *killPipe
	far   time.Duration
	calls atomic.Int64
}

// DialHook implements redis.Hook.
func (h *killHook) DialHook(next redis.DialHook) redis.DialHook { return next }

// ProcessHook implements redis.Hook.
func (h *killHook) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		defer h.time()()
		return next(ctx, cmd)
	}
}

// ProcessPipelineHook implements redis.Hook.
func (h *killHook) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		defer h.time()()
		return next(ctx, cmds)
	}
}

func (h *killHook) time() (done func()) {
	call := h.calls.Add(1)
	h.pipe.tell(killCallStart, 0, call)
	time.Sleep(h.far)
	return func() { h.pipe.tell(killCallEnd, 0, call) }
}
