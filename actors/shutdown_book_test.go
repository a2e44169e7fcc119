package actors

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/distkit/distkit-go/internal/verb"
	"github.com/stretchr/testify/require"
)

// What the callers of an engine were told, held against Redis and against what Shutdown
// has listed.
//
// Each change adds a bit of its own, so that a sum tells which changes are in it.

// ledgerOfAll is what callers of an engine were told.
type ledgerOfAll struct {
	*sim
	mu       sync.Mutex
	accepted map[string]int64 // lax, by key: what was taken
	applied  int64            // strict: what was told applied
	unknown  int64            // strict: unknown
	failed   int64            // strict: not applied
	assigned bool             // the assignment was taken
	del      *verb.Result     // what the Del was answered
}

const (
	adders   = 3 // workers that add to one lax key each, and all of them to another
	perAdder = 6
)

// work is what several callers do at the same time. It ends when all of them have
// been answered.
func (l *ledgerOfAll) work() {
	ctx := context.Background()
	var workers sync.WaitGroup
	lax := l.Lax()
	for w := range adders {
		workers.Go(func() {
			own := fmt.Sprint("own", w)
			for i := range perAdder {
				bit := int64(1) << i
				l.take(own, bit, lax.Add(own, bit) == nil)
				shared := bit << (w * perAdder)
				if i%2 == 0 {
					r := lax.Do(ctx, "shared", inc(shared))
					l.take("shared", shared, r.Err == nil)
				} else {
					l.take("shared", shared, lax.Add("shared", shared) == nil)
				}
				l.strict(int64(1)<<(w*perAdder+i), l.Strict().Do(ctx, fmt.Sprint("k", w), inc(int64(1)<<(w*perAdder+i))))
				time.Sleep(lag / 3)
			}
		})
	}
	workers.Go(func() {
		l.take("gone", 1, lax.Add("gone", 1) == nil)
		time.Sleep(lag + 3*latency/2) // which is on its way by now
		l.take("gone", 2, lax.Add("gone", 2) == nil)
		r := lax.Do(ctx, "gone", del)
		l.mu.Lock()
		l.del = &r
		l.mu.Unlock()
		l.take("gone", 4, lax.Add("gone", 4) == nil)
		taken := lax.Send("set", verb.Op{Kind: verb.Set, N: 9}) == nil
		l.mu.Lock()
		l.assigned = taken
		l.mu.Unlock()
	})
	workers.Go(func() { // a read is asked for again and again
		for range 4 {
			_, _ = lax.View(within1(ctx, lag), "seen")
			lax.Do(ctx, "seen", get)
			time.Sleep(3 * lag / 2)
		}
	})
	workers.Wait()
}

// within1 is a context that ends by itself.
func within1(ctx context.Context, d time.Duration) context.Context {
	ctx, cancel := context.WithTimeout(ctx, d)
	time.AfterFunc(d, cancel)
	return ctx
}

func (l *ledgerOfAll) take(key string, bit int64, taken bool) {
	if taken {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.accepted[key] |= bit
	}
}

func (l *ledgerOfAll) strict(bit int64, r verb.Result) {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case r.Err == nil:
		l.applied |= bit
	case errors.Is(r.Err, verb.ErrOutcomeUnknown):
		l.unknown |= bit
	default:
		l.failed |= bit
	}
}

const goneBefore = 1 << 20 // what the key of the Del has at first

func newLedgerOfAll(t *testing.T, change func(*Config)) *ledgerOfAll {
	l := &ledgerOfAll{sim: newSim(t, change), accepted: map[string]int64{}}
	l.redis.Set(laxCounters, "gone", goneBefore)
	l.redis.Set(laxCounters, "other", 1)
	return l
}

