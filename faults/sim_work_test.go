// The simulation's callers: goroutines that count, read, flush and delete, each
// with calls drawn from a source of its own, under contexts that end early or
// never.
package faults_test

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/distkit/distkit-go"
)

// simWorker is one caller.
type simWorker struct {
	sim    *simCase
	rng    *rand.Rand
	number int
	system int
	txs    int            // transactions with an ID
	own    [2]simRegister // a key of each kind that no other caller touches
}

// simRegister is a key that is only assigned: what it may hold, what it may hold
// some time, and all that was ever assigned.
type simRegister struct {
	key  distkit.Key
	may  []int64
	late []int64
	ever []int64
}

func newSimWorker(sim *simCase, rng *rand.Rand, number int) *simWorker {
	w := &simWorker{sim: sim, rng: rng, number: number, system: rng.IntN(len(sim.systems))}
	for kind := range w.own {
		w.own[kind] = simRegister{key: distkit.MustKey(fmt.Sprintf("own%d", number)), may: []int64{0}, ever: []int64{0}}
	}
	return w
}

// work makes calls until the faults of the phase are over or the System is closed.
func (w *simWorker) work(calls int) {
	if w.sim.wide && w.number == 0 {
		w.addWide()
	}
	for range calls {
		if w.sim.over.Load() || w.sim.closed[w.system].Load() {
			return
		}
		w.call()
		if w.rng.IntN(2) == 0 {
			time.Sleep(time.Duration(w.rng.Int64N(int64(w.sim.pause))))
		}
	}
}

// context draws how long the caller waits.
func (w *simWorker) context() (context.Context, context.CancelFunc) {
	switch w.rng.IntN(10) {
	case 0, 1, 2, 3:
		return context.WithCancel(context.Background())
	case 4, 5, 6:
		return context.WithTimeout(context.Background(), time.Duration(w.rng.Int64N(int64(3*time.Second))))
	case 7, 8:
		return context.WithTimeout(context.Background(), time.Duration(w.rng.Int64N(int64(30*time.Millisecond))))
	default:
		ctx, cancel := context.WithCancel(context.Background())
		stop := time.AfterFunc(time.Duration(w.rng.Int64N(int64(time.Second))), cancel)
		return ctx, func() { stop.Stop(); cancel() }
	}
}

// call makes one call.
func (w *simWorker) call() {
	ctx, cancel := w.context()
	defer cancel()
	kind := w.rng.IntN(2)
	switch n := w.rng.IntN(100); {
	case n < 46:
		w.add(ctx, kind)
	case n < 55:
		w.addAll(ctx, kind)
	case n < 64:
		w.transact()
	case n < 72:
		w.get(ctx, kind)
	case n < 84:
		w.assign(ctx, kind)
	case n < 92:
		w.flush(ctx)
	case n < 97 && w.sim.deletes:
		w.del(ctx, kind)
	case n < 98 && w.sim.clears:
		w.clear(ctx, kind)
	}
}

func (w *simWorker) counter(kind int) distkit.Counter { return w.sim.counter(w.system, kind) }

func (w *simWorker) key() string { return simKeys[w.rng.IntN(len(simKeys))] }

// add adds to one key, by one of the ways there are.
func (w *simWorker) add(ctx context.Context, kind int) {
	h, c, name := w.sim.history, w.counter(kind), w.key()
	key := distkit.MustKey(name)
	verbs := []string{"Inc", "Inc", "Dec", "IncIf", "Request", "Send"}
	verb := verbs[w.rng.IntN(len(verbs))]
	op := h.begin(verb, kind, w.system, name, true)
	if op == nil {
		return
	}
	var value int64
	var err error
	switch verb {
	case "Inc":
		value, err = c.Inc(ctx, key, op.delta())
	case "Dec":
		value, err = c.Dec(ctx, key, -op.delta())
	case "IncIf":
		var change distkit.Change
		change, err = c.IncIf(ctx, key, distkit.Ge(0), op.delta())
		value = change.New
	case "Request":
		var reply distkit.Reply
		if reply, err = c.PID(key).Request(ctx, distkit.Inc{N: op.delta()}); err == nil {
			value = reply.(distkit.Value).N
		}
	default:
		w.send(op, kind, key)
		return
	}
	h.end(op, value, err)
}

// send adds to one key and waits for nothing.
func (w *simWorker) send(op *simOp, kind int, key distkit.Key) {
	h := w.sim.history
	if kind == 0 {
		w.counter(kind).PID(key).Send(distkit.Inc{N: op.delta()})
		h.accepted(op)
		return
	}
	if err := w.sim.systems[w.system].Lax().Add(key, op.delta()); err != nil {
		h.end(op, 0, err)
		return
	}
	h.accepted(op)
}

