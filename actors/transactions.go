package actors

import (
	"context"
	"sync/atomic"

	"github.com/distkit/distkit-go/actors/internal/strict"
	"github.com/distkit/distkit-go/internal/verb"
)

// Transactions are what a space of strict counters does beside single operations.
type Transactions struct {
	space *Space
	mode  atomic.Pointer[strict.Space] // the space's, when it has been made
}

// Apply carries out a transaction: the results of its head and of its steps.
func (t *Transactions) Apply(ctx context.Context, ops []verb.Keyed) ([]verb.Result, error) {
	if _, err := t.space.begin(ctx); err != nil {
		return nil, err
	}
	return t.mode.Load().Apply(ctx, ops)
}

// Recall returns the outcome of the transaction with an ID, likewise.
func (t *Transactions) Recall(ctx context.Context, id string) ([]verb.Result, error) {
	_, err := t.space.begin(ctx)
	if err == nil && t.space.engine.closed.Load() {
		err = verb.NotApplied(verb.ErrClosed)
	}
	if err != nil {
		return nil, err
	}
	return t.mode.Load().Recall(ctx, id)
}
