package distkit

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/distkit/distkit-go/internal/verb"
)

// Tx is a transaction of strict counters, for StrictCounter.Apply: all of its steps
// are applied, or none.
//
// It is a Message only so that a PID, which is one counter's, can say why it takes
// none.
type Tx struct {
	// ID, of 1 to 255 bytes of any kind, names the transaction under the System's
	// prefix: whoever repeats it within Keep, in whichever process, is answered the
	// first outcome, and nothing is applied again. "" is not remembered.
	ID string
	// Keep is for how long the outcome is remembered: at least a second; 0 is 24
	// hours.
	Keep time.Duration
	// Steps, 1 to 1,000, are carried out in order, each on what those before it left.
	// A key may occur more than once.
	Steps []Step
}

// Step is an operation of a transaction on one counter: Inc, Dec, Get, Set, Del,
// IncIf or SetIf.
type Step struct {
	Key Key
	Do  Message
}

// Outcome is what became of a transaction.
type Outcome struct {
	// Applied: every step was. Otherwise none was: a condition did not hold, a sum
	// left the int64 range, or a value was not an integer or could not be read.
	Applied bool
	// Replayed: the outcome is that of an earlier transaction with the ID.
	Replayed bool
	// Replies are those of the steps, as a PID would reply. If the transaction was not
	// applied, the last is that of the step that kept it from being, a Change with
	// Applied false or a Failure, and those before it tell what would have been
	// answered had there been no such step; the steps behind it have none.
	Replies []Reply
}

func (Tx) message() {}

const (
	maxSteps    = 1000
	maxID       = 255
	defaultKeep = 24 * time.Hour
	leastKeep   = time.Second
)

var (
	errTxAddressed = errors.New("distkit: a PID is one counter's, and a transaction is of several: call StrictCounter.Apply")
	errTxNested    = errors.New("distkit: a transaction cannot be a step of another: add its steps")
	errNoStep      = errors.New("distkit: the step does nothing: Do is nil")
	errNoID        = errors.New("distkit: a transaction without an ID is not remembered")
)

// Apply carries out a transaction, in one script call with nothing in between: all of
// its steps, or none, which is no error but an Outcome. Other calls see it whole or
// not at all.
//
// After ErrOutcomeUnknown the transaction is applied once or not at all. One with an
// ID can be repeated, by any process, until the outcome is known, and Outcome asks for
// it. The same steps are those with the same keys and operations in the same order
// (Inc by -5 is Dec by 5); others under the ID are ErrConflict.
//
// With WithShards all keys have to be on one shard (ErrCrossShard): give them a hash tag in
// common, as "{order 7}:paid" and "{order 7}:sent". The ID is then known to that shard; used
// for steps of another one it names another transaction.
//
// An outcome is kept in Redis, where it takes about as much memory as the replies
// have digits, and 200 bytes. A Redis that is full refuses transactions, but for those of
// nothing but Gets and (from 7.0) Dels; and while a cluster moves the counters' slot it
// refuses those with an ID. Both are ErrNotApplied. One that loses its data forgets what
// it has lost.
func (c *StrictCounter) Apply(ctx context.Context, tx Tx) (Outcome, error) {
	steps, err := c.check(ctx, &tx)
	if err != nil {
		return Outcome{}, err
	}
	if !c.probed() {
		return c.apply(ctx, tx, steps)
	}
	ctx, probing := c.system.begin(ctx, Call{Kind: c.kind, Operation: operation(verb.Apply, false), Size: len(steps)})
	out, err := c.apply(ctx, tx, steps)
	probing.end(err == nil && out.Applied, err)
	return out, err
}

func (c *StrictCounter) apply(ctx context.Context, tx Tx, steps []verb.Keyed) (Outcome, error) {
	switch {
	case tx.ID != "":
	case len(steps) == 1:
		return plain(steps, []verb.Result{c.space.Do(ctx, steps[0].Key, steps[0].Op)})
	case !slices.ContainsFunc(steps, changes):
		return plain(steps, c.space.DoAll(ctx, steps))
	}
	results, err := c.transactions.Apply(ctx, verb.Transaction(tx.ID, tx.Keep, steps))
	if err != nil {
		return Outcome{}, ofTx(tx.ID, err)
	}
	told := results[0]
	out := Outcome{told.Applied, told.Replayed, make([]Reply, told.N)}
	for i := range out.Replies {
		out.Replies[i] = encode(steps[i].Key, steps[i].Op, results[1+i])
	}
	return out, nil
}

