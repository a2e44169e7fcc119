// What a System accepted before and during its Shutdown, what Shutdown said
// was left, and what Redis holds: the three have to add up.
package faults_test

import (
	"errors"
	"fmt"
	"slices"

	"github.com/distkit/distkit-go"
	"github.com/distkit/distkit-go/internal/chaos"
)

// The keys of a case. Lax ones are known or never seen before; one is assigned,
// one deleted while a change of it is pending.
var (
	shutdownKnown    = []distkit.Key{distkit.MustKey("known-0"), distkit.MustKey("known-1"), distkit.MustKey("known-2")}
	shutdownFresh    = []distkit.Key{distkit.MustKey("fresh-0"), distkit.MustKey("fresh-1")}
	shutdownAssigned = distkit.MustKey("assigned")
	shutdownDeleted  = distkit.MustKey("deleted")
	shutdownStrict   = []distkit.Key{distkit.MustKey("strict-0"), distkit.MustKey("strict-1")}
	shutdownPair     = []distkit.Key{distkit.MustKey("pair-0"), distkit.MustKey("pair-1")}
)

const (
	shutdownOld  = 5   // what the assigned and the deleted counter hold beforehand
	shutdownSet  = 100 // what is assigned
	shutdownMore = 3   // what is added afterwards, or before the deletion
)

// shutdownBook is what callers of one System were told.
type shutdownBook struct {
	run    *chaos.Run
	name   string
	lax    map[string]*serverAccount // of keys that are only added to
	strict map[string]*serverAccount
	pair   serverAccount

	assigned bool  // the assigned counter was: Set to shutdownSet, then shutdownMore added
	deleting bool  // Del was called on the deleted one
	deleted  int64 // what Del answered
	delErr   error
}

func newShutdownBook(run *chaos.Run, name string) *shutdownBook {
	b := &shutdownBook{run: run, name: name, lax: map[string]*serverAccount{}, strict: map[string]*serverAccount{}}
	for _, keys := range [][]distkit.Key{shutdownKnown, shutdownFresh} {
		for _, key := range keys {
			b.lax[key.String()] = &serverAccount{}
		}
	}
	for _, key := range shutdownStrict {
		b.strict[key.String()] = &serverAccount{}
	}
	return b
}

// left sorts what Shutdown reported by its key. Any other error than the one
// that is documented is a violation, and so is a change without a class.
func (b *shutdownBook) left(err error) map[string][]distkit.Unflushed {
	left := map[string][]distkit.Unflushed{}
	if err == nil {
		return left
	}
	var report *distkit.UnflushedError
	if !errors.As(err, &report) {
		b.run.Violation("%s: Shutdown returned %v", b.name, err)
		return left
	}
	for _, change := range report.Changes {
		key := change.Key.String()
		if errors.Is(change.Err, distkit.ErrNotApplied) == errors.Is(change.Err, distkit.ErrOutcomeUnknown) {
			b.run.Violation("%s: a change is of exactly one class: %+v", b.name, change)
		}
		left[key] = append(left[key], change)
	}
	return left
}

// check compares everything with Redis.
func (b *shutdownBook) check(err error, strict, lax map[string]int64) {
	left := b.left(err)
	for key, account := range b.lax {
		values := possible(0, account.applied.Load(), left[key])
		b.among("lax "+key, lax[key], values, account.unknown.Load(), left[key])
	}
	if b.assigned {
		values := possible(shutdownOld, shutdownSet+shutdownMore, left[shutdownAssigned.String()])
		b.among("lax assigned", lax[shutdownAssigned.String()], values, 0, left[shutdownAssigned.String()])
	}
	if b.deleting {
		b.checkDeleted(lax[shutdownDeleted.String()], left[shutdownDeleted.String()])
	}
	for key, account := range b.strict {
		account.check(b.run, b.name+": strict "+key, strict[key])
	}
	b.pair.check(b.run, b.name+": strict pair", strict[shutdownPair[0].String()])
	if strict[shutdownPair[0].String()] != strict[shutdownPair[1].String()] {
		b.run.Violation("%s: a batch call was torn", b.name)
	}
}

// possible lists the values that a counter may have: everything accepted but
// what was reported; of that, changes whose outcome is unknown may be in.
func possible(old, intended int64, left []distkit.Unflushed) []int64 {
	value := intended
	for _, change := range left {
		if change.Assigned {
			value = old
			break
		}
		value -= change.N
	}
	values := []int64{value}
	for _, change := range left {
		if !errors.Is(change.Err, distkit.ErrOutcomeUnknown) {
			continue
		}
		for _, v := range values {
			if change.Assigned {
				v = 0
			}
			values = append(values, v+change.N)
		}
	}
	return values
}

// among reports a value that is none of those, each of them or up to slack more.
func (b *shutdownBook) among(name string, stored int64, values []int64, slack int64, left []distkit.Unflushed) {
	for _, v := range values {
		if stored >= v && stored <= v+slack {
			return
		}
	}
	text := ""
	for _, change := range left {
		text += fmt.Sprintf(" [%+d assigned=%v %v]", change.N, change.Assigned, change.Err)
	}
	b.run.Violation("%s: %s: Redis holds %d; with what Shutdown reported it should be one of %v, or up to %d more:%s",
		b.name, name, stored, values, slack, text)
}

// checkDeleted: a Del that was carried out answers the total with what was
// pending, which is then nobody's any more; one that was not leaves both.
func (b *shutdownBook) checkDeleted(stored int64, left []distkit.Unflushed) {
	kept := slices.Contains(possible(0, shutdownOld+shutdownMore, left), stored)
	ok := false
	switch {
	case b.delErr == nil:
		ok = b.deleted == shutdownOld+shutdownMore && stored == 0 && len(left) == 0
	case errors.Is(b.delErr, distkit.ErrNotApplied):
		ok = kept
	case errors.Is(b.delErr, distkit.ErrOutcomeUnknown):
		ok = stored == 0 || kept
	}
	if !ok {
		b.run.Violation("%s: Del answered %d, %v; Redis holds %d, reported is %v", b.name, b.deleted, b.delErr, stored, left)
	}
}
