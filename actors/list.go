package actors

import (
	"context"
	"fmt"
	"slices"

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
	if err := s.over(ctx); err != nil {
		return s.unlisted(err)
	}
	own := map[string]bool{}
	if m := s.mode.Load(); m != nil {
		more, err := s.listPending(ctx, *m, own, take)
		if err != nil || !more {
			return err
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

// listPending hands the counters to take of which Redis may not have everything, notes
// their names, and reports whether take wants more.
func (s *Space) listPending(ctx context.Context, m mode, own map[string]bool, take func(string, verb.Result) bool) (more bool, err error) {
	for names := range slices.Chunk(m.Pending(), listBatch) {
		ops := make([]verb.Keyed, len(names))
		for i, name := range names {
			ops[i], own[name] = verb.Keyed{Key: name, Op: verb.Op{Kind: verb.Get}}, true
		}
		results := m.DoAll(ctx, ops)
		if err := s.over(ctx); err != nil { // which is what the results would say
			return false, s.unlisted(err)
		}
		for i, r := range results {
			if !r.Absent && !take(names[i], r) {
				return false, nil
			}
		}
	}
	return true, nil
}

// unlisted is the error of a listing that something has ended.
func (s *Space) unlisted(cause error) error {
	return verb.NotApplied(fmt.Errorf("distkit: listing the counters of %s: %w", s.container().Name, cause))
}

// scan makes one step. The first is repeated until Redis has answered it.
func (s *Space) scan(ctx context.Context, cursor uint64) (*redisio.Call, error) {
	call := &redisio.Call{Task: redisio.Scan, At: s.container(), Cursor: cursor}
	err := s.engine.read(ctx, []*redisio.Call{call}, cursor == 0)
	if err != nil && cursor != 0 && s.over(ctx) == nil && call.Class != redisio.Refused {
		err = fmt.Errorf("broken off, since a cursor does not outlive an outage: %w", err)
	}
	return call, err
}
