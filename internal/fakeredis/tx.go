package fakeredis

import (
	"maps"
	"time"

	"github.com/distkit/distkit-go/internal/verb"
)

// transact carries out the transaction whose head is operation number at: on a copy,
// which is what there is from then on if every step went well.
func (s *State) transact(q *request, at int, results []verb.Result) {
	clear(results)
	head, once := q.ops[at], q.onces[at]
	steps := q.ops[at+1:][:head.N]
	if held, found := s.Onces[once]; found && once != "" {
		switch {
		case held.Digest != head.Tx.Digest:
			results[0] = verb.Result{Err: verb.Conflicts}
		case held.Results == nil:
			results[0] = verb.Result{Err: verb.Unknown(verb.ErrMalformed)}
		default:
			copy(results, held.Results)
			results[0].Replayed = true
		}
		return
	}
	before := Hash{maps.Clone(s.Containers[q.container].Fields), s.Containers[q.container].Foreign}
	results[0].Applied = true
	var kinds []verb.Kind
	for i := range steps {
		r := s.do(q.container, &steps[i])
		results[1+i] = r
		results[0].N++
		kinds = append(kinds, steps[i].Kind)
		if r.Err != nil || steps[i].Kind.Conditional() && !r.Applied {
			results[0].Applied = false
			s.Containers[q.container] = before
			break
		}
	}
	if once != "" {
		kept := append([]verb.Result(nil), results[:1+results[0].N]...)
		s.Onces[once] = Once{head.Tx.Digest, kept, kinds, expiry(time.Duration(head.Tx.Keep) * time.Millisecond)}
	}
}

// recall appends what a once-key holds.
func (s *State) recall(once string, results []verb.Result) []verb.Result {
	held, found := s.Onces[once]
	switch {
	case !found:
		return append(results, verb.Result{})
	case held.Results == nil:
		return append(results, verb.Result{Err: verb.Unknown(verb.ErrMalformed)})
	}
	first := len(results)
	results = append(results, held.Results...)
	results[first].Replayed = true
	for i, kind := range held.Kinds {
		r := &results[first+1+i]
		r.Kind = verb.Get
		if kind.Conditional() && r.Err == nil {
			r.Kind = verb.IncIf
		}
	}
	return results
}
