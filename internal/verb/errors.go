package verb

import "errors"

// The sentinels, matched with errors.Is; the root package shows them to users.
var (
	ErrInvalidKey     = errors.New("distkit: invalid key")
	ErrClosed         = errors.New("distkit: system is closed")
	ErrNotApplied     = errors.New("distkit: not applied")
	ErrOutcomeUnknown = errors.New("distkit: outcome unknown")
	ErrOverflow       = errors.New("distkit: result is outside the int64 range")
	ErrNotInteger     = errors.New("distkit: the stored value is not a decimal int64")
	ErrWrongType      = errors.New("distkit: the Redis key holds another type than a hash")
	ErrStale          = errors.New("distkit: the local view is older than the allowed staleness")
)

// outcome is an error of one of the two classes ErrNotApplied and
// ErrOutcomeUnknown, with its cause.
type outcome struct{ class, cause error }

func (e *outcome) Error() string   { return e.class.Error() + ": " + e.cause.Error() }
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
	return e.error.Error() + " (last from Redis: " + e.trouble.Error() + ")"
}
func (e *hinted) Unwrap() error { return e.error }

// Hint returns cause, its text followed by trouble where there is one.
func Hint(cause, trouble error) error {
	if trouble == nil {
		return cause
	}
	return &hinted{cause, trouble}
}