// addWide adds to more keys than one script call takes.
func (w *simWorker) addWide() {
	keys := 1001 + w.rng.IntN(1500)
	if w.sim.forgets() {
		keys /= 3 // which may all be told of by events, of which so many are kept
	}
	for i := range keys {
		name := fmt.Sprint("w", i)
		if op := w.sim.history.begin("Add", 1, w.system, name, true); op != nil {
			w.send(op, 1, distkit.MustKey(name))
		}
	}
}

// addAll adds to several keys in one call.
func (w *simWorker) addAll(ctx context.Context, kind int) {
	h := w.sim.history
	var ops []*simOp
	var updates []distkit.Update
	for range 1 + w.rng.IntN(4) {
		name := w.key()
		if op := h.begin("IncAll", kind, w.system, name, true); op != nil {
			ops = append(ops, op)
			updates = append(updates, distkit.Update{Key: distkit.MustKey(name), N: op.delta()})
		}
	}
	if kind == 0 && w.sim.shards == 1 {
		h.group(ops)
	}
	values, err := w.counter(kind).IncAll(ctx, updates...)
	var partly *distkit.BatchError
	for i, op := range ops {
		switch {
		case err == nil:
			h.end(op, values[i], nil)
		case !errors.As(err, &partly):
			h.end(op, 0, err)
		default:
			h.end(op, values[i], partly.Errs[i])
		}
	}
}

// get reads one key.
func (w *simWorker) get(ctx context.Context, kind int) {
	name := w.key()
	key := distkit.MustKey(name)
	if kind == 1 && w.rng.IntN(2) == 0 {
		op := w.sim.history.begin("View", kind, w.system, name, false)
		view, err := w.sim.systems[w.system].Lax().View(ctx, key)
		w.sim.history.end(op, view.N, err)
		return
	}
	op := w.sim.history.begin("Get", kind, w.system, name, false)
	value, err := w.counter(kind).Get(ctx, key)
	w.sim.history.end(op, value, err)
}

// assign sets the caller's own key, or reads what it has set.
func (w *simWorker) assign(ctx context.Context, kind int) {
	r, c := &w.own[kind], w.counter(kind)
	n := int64(w.rng.Uint64())
	r.ever = append(r.ever, n)
	var err error
	switch w.rng.IntN(3) {
	case 0:
		var got int64
		if got, err = c.Get(ctx, r.key); err == nil {
			w.holds(kind, "Get", got)
		}
		w.sim.history.outcome("Get", err)
		return
	case 1:
		_, err = c.SetIf(ctx, r.key, distkit.Ge(math.MinInt64), n)
	default:
		_, err = c.Set(ctx, r.key, n)
	}
	switch w.sim.history.outcome("Set", err) {
	case simApplied:
		r.may = []int64{n}
	case simUnknown:
		if !w.sim.gaveUp(err) && !w.sim.mayBeUnknown(kind, r.key.String(), n) {
			w.sim.broken("%v: nobody gave up, and it is unknown: %v", r.key, err)
		}
		r.may = append(r.may, n)
		if w.sim.bares.Load() { // a batch that went bare may be carried out after others that came later
			r.late = append(r.late, n)
		}
	}
}

// holds checks a value of the caller's own key. What it has once been seen to
// hold, it holds until the next assignment: none that came before may overtake. Of
// a lax assignment that was set aside the caller learns too late.
func (w *simWorker) holds(kind int, verb string, value int64) {
	r := &w.own[kind]
	switch {
	case w.sim.lossy || w.sim.clears || w.sim.empties():
	case slices.Contains(r.may, value) || slices.Contains(r.late, value):
		r.may = []int64{value}
	case !slices.Contains(r.ever, value), kind == 0 || !w.sim.forgets() && !w.sim.bares.Load():
		w.sim.broken("%s of %v found %d, of %d", verb, r.key, value, r.may)
		fallthrough
	default:
		r.may = []int64{value}
	}
}

func (w *simWorker) flush(ctx context.Context) {
	h := w.sim.history
	from := h.now()
	err := w.sim.systems[w.system].Flush(ctx)
	switch {
	case err == nil && w.sim.grows():
		held := w.sim.held()
		h.flowed(simFlow{w.system, from, held[1]})
	case err != nil && ctx.Err() == nil && !errors.Is(err, distkit.ErrClosed) && !w.sim.shut.Load() && !w.sim.setAside(err):
		w.sim.broken("a Flush failed by itself: %v", err)
	}
}

func (w *simWorker) del(ctx context.Context, kind int) {
	name := w.key()
	op := w.sim.history.begin("Del", kind, w.system, name, false)
	value, err := w.counter(kind).Del(ctx, distkit.MustKey(name))
	w.sim.history.end(op, value, err)
}

func (w *simWorker) clear(ctx context.Context, kind int) {
	op := w.sim.history.begin("Clear", kind, w.system, "", false)
	err := w.counter(kind).Clear(ctx)
	w.sim.history.end(op, 0, err)
}
