// The plan of the error matrix: one call is answered with one error, however
// often it comes, until the server is mended; all arrivals are counted.
package faults_test

import (
	"crypto/sha1"
	"encoding/hex"
	"fmt"
	"strings"
	"time"

	"github.com/distkit/distkit-go/lua"
)

// matrixPlan is the fakePlan of one cell of the matrix. The server's lock guards it.
type matrixPlan struct {
	node   string // the only node that answers with the error; the others are good
	answer fakeFate
	victim int  // which of the batches, or openings, that come first after arm gets it
	open   bool // it is an opening
	armed  bool
	calls  []*matrixCall
}

// matrixCall is a batch, or the opening of a lane, and how it came.
type matrixCall struct {
	fakeBatch
	open     bool
	arrivals []string // the command and the node, of each time
	changed  bool     // not always with the same operations
	victim   bool
}

func (*matrixPlan) dial(string) (time.Duration, int, error) { return 0, -1, nil }

var matrixSHA = func() string {
	sum := sha1.Sum([]byte(lua.Apply))
	return hex.EncodeToString(sum[:])
}()

// matrixOverFull reports whether a call asks to be run in spite of full memory.
func matrixOverFull(r fakeRequest) bool {
	return r.name() == "evalsha" && r[1] != matrixSHA || r.name() == "eval" && strings.HasPrefix(r[1], fakeOverFull)
}

func (p *matrixPlan) arrived(c *fakeConn, r fakeRequest) any {
	call, ok := r.call()
	b, batch := r.batch()
	open := ok && call.task() == "open"
	if !p.armed || !batch && !open {
		return (*matrixCall)(nil)
	}
	at := r.name()
	if matrixOverFull(r) {
		at += " over full memory"
	}
	switch {
	case open:
		b = fakeBatch{ledger: call.keys[0]}
	case b.seq == 0:
		at += " bare"
	}
	at += " to " + c.addr
	number := 0
	for _, known := range p.calls {
		if known.open != open {
			continue
		}
		number++
		bare := batch && b.seq == 0 && known.content() == b.content()
		if bare || known.identity() == b.identity() {
			known.arrivals = append(known.arrivals, at)
			known.changed = known.changed || known.content() != b.content()
			return known
		}
	}
	m := &matrixCall{fakeBatch: b, open: open, arrivals: []string{at}, victim: number == p.victim && open == p.open}
	p.calls = append(p.calls, m)
	return m
}

func (p *matrixPlan) fate(c *fakeConn, r fakeRequest, ticket any) fakeFate {
	m := ticket.(*matrixCall)
	switch reply := p.answer.instead; {
	case m == nil || !m.victim || c.addr != p.node:
		return fakeFate{}
	case r.name() == "eval" && reply == fakeError(fakeNoScript):
		return fakeFate{} // NOSCRIPT is EVALSHA's error alone
	case strings.HasPrefix(reply, "-TRYAGAIN") && !m.open && strings.Contains(m.arrivals[len(m.arrivals)-1], " bare "):
		return fakeFate{} // of one key alone Redis always knows where it is
	case strings.Contains(reply, "OOM") && matrixOverFull(r):
		return fakeFate{}
	default:
		return p.answer
	}
}

func (*matrixPlan) executed(fakeRequest, any, string)  {}
func (*matrixPlan) answering(fakeRequest, any, string) {}
func (*matrixPlan) failed(fakeRequest, any)            {}

// the returns the calls of a sort, openings or batches, in the order in which they
// first came.
func (p *matrixPlan) the(open bool) (calls []*matrixCall) {
	for _, m := range p.calls {
		if m.open == open {
			calls = append(calls, m)
		}
	}
	return calls
}

// String shows a call in a failed test.
func (m *matrixCall) String() string {
	return fmt.Sprintf("%s, %.100q: %q", m.identity(), m.content(), m.arrivals)
}
