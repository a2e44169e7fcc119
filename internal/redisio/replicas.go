package redisio

import (
	"context"
	"errors"
	"time"

	"github.com/redis/go-redis/v9"
)

// awaitReplicas waits until replicas have the batches that are in, for those that ask
// for it. WAIT is about the writes of its own connection, so a write goes before it: one
// that renews the ledger's lifetime. What it waits for includes the batch, which came
// before, and shows that the ledger is still there.
func (c *client) awaitReplicas(ctx context.Context, calls []*Call) {
	for _, call := range calls {
		if call.Replicas.N > 0 && call.Status == Done && call.Task == Apply {
			call.Replicated, call.NotReplicated = c.replicated(ctx, call)
		}
	}
}

var errLedgerLost = errors.New("redis lost the ledger of the writer right after the batch")

// replicated is how many replicas have a batch, or why that cannot be known.
func (c *client) replicated(ctx context.Context, call *Call) (int, error) {
	var node redis.Cmdable = c.UniversalClient
	if c.cluster != nil { // which would send WAIT, that has no key, to any node
		err := guard(func() (err error) {
			node, err = c.cluster.MasterForKey(ctx, call.At.Name)
			return err
		})
		if err != nil {
			return 0, err
		}
	}
	pipe := node.Pipeline()
	renewed := pipe.Do(ctx, "pexpire", call.At.Ledger(call.Writer), call.Lifetime.Milliseconds())
	have := pipe.Do(ctx, "wait", call.Replicas.N, max(1, call.Replicas.Within/time.Millisecond))
	err := guard(func() error {
		_, err := pipe.Exec(ctx)
		return err
	})
	if renewed.Err() == nil && renewed.Val() == nil { // the pipeline did not even begin
		return 0, err
	}
	switch there, err := renewed.Int(); {
	case err != nil:
		return 0, advise(err)
	case there != 1:
		return 0, errLedgerLost
	}
	n, err := have.Int()
	return n, advise(err)
}
