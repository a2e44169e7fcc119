// Hooks of a user's: one that repeats what fails, as some do in place of go-redis's
// own retries, and that looks at arguments, as those do that trace; and one that
// watches for us.
package faults_test

import (
	"context"
	"errors"

	"github.com/redis/go-redis/v9"
)

// simHook is both.
type simHook struct{ sim *simCase }

// simAttempts is how often it has a command sent.
const simAttempts = 3

// DialHook implements redis.Hook.
func (simHook) DialHook(next redis.DialHook) redis.DialHook { return next }

// ProcessHook implements redis.Hook.
func (h simHook) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		err := h.repeat([]redis.Cmder{cmd}, func() error { return next(ctx, cmd) })
		if err != nil {
			h.watch(cmd)
		}
		return err
	}
}

// ProcessPipelineHook implements redis.Hook.
func (h simHook) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		err := h.repeat(cmds, func() error { return next(ctx, cmds) })
		for _, cmd := range cmds {
			if cmd.Err() != nil || err != nil {
				h.watch(cmd)
			}
		}
		return err
	}
}

// watch notes that a command has failed by which a writer was to learn who had
// emptied a container.
func (h simHook) watch(cmd redis.Cmder) {
	if cmd.Name() == "pttl" {
		h.sim.blind.Add(1)
	}
}

// repeat sends commands, and again if the reply to one did not come.
func (h simHook) repeat(cmds []redis.Cmder, next func() error) (err error) {
	if !h.sim.repeats {
		return next()
	}
	for attempt := range simAttempts {
		if attempt > 0 {
			h.sim.did("commands repeated")
		}
		for _, cmd := range cmds {
			_ = cmd.Args()
		}
		var reply redis.Error
		if err = next(); err == nil || errors.As(err, &reply) {
			return err
		}
	}
	return err
}
