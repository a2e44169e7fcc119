package verb

import (
	"errors"
	"fmt"
)

// spread is the error of a call that went to several shards.
type spread struct {
	class error   // nil for one that changes nothing
	errs  []error // of each shard, nil where it succeeded
}

// Spread is the error of a change to several shards, by theirs: nil if there is none. It
// matches ErrOutcomeUnknown if the outcome is unknown anywhere, else ErrPartlyApplied if
// it was applied anywhere, else ErrNotApplied; and every cause.
func Spread(errs []error) error {
	e := &spread{ErrNotApplied, errs}
	switch applied := e.failed() < len(errs); {
	case e.any(ErrOutcomeUnknown):
		e.class = ErrOutcomeUnknown
	case applied:
		e.class = ErrPartlyApplied
	}
	return e.orNil()
}

// SpreadRead is the error of a question to several shards.
func SpreadRead(errs []error) error { return (&spread{nil, errs}).orNil() }

func (e *spread) orNil() error {
	switch {
	case e.failed() == 0:
		return nil
	case len(e.errs) == 1:
		return e.errs[0]
	}
	return e
}

func (e *spread) failed() (n int) {
	for _, err := range e.errs {
		if err != nil {
			n++
		}
	}
	return n
}

// Error counts the shards that failed, and shows the first.
func (e *spread) Error() string {
	class := "distkit"
	if e.class != nil {
		class = e.class.Error()
	}
	for shard, err := range e.errs {
		if err != nil {
			return fmt.Sprintf("%s: %d of %d shards failed, the first of them %d: %s", class, e.failed(), len(e.errs), shard, Bare(err))
		}
	}
	return class
}

// Is reports whether target is the class of the call, or the cause of a failure.
func (e *spread) Is(target error) bool {
	switch target {
	case ErrOutcomeUnknown, ErrPartlyApplied, ErrNotApplied:
		return target == e.class
	default:
		return e.any(target)
	}
}

func (e *spread) any(target error) bool {
	for _, err := range e.errs {
		if errors.Is(err, target) {
			return true
		}
	}
	return false
}

// As finds the first error in any failure's chain that target can hold.
func (e *spread) As(target any) bool {
	for _, err := range e.errs {
		if err != nil && errors.As(err, target) {
			return true
		}
	}
	return false
}
