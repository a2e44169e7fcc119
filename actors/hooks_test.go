package actors

import (
	"context"
	"net"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/redis/go-redis/v9"
)

// Hooks of go-redis, which hold, fail and count commands.

// applies reports whether a command is a script call that applies operations.
func applies(cmd redis.Cmder) bool {
	args := cmd.Args()
	if cmd.Name() != "evalsha" && cmd.Name() != "eval" {
		return false
	}
	keys, err := strconv.Atoi(text(args[2]))
	if err != nil {
		panic(err)
	}
	task := text(args[3+keys])
	return task != "open" && task != "fence"
}

// readsHeld is a go-redis hook that holds reads until the channel is closed.
type readsHeld chan struct{}

func (h readsHeld) DialHook(next redis.DialHook) redis.DialHook { return next }

func (h readsHeld) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		if cmd.Name() == "hmget" {
			<-h
		}
		return next(ctx, cmd)
	}
}

func (h readsHeld) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return next
}

// flushHeld is a go-redis hook that holds the first script call that applies
// something after hold is set, and counts reads.
type flushHeld struct {
	hold           atomic.Bool
	flushing, goOn chan struct{}
	release        sync.Once
	reads          atomic.Int64
}

func newFlushHeld(t *testing.T) *flushHeld {
	h := &flushHeld{flushing: make(chan struct{}), goOn: make(chan struct{})}
	t.Cleanup(h.letGo)
	return h
}

func (h *flushHeld) letGo() { h.release.Do(func() { close(h.goOn) }) }

func (h *flushHeld) DialHook(next redis.DialHook) redis.DialHook {
	return func(ctx context.Context, network, addr string) (net.Conn, error) { return next(ctx, network, addr) }
}

func (h *flushHeld) see(cmds ...redis.Cmder) {
	if slices.ContainsFunc(cmds, func(cmd redis.Cmder) bool { return cmd.Name() == "hmget" }) {
		h.reads.Add(1)
	}
	if slices.ContainsFunc(cmds, applies) && h.hold.CompareAndSwap(true, false) {
		close(h.flushing)
		<-h.goOn
	}
}

func (h *flushHeld) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		h.see(cmd)
		return next(ctx, cmd)
	}
}

func (h *flushHeld) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		h.see(cmds...)
		return next(ctx, cmds)
	}
}
