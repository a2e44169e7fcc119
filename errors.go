package distkit

import (
	"errors"
	"fmt"
	"strings"

	"github.com/distkit/distkit-go/internal/verb"
)

// The errors of this package, matched with errors.Is. Every error of an
// operation matches exactly one of ErrNotApplied and ErrOutcomeUnknown, that of a
// batch call exactly one of these and ErrPartlyApplied (ErrNotReplicated aside). It matches its cause as well:
// one of the others, a context's error, or what Redis said.
var (
	// ErrInvalidKey: the text cannot be a Key, or the Key is the zero Key.
	ErrInvalidKey = verb.ErrInvalidKey
	// ErrClosed: the System was shut down, or never made by NewSystem.
	ErrClosed = verb.ErrClosed
	// ErrNotApplied: the operation changed nothing and never will. It is safe
	// to call again.
	ErrNotApplied = verb.ErrNotApplied
	// ErrOutcomeUnknown: the caller's wait ended while the operation was on its
	// way. It is applied once or not at all; as long as the process lives it is
	// retried until Redis answers. Calling again may count twice.
	ErrOutcomeUnknown = verb.ErrOutcomeUnknown
	// ErrPartlyApplied: some operations of a batch call were applied, and others
	// not. Calling again may count those twice: the *BatchError tells which. Of a
	// Clear: some shards were cleared, and others not.
	ErrPartlyApplied = verb.ErrPartlyApplied
	// ErrOverflow: the result would lie outside the int64 range.
	ErrOverflow = verb.ErrOverflow
	// ErrNotInteger: the stored value is not a decimal int64. Set repairs it.
	ErrNotInteger = verb.ErrNotInteger
	// ErrWrongType: the Redis key of the counters holds another type than a hash.
	ErrWrongType = verb.ErrWrongType
	// ErrNotReplicated: it was applied, and answered, but fewer replicas than
	// WithReplicas asks for have it; a failover may lose it. It matches none of the
	// classes: calling again would count twice.
	ErrNotReplicated = verb.ErrNotReplicated
	// ErrOverloaded: more is pending than WithMaxPending allows.
	ErrOverloaded = verb.ErrOverloaded
	// ErrConflict: the ID of a transaction was used for one of other steps.
	ErrConflict = verb.ErrConflict
	// ErrLayout: the counters in Redis are spread over another number of shards than
	// WithShards says, or are being moved by Reshard.
	ErrLayout = verb.ErrLayout
	// ErrCrossShard: the keys of a transaction are on several shards, see WithShards.
	ErrCrossShard = verb.ErrCrossShard
	// ErrStale: the local view of a lax counter is older than WithMaxStaleness allows.
	ErrStale = verb.ErrStale
)

func notApplied(cause error) error { return verb.NotApplied(cause) }

// BatchError is the error of a batch call some of whose operations failed; the
// others were carried out, and their results are valid. It matches
// ErrOutcomeUnknown if the outcome of any operation is unknown, else
// ErrPartlyApplied if any was applied, else ErrNotApplied, which alone says that
// the call may be made again; and every cause of every failure.
type BatchError struct {
	// Errs has an entry for each operation, in the order of the call: nil
	// where it succeeded.
	Errs []error

	applied bool // an operation has changed its counter, for good or not
}

// Error counts the failures and shows the first.
func (e *BatchError) Error() string {
	failed, first, at := 0, error(nil), 0
	for i, err := range e.Errs {
		if err != nil {
			if failed == 0 {
				first, at = err, i
			}
			failed++
		}
	}
	return fmt.Sprintf("%v: %d of %d operations of the batch failed, the first at index %d: %s", e.class(), failed, len(e.Errs), at, verb.Bare(first))
}

// Is reports whether target is the batch's class, or the cause of a failure.
func (e *BatchError) Is(target error) bool {
	switch target {
	case ErrOutcomeUnknown, ErrPartlyApplied, ErrNotApplied:
		return target == e.class()
	default:
		return e.any(target)
	}
}

// class is that of the three which the error matches.
func (e *BatchError) class() error {
	switch {
	case e.any(ErrOutcomeUnknown):
		return ErrOutcomeUnknown
	case e.any(ErrNotReplicated) && !e.any(ErrNotApplied):
		return ErrNotReplicated
	case e.applied:
		return ErrPartlyApplied
	default:
		return ErrNotApplied
	}
}

func (e *BatchError) any(target error) bool {
	for _, err := range e.Errs {
		if errors.Is(err, target) {
			return true
		}
	}
	return false
}

// As finds the first error in any failure's chain that target can hold.
func (e *BatchError) As(target any) bool {
	for _, err := range e.Errs {
		if err != nil && errors.As(err, target) {
			return true
		}
	}
	return false
}

// Unflushed is a change of a lax counter that is not, or not known to be, in Redis.
type Unflushed struct {
	Key Key
	// Window is that of the counter, as in ChangeRefused; "" if it is of none.
	Window string
	// N is the sum of the increments; with Assigned, the value to assign.
	N int64
	// Assigned tells a Set or SetIf from increments.
	Assigned bool
	// Err is why: it matches ErrNotApplied, or ErrOutcomeUnknown if the change
	// was on its way and may be in.
	Err error
}

// UnflushedError lists what Flush or Shutdown could not write.
type UnflushedError struct {
	Changes []Unflushed
	// Cause is the error of the context that ended the wait; nil if it did not.
	Cause error
}

// Error counts the changes and shows the first few.
func (e *UnflushedError) Error() string {
	if len(e.Changes) == 0 {
		return fmt.Sprintf("distkit: the wait ended before everything was written: %v", e.Cause)
	}
	var b strings.Builder
	fmt.Fprintf(&b, "distkit: %d lax changes were not written", len(e.Changes))
	if e.Cause != nil {
		fmt.Fprintf(&b, ": %v", e.Cause)
	}
	const shown = 3
	for i, c := range e.Changes[:min(shown, len(e.Changes))] {
		sep := ", "
		if i == 0 {
			sep = " ("
		}
		how := fmt.Sprintf("%+d", c.N)
		if c.Assigned {
			how = fmt.Sprintf("=%d", c.N)
		}
		fmt.Fprintf(&b, "%s%s %s: %s", sep, counterIn(c.Key, c.Window), how, verb.Bare(c.Err))
	}
	if more := len(e.Changes) - shown; more > 0 {
		fmt.Fprintf(&b, ", and %d more", more)
	}
	b.WriteByte(')')
	return b.String()
}

// Unwrap gives the context's error and the changes' errors to errors.Is.
func (e *UnflushedError) Unwrap() []error {
	errs := make([]error, 0, len(e.Changes)+1)
	if e.Cause != nil {
		errs = append(errs, e.Cause)
	}
	for _, c := range e.Changes {
		errs = append(errs, c.Err)
	}
	return errs
}
