package distkit

import (
	"context"
	"errors"
	"fmt"

	"github.com/distkit/distkit-go/internal/verb"
)

// The batch methods of both kinds: many operations in one call.

// GetAll implements Counter.
func (c *counter) GetAll(ctx context.Context, keys ...Key) ([]int64, error) {
	return batch(ctx, c, keyOps(verb.Get, keys), valueOf)
}

// IncAll implements Counter.
func (c *counter) IncAll(ctx context.Context, updates ...Update) ([]int64, error) {
	return batch(ctx, c, updateOps(verb.Inc, updates), valueOf)
}

// SetAll implements Counter.
func (c *counter) SetAll(ctx context.Context, updates ...Update) ([]int64, error) {
	return batch(ctx, c, updateOps(verb.Set, updates), valueOf)
}

// IncAllIf implements Counter.
func (c *counter) IncAllIf(ctx context.Context, updates ...UpdateIf) ([]Change, error) {
	return batch(ctx, c, updateIfOps(verb.IncIf, updates), toChange)
}

// SetAllIf implements Counter.
func (c *counter) SetAllIf(ctx context.Context, updates ...UpdateIf) ([]Change, error) {
	return batch(ctx, c, updateIfOps(verb.SetIf, updates), toChange)
}

// DelAll implements Counter.
func (c *counter) DelAll(ctx context.Context, keys ...Key) ([]int64, error) {
	return batch(ctx, c, keyOps(verb.Del, keys), valueOf)
}

func keyOps(kind verb.Kind, keys []Key) []verb.Keyed {
	ops := make([]verb.Keyed, len(keys))
	for i, key := range keys {
		ops[i] = verb.Keyed{Key: key.name, Op: verb.Op{Kind: kind}}
	}
	return ops
}

func updateOps(kind verb.Kind, updates []Update) []verb.Keyed {
	ops := make([]verb.Keyed, len(updates))
	for i, u := range updates {
		ops[i] = verb.Keyed{Key: u.Key.name, Op: verb.Op{Kind: kind, N: u.N}}
	}
	return ops
}

func updateIfOps(kind verb.Kind, updates []UpdateIf) []verb.Keyed {
	ops := make([]verb.Keyed, len(updates))
	for i, u := range updates {
		ops[i] = verb.Keyed{Key: u.Key.name, Op: verb.Op{Kind: kind, N: u.N, If: u.If.cond}}
	}
	return ops
}

func valueOf(r verb.Result) int64 { return r.N }

// batch carries out a batch call and makes its results.
func batch[T any](ctx context.Context, c *counter, ops []verb.Keyed, from func(verb.Result) T) ([]T, error) {
	if !c.probed() || len(ops) == 0 {
		out, _, err := carryOutAll(ctx, c, ops, from)
		return out, err
	}
	kind := ops[0].Kind
	ctx, probing := c.system.begin(ctx, Call{Kind: c.kind, Operation: operation(kind, true), Size: len(ops)})
	out, applied, err := carryOutAll(ctx, c, ops, from)
	probing.end(applied || kind.Reads(), err)
	return out, err
}

// carryOutAll is batch, and reports whether any operation has changed its counter.
func carryOutAll[T any](ctx context.Context, c *counter, ops []verb.Keyed, from func(verb.Result) T) (out []T, applied bool, err error) {
	if err := c.ready(ctx); err != nil {
		return nil, false, err
	}
	for i, o := range ops {
		err := Key{o.Key}.check()
		if err == nil && o.Kind.Conditional() {
			err = Cond{o.If}.check()
		}
		if err != nil {
			return nil, false, fmt.Errorf("operation %d: %w", i, err)
		}
	}
	out = make([]T, len(ops))
	if len(ops) == 0 {
		return out, false, nil
	}
	results := c.space.DoAll(ctx, ops)
	failed := false
	errs := make([]error, len(ops))
	for i, r := range results {
		if r.Err != nil {
			errs[i] = verb.Named(ops[i].Key, r.Err)
			if failed = true; !errors.Is(r.Err, ErrNotReplicated) {
				continue
			}
		}
		out[i] = from(r)
		applied = applied || r.Applied || !ops[i].Kind.Reads() && !ops[i].Kind.Conditional()
	}
	if failed {
		return out, applied, &BatchError{errs, applied}
	}
	return out, applied, nil
}
