package verb

import (
	"bytes"
	"fmt"
	"hash/maphash"
	"strconv"
	"strings"
)

// Where many callers increment a few counters, the increments of one counter in a
// batch travel as one: Redis carries out a command for each counter, not for each
// caller, and each caller's value follows from the last. Should their sum overflow, the
// script carries them out one by one, so each is told what it would have been told by
// itself. Increments of both signs do not travel together: in between, the counter
// could have left its range.

// mergeFrom is how many increments make it worth while to look; and to merge them, if
// there are half as many counters at most: with more, what Redis saves the lists cost.
const mergeFrom = 8

// Merged says which increments of a batch travel together. Nil: none. It belongs to
// the operations that it was made of.
type Merged struct {
	parts  []part // of each operation that answers a value
	groups []group
}

// part is an operation's place in its group.
type part struct {
	group int32
	next  int32 // the operation of the group that follows; 0: none
	sum   int64 // of the group to here, with it
}

// group are increments that travel as one.
type group struct {
	first, last int32 // operations
	sum         int64
	of          []byte // each of them, joined by ','; nil where there is one only
}

var mergeSeed = maphash.MakeSeed()

// Merge looks for increments of the same counters.
func Merge(ops []Keyed) *Merged {
	told, ok := increments(ops)
	if !ok || told < mergeFrom {
		return nil
	}
	m := &Merged{parts: make([]part, told), groups: make([]group, 0, told/2)}
	size := 32
	for size < 2*told {
		size *= 2
	}
	newest := make([]int32, size) // by the hash of its counter, that counter's last group, from 1
	for i := range ops[:told] {
		o := &ops[i]
		at := int(maphash.String(mergeSeed, o.Key)) & (size - 1)
		for newest[at] != 0 && ops[m.groups[newest[at]-1].first].Key != o.Key {
			at = (at + 1) & (size - 1)
		}
		if newest[at] != 0 && m.join(newest[at]-1, int32(i), o.N) {
			continue
		}
		if len(m.groups) == told/2 {
			return nil
		}
		m.groups = append(m.groups, group{first: int32(i), last: int32(i), sum: o.N})
		m.parts[i] = part{group: int32(len(m.groups) - 1), sum: o.N}
		newest[at] = int32(len(m.groups))
	}
	m.list(ops)
	return m
}

// join adds an increment to a group; false if it must not travel with it.
func (m *Merged) join(at, op int32, n int64) bool {
	g := &m.groups[at]
	sum, ok := Add(g.sum, n)
	if !ok || (g.sum < 0) != (n < 0) {
		return false
	}
	m.parts[op] = part{group: at, sum: sum}
	m.parts[g.last].next = op
	g.last, g.sum = op, sum
	return true
}

// list writes what each group of several is of.
func (m *Merged) list(ops []Keyed) {
	text := make([]byte, 0, 4*len(m.parts))
	for i := range m.groups {
		g := &m.groups[i]
		if g.first == g.last {
			continue
		}
		from := len(text)
		text = strconv.AppendInt(text, ops[g.first].N, 10)
		for op := m.parts[g.first].next; op != 0; op = m.parts[op].next {
			text = strconv.AppendInt(append(text, ','), ops[op].N, 10)
		}
		g.of = text[from:len(text):len(text)]
	}
}

// append appends the arguments of the increments: how many travel, and as pairs does;
// then, of each group of several, its place and what it is of.
func (m *Merged) append(args []any, ops []Keyed) []any {
	silent := ops[len(m.parts):]
	args = append(args, len(m.groups)+len(silent), pairs, len(m.groups))
	for i := range m.groups {
		args = append(args, &ops[m.groups[i].first].Key, &m.groups[i].sum)
	}
	for i := range silent {
		args = append(args, &silent[i].Key, &silent[i].N)
	}
	for i := range m.groups {
		if of := m.groups[i].of; of != nil {
			args = append(args, i+1, of)
		}
	}
	return args
}

// parse reads the results of the increments off the text, one for each group, or one for
// each of a group's that overflowed together, and appends one for each operation.
func (m *Merged) parse(text string, results []Result) (_ []Result, rest string, err error) {
	words := make([]string, len(m.groups))
	whole := make([]Result, len(m.groups))
	severally := make([]bool, len(m.groups))
	for i := range words {
		if words[i], text, err = cutResult(text, i, len(words)); err != nil {
			return nil, "", err
		}
		of := m.groups[i].of
		if severally[i] = of != nil && strings.Contains(words[i], ","); severally[i] {
			if strings.Count(words[i], ",") != bytes.Count(of, []byte(",")) {
				return nil, "", fmt.Errorf("%w: %.40q is not a result for each of %.40q", ErrMalformed, words[i], of)
			}
		} else if whole[i], err = parseResult(words[i], Inc); err != nil {
			return nil, "", err
		}
	}
	for _, p := range m.parts {
		r := whole[p.group]
		if severally[p.group] {
			var word string
			if word, words[p.group], _ = strings.Cut(words[p.group], ","); word == "" {
				return nil, "", fmt.Errorf("%w: a result is missing", ErrMalformed)
			}
			if r, err = parseResult(word, Inc); err != nil {
				return nil, "", err
			}
		} else if r.Err == nil {
			r.N -= m.groups[p.group].sum - p.sum
		}
		results = append(results, r)
	}
	return results, text, nil
}
