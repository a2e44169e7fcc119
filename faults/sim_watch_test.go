// The ledger invariants, watched from inside the fake server while a case of
// the simulation runs. They are the protocol's, not the script's: what a
// client must keep to for the script to apply each batch once.
//
//  1. A writer sends number n+1 only after number n was answered, and never a
//     number below the last one answered.
//  2. A number's content does not change as long as the client cannot rule out
//     that an earlier copy of it was or will be applied.
//  3. A number is applied once, directly after the number before it.
//  4. The newest copy of a writer's batch meets no gap, unless data was lost.
package faults_test

import "strings"

// simWatch watches the writers. The server's lock guards it.
type simWatch struct {
	sim   *simCase
	lanes map[string]*simLane // by ledger
}

// simLane is one writer's numbering, as the server has seen it.
type simLane struct {
	arrivals int64
	answered int64 // the highest number whose answer went out whole
	applied  int64 // the number that the ledger stands at
	content  map[int64]string
	doubts   map[int64]int // copies that may be or become applied, as far as the client can tell
	gapped   bool          // the newest arrival was answered with a gap
}

// simArrival is one request, as it came.
type simArrival struct {
	batch   fakeBatch
	lane    *simLane // nil if the request is no batch
	number  int64    // which of the lane's arrivals it is
	reply   string   // the script's, once it has run
	cleared bool     // its refusal went out: this copy is in doubt no longer
}

func (w *simWatch) arrived(r fakeRequest) *simArrival {
	b, ok := r.batch()
	if !ok {
		return &simArrival{}
	}
	lane := w.lanes[b.ledger]
	if lane == nil {
		lane = &simLane{content: map[int64]string{}, doubts: map[int64]int{}}
		w.lanes[b.ledger] = lane
	}
	lane.arrivals++
	lane.gapped = false
	if b.seq != lane.answered && b.seq != lane.answered+1 || b.seq == 0 {
		w.sim.broken("%s: number %d came when %d had been answered", b.ledger, b.seq, lane.answered)
	}
	if was := lane.content[b.seq]; lane.doubts[b.seq] > 0 && was != b.content() {
		w.sim.broken("%s: number %d changed from %q to %q while it was in doubt", b.ledger, b.seq, was, b.content())
	}
	lane.content[b.seq] = b.content()
	lane.doubts[b.seq]++
	return &simArrival{batch: b, lane: lane, number: lane.arrivals}
}

func (w *simWatch) executed(a *simArrival, reply string) {
	if a.lane == nil {
		return
	}
	b := a.batch
	a.reply = reply
	switch simStatus(reply) {
	case 'R':
		w.sim.did("batches that came again")
	case 'A':
		w.sim.did("batches applied")
		if b.seq != a.lane.applied+1 {
			w.sim.broken("%s: number %d was applied after number %d", b.ledger, b.seq, a.lane.applied)
		}
		a.lane.applied = b.seq
	case 'G':
		w.sim.did("gaps")
		if a.number == a.lane.arrivals && !w.sim.loses() {
			w.sim.broken("%s: number %d, the newest to come, met a gap: %q", b.ledger, b.seq, reply)
		}
	}
}

func (w *simWatch) answering(a *simArrival, reply string) {
	if a.lane == nil {
		return
	}
	status := simStatus(a.reply)
	switch {
	case simRefused(reply):
		a.cleared = true
		a.lane.doubts[a.batch.seq]--
	case reply != a.reply: // nonsense
	case status == 'A' || status == 'R':
		a.lane.answered = max(a.lane.answered, a.batch.seq)
	case status == 'G' && a.number == a.lane.arrivals:
		a.lane.gapped = true
	}
}

// failed takes back what answering noted of a refusal.
func (w *simWatch) failed(a *simArrival) {
	if a.cleared {
		a.lane.doubts[a.batch.seq]++
	}
}

// restored tells the watch that the ledgers are those of another time.
func (w *simWatch) restored(data *fakeData) {
	for name, lane := range w.lanes {
		lane.applied = data.ledgers[name].seq
	}
}

// gaps is how many writers were told of a gap and did not come back.
func (w *simWatch) gaps() int {
	n := 0
	for _, lane := range w.lanes {
		if lane.gapped {
			n++
		}
	}
	return n
}

// simStatus is the status letter of the batch script's true reply, 0 if it has
// none.
func simStatus(reply string) byte {
	if head, text, found := strings.Cut(reply, "\r\n"); found && head[0] == '$' {
		return text[0]
	}
	return 0
}

// simRefused reports whether a reply says that the request was not executed.
func simRefused(reply string) bool {
	for _, list := range [][]string{simTransient, simRefusals, simRedirections, {fakeNoScript}} {
		for _, text := range list {
			if reply == fakeError(text) {
				return true
			}
		}
	}
	return false
}
