package distkit

import (
	"context"
	"errors"
	"iter"

	"github.com/distkit/distkit-go/actors"
	"github.com/distkit/distkit-go/internal/verb"
)

// Counter is what both kinds of counters do. All methods are safe for
// concurrent use. Values are exact over the whole int64 range; a result
// outside it is ErrOverflow and changes nothing.
//
// ctx bounds the caller's wait. An error names the key, and matches exactly one of
// ErrNotApplied and ErrOutcomeUnknown, and its cause.
//
// The batch methods (…All, …AllIf) return a result for each operation, in the
// order given; a key may occur more than once, its operations then follow each
// other. With no operation they return an empty result. An invalid key or
// condition anywhere fails the whole call, not applied. If single operations
// fail the error is a *BatchError and the results of the others are valid.
type Counter interface {
	// Inc adds n, which may be negative or 0, and returns the new value.
	Inc(ctx context.Context, key Key, n int64) (int64, error)
	// Dec subtracts n, which may be negative or 0, and returns the new value.
	Dec(ctx context.Context, key Key, n int64) (int64, error)
	// Get returns the value, 0 for a counter that does not exist.
	Get(ctx context.Context, key Key) (int64, error)
	// Lookup returns the value, and whether the counter exists: one that does not
	// reads as 0. A counter exists from its first increment or assignment to its
	// Del or a Clear, also at 0.
	Lookup(ctx context.Context, key Key) (n int64, ok bool, err error)
	// Set assigns n and returns it.
	Set(ctx context.Context, key Key, n int64) (int64, error)
	// Del deletes the counter and returns the value it had.
	Del(ctx context.Context, key Key) (int64, error)
	// Clear deletes every counter of this kind under the prefix: of each shard by itself,
	// so that under failure some may be deleted and others not (ErrPartlyApplied).
	Clear(ctx context.Context) error
	// IncIf adds n if cond holds for the current value.
	IncIf(ctx context.Context, key Key, cond Cond, n int64) (Change, error)
	// SetIf assigns n if cond holds for the current value.
	SetIf(ctx context.Context, key Key, cond Cond, n int64) (Change, error)
	// GetAll returns the values of the keys.
	GetAll(ctx context.Context, keys ...Key) ([]int64, error)
	// IncAll adds to each key and returns the new values.
	IncAll(ctx context.Context, updates ...Update) ([]int64, error)
	// SetAll assigns to each key and returns the values.
	SetAll(ctx context.Context, updates ...Update) ([]int64, error)
	// IncAllIf adds to each key whose condition holds.
	IncAllIf(ctx context.Context, updates ...UpdateIf) ([]Change, error)
	// SetAllIf assigns to each key whose condition holds.
	SetAllIf(ctx context.Context, updates ...UpdateIf) ([]Change, error)
	// DelAll deletes the counters and returns the values that they had, in order.
	DelAll(ctx context.Context, keys ...Key) ([]int64, error)
	// All goes through the counters that exist, in no order, by a cursor: a step is a
	// few hundred of them, and Redis serves others between two steps. Each use of the
	// sequence goes through them anew. What exists from the beginning to the end is
	// met, with a value that it had meanwhile; what comes or goes meanwhile may be.
	// One may be met twice, should Redis shrink the hash meanwhile.
	//
	// A strict counter has the value in Redis. Lax counters with changes that Redis
	// may not have yet come first, as Get answers them, those in memory only too; the
	// others have the value in Redis. A lax counter that this process has deleted is
	// not met, even if Redis has yet to learn of it.
	//
	// An error with an Entry's key is of that counter only: a text that is no int64,
	// say. Any other error is the last there is: the end of ctx, a Redis that
	// refuses. While Redis is away at the beginning All waits for it within ctx; an
	// outage later ends it, since the cursor is lost with it. (A failover that no
	// call notices may cost it counters.) Every error matches ErrNotApplied.
	All(ctx context.Context) iter.Seq2[Entry, error]
	// Top returns the n largest counters, the largest first, equal ones by their
	// keys. It goes through All, and needs memory for n. Where single counters cannot
	// be read, the result is valid for the others, beside an error.
	Top(ctx context.Context, n int) ([]Entry, error)
	// PID returns the address of a counter's actor.
	PID(key Key) PID
}

// Change is the outcome of a conditional operation: the values before and
// after it, and whether the condition held. If it did not, New is Old.
type Change struct {
	Old, New int64
	Applied  bool
}

// Update is one operation of IncAll (add N) or SetAll (assign N).
type Update struct {
	Key Key
	N   int64
}

// UpdateIf is one operation of IncAllIf or SetAllIf.
type UpdateIf struct {
	Key Key
	If  Cond
	N   int64
}