// plain is the outcome of a transaction that is not remembered and is one operation, or
// nothing but reads: by themselves these are carried out whole as well, and faster; reads
// also by a Redis that is full, and for a user who may do nothing else.
func plain(steps []verb.Keyed, results []verb.Result) (Outcome, error) {
	out := Outcome{Applied: true}
	for i := range results {
		r, step := results[i], &steps[i]
		failed := errors.Is(r.Err, ErrOverflow) || errors.Is(r.Err, ErrNotInteger) || errors.Is(r.Err, ErrWrongType)
		if r.Err != nil && !failed {
			return Outcome{}, r.Err
		}
		out.Replies = append(out.Replies, encode(step.Key, step.Op, r))
		if failed || step.Op.Kind.Conditional() && !r.Applied {
			out.Applied = false
			break
		}
	}
	return out, nil
}

func changes(step verb.Keyed) bool { return !step.Op.Kind.Reads() }

// Outcome returns what became of the transaction with an ID; false if there was none,
// or its Keep is over. It is a read: a Redis that is full answers it, and one that
// permits nothing else.
//
// With WithShards it asks all shards: that there was none is known when all have answered.
//
// It comes after all that this System has begun. So after ErrOutcomeUnknown from it,
// false says that the transaction was not applied, or that Redis has lost it; to
// another System, which may ask too soon, it says nothing. A Failure tells the step,
// from 0, not its key, which Redis does not keep.
func (c *StrictCounter) Outcome(ctx context.Context, id string) (Outcome, bool, error) {
	if c == nil {
		return Outcome{}, false, notApplied(ErrClosed)
	}
	err := c.ready(ctx)
	if err == nil && id == "" {
		err = notApplied(errNoID)
	}
	if err == nil {
		err = checkID(id)
	}
	if err != nil {
		return Outcome{}, false, err
	}
	var probing *probing
	if c.probed() {
		ctx, probing = c.system.begin(ctx, Call{Kind: c.kind, Operation: operation(verb.Recall, false), Size: 1})
	}
	results, err := c.transactions.Recall(ctx, id)
	probing.end(true, err)
	if err != nil || !results[0].Replayed {
		return Outcome{}, false, ofTx(id, err)
	}
	out := Outcome{results[0].Applied, true, make([]Reply, len(results)-1)}
	for i, r := range results[1:] {
		out.Replies[i] = encode(fmt.Sprint("step ", i), verb.Op{Kind: r.Kind}, r)
	}
	return out, true, nil
}

// ofTx is an error of a transaction, which names it where it has a name.
func ofTx(id string, err error) error {
	if id == "" {
		return err
	}
	return verb.Named(id, err)
}

// check looks at a transaction, fills in what is left to us, and returns its steps.
func (c *StrictCounter) check(ctx context.Context, tx *Tx) ([]verb.Keyed, error) {
	if c == nil {
		return nil, notApplied(ErrClosed)
	}
	if err := c.ready(ctx); err != nil {
		return nil, err
	}
	if err := checkID(tx.ID); err != nil {
		return nil, err
	}
	switch {
	case tx.Keep == 0:
		tx.Keep = defaultKeep
	case tx.Keep < leastKeep:
		return nil, notApplied(fmt.Errorf("distkit: a transaction cannot be kept for %v: Keep is at least %v, or 0 for %v", tx.Keep, leastKeep, defaultKeep))
	}
	if n := len(tx.Steps); n == 0 || n > maxSteps {
		return nil, notApplied(fmt.Errorf("distkit: a transaction has 1 to %d steps, this one %d", maxSteps, n))
	}
	steps := make([]verb.Keyed, len(tx.Steps))
	for i, step := range tx.Steps {
		o, err := step.check()
		if err != nil {
			return nil, fmt.Errorf("step %d: %w", i, err)
		}
		steps[i] = verb.Keyed{Key: step.Key.name, Op: o}
	}
	return steps, nil
}

func checkID(id string) error {
	if len(id) > maxID {
		return notApplied(fmt.Errorf("distkit: the ID of a transaction has up to %d bytes, this one %d", maxID, len(id)))
	}
	return nil
}

// check returns what a step does.
func (s Step) check() (verb.Op, error) {
	if err := s.Key.check(); err != nil {
		return verb.Op{}, err
	}
	switch s.Do.(type) {
	case nil:
		return verb.Op{}, notApplied(errNoStep)
	case Tx:
		return verb.Op{}, notApplied(errTxNested)
	}
	return decode(s.Do)
}
