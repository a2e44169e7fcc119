// What a case's callers did and what they were told, and how much of it the
// counters may differ from.
//
// Each operation on an additive key adds a power of four of its own, so that
// every value ever seen tells which operations it has in it, and how often.
package faults_test

import (
	"errors"
	"fmt"
	"sync"
	"sync/atomic"

	"github.com/distkit/distkit-go"
)

// simDigits is how many operations one key can tell apart.
const simDigits = 31

// simDigit is how often the operation with the number d is in the value v.
func simDigit(v int64, d int) int64 { return v >> (2 * d) & 3 }

type simOutcome int

const (
	simUnknown simOutcome = iota
	simApplied
	simNotApplied
)

var simOutcomes = [...]string{"unknown", "applied", "not applied"}

// simOp is one operation of the past. from and to are moments of the history's
// clock; what did not end is unknown, and ended at no moment.
type simOp struct {
	verb     string
	kind     int // 0 strict, 1 lax
	system   int
	key      string
	digit    int // the power of four that it added; -1: none
	group    int // which strict batch call it was part of; 0: none
	from, to int64
	outcome  simOutcome
	seen     bool // it was answered value
	value    int64
}

const simNever = 1 << 62

// simHistory is all operations of a case.
type simHistory struct {
	sim   *simCase
	clock atomic.Int64

	mu     sync.Mutex
	ops    []*simOp
	digits map[simKey]int // handed out
	groups int
	flows  []simFlow
	lost   int64 // when data was last lost
	events map[string]*simReports
}

// simReports is what events told of messages to a key that nobody waited for.
type simReports struct{ notApplied, unknown int }

type simKey struct {
	kind int
	key  string
}

// simFlow is what Redis held when a Flush said that everything was in.
type simFlow struct {
	system int
	from   int64
	held   map[string]int64
}

func (h *simHistory) now() int64 { return h.clock.Add(1) }

// begin notes that an operation starts. One that changes an additive key gets
// a number of its own; nil where the key has no more.
func (h *simHistory) begin(verb string, kind, system int, key string, changes bool) *simOp {
	h.mu.Lock()
	defer h.mu.Unlock()
	op := &simOp{verb: verb, kind: kind, system: system, key: key, digit: -1, from: h.now(), to: simNever}
	if changes {
		d := h.digits[simKey{kind, key}]
		if d == simDigits {
			return nil
		}
		h.digits[simKey{kind, key}]++
		op.digit = d
	}
	h.ops = append(h.ops, op)
	return op
}

// delta is what the operation adds.
func (o *simOp) delta() int64 { return 1 << (2 * o.digit) }

// end notes what a caller was told.
func (h *simHistory) end(op *simOp, value int64, err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	op.to = h.now()
	op.outcome = h.outcome(op.verb, err)
	if op.outcome == simUnknown && !h.sim.gaveUp(err) && !h.sim.opMayBeUnknown(op) {
		h.sim.broken("%v: nobody gave up, and it is unknown: %v", op, err)
	}
	if op.outcome == simApplied {
		op.value, op.seen = value, true
	}
}

// accepted notes that a message is under way of which nobody learns more.
func (h *simHistory) accepted(op *simOp) {
	h.mu.Lock()
	defer h.mu.Unlock()
	op.to = h.now()
	if op.kind == 1 { // lax: what was accepted counts; strict: Redis may still refuse it
		op.outcome = simApplied
	}
}

// group notes that operations are parts of one strict batch call.
func (h *simHistory) group(ops []*simOp) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.groups++
	for _, op := range ops {
		op.group = h.groups
	}
}

func (h *simHistory) flowed(flow simFlow) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.flows = append(h.flows, flow)
}

// lose notes that Redis has lost data: what began before is not promised.
func (h *simHistory) lose() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.lost = h.now()
}

// refused notes an event about a message that nobody waited for. Of unknown
// outcome it may be only where a Shutdown was given up, the client closed, or a ledger
// vanished.
func (h *simHistory) refused(e distkit.MessageRefused) {
	h.mu.Lock()
	defer h.mu.Unlock()
	told := h.events[e.Key.String()]
	if told == nil {
		told = &simReports{}
		h.events[e.Key.String()] = told
	}
	switch outcome := h.outcome("Send", e.Err); {
	case outcome == simNotApplied:
		told.notApplied++
	case outcome == simUnknown && (h.sim.abrupt || h.sim.shut.Load() || h.sim.keyMayBeUnknown(0, e.Key.String()) || h.sim.keyMayBeUnknown(1, e.Key.String())):
		told.unknown++
	default:
		h.sim.broken("event: %v", e)
	}
}

// outcome reads an error: it is exactly one of the two classes.
func (h *simHistory) outcome(verb string, err error) simOutcome {
	not, unknown := errors.Is(err, distkit.ErrNotApplied), errors.Is(err, distkit.ErrOutcomeUnknown)
	switch {
	case err == nil:
		return simApplied
	case not == unknown:
		h.sim.broken("%s: an error that is not of exactly one class: %v", verb, err)
		return simUnknown
	case not:
		return simNotApplied
	default:
		return simUnknown
	}
}

