package fakeredis

import (
	"cmp"
	"hash/fnv"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/distkit/distkit-go/internal/redisio"
	"github.com/distkit/distkit-go/internal/verb"
)

// What lua/apply.lua does, restated from its head.

// State is what a Redis holds.
type State struct {
	Containers map[string]Hash
	Ledgers    map[string]Ledger
	Onces      map[string]Once
	Marks      map[string]time.Time // when a container was last emptied, by its name
}

// Hash is a container. One without fields is not there, unless it is Foreign: of
// another type.
type Hash struct {
	Fields  map[string]string
	Foreign bool
}

// Once is what is kept of a transaction with an ID: the results of its head, and of
// the steps that answer. One that was broken off has none.
type Once struct {
	Digest  string
	Results []verb.Result
	Kinds   []verb.Kind // of the steps
	Expires time.Time   // zero: never
}

// Ledger is that of a lane. A lane just opened, at number 0, has had no batch; one
// that was broken off after its first write has not Ended.
type Ledger struct {
	Number  int64
	Nonce   uint64
	Ended   bool
	Before  bool // there was a container when its batch came
	Kept    bool
	Results []verb.Result
	Fenced  *Ledger   // where it stood when it was fenced
	Expires time.Time // zero: never
}

const (
	fenceNumber     = 1<<53 - 1
	markLifetime    = 7 * 24 * time.Hour
	retiredLifetime = time.Minute
)

// Clone returns a copy.
func (s *State) Clone() State {
	containers := make(map[string]Hash, len(s.Containers))
	for name, h := range s.Containers {
		containers[name] = Hash{maps.Clone(h.Fields), h.Foreign}
	}
	return State{containers, maps.Clone(s.Ledgers), maps.Clone(s.Onces), maps.Clone(s.Marks)}
}

// carryOut does what a request asks; broken off, only its first write.
func (s *State) carryOut(q *request, full, brokenOff bool) redisio.Reply {
	s.expire()
	full = full && !q.overFull
	switch q.task {
	case redisio.Apply:
		return s.apply(q, full, brokenOff)
	case redisio.Bare:
		if full {
			return ends[NoMemory]
		}
		return s.operate(q, s.exists(q.container))
	case redisio.Open:
		if full {
			return ends[NoMemory]
		}
		if _, found := s.Ledgers[q.ledger]; !found {
			s.Ledgers[q.ledger] = Ledger{Nonce: q.previous, Expires: expiry(q.lifetime)}
		}
		return redisio.Reply{Status: redisio.Opened}
	case redisio.Fence:
		return s.fence(q, full)
	case redisio.Read:
		results := make([]verb.Result, len(q.ops))
		for i := range q.ops {
			results[i] = s.do(q.container, &verb.Keyed{Key: q.ops[i].Key, Op: verb.Op{Kind: verb.Get}})
		}
		return redisio.Reply{Status: redisio.Done, Results: results}
	case redisio.Scan:
		return s.scan(q)
	case redisio.Recall:
		r := redisio.Reply{Status: redisio.Done, Results: make([]verb.Result, 0, len(q.ops))}
		for _, once := range q.onces {
			r.Results = s.recall(once, r.Results)
		}
		return r
	case redisio.Retire:
		if l, found := s.Ledgers[q.ledger]; found {
			l.Expires = expiry(retiredLifetime)
			s.Ledgers[q.ledger] = l
		}
	}
	return redisio.Reply{}
}

// scanCount is how many fields a step of a listing gives.
const scanCount = 250

// scan is a step of a listing. It goes through the fields in the order of their
// hashes, which are the cursors, so that each that stays is met once, whatever
// becomes of the others.
func (s *State) scan(q *request) redisio.Reply {
	h := s.Containers[q.container]
	if h.Foreign {
		return redisio.Reply{Class: redisio.Refused, Err: verb.ErrWrongType}
	}
	r := redisio.Reply{Status: redisio.Done}
	keys := slices.SortedFunc(maps.Keys(h.Fields), func(a, b string) int { return cmp.Compare(cursorOf(a), cursorOf(b)) })
	for _, key := range keys {
		switch at := cursorOf(key); {
		case at < q.cursor:
		case len(r.Fields) == scanCount:
			r.Next = at
			return r
		default:
			r.Fields = append(r.Fields, redisio.Field{Key: key, Result: verb.ParseField(h.Fields[key])})
		}
	}
	return r
}

func cursorOf(key string) uint64 {
	h := fnv.New64a()
	_, _ = h.Write([]byte(key)) // it never fails
	return h.Sum64()
}

