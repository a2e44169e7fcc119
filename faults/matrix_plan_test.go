// The plan of the error matrix: one batch is answered with one error, however
// often it comes, until the server is mended; all arrivals are counted.
package faults_test

import (
	"fmt"
	"time"
)

// matrixPlan is the fakePlan of one cell of the matrix. The server's lock guards it.
type matrixPlan struct {
	node    string // the only node that answers with the error; the others are good
	answer  fakeFate
	victim  int // which of the batches that come first after arm gets it
	armed   bool
	batches []*matrixBatch
}

// matrixBatch is one number of one writer, and how it came.
type matrixBatch struct {
	fakeBatch
	arrivals []string // the command and the node, of each time
	changed  bool     // not always with the same operations
	victim   bool
}

func (*matrixPlan) dial(string) (time.Duration, int, error) { return 0, -1, nil }

func (p *matrixPlan) arrived(c *fakeConn, r fakeRequest) any {
	b, ok := r.batch()
	if !ok || !p.armed {
		return (*matrixBatch)(nil)
	}
	at := fmt.Sprintf("%s to %s", r.name(), c.addr)
	for _, known := range p.batches {
		if known.ledger == b.ledger && known.seq == b.seq {
			known.arrivals = append(known.arrivals, at)
			known.changed = known.changed || known.content() != b.content()
			return known
		}
	}
	batch := &matrixBatch{fakeBatch: b, arrivals: []string{at}, victim: len(p.batches) == p.victim}
	p.batches = append(p.batches, batch)
	return batch
}

func (p *matrixPlan) fate(c *fakeConn, r fakeRequest, ticket any) fakeFate {
	batch := ticket.(*matrixBatch)
	switch {
	case r.name() == "hmget":
		return fakeFate{}
	case batch == nil || !batch.victim || c.addr != p.node:
		return fakeFate{}
	case r.name() == "eval" && p.answer.instead == fakeError(fakeNoScript):
		return fakeFate{} // NOSCRIPT is EVALSHA's error alone
	default:
		return p.answer
	}
}

func (*matrixPlan) executed(fakeRequest, any, string)  {}
func (*matrixPlan) answering(fakeRequest, any, string) {}
func (*matrixPlan) failed(fakeRequest, any)            {}
