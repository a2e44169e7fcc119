// The ledger invariants, watched from inside the fake server while a case of
// the simulation runs. They are the protocol's, not the script's: what a
// client must keep to for the script to apply each batch once.
//
//  1. A lane is opened before its first batch leaves, and no copy of the opening is
//     about then, which would open it again if its ledger vanished. A batch of number
//     n+1 leaves only after number n was answered, never one below the last answered.
//     None leaves after a fence.
//  2. What a number and nonce stand for never changes. Nor does the nonce of a
//     number as long as the client cannot rule out that an earlier copy of it was
//     or will be applied.
//  3. A number is applied once, directly after the number before it, and no batch
//     twice in any history of Redis, whatever vanishes.
//  4. The newest copy of a writer's batch meets no gap, unless data was lost, and
//     no conflict.
//  5. An operation that may have been applied goes nowhere else, unless a fence has
//     ruled it out, or it is of a transaction with an ID. A bare batch goes once.
package faults_test

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// simWatch watches the writers. The server's lock guards it.
type simWatch struct {
	sim     *simCase
	lanes   map[string]*simLane  // by ledger
	ops     map[string]*simTried // by container, key and number
	reborn  map[string]bool      // operations that a fence had ruled out, which Redis then forgot
	unknown map[string]bool      // what may be told as of unknown outcome: by container and key, and with the number
	without int                  // how often a writer may have been told, in doubt, that its ledger is gone
}

// simLane is one writer's numbering, as the server has seen it.
type simLane struct {
	opened   bool
	openings int  // copies of the opening that may come yet, as far as the client can tell
	fenced   bool // a fence has come
	shut     bool // and its answer has gone out
	arrivals int64
	answered int64 // the highest number whose answer went out whole
	applied  int64 // the number that the ledger stands at
	tried    map[int64]*simTried
	gapped   simGapped // what the newest arrival was answered
	emptied  bool      // and that there were no counters
}

// simTried is a number of a lane, or a bare batch, and the copies of it.
type simTried struct {
	lane     *simLane // nil: bare
	number   int64
	identity string
	content  string
	copies   int
	doubts   int  // copies that may be or become applied, as far as the client can tell
	found    bool // the newest was answered that there were no counters, though nobody had emptied them
}

// simGapped is a gap that a writer was told of.
type simGapped int

const (
	simNoGapped  simGapped = iota
	simRolled              // the ledger is behind
	simGone                // there is none
	simGoneMaybe           // there is none, and a copy of the batch may be about that never came whole
	simGoneDoubt           // there is none, and a copy is about
)

// simArrival is one request, as it came.
type simArrival struct {
	request fakeRequest
	task    string // of a call of the script, "" of another request
	keys    int    // of it
	batch   fakeBatch
	lane    *simLane  // nil if the call has no ledger
	tried   *simTried // nil if it carries no batch
	number  int64     // which of the lane's arrivals it is
	reply   string    // the true one, once it has run
	cleared bool      // the answer that rules this copy out went out
}

func (w *simWatch) arrived(r fakeRequest) *simArrival {
	a := &simArrival{request: r}
	c, ok := r.call()
	if !ok {
		return a
	}
	a.task, a.keys = c.task(), len(c.keys)
	if a.task != "bare" {
		a.lane = w.lane(c.keys[len(c.keys)-1])
	}
	switch a.task {
	case "open":
		if a.lane.opened && !w.sim.repeats {
			w.sim.broken("%s is opened again", c.keys[0])
		}
		a.lane.openings++
		return a
	case "fence":
		a.lane.fenced = true
		return a
	}
	if a.batch, ok = r.batch(); !ok {
		w.sim.broken("a call that is none: %q", r)
		return &simArrival{request: r}
	}
	if a.lane != nil {
		a.lane = w.lane(a.batch.ledger)
	}
	a.batch.container, _, _ = strings.Cut(a.batch.container, "#") // keys are told apart by kind, shards by ledger
	w.batchArrived(a)
	return a
}

func (w *simWatch) lane(ledger string) *simLane {
	lane := w.lanes[ledger]
	if lane == nil {
		lane = &simLane{tried: map[int64]*simTried{}}
		w.lanes[ledger] = lane
	}
	return lane
}

func (w *simWatch) batchArrived(a *simArrival) {
	b, lane := a.batch, a.lane
	if lane == nil {
		a.tried = &simTried{identity: "bare", content: b.content()}
		w.sim.did("bare batches")
		w.tell(a.tried, b)
	} else {
		lane.arrivals++
		lane.gapped = simNoGapped
		a.number = lane.arrivals
		switch {
		case !lane.opened:
			w.sim.broken("%s: number %d came when the lane was not open", b.ledger, b.seq)
		case lane.openings > 0:
			w.sim.broken("%s: number %d came while a copy of the lane's opening was about", b.ledger, b.seq)
		case lane.fenced:
			w.sim.broken("%s: number %d came after a fence", b.ledger, b.seq)
		case b.seq != lane.answered && b.seq != lane.answered+1 || b.seq == 0:
			w.sim.broken("%s: number %d came when %d had been answered", b.ledger, b.seq, lane.answered)
		}
		a.tried = w.number(lane, b)
	}
	a.tried.copies++
	a.tried.doubts++
	a.tried.found = false
	once, _ := b.ids()
	for _, id := range once {
		was := w.ops[id]
		if was != nil && was != a.tried && was.doubts > 0 && (was.lane == nil || !was.lane.shut) {
			w.sim.broken("%s came as %q while it was in doubt as %q", id, b.identity(), was.identity)
		}
		w.ops[id] = a.tried
	}
}

