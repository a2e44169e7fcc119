package actors

import (
	"context"
	"fmt"

	"github.com/distkit/distkit-go/actors/internal/strict"
	"github.com/distkit/distkit-go/internal/redisio"
	"github.com/distkit/distkit-go/internal/verb"
)

// Transactions are what strict counters do beside single operations. All keys of one are
// on one shard, and so is its outcome.
type Transactions struct{ shards *Shards }

// Apply carries out a transaction: the results of its head and of its steps.
func (t *Transactions) Apply(ctx context.Context, ops []verb.Keyed) ([]verb.Result, error) {
	first, steps := ops[1].Key, ops[2:]
	shard, shards := t.shards.shardOf(first), len(t.shards.spaces)
	for i := range steps {
		if key := steps[i].Key; t.shards.shardOf(key) != shard {
			return nil, verb.NotApplied(fmt.Errorf("%w: %q and %q, of %d; give all its keys the same hash tag, as in \"{order 7}:paid\" and \"{order 7}:sent\", which puts them on one",
				verb.ErrCrossShard, first, key, shards))
		}
	}
	m, err := t.shards.at(shard).begin(ctx)
	if err != nil {
		return nil, err
	}
	return (*m).(*strict.Space).Apply(ctx, ops)
}

// Recall returns the outcome of the transaction with an ID, likewise. The ID does not
// tell the shard: all are asked, and the first outcome that is found is it. That there is
// none takes an answer of each.
func (t *Transactions) Recall(ctx context.Context, id string) ([]verb.Result, error) {
	if len(t.shards.spaces) == 1 {
		return t.recall(ctx, 0, id)
	}
	ctx, found := context.WithCancel(ctx)
	defer found()
	type answer struct {
		results []verb.Result
		err     error
	}
	answers := make(chan answer, len(t.shards.spaces))
	go t.shards.each(func(shard int) error {
		results, err := t.recall(ctx, shard, id)
		answers <- answer{results, err}
		return nil
	})
	var none answer
	for range t.shards.spaces {
		a := <-answers
		if a.err == nil && a.results[0].Replayed {
			return a.results, nil
		}
		if none.results == nil || none.err == nil {
			none = a
		}
	}
	return none.results, none.err
}

// recall asks one shard: by its writer, after what that has under way; where there is
// nothing under way, past it.
func (t *Transactions) recall(ctx context.Context, shard int, id string) ([]verb.Result, error) {
	s := t.shards.look(shard)
	if err := s.over(ctx); err != nil {
		return nil, verb.NotApplied(err)
	}
	if m := s.mode.Load(); m != nil {
		return (*m).(*strict.Space).Recall(ctx, id)
	}
	call := &redisio.Call{Task: redisio.Recall, At: s.container(), Ops: []verb.Keyed{{Op: verb.Op{Kind: verb.Recall}, Tx: &verb.Tx{ID: id}}}}
	if err := s.engine.read(ctx, []*redisio.Call{call}, true); err != nil {
		return nil, verb.NotApplied(err)
	}
	return call.Results, call.Results[0].Err
}
