package actors

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/distkit/distkit-go/internal/host"
	"github.com/distkit/distkit-go/internal/redisio"
	"github.com/distkit/distkit-go/internal/verb"
)

// Listing goes through the container by its cursor, a step a call, and takes no part
// in what keys and writers do: it reads from a connection of its own, on the caller's
// behalf. The keys that have something pending answer for themselves, first; what is
// not pending then is in Redis, where the steps find it.

// listBatch is how many keys that have something pending are asked at once.
const listBatch = 500

// List hands every counter to take, in no order: its name, and its value or why that
// cannot be read. It ends when take returns false, or with the error that kept it
// from the rest.
//
// The first step waits, within ctx, until Redis can be reached. A cursor is of one run
// of one server: after an outage it would leave counters out, so that a later step
// that fails ends the listing.
func (s *Space) List(ctx context.Context, take func(name string, r verb.Result) bool) error {
	if err := s.listable(ctx); err != nil {
		return s.unlisted(err)
	}
	m := s.live()
	if m == nil {
		return s.unlisted(verb.ErrClosed)
	}
	pending := m.Pending()
	own := make(map[string]bool, len(pending))
	for names := range slices.Chunk(pending, listBatch) {
		ops := make([]verb.Keyed, len(names))
		for i, name := range names {
			ops[i], own[name] = verb.Keyed{Key: name, Op: verb.Op{Kind: verb.Get}}, true
		}
		results := m.DoAll(ctx, ops)
		if err := s.listable(ctx); err != nil { // which is what the results would say
			return s.unlisted(err)
		}
		for i, r := range results {
			if !r.Absent && !take(names[i], r) {
				return nil
			}
		}
	}
	for cursor, first := uint64(0), true; first || cursor != 0; first = false {
		step, err := s.scan(ctx, cursor)
		if err != nil {
			return s.unlisted(err)
		}
		for _, f := range step.Fields {
			if !own[f.Key] && !take(f.Key, f.Result) {
				return nil
			}
		}
		cursor = step.Next
	}
	return nil
}

// listable says why nothing can be listed any more.
func (s *Space) listable(ctx context.Context) error {
	if s.engine.closed.Load() {
		return verb.ErrClosed
	}
	return ctx.Err()
}

// unlisted is the error of a listing that something has ended.
func (s *Space) unlisted(cause error) error {
	return verb.NotApplied(fmt.Errorf("distkit: listing the counters of %s: %w", s.container().Name, cause))
}

func (s *Space) container() *redisio.Container {
	return redisio.NewContainer(s.engine.cfg.Prefix, s.name)
}

// scan makes one step. The first is repeated until Redis has answered it.
func (s *Space) scan(ctx context.Context, cursor uint64) (*redisio.Call, error) {
	cfg := &s.engine.cfg
	backoff := host.Backoff{Min: cfg.BackoffMin, Max: cfg.BackoffMax}
	var trouble error
	for attempt := 1; ; attempt++ {
		call := &redisio.Call{Task: redisio.Scan, At: s.container(), Cursor: cursor}
		ended := make(chan struct{})
		go func() { // the client library does not heed the context while it reads
			defer close(ended) // whatever a hook of the client does
			cfg.redis.Send(ctx, []*redisio.Call{call})
		}()
		if err := s.await(ctx, ended); err != nil {
			return nil, verb.Hint(err, trouble)
		}
		switch call.Class {
		case redisio.Answered:
			return call, nil
		case redisio.NotYet, redisio.Unknown, redisio.Moving:
			if trouble = call.Err; cursor != 0 {
				return nil, fmt.Errorf("broken off, since a cursor does not outlive an outage: %w", trouble)
			}
		case redisio.Refused, redisio.Full, redisio.NoScript:
			return nil, call.Err
		}
		pause := make(chan struct{})
		timer := time.AfterFunc(backoff.Delay(attempt, rand.Float64()), func() { close(pause) })
		err := s.await(ctx, pause)
		timer.Stop()
		if err != nil {
			return nil, verb.Hint(err, trouble)
		}
	}
}

// await waits for done, for the end of ctx, or for that of the engine.
func (s *Space) await(ctx context.Context, done <-chan struct{}) error {
	select {
	case <-done:
	case <-ctx.Done():
	case <-s.engine.shutdown.done:
	}
	return s.listable(ctx)
}