// number is what a number of a lane stands for from now on.
func (w *simWatch) number(lane *simLane, b fakeBatch) *simTried {
	tried := lane.tried[b.seq]
	switch {
	case tried == nil:
	case tried.identity == b.identity():
		if tried.content != b.content() {
			w.sim.broken("%s changed from %q to %q", b.identity(), tried.content, b.content())
		}
		return tried
	case tried.doubts > 0:
		w.sim.broken("%s became %s while it was in doubt", tried.identity, b.identity())
	}
	tried = &simTried{lane: lane, number: b.seq, identity: b.identity(), content: b.content()}
	lane.tried[b.seq] = tried
	return tried
}

func (w *simWatch) executed(a *simArrival, reply string) {
	a.reply = reply
	if a.tried == nil {
		return
	}
	b, text := a.batch, simAnswer(reply)
	if text == "" {
		return
	}
	newest := a.lane != nil && a.number == a.lane.arrivals
	switch {
	case text[0] == 'R':
		w.sim.did("batches that came again")
	case text[0] == 'A' && a.lane == nil:
		w.sim.did("bare batches applied")
	case text[0] == 'A':
		w.sim.did("batches applied")
		if b.seq != a.lane.applied+1 {
			w.sim.broken("%s: number %d was applied after number %d", b.ledger, b.seq, a.lane.applied)
		}
		a.lane.applied = b.seq
	case text[0] == 'G' && strings.HasSuffix(text, " -"):
		w.sim.did("batches without a ledger")
		if newest && !w.sim.forgets() {
			w.sim.broken("%s: number %d, the newest to come, met no ledger: %q", b.ledger, b.seq, text)
		}
	case text[0] == 'G':
		w.sim.did("gaps")
		if newest && !w.sim.lossy {
			w.sim.broken("%s: number %d, the newest to come, met a gap: %q", b.ledger, b.seq, text)
		}
	case text[0] == 'X' && newest && !a.lane.fenced:
		w.sim.broken("%s: number %d, the newest to come, met a conflict", b.ledger, b.seq)
	}
}

func (w *simWatch) answering(a *simArrival, reply string) {
	text := ""
	if reply == a.reply {
		text = simAnswer(reply)
	}
	if simRefused(reply) {
		w.ruledOut(a)
		if reply == fakeError(simTryAgain) && a.tried != nil && a.lane != nil {
			w.sim.blind.Add(1)        // the batch will leave no mark
			if a.lane.answered == 0 { // it goes bare, and need not come whole
				w.sim.bares.Store(true)
				w.tell(a.tried, a.batch)
			}
		}
	}
	if text == "" {
		return
	}
	if a.tried != nil && len(text) > 1 && text[1] == '0' && w.sim.emptied(a.batch.container) {
		a.tried.found = true
	}
	switch {
	case a.task == "open":
		a.lane.opened = true
		w.ruledOut(a)
	case a.task == "fence":
		w.fenced(a, text)
	case a.tried == nil:
	case a.lane == nil: // the answer may lie unread behind one that never comes: it stays among the unknown
	case text[0] == 'A' || text[0] == 'R':
		a.lane.answered = max(a.lane.answered, a.batch.seq)
	case text[0] == 'G':
		w.ruledOut(a)
		w.gap(a, text)
	}
}

// ruledOut notes that this copy, the client learns, was not applied; or of an opening
// that it has come.
func (w *simWatch) ruledOut(a *simArrival) {
	switch {
	case a.cleared:
	case a.tried != nil:
		a.cleared = true
		a.tried.doubts--
	case a.task == "open":
		a.cleared = true
		a.lane.openings--
	}
}

// failed takes back what answering noted of an answer that did not come through.
func (w *simWatch) failed(a *simArrival) {
	if a.tried != nil {
		a.tried.found = false
	}
	switch {
	case !a.cleared:
	case a.tried != nil:
		a.tried.doubts++
	default:
		a.lane.openings++
	}
	a.cleared = false
}

// restored tells the watch that the ledgers are those of another time.
func (w *simWatch) restored(data *fakeData) {
	for name, lane := range w.lanes {
		lane.applied = 0
		if v := data.key(name); v != nil {
			number, _, _ := strings.Cut(v.text, " ")
			lane.applied, _ = strconv.ParseInt(number, 10, 64)
			if lane.shut && !strings.HasPrefix(v.text, fakeFence) {
				w.unfence(name, lane)
			}
		}
	}
}

// checkApplied checks that no batch was applied twice.
func (w *simWatch) checkApplied(data *fakeData) {
	for batch, times := range data.applied {
		if times > 1 {
			w.sim.broken("batch %s was applied %d times", batch, times)
		}
	}
}

// simAnswer is the text of the script's true answer, "" if it gave none.
func simAnswer(reply string) string {
	if head, text, found := strings.Cut(reply, "\r\n"); found && head[0] == '$' && reply != fakeNone {
		return text[:len(text)-2]
	}
	return ""
}

// simRefused reports whether a reply says that the request was not executed.
func simRefused(reply string) bool {
	if strings.HasPrefix(reply, "-NOTWRITTEN ") {
		return true
	}
	return slices.ContainsFunc(slices.Concat(simTransient, simRefusals, simRedirections, []string{fakeNoScript}),
		func(text string) bool { return reply == fakeError(text) })
}

// String shows an arrival in a trace.
func (a *simArrival) String() string {
	switch {
	case a.tried != nil:
		return fmt.Sprintf("%s %s: %s", a.request.name(), a.batch.identity(), a.batch.content())
	case a.task != "":
		return fmt.Sprintf("%s %s: %q", a.request.name(), a.task, a.request[3:])
	default:
		return strings.Join(a.request, " ")
	}
}