func expiry(lifetime time.Duration) time.Time {
	if lifetime == 0 {
		return time.Time{}
	}
	return time.Now().Add(lifetime)
}

func (s *State) expire() {
	now := time.Now()
	for name, l := range s.Ledgers {
		if !l.Expires.IsZero() && !l.Expires.After(now) {
			delete(s.Ledgers, name)
		}
	}
	for name, o := range s.Onces {
		if !o.Expires.IsZero() && !o.Expires.After(now) {
			delete(s.Onces, name)
		}
	}
	for name, emptied := range s.Marks {
		if now.Sub(emptied) >= markLifetime {
			delete(s.Marks, name)
		}
	}
}

func (s *State) exists(container string) bool {
	h := s.Containers[container]
	return h.Foreign || len(h.Fields) > 0
}

// apply is a numbered batch.
func (s *State) apply(q *request, full, brokenOff bool) redisio.Reply {
	r := redisio.Reply{Existed: s.exists(q.container)}
	held, found := s.Ledgers[q.ledger]
	switch {
	case !found:
		r.Status, r.Last = redisio.Gap, redisio.NoLedger
		return r
	case held.Number == q.seq && held.Nonce == q.nonce:
		r.Status, r.Replayed = redisio.Done, true
		held.answer(&r, q.ops)
		return r
	case held.Number < q.seq-1:
		r.Status, r.Last = redisio.Gap, held.Number
		return r
	case held.Number >= q.seq || held.Nonce != q.previous:
		r.Status = redisio.Conflict
		return r
	case full:
		return ends[NoMemory]
	}
	next := Ledger{Number: q.seq, Nonce: q.nonce, Expires: expiry(q.lifetime)}
	if s.Ledgers[q.ledger] = next; brokenOff {
		return r
	}
	r = s.operate(q, r.Existed)
	next.Ended, next.Before, next.Kept, next.Results = true, r.Before, r.Kept, r.Results
	s.Ledgers[q.ledger] = next
	return r
}

// answer is what the ledger's last batch has answered.
func (l *Ledger) answer(r *redisio.Reply, ops []verb.Keyed) {
	if r.Before, r.Kept, r.Results = l.Before, l.Kept, l.Results; !l.Ended {
		r.Before = true // as far as is known
		r.Results = verb.Fail(make([]verb.Result, len(ops)), verb.Unknown(verb.ErrMalformed))
	}
}

// operate carries out the operations.
func (s *State) operate(q *request, existed bool) redisio.Reply {
	told := toldOf(q.ops)
	r := redisio.Reply{Status: redisio.Done, Existed: existed, Before: existed, Kept: true, Results: make([]verb.Result, len(q.ops))}
	for i := 0; i < len(q.ops); i++ {
		if q.ops[i].Kind == verb.Apply {
			last := i + int(q.ops[i].N)
			s.transact(q, i, r.Results[i:last+1])
			i = last
		} else if r.Results[i] = s.do(q.container, &q.ops[i]); i >= told && r.Results[i].Err == nil {
			r.Results[i] = verb.Result{Silent: true}
		}
	}
	if r.Kept = s.exists(q.container); existed && !r.Kept && !q.unmarked && q.task == redisio.Apply {
		s.Marks[q.container] = time.Now()
	}
	return r
}

// toldOf is how many operations, from the first, answer a value: all but the silent
// increments at the end, where all are increments.
func toldOf(ops []verb.Keyed) int {
	told := 0
	for i := range ops {
		if ops[i].Kind != verb.Inc {
			return len(ops)
		}
		if !ops[i].Silent {
			told = i + 1
		}
	}
	return told
}

// fence lets no batch pass the lane any more.
func (s *State) fence(q *request, full bool) redisio.Reply {
	r := redisio.Reply{Status: redisio.Fenced}
	held, found := s.Ledgers[q.ledger]
	switch {
	case !found:
		r.Last = redisio.NoLedger
		return r
	case held.Fenced != nil:
		held = *held.Fenced
	case full:
		return ends[NoMemory]
	default:
		s.Ledgers[q.ledger] = Ledger{Number: fenceNumber, Fenced: &held, Expires: expiry(q.lifetime)}
	}
	r.Last, r.LastNonce = held.Number, held.Nonce
	if held.Number == q.seq && held.Nonce == q.nonce {
		held.answer(&r, q.ops)
	}
	return r
}

