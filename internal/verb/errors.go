package verb

import (
	"errors"
	"strconv"
	"strings"
)

// The sentinels, matched with errors.Is; the root package shows them to users.
var (
	ErrInvalidKey     = errors.New("distkit: invalid key")
	ErrClosed         = errors.New("distkit: system is closed")
	ErrNotApplied     = errors.New("distkit: not applied")
	ErrOutcomeUnknown = errors.New("distkit: outcome unknown")
	ErrPartlyApplied  = errors.New("distkit: partly applied")
	ErrLayout         = errors.New("distkit: the counters in Redis are on another number of shards")
	ErrCrossShard     = errors.New("distkit: the keys of a transaction are on several shards")
	ErrOverflow       = errors.New("distkit: result is outside the int64 range")
	ErrNotInteger     = errors.New("distkit: the stored value is not a decimal int64")
	ErrWrongType      = errors.New("distkit: the Redis key holds another type than a hash")
	ErrNotReplicated  = errors.New("distkit: applied, but not by enough replicas in time; see WithReplicas")
	ErrOverloaded     = errors.New("distkit: too much is pending; see WithMaxPending")
	ErrConflict       = errors.New("distkit: the ID was used for a transaction of other steps")
	ErrStale          = errors.New("distkit: the local view is older than the allowed staleness")
)

// prefix is what the text of an error of ours begins with, once.
const prefix = "distkit: "

// Bare is the text of an error without our prefix, for a text that has it already.
func Bare(err error) string { return strings.TrimPrefix(err.Error(), prefix) }

// outcome is an error of one of the two classes ErrNotApplied and
// ErrOutcomeUnknown, with its cause.
type outcome struct{ class, cause error }

func (e *outcome) Error() string   { return e.class.Error() + ": " + Bare(e.cause) }
func (e *outcome) Unwrap() []error { return []error{e.class, e.cause} }

// NotApplied says that the operation changed nothing and never will, because of cause.
func NotApplied(cause error) error { return &outcome{ErrNotApplied, cause} }

// Unknown says that the operation was on its way when cause ended the wait for
// it: it will have been applied once, or not at all.
func Unknown(cause error) error { return &outcome{ErrOutcomeUnknown, cause} }

// hinted adds the trouble that Redis gave to the cause of a failed wait, as
// text: the trouble is not why the operation failed, so errors.Is does not
// find it.
type hinted struct {
	error
	trouble error
}

func (e *hinted) Error() string {
	return e.error.Error() + " (last from Redis: " + Bare(e.trouble) + ")"
}
func (e *hinted) Unwrap() error { return e.error }

// named is an error of an operation on a key.
type named struct {
	key string
	error
}

func (e *named) Error() string { return prefix + strconv.Quote(e.key) + ": " + Bare(e.error) }
func (e *named) Unwrap() error { return e.error }

// Named returns the error of an operation, its text preceded by the operation's key;
// nil for nil.
func Named(key string, err error) error {
	if err == nil {
		return nil
	}
	return &named{key, err}
}

// Hint returns cause, its text followed by trouble where there is one.
func Hint(cause, trouble error) error {
	if trouble == nil {
		return cause
	}
	return &hinted{cause, trouble}
}
