// The simulation's transactions: some operations on additive keys, all or none, some
// with a last step that never holds. One with an ID is repeated, by any System, while
// its outcome is unknown; then its System is asked what became of it.
package faults_test

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/distkit/distkit-go"
)

// simTx is a transaction and what its caller knows of it.
type simTx struct {
	tx      distkit.Tx
	ops     []*simOp // of its steps, but for the one that never holds
	fails   bool
	values  []int64
	asked   map[int]bool // which Systems
	unknown error        // what one of them said, if it was none
}

// transact carries out a transaction.
func (w *simWorker) transact() {
	x := w.newTx()
	if len(x.ops) == 0 {
		return
	}
	err := w.attempt(x, w.system)
	for range w.rng.IntN(3) {
		if x.tx.ID == "" || err == nil || w.sim.over.Load() {
			break
		}
		time.Sleep(time.Duration(w.rng.Int64N(int64(time.Second))))
		err = w.attempt(x, w.rng.IntN(len(w.sim.systems)))
	}
	if x.tx.ID != "" && err == nil && w.rng.IntN(4) == 0 {
		w.sameAgain(x)
		w.othersAgain(x)
	}
	if err != nil && x.unknown != nil { // an earlier attempt may have been carried out
		if err = x.unknown; x.tx.ID != "" && w.recall(x) {
			err = fmt.Errorf("%w: there is no outcome", distkit.ErrNotApplied)
			if x.values != nil {
				err = nil
			}
		}
	}
	if err == nil && x.fails {
		err = distkit.ErrNotApplied
	}
	for i, op := range x.ops {
		value := int64(0)
		if err == nil {
			value = x.values[i]
		}
		w.sim.history.end(op, value, err)
	}
}

func (w *simWorker) newTx() *simTx {
	h := w.sim.history
	x := &simTx{fails: w.rng.IntN(4) == 0, asked: map[int]bool{}}
	for range 1 + w.rng.IntN(3) {
		name := w.key()
		if op := h.begin("Apply", 0, w.system, name, true); op != nil {
			x.ops = append(x.ops, op)
			x.tx.Steps = append(x.tx.Steps, distkit.Step{Key: distkit.MustKey(name), Do: distkit.Inc{N: op.delta()}})
		}
	}
	h.group(x.ops)
	if x.fails {
		x.tx.Steps = append(x.tx.Steps, distkit.Step{Key: distkit.MustKey(w.key()), Do: w.neverHolds()})
	}
	if w.rng.IntN(4) > 0 {
		w.txs++
		x.tx.ID, x.tx.Keep = fmt.Sprintf("tx%d-%d", w.number, w.txs), 30*24*time.Hour
	}
	return x
}

// neverHolds is a step that keeps a transaction from being applied, as no counter here
// is negative: with a number of its own, as all operations have.
func (w *simWorker) neverHolds() distkit.IncIf {
	return distkit.IncIf{If: distkit.Lt(0), N: -w.rng.Int64()}
}

// attempt has a System carry out a transaction. The error is nil if it told the outcome.
func (w *simWorker) attempt(x *simTx, system int) error {
	ctx, cancel := w.context()
	defer cancel()
	if w.rng.IntN(3) > 0 {
		ctx, cancel = context.WithTimeout(ctx, time.Duration(w.rng.Int64N(int64(300*time.Millisecond))))
		defer cancel()
	}
	x.asked[system] = true
	out, err := w.sim.systems[system].Strict().Apply(ctx, x.tx)
	if err != nil {
		if w.sim.history.outcome("Apply", err) == simUnknown {
			w.sim.did("transactions unknown")
			x.unknown = err
		}
		return err
	}
	w.sim.did("transactions")
	if out.Replayed {
		w.sim.did("transactions replayed")
		if x.unknown == nil && x.values == nil {
			w.sim.broken("transaction %s was never carried out, and is replayed", x.tx.ID)
		}
	}
	w.told(x, out)
	return nil
}

// told takes an outcome: it is the only one.
func (w *simWorker) told(x *simTx, out distkit.Outcome) {
	if out.Applied == x.fails || len(out.Replies) != len(x.tx.Steps) {
		w.sim.broken("transaction %q, which fails: %v: %+v", x.tx.ID, x.fails, out)
		return
	}
	values := make([]int64, len(x.ops))
	for i := range values {
		values[i] = out.Replies[i].(distkit.Value).N
	}
	if x.values != nil && !w.sim.lossy && fmt.Sprint(values) != fmt.Sprint(x.values) {
		w.sim.broken("transaction %q had the values %d, and then %d", x.tx.ID, x.values, values)
	}
	if x.values == nil {
		x.values = values
	}
}

// sameAgain repeats a transaction whose outcome is known.
func (w *simWorker) sameAgain(x *simTx) {
	ctx, cancel := w.context()
	defer cancel()
	out, err := w.sim.systems[w.rng.IntN(len(w.sim.systems))].Strict().Apply(ctx, x.tx)
	switch {
	case err != nil:
	case !out.Replayed && !w.sim.lossy:
		w.sim.broken("transaction %q was carried out again: %+v", x.tx.ID, out)
	default:
		w.sim.did("transactions repeated")
		w.told(x, out)
	}
}

// othersAgain uses the ID for other steps.
func (w *simWorker) othersAgain(x *simTx) {
	ctx, cancel := w.context()
	defer cancel()
	other := distkit.Tx{ID: x.tx.ID, Keep: x.tx.Keep, Steps: []distkit.Step{{Key: x.tx.Steps[0].Key, Do: w.neverHolds()}, x.tx.Steps[0]}}
	switch out, err := w.sim.systems[w.system].Strict().Apply(ctx, other); {
	case errors.Is(err, distkit.ErrConflict):
		w.sim.did("transactions in conflict")
		w.sim.history.outcome("Apply", err)
	case err == nil && !w.sim.lossy:
		w.sim.broken("transaction %q had other steps: %+v", x.tx.ID, out)
	}
}

// recall asks the Systems that were asked what became of a transaction, and reports
// whether they know: either its values are known then, or it was not applied.
func (w *simWorker) recall(x *simTx) bool {
	for system := range x.asked {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		out, found, err := w.sim.systems[system].Strict().Outcome(ctx, x.tx.ID)
		cancel()
		switch {
		case err != nil:
			return false
		case found:
			w.sim.did("transactions recalled")
			w.told(x, out)
			return true
		}
	}
	if w.sim.lossy { // it may have been lost, and its counters come again
		return false
	}
	w.sim.did("transactions of no outcome")
	return true
}