// check holds what callers saw and what Redis holds against each other.
func (h *simHistory) check(held [2]map[string]int64) {
	h.mu.Lock()
	defer h.mu.Unlock()
	byKey := map[simKey][]*simOp{}
	var clears [2][]*simOp
	for _, op := range h.ops {
		h.sim.did("calls " + simOutcomes[op.outcome])
		switch {
		case op.verb != "Clear":
			byKey[simKey{op.kind, op.key}] = append(byKey[simKey{op.kind, op.key}], op)
		case op.outcome != simNotApplied:
			clears[op.kind] = append(clears[op.kind], op)
		}
	}
	for k, ops := range byKey {
		for _, op := range ops {
			if op.seen {
				h.checkValue(op, ops)
			}
		}
		h.checkTotal(ops, clears[k.kind], held[k.kind][k.key])
	}
	if h.sim.grows() {
		for _, key := range simKeys {
			h.checkSends(key, byKey[simKey{0, key}], held[0][key])
		}
	}
	h.checkGroups(held[0])
	h.checkFlows()
}

// checkSends checks that of the messages that nobody waited for, exactly those
// are missing of which events have told. Only strict ones are here: what a lax
// counter accepts, it keeps.
func (h *simHistory) checkSends(key string, ops []*simOp, final int64) {
	missing, told := 0, simReports{}
	for _, op := range ops {
		if op.verb == "Send" && simDigit(final, op.digit) == 0 {
			missing++
		}
	}
	if e := h.events[key]; e != nil {
		told = *e
	}
	if missing < told.notApplied || missing > told.notApplied+told.unknown {
		h.sim.broken("%d messages to strict/%s are missing; events told of %d not applied and %d unknown", missing, key, told.notApplied, told.unknown)
	}
}

// checkValue checks the value that an operation was answered.
func (h *simHistory) checkValue(r *simOp, ops []*simOp) {
	ordered := h.sim.grows()
	for _, op := range ops {
		if op.digit < 0 {
			continue
		}
		n := simDigit(r.value, op.digit)
		switch earlier := op.to < r.from && (op.kind == 0 || op.system == r.system); {
		case n > 1:
			h.sim.broken("%v saw %v %d times", r, op, n)
		case n == 1 && (op.outcome == simNotApplied && !h.sim.reborn(op) || op.from > r.to):
			h.sim.broken("%v saw %v", r, op)
		case n == 0 && (op == r || ordered && earlier && op.outcome == simApplied && h.sim.unflushed(op) == simApplied):
			h.sim.broken("%v did not see %v", r, op)
		}
	}
}

// checkTotal checks that what is in Redis of a key, and what Dels took out, is
// each applied operation once, and of the unknown ones each once at most.
// After wipes, anything may be gone.
func (h *simHistory) checkTotal(ops, wipes []*simOp, final int64) {
	total := final
	for _, op := range ops {
		switch {
		case op.verb == "Del" && op.outcome == simUnknown:
			wipes = append(wipes[:len(wipes):len(wipes)], op)
		case op.verb == "Del" && op.seen:
			total += op.value
		}
	}
	for _, op := range ops {
		if op.digit < 0 {
			continue
		}
		n := simDigit(total, op.digit)
		switch wiped, unflushed := h.wiped(op, wipes, final), h.sim.unflushed(op); {
		case n > 1:
			h.sim.broken("%v is in %d times", op, n)
		case n == 1 && op.outcome == simNotApplied && !h.sim.reborn(op):
			h.sim.broken("%v is in", op)
		case n == 1 && unflushed == simNotApplied && op.outcome == simApplied:
			h.sim.broken("%v is in, and was listed as not written", op)
		case n == 0 && op.outcome == simApplied && !wiped && unflushed == simApplied && op.from > h.lost:
			h.sim.broken("%v is lost", op)
		}
	}
}

// wiped reports whether a Clear or a Del may have taken the operation, and
// checks that a Clear that came after it did.
func (h *simHistory) wiped(op *simOp, wipes []*simOp, final int64) (wiped bool) {
	for _, w := range wipes {
		if w.outcome == simUnknown || w.to > op.from {
			wiped = true
		}
		late := h.sim.bares.Load() && h.sim.unflushed(op) == simUnknown // it went bare, and may come after what came later
		if !late && w.outcome == simApplied && w.from > op.to && op.outcome == simApplied &&
			(op.kind == 0 || op.system == w.system) && simDigit(final, op.digit) != 0 {
			h.sim.broken("%v is in after %v", op, w)
		}
	}
	return wiped
}

// checkGroups checks that a strict batch call was applied as one.
func (h *simHistory) checkGroups(held map[string]int64) {
	in, out := map[int]*simOp{}, map[int]*simOp{}
	for _, op := range h.ops {
		if op.group == 0 {
			continue
		}
		if simDigit(held[op.key], op.digit) == 1 {
			in[op.group] = op
		} else {
			out[op.group] = op
		}
	}
	for group, op := range in {
		if other := out[group]; other != nil && !h.sim.deletes && !h.sim.clears {
			h.sim.broken("%v is in, %v of the same call is not", op, other)
		}
	}
}

// checkFlows checks that a Flush that succeeded had written what came before it.
func (h *simHistory) checkFlows() {
	for _, flow := range h.flows {
		for _, op := range h.ops {
			if op.kind == 1 && op.digit >= 0 && op.system == flow.system && op.to < flow.from &&
				op.outcome == simApplied && h.sim.unflushed(op) == simApplied && simDigit(flow.held[op.key], op.digit) == 0 {
				h.sim.broken("a Flush at %d left out %v", flow.from, op)
			}
		}
	}
}

// String is the operation as reports show it.
func (o *simOp) String() string {
	return fmt.Sprintf("%s %s/%s #%d (system %d, %d to %d, %s)", o.verb, [...]string{"strict", "lax"}[o.kind], o.key, o.digit, o.system, o.from, o.to, simOutcomes[o.outcome])
}
