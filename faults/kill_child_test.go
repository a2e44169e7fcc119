// The process that TestProcessKilled kills: this test binary again.
package faults_test

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
	killTxWorkers     = 2
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
	c := &killCounting{t: t, ctx: ctx, seed: seed, pipe: pipe}
	// Each kind has a System of its own, so that calls to Redis can be told apart.
	c.strict(killSystem(t, prefix, &killHook{far: far}).Strict())
	c.lax(killSystem(t, prefix, &killHook{far: far, pipe: pipe}))
	c.worker(400, func(*rand.Rand) error {
		pipe.tell(killBeat, 0, 0)
		time.Sleep(time.Millisecond)
		return nil
	})
	c.workers.Wait()
}

// killCounting is the child's goroutines.
type killCounting struct {
	t       *testing.T
	ctx     context.Context
	seed    uint64
	pipe    *killPipe
	workers sync.WaitGroup
}

// worker repeats work, with a source of its own, until the context ends.
func (c *killCounting) worker(stream int, work func(*rand.Rand) error) {
	rng := rand.New(rand.NewPCG(c.seed, uint64(stream)))
	c.workers.Go(func() {
		for c.ctx.Err() == nil {
			if err := work(rng); err != nil {
				c.t.Error(err)
				return
			}
		}
	})
}

func (c *killCounting) strict(counter *distkit.StrictCounter) {
	for i := range killStrictWorkers {
		c.worker(i, func(*rand.Rand) error {
			c.pipe.tell(killStrictStart, 0, 1)
			got, err := counter.Inc(c.ctx, killSingle, 1)
			if err == nil {
				c.pipe.tell(killStrictEnd, 0, got)
			}
			return err
		})
	}
	for i := range killPairWorkers {
		c.worker(100+i, func(*rand.Rand) error {
			c.pipe.tell(killPairStart, 0, 1)
			_, err := counter.IncAll(c.ctx, distkit.Update{Key: killLeft, N: 1}, distkit.Update{Key: killRight, N: 1})
			if err == nil {
				c.pipe.tell(killPairEnd, 0, 1)
			}
			return err
		})
	}
	for i := range killTxWorkers {
		number := int64(i)
		c.worker(500+i, func(rng *rand.Rand) error {
			number += killTxWorkers
			fails := rng.IntN(4) / 3
			c.pipe.tell(killTxStart, fails, number)
			_, err := counter.Apply(c.ctx, killTx(number, fails == 1))
			if err == nil {
				c.pipe.tell(killTxEnd, fails, number)
			}
			return err
		})
	}
}

// lax counts, and in every other process flushes too; in the others, flushes
// come by the clock alone.
func (c *killCounting) lax(system *distkit.System) {
	for i := range killLaxWorkers {
		c.worker(200+i, func(rng *rand.Rand) error { return killLaxBurst(c.ctx, system.Lax(), c.pipe, rng) })
	}
	if c.seed%2 == 1 {
		return
	}
	flushes := int64(0)
	c.worker(300, func(rng *rand.Rand) error {
		flushes++
		c.pipe.tell(killFlushStart, 0, flushes)
		err := system.Flush(c.ctx)
		if err == nil {
			c.pipe.tell(killFlushEnd, 0, flushes)
		}
		time.Sleep(time.Duration(rng.IntN(30)) * time.Millisecond)
		return err
	})
}

// killSystem starts a System on a client of its own.
func killSystem(t *testing.T, prefix string, hook redis.Hook) *distkit.System {
	t.Helper()
	options := redistest.Options(t)
	options.ClientName = prefix
	client := redis.NewClient(options)
	client.AddHook(hook)
	system, err := distkit.NewSystem(client, distkit.WithPrefix(distkit.MustKey(prefix)),
		distkit.WithLogger(slog.New(slog.DiscardHandler)))
	require.NoError(t, err)
	return system
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

// killHook delays each call to Redis where that is to be far away and, given a
// pipe, tells of it. It looks at arguments only afterwards: they are made last.
type killHook struct {
	far   time.Duration
	pipe  *killPipe // or nil
	calls atomic.Int64
}

// DialHook implements redis.Hook.
func (h *killHook) DialHook(next redis.DialHook) redis.DialHook { return next }

// ProcessHook implements redis.Hook.
func (h *killHook) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		return h.call([]redis.Cmder{cmd}, func() error { return next(ctx, cmd) })
	}
}

// ProcessPipelineHook implements redis.Hook.
func (h *killHook) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		return h.call(cmds, func() error { return next(ctx, cmds) })
	}
}

func (h *killHook) call(cmds []redis.Cmder, do func() error) error {
	number := h.calls.Add(1)
	if h.pipe != nil {
		h.pipe.tell(killCallStart, 0, number)
	}
	time.Sleep(h.far)
	err := do()
	if h.pipe != nil {
		did := 0
		if err == nil {
			for _, cmd := range cmds {
				did = max(did, killDid(cmd))
			}
		}
		h.pipe.tell(killCallEnd, did, number)
	}
	return err
}

// killDid is what a command has done: carried a batch, or opened a lane, which costs the
// first batch of that a trip more, and writes nothing.
func killDid(cmd redis.Cmder) int {
	args := cmd.Args() // the name, the script, the number of keys, one key, the task
	switch name := cmd.Name(); {
	case name != "evalsha" && name != "eval" || len(args) <= 4:
		return 0
	case fmt.Sprint(args[4]) == "open":
		return killOpened
	default:
		return killWritten
	}
}
