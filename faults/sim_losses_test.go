// What the watch of a simulated case knows of losses: who was told that a ledger or a
// container is gone, and which operations may be told as of unknown outcome.
package faults_test

import (
	"strconv"
	"strings"
)

// ids name the operations of a batch that carry a number of their own: no two
// operations of a case are the same. Repeatable are the steps of transactions with an
// ID, which may come in other batches too.
func (b fakeBatch) ids() (once, repeatable []string) {
	steps := 0 // of such a transaction, yet to come
	for at := 0; at < len(b.ops); at += 1 + len(fakeOperands[b.ops[at]]) {
		switch {
		case b.ops[at] == "t":
			if b.ops[at+1] != "0" {
				steps, _ = strconv.Atoi(b.ops[at+4])
			}
			continue
		case len(fakeOperands[b.ops[at]]) < 2:
		case steps > 0:
			repeatable = append(repeatable, simID(b.container, b.ops[at+1], b.ops[at+2]))
		default:
			once = append(once, simID(b.container, b.ops[at+1], b.ops[at+2]))
		}
		steps = max(steps-1, 0)
	}
	return once, repeatable
}

// allIDs are both.
func (b fakeBatch) allIDs() []string {
	once, repeatable := b.ids()
	return append(once, repeatable...)
}

func simID(container, key, n string) string { return container + " " + key + " " + n }

// simUnknownKey is under what it is kept that an operation on a key without a number
// may be of unknown outcome; "" as key: a Clear may.
func simUnknownKey(container, key string) string { return container + " " + key }

// tell notes that a batch's operations may be told as of unknown outcome.
func (w *simWatch) tell(t *simTried, b fakeBatch) {
	for _, id := range b.allIDs() {
		w.unknown[id] = true
	}
	ops := strings.Fields(t.content)
	for at := 0; at < len(ops); at += 1 + len(fakeOperands[ops[at]]) {
		key := ""
		if fakeOperands[ops[at]] != "" {
			key = ops[at+1]
		}
		w.unknown[simUnknownKey(b.container, key)] = true
	}
}

// gap notes that a writer is told of a gap.
func (w *simWatch) gap(a *simArrival, text string) {
	if a.number != a.lane.arrivals {
		return
	}
	a.lane.emptied = text[1] == '0'
	switch {
	case !strings.HasSuffix(text, " -"):
		a.lane.gapped = simRolled
		return
	case a.tried.doubts > 0:
		a.lane.gapped = simGoneDoubt
	case a.tried.copies > 1 || w.sim.plan.dials || w.sim.plan.hungUp:
		a.lane.gapped = simGoneMaybe
	default:
		a.lane.gapped = simGone
		return
	}
	w.without++
	w.sim.did("writers without a ledger in doubt")
	w.tell(a.tried, a.batch)
}

// unfence notes that Redis fell back to a state before a fence: late copies of the
// batch that it was for pass again, though the batch went elsewhere, or its callers
// were told that it was not applied. No client can know; that takes a second
// failover, to a replica further behind, while packets of before the first are about.
func (w *simWatch) unfence(ledger string, lane *simLane) {
	for _, tried := range lane.tried {
		b := fakeBatch{container: simContainer(ledger), ops: strings.Fields(tried.content)}
		for _, id := range b.allIDs() {
			w.reborn[id] = true
		}
	}
}

// fenced notes what a writer is told of a lane that it has fenced.
func (w *simWatch) fenced(a *simArrival, text string) {
	w.sim.did("lanes fenced")
	a.lane.shut = true
	last := a.lane.answered + 1 // which is the batch that it was fenced for
	stood, _, _ := strings.Cut(strings.TrimPrefix(text, "F- "), " ")
	at, err := strconv.ParseInt(stood, 10, 64)
	if tried := a.lane.tried[last]; tried != nil && (err != nil || at >= last) {
		ledger, _, _ := strings.Cut(tried.identity, " ")
		w.tell(tried, fakeBatch{container: simContainer(ledger), ops: strings.Fields(tried.content)})
	}
}

// simContainer is the container that a ledger is of.
func simContainer(ledger string) string {
	for _, container := range simKinds {
		if strings.Contains(ledger, "{"+container+"}") || strings.Contains(ledger, "{"+container+"#") {
			return container
		}
	}
	return ""
}

// told is how many writers were told of each gap and did not come back; of those
// without a ledger, how many where there were counters.
func (w *simWatch) told() (gaps [simGoneDoubt + 1]int) {
	for _, lane := range w.lanes {
		if lane.gapped == simRolled || !lane.emptied {
			gaps[lane.gapped]++
		}
	}
	return gaps
}

// known reports whether a writer to a container knows that it is there: it has gone
// on to a second batch.
func (w *simWatch) known(container string) bool {
	for name, lane := range w.lanes {
		if simContainer(name) == container && lane.tried[2] != nil {
			return true
		}
	}
	return false
}

// found reports whether a writer to a container was told that its counters are gone.
func (w *simWatch) found(container string) bool {
	for name, lane := range w.lanes {
		for _, tried := range lane.tried {
			if tried.found && simContainer(name) == container {
				return true
			}
		}
	}
	return false
}