// check compares what was told with what Redis holds, now and for ever.
func (l *ledgerOfAll) check(t *testing.T, left []Unflushed) {
	t.Helper()
	not, unknown, sums, assigned := map[string]int64{}, map[string]int64{}, map[string]int64{}, 0
	for _, u := range left {
		switch {
		case u.Assign:
			assigned++
		case errors.Is(u.Err, verb.ErrOutcomeUnknown):
			unknown[u.Key] |= u.N
		default:
			require.ErrorIs(t, u.Err, verb.ErrNotApplied)
			not[u.Key] |= u.N
		}
		if !u.Assign {
			sums[u.Key] += u.N
		}
	}
	keys := slices.Collect(maps.Keys(l.accepted))
	for key := range sums {
		require.Contains(t, keys, key)
		require.Equal(t, not[key]|unknown[key], sums[key], "%s: each is listed once", key)
		require.Zero(t, sums[key]&^l.accepted[key], "%s: what is listed was taken", key)
	}
	for _, key := range keys {
		stored := l.value(laxCounters, key)
		if key == "gone" {
			l.checkDel(t, stored, not[key], unknown[key])
			continue
		}
		require.Zero(t, stored&^l.accepted[key], "%s: what Redis has was taken", key)
		require.Zero(t, stored&not[key], "%s: Redis has %b, listed as not applied %b", key, stored, not[key])
		require.Zero(t, l.accepted[key]&^(stored|not[key]|unknown[key]), "%s: taken %b, in Redis %b, listed %b", key, l.accepted[key], stored, sums[key])
	}
	for _, event := range l.told() {
		if m, ok := event.(messageRefused); ok && m.key == "set" {
			require.ErrorIs(t, m.err, verb.ErrNotApplied)
			l.assigned = false
		}
	}
	stored, found := l.redis.Get(laxCounters, "set")
	switch {
	case assigned == 0:
		require.Equal(t, l.assigned, found && stored == 9)
	default:
		require.Equal(t, 1, assigned)
		require.True(t, l.assigned)
	}
	held := int64(0)
	for w := range adders {
		held |= l.value(strictCounters, fmt.Sprint("k", w))
	}
	require.Zero(t, l.applied&^held, "told applied, and lost")
	require.Zero(t, l.failed&held, "told not applied, and in Redis")
	require.Zero(t, held&^(l.applied|l.unknown))
}

// checkDel checks the key that was deleted in between.
func (l *ledgerOfAll) checkDel(t *testing.T, stored, not, unknown int64) {
	t.Helper()
	require.NotNil(t, l.del)
	there := stored&goneBefore != 0
	if taken := l.accepted["gone"]&4 != 0; taken && stored&4 == 0 {
		require.NotZero(t, (not|unknown)&4, "what came after the Del is in or listed")
	}
	require.Zero(t, stored&not, "in Redis, and listed as not applied")
	switch {
	case l.del.Err == nil:
		require.False(t, there)
		require.EqualValues(t, goneBefore|l.accepted["gone"]&3, l.del.N)
		require.Zero(t, (not|unknown)&3, "the Del has it")
	case errors.Is(l.del.Err, verb.ErrOutcomeUnknown):
	default:
		require.ErrorIs(t, l.del.Err, verb.ErrNotApplied)
		require.True(t, there, "told not applied, and deleted")
		require.Equal(t, l.accepted["gone"]&3, (stored|not|unknown)&3, "what came before the Del is in or listed")
	}
}

// shutDownAt runs the work and has Shutdown strike once the stage is reached. What
// the stage holds is let go when Shutdown has begun, or when it is over.
func (l *ledgerOfAll) shutDownAt(t *testing.T, reached <-chan struct{}, begun, over func()) {
	t.Helper()
	worked := make(chan struct{})
	go func() { l.work(); close(worked) }()
	select {
	case <-reached:
	case <-worked: // the stage is later than the work
	}
	time.Sleep(2 * lag) // others go on
	synctest.Wait()
	down := begin(l.Shutdown, ended())
	begun()
	<-down.done
	if down.err != nil { // it may have found all done
		require.ErrorIs(t, down.err, context.Canceled)
	} else {
		require.Empty(t, down.left)
	}
	over()
	<-worked
	time.Sleep(time.Minute)
	l.redis.Arrive()
	l.check(t, down.left)
	require.Zero(t, running("github.com/distkit/distkit-go/actors/internal/strict.(*writer).sendAll"))
}