// StrictCounter executes every operation by a script in Redis and answers with
// the authoritative value: for billing, inventory, quota. Operations of many
// callers travel together in one script call, so one caller alone pays one
// round trip and a thousand pay little more.
//
// While Redis is away a call waits for it within its context. A call that
// Redis refuses (out of memory, no permission) fails at once, not applied.
//
// A batch call of up to 1,000 operations is one part of one script call: all
// of it or, under failure, nothing of it is applied, and no other operation
// comes in between. (An operation that fails by itself, such as one that
// overflows, does not stop the others.) A larger one is cut into such parts,
// in order, between which others may come; under failure some parts may be
// applied and others not, which the *BatchError tells for each operation. With
// WithShards all this holds for the operations of one shard; those of several go at
// the same time, and each shard's are applied or not by themselves.
//
// Apply carries out a transaction: all of its steps or none.
type StrictCounter struct {
	counter
	transactions *actors.Transactions // of the same space
}

var _ Counter = (*StrictCounter)(nil)

var errNilContext = errors.New("distkit: the context is nil; use context.Background()")

// ready checks what every operation needs.
func (c *counter) ready(ctx context.Context, keys ...Key) error {
	if c == nil || c.space == nil {
		return notApplied(ErrClosed)
	}
	if ctx == nil {
		return notApplied(errNilContext)
	}
	for i := range keys {
		if err := keys[i].check(); err != nil {
			return err
		}
	}
	return nil
}

// probed reports whether a Probe is to be told of calls.
func (c *counter) probed() bool { return c != nil && c.system != nil && c.system.probe.tellsCalls() }

func (c *counter) do(ctx context.Context, key Key, o verb.Op) (verb.Result, error) {
	if c.probed() {
		return c.doProbed(ctx, key, o, operation(o.Kind, false))
	}
	return c.carryOut(ctx, key, o)
}

// doProbed is do where there is a Probe.
func (c *counter) doProbed(ctx context.Context, key Key, o verb.Op, name string) (verb.Result, error) {
	ctx, probing := c.system.begin(ctx, Call{c.kind, name, key, 1})
	r, err := c.carryOut(ctx, key, o)
	probing.end(r.Applied || !o.Kind.Conditional(), err)
	if err == nil { // then the engine holds nothing of it any more
		probing.recycle()
	}
	return r, err
}

func (c *counter) carryOut(ctx context.Context, key Key, o verb.Op) (verb.Result, error) {
	if err := c.ready(ctx, key); err != nil {
		return verb.Result{}, err
	}
	r := c.space.Do(ctx, key.name, o)
	if r.Err != nil && !errors.Is(r.Err, ErrNotReplicated) {
		return verb.Result{}, verb.Named(key.name, r.Err)
	}
	return r, verb.Named(key.name, r.Err)
}

// Inc implements Counter.
func (c *counter) Inc(ctx context.Context, key Key, n int64) (int64, error) {
	r, err := c.do(ctx, key, verb.Op{Kind: verb.Inc, N: n})
	return r.N, err
}

// Dec implements Counter.
func (c *counter) Dec(ctx context.Context, key Key, n int64) (int64, error) {
	r, err := c.do(ctx, key, verb.Op{Kind: verb.Dec, N: n})
	return r.N, err
}

// Get implements Counter.
func (c *counter) Get(ctx context.Context, key Key) (int64, error) {
	r, err := c.do(ctx, key, verb.Op{Kind: verb.Get})
	return r.N, err
}

// Lookup implements Counter.
func (c *counter) Lookup(ctx context.Context, key Key) (n int64, ok bool, err error) {
	get := verb.Op{Kind: verb.Get}
	var r verb.Result
	if c.probed() {
		r, err = c.doProbed(ctx, key, get, "lookup")
	} else {
		r, err = c.carryOut(ctx, key, get)
	}
	return r.N, err == nil && !r.Absent, err
}

// Set implements Counter.
func (c *counter) Set(ctx context.Context, key Key, n int64) (int64, error) {
	r, err := c.do(ctx, key, verb.Op{Kind: verb.Set, N: n})
	return r.N, err
}

// Del implements Counter.
func (c *counter) Del(ctx context.Context, key Key) (int64, error) {
	r, err := c.do(ctx, key, verb.Op{Kind: verb.Del})
	return r.N, err
}

// Clear implements Counter.
func (c *counter) Clear(ctx context.Context) error {
	if err := c.ready(ctx); err != nil {
		return err
	}
	if !c.probed() {
		return c.space.Clear(ctx)
	}
	ctx, probing := c.system.begin(ctx, Call{Kind: c.kind, Operation: operation(verb.Clear, false), Size: 1})
	err := c.space.Clear(ctx)
	probing.end(true, err)
	return err
}

// IncIf implements Counter.
func (c *counter) IncIf(ctx context.Context, key Key, cond Cond, n int64) (Change, error) {
	return c.doIf(ctx, verb.IncIf, key, cond, n)
}

// SetIf implements Counter.
func (c *counter) SetIf(ctx context.Context, key Key, cond Cond, n int64) (Change, error) {
	return c.doIf(ctx, verb.SetIf, key, cond, n)
}

func (c *counter) doIf(ctx context.Context, kind verb.Kind, key Key, cond Cond, n int64) (Change, error) {
	if err := cond.check(); err != nil {
		return Change{}, err
	}
	r, err := c.do(ctx, key, verb.Op{Kind: kind, N: n, If: cond.cond})
	return toChange(r), err
}

// PID implements Counter.
func (c *counter) PID(key Key) PID { return PID{counter: c, key: key} }