// do carries out one operation.
func (s *State) do(container string, o *verb.Keyed) verb.Result {
	h := s.Containers[container]
	text, found := h.Fields[o.Key]
	var old verb.Result
	if found {
		old = verb.ParseField(text)
	}
	old.Absent = !found && o.Kind.Reads()
	switch {
	case h.Foreign:
		return verb.Result{Err: verb.WrongType}
	case o.Kind == verb.Clear:
		delete(s.Containers, container)
		return verb.Result{}
	case old.Err != nil && o.Kind != verb.Set || o.Kind.Reads():
		return old
	case o.Kind == verb.Del:
		delete(h.Fields, o.Key)
		return old
	case o.Kind.Conditional() && !o.If.Holds(old.N, found):
		return verb.Result{N: old.N, Old: old.N}
	}
	n, ok := o.N, true
	switch o.Kind {
	case verb.Inc, verb.IncIf:
		n, ok = verb.Add(old.N, o.N)
	case verb.Dec:
		n, ok = verb.Sub(old.N, o.N)
	case verb.Set, verb.SetIf, verb.None, verb.Get, verb.Del, verb.Clear, verb.Apply, verb.Recall:
	}
	if !ok {
		return verb.Result{Err: verb.Overflows}
	}
	if h.Fields == nil {
		h.Fields = map[string]string{}
		s.Containers[container] = h
	}
	h.Fields[o.Key] = strconv.FormatInt(n, 10)
	if o.Kind.Conditional() {
		return verb.Result{N: n, Old: old.N, Applied: true}
	}
	return verb.Result{N: n}
}

// WrongOperations are operations that are not as the script has them, each wrong in
// one way: words from their number on.
var WrongOperations = [][]string{
	{}, {"x", "g", "a"}, {"1"}, {"2", "g", "a"}, {"1", "g", "a", "g", "b"}, {"1", "?", "a"}, {"1", "", "a"}, {"1", "g"},
	{"1", "i", "a"}, {"1", "i", "a", "1.5"}, {"1", "i", "a", "+1"}, {"1", "i", "a", ""}, {"1", "i", "a", "-0"},
	{"1", "s", "a", "9223372036854775808"}, {"1", "s", "a", "-9223372036854775809"}, {"1", "s", "a", "1e3"},
	{"1", "I", "a", "1", "?", "0"}, {"1", "I", "a", "1", "=", "x"}, {"1", "I", "a", "1", "="}, {"1", "S", "a", "x", "=", "1"},
	{"2", "s", "a", "1", "i", "b", "x"}, {"2", "s", "a", "1", "?", "b"}, {"2", "c", "d"}, {"1", "c", "a"},
	{"1", "+"}, {"1", "+", "x", "a", "1"}, {"1", "+", "2", "a", "1"}, {"1", "+", "-1", "a", "1"}, {"2", "+", "0", "a", "1"},
	{"2", "t", "0", "ab", "1000", "1"}, {"3", "t", "0", "ab", "1000", "2", "g", "a"}, {"2", "t", "0", "ab", "1000", "2", "g", "a"},
	{"2", "t", "0", "ab", "1000", "0", "g", "a"}, {"2", "t", "0", "ab", "0", "1", "g", "a"}, {"2", "t", "0", "ab", "-1", "1", "g", "a"},
	{"2", "t", "0", "ab", "1e3", "1", "g", "a"}, {"2", "t", "0", "ab", "1000000000000000", "1", "g", "a"}, {"2", "t", "0", "a b", "1000", "1", "g", "a"},
	{"2", "t", "0", "", "1000", "1", "g", "a"}, {"2", "t", "1", "ab", "1000", "1", "g", "a"}, {"2", "t", "3", "ab", "1000", "1", "g", "a"},
	{"2", "t", "4", "ab", "1000", "1", "g", "a"}, {"2", "t", "-4", "ab", "1000", "1", "g", "a"}, {"2", "t", "0", "ab", "1000", "1", "c"},
	{"3", "t", "0", "ab", "1000", "2", "t", "0", "ab", "1000", "1", "g", "a"}, {"3", "t", "0", "ab", "1000", "2", "s", "a", "1", "i", "b", "x"},
	append([]string{"1002", "t", "0", "ab", "1000", "1001"}, strings.Split(strings.Repeat("g a ", 1001), " ")[:2002]...),
	{"1", "+", "0", "a"}, {"1", "+", "0", "a", "1", "b"}, {"1", "+", "0", "a", "1", "b", "2"},
	{"1", "+", "1", "a", "3", "1"}, {"1", "+", "1", "a", "3", "2", "1,2"}, {"1", "+", "1", "a", "3", "0", "1,2"}, {"1", "+", "0", "a", "3", "1", "1,2"},
	{"1", "+", "1", "a", "3", "1", "3"}, {"1", "+", "1", "a", "3", "x", "1,2"}, {"1", "+", "1", "a", "3", "1.5", "1,2"},
}
