package faults_test

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"

	"github.com/distkit/distkit-go"
)

// told is what callers were told about one counter, to be held against what
// Redis has in the end. Every change is positive, and on most counters a large
// random number: a sum then tells which changes are in it, and the values that
// were returned have one order only.
type told struct {
	mu      sync.Mutex
	applied int64 // sum of the changes told to be applied
	answers []answer
	silent  int     // changes accepted without an answer
	unknown []int64 // changes whose outcome was told to be unknown
	refused []int64 // changes told to be not applied
}

// answer is a value that a caller was told: after its change, or of a Get,
// whose change is 0.
type answer struct{ value, change int64 }

// maxUnknown is how many unknown outcomes a counter may have before its callers
// become patient: their subsets have to be few for a wrong sum to be caught.
const maxUnknown = 10

func (t *told) impatient() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return len(t.unknown) < maxUnknown
}

func (t *told) sum() int64 {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.applied
}

// silently notes a change that was accepted, without a value.
func (t *told) silently(change int64) {
	t.mu.Lock()
	t.applied += change
	t.silent++
	t.mu.Unlock()
}

// of notes the outcome of one operation. The error it returns is a promise
// that the outcome itself breaks.
func (t *told) of(value, change int64, err error) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	notApplied, unknown := errors.Is(err, distkit.ErrNotApplied), errors.Is(err, distkit.ErrOutcomeUnknown)
	switch {
	case err == nil:
		t.applied += change
		t.answers = append(t.answers, answer{value, change})
		return nil
	case notApplied == unknown:
		return fmt.Errorf("neither not applied nor unknown, or both: %w", err)
	case unknown:
		t.unknown = append(t.unknown, change)
	default:
		t.refused = append(t.refused, change)
	}
	if !excused(err) {
		return fmt.Errorf("failed for another reason than its context: %w", err)
	}
	return nil
}

// tally counts outcomes, for the log.
type tally struct{ answered, silent, unknown, notApplied int }

func (y *tally) add(t *told) {
	t.mu.Lock()
	defer t.mu.Unlock()
	y.answered += len(t.answers)
	y.silent += t.silent
	y.unknown += len(t.unknown)
	y.notApplied += len(t.refused)
}

// check holds final against what was told.
func (t *told) check(final int64) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if rest := final - t.applied; !subsetSum(t.unknown, rest) {
		return fmt.Errorf("Redis has %d, callers were told of %d: the difference %d is no sum of the unknown %v; %s",
			final, t.applied, rest, t.unknown, t.suspect(rest))
	}
	return t.checkOrder(final)
}

// checkOrder looks for two answers that claim the same stretch of the count:
// each change fills the stretch below its value.
func (t *told) checkOrder(final int64) error {
	slices.SortFunc(t.answers, func(a, b answer) int {
		if c := cmp.Compare(a.value, b.value); c != 0 {
			return c
		}
		return cmp.Compare(b.change, a.change) // a Get of a value comes after the change to it
	})
	at := int64(0)
	for _, a := range t.answers {
		if a.value-a.change < at {
			return fmt.Errorf("a change by %d was answered %d, but %d had been answered too", a.change, a.value, at)
		}
		at = a.value
	}
	if final < at {
		return fmt.Errorf("%d was answered, Redis has %d", at, final)
	}
	return nil
}

// suspect says which single operation would explain the difference.
func (t *told) suspect(rest int64) string {
	for _, a := range t.answers {
		switch a.change {
		case 0:
		case -rest:
			return fmt.Sprintf("the change answered %d is missing", a.value)
		case rest:
			return fmt.Sprintf("the change answered %d is in twice", a.value)
		}
	}
	for _, change := range t.refused {
		if change == rest {
			return "one that was told to be not applied is in"
		}
	}
	for _, change := range t.unknown {
		if 2*change == rest {
			return "an unknown one is in twice"
		}
	}
	return "no single operation explains it"
}

// subsetSum reports whether some of the parts, or none, add up to sum. Of more
// parts than maxUnknown should leave, it only looks at the bounds.
func subsetSum(parts []int64, sum int64) bool {
	const most = 1 << 18
	sums, all := map[int64]struct{}{0: {}}, int64(0)
	for _, part := range parts {
		all += part
		if len(sums) < most {
			for _, s := range slices.Collect(maps.Keys(sums)) {
				sums[s+part] = struct{}{}
			}
		}
	}
	if len(sums) >= most {
		return 0 <= sum && sum <= all
	}
	_, found := sums[sum]
	return found
}
