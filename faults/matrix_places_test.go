// The places of the error matrix: what meets the error there, and what has to come of
// it.
package faults_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing/synctest"
	"time"

	"github.com/distkit/distkit-go"
	"github.com/stretchr/testify/require"
)

// alone sends one strict call, in a command of its own, on a lane that has had one.
func (m *matrixCell) alone() {
	_, err := m.system.Strict().Inc(m.within(time.Second), distkit.MustKey("first"), 1)
	require.NoError(m.t, err)
	m.arm(0, false, true)
	m.strict(0)
}

// aloneOnNewLane sends the first batch of a lane.
func (m *matrixCell) aloneOnNewLane() {
	m.arm(0, false, true)
	m.strict(1)
}

// strict calls once, after so many openings, and sees the server mend: what was not
// applied stays so, what is unknown comes again, under its number, and counts once.
func (m *matrixCell) strict(openings int) {
	began := time.Now()
	_, err := m.system.Strict().Inc(m.within(time.Second), distkit.MustKey("k"), 1)
	took := time.Since(began)
	b := m.arrived(1, openings)
	class := m.class
	if class == matrixMoving && openings == 0 {
		class = matrixLater
	}
	in := int64(0)
	switch class {
	case matrixText, matrixElse, matrixMoving:
		require.NoError(m.t, err)
		in = 1
	case matrixLater, matrixRefused:
		m.requireNotApplied(err, class, took)
	case matrixUnknown:
		require.ErrorIs(m.t, err, distkit.ErrOutcomeUnknown)
		require.NotErrorIs(m.t, err, distkit.ErrNotApplied)
		in = 1
	}
	came := len(b.arrivals)
	m.mend()
	time.Sleep(time.Hour)
	require.Equal(m.t, in, m.held(0, "k"))
	if class == matrixUnknown {
		m.requireAgain(b, came+1)
	}
	m.goesOn(in)
}

// transaction carries out a transaction with an ID. Repeated after the server has mended
// it counts once, and its caller learns whether it had before.
func (m *matrixCell) transaction() {
	strict := m.system.Strict()
	_, err := strict.Inc(m.within(time.Second), distkit.MustKey("first"), 1)
	require.NoError(m.t, err)
	tx := distkit.Tx{ID: "it", Keep: 24 * time.Hour, Steps: []distkit.Step{
		{Key: distkit.MustKey("k"), Do: distkit.Inc{N: 1}}, {Key: distkit.MustKey("first"), Do: distkit.Dec{N: 1}},
	}}
	m.arm(0, false, true)
	began := time.Now()
	_, err = strict.Apply(m.within(time.Second), tx)
	took := time.Since(began)
	b := m.arrived(1, 0)
	in := false
	switch m.class {
	case matrixText, matrixElse:
		require.NoError(m.t, err)
		in = true
	case matrixLater:
		m.requireNotApplied(err, matrixLater, took)
	case matrixRefused, matrixMoving: // or it would hold up others until the slot has moved
		m.requireNotApplied(err, matrixRefused, took)
	case matrixUnknown:
		require.ErrorIs(m.t, err, distkit.ErrOutcomeUnknown)
		require.NotErrorIs(m.t, err, distkit.ErrNotApplied)
		in = true
	}
	came := len(b.arrivals)
	m.mend()
	time.Sleep(time.Hour)
	if m.class == matrixUnknown {
		m.requireAgain(b, came+1)
	}
	_, found, err := strict.Outcome(m.within(time.Second), tx.ID)
	require.NoError(m.t, err)
	require.Equal(m.t, in, found)
	out, err := strict.Apply(m.within(time.Second), tx)
	require.NoError(m.t, err)
	require.Equal(m.t, distkit.Outcome{Applied: true, Replayed: in, Replies: []distkit.Reply{distkit.Value{N: 1}, distkit.Value{N: 0}}}, out)
	require.EqualValues(m.t, 1, m.held(0, "k"))
	require.Zero(m.t, m.held(0, "first"))
}

// requireNotApplied checks what a caller is told, and when, of a call that was not
// applied.
func (m *matrixCell) requireNotApplied(err error, class matrixClass, took time.Duration) {
	require.ErrorIs(m.t, err, distkit.ErrNotApplied)
	require.NotErrorIs(m.t, err, distkit.ErrOutcomeUnknown)
	if class == matrixRefused {
		require.Zero(m.t, took, "it fails at once")
	} else {
		require.ErrorIs(m.t, err, context.DeadlineExceeded)
	}
}

// goesOn counts once more on a counter that is to hold so much.
func (m *matrixCell) goesOn(held int64) {
	got, err := m.system.Strict().Inc(m.within(time.Second), distkit.MustKey("k"), 1)
	require.NoError(m.t, err)
	require.Equal(m.t, held+1, got)
}

// opening makes a strict call whose lane has to be opened. An error of that leaves
// the batch nowhere.
func (m *matrixCell) opening() {
	m.arm(0, true, true)
	began := time.Now()
	_, err := m.system.Strict().Inc(m.within(time.Second), distkit.MustKey("k"), 1)
	took := time.Since(began)
	in := int64(0)
	switch m.class {
	case matrixText, matrixElse:
		require.NoError(m.t, err)
		in = 1
		m.arrived(1, 1)
	case matrixRefused:
		m.requireNotApplied(err, matrixRefused, took)
		m.arrived(0, 1)
	case matrixLater, matrixMoving, matrixUnknown:
		m.requireNotApplied(err, matrixLater, took)
		m.arrived(0, 1)
	}
	m.mend()
	time.Sleep(time.Hour)
	require.Equal(m.t, in, m.held(0, "k"))
	m.goesOn(in)
}

// del deletes a lax counter, which goes at once, and needs no memory.
func (m *matrixCell) del() {
	_, err := m.system.Lax().Inc(m.within(time.Second), distkit.MustKey("first"), 1)
	require.NoError(m.t, err)
	require.NoError(m.t, m.system.Flush(m.within(time.Second)))
	m.arm(0, false, true)
	began := time.Now()
	_, err = m.system.Lax().Del(m.within(time.Second), distkit.MustKey("first"))
	took := time.Since(began)
	b := m.arrived(1, 0)
	left := int64(1)
	switch {
	case m.class == matrixText || m.class == matrixElse || m.class == matrixRefused && strings.Contains(m.reply, "OOM"):
		require.NoError(m.t, err)
		left = 0
	case m.class == matrixRefused:
		m.requireNotApplied(err, matrixRefused, took)
	default: // it is Redis's to carry out, sooner or later
		require.ErrorIs(m.t, err, distkit.ErrOutcomeUnknown)
		require.ErrorIs(m.t, err, context.DeadlineExceeded)
		if !m.plan.answer.never {
			left = 0
		}
	}
	require.Equal(m.t, left, m.held(1, "first"))
	came := len(b.arrivals)
	m.mend()
	time.Sleep(time.Hour)
	if errors.Is(err, distkit.ErrOutcomeUnknown) {
		left = 0
		m.requireAgain(b, came+1)
	}
	require.Equal(m.t, left, m.held(1, "first"))
	got, err := m.system.Lax().Inc(m.within(time.Second), distkit.MustKey("first"), 1)
	require.NoError(m.t, err)
	require.Equal(m.t, left+1, got)
}

// first flushes three calls, the first of which meets the error.
func (m *matrixCell) first() {
	m.flushKnown()
	m.pipeline(0, 0)
}

// middle flushes three calls, the second of which meets the error.
func (m *matrixCell) middle() {
	m.flushKnown()
	m.pipeline(1, 0)
}

// middleOnNewLanes is the same, with lanes that are opened for it.
func (m *matrixCell) middleOnNewLanes() { m.pipeline(1, matrixCalls) }

const (
	callKeys    = 500 // how many keys a flush writes with one call
	matrixCalls = 3
	matrixKeys  = (matrixCalls-1)*callKeys + 1
)

// flushKnown makes lanes for as many calls.
func (m *matrixCell) flushKnown() {
	for i := range matrixKeys {
		require.NoError(m.t, m.system.Lax().Add(distkit.MustKey(fmt.Sprint("known", i)), 1))
	}
	synctest.Wait() // or the flush would take those only that have got to their keys
	require.NoError(m.t, m.system.Flush(m.within(time.Second)))
	time.Sleep(time.Second) // no flush is due any more
}

// pipeline flushes so many keys that it takes several calls, after so many
// openings; the call number victim meets the error. A read is under way at the same
// time.
func (m *matrixCell) pipeline(victim, openings int) {
	lax := m.system.Lax()
	m.arm(victim, false, false)
	for i := range matrixKeys {
		require.NoError(m.t, lax.Add(distkit.MustKey(fmt.Sprint("k", i)), 1))
	}
	synctest.Wait() // as above
	read := make(chan error, 1)
	go func() {
		_, err := lax.Get(m.within(3*time.Second), distkit.MustKey("unseen"))
		read <- err
	}()
	err := m.system.Flush(m.within(3 * time.Second))
	b := m.arrived(matrixCalls, openings)
	ledgers := map[string]bool{}
	for _, b := range m.plan.the(false) {
		require.False(m.t, ledgers[b.ledger], "calls of one pipeline have a lane each: %v", m.plan.the(false))
		ledgers[b.ledger] = true
	}
	if readErr := <-read; readErr != nil { // it met a server that is away
		require.ErrorIs(m.t, readErr, distkit.ErrNotApplied)
	}
	if m.class == matrixText || m.class == matrixElse || m.class == matrixMoving && b.seq == 1 {
		require.NoError(m.t, err)
		require.EqualValues(m.t, 1, m.held(1, b.ops[1]))
		return
	}
	require.ErrorIs(m.t, err, context.DeadlineExceeded)
	m.checkLeft(b)
}

// checkLeft ends the System and checks what it says of the changes of each call.
func (m *matrixCell) checkLeft(victim *matrixCall) {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	var unflushed *distkit.UnflushedError
	require.ErrorAs(m.t, m.system.Shutdown(ctx), &unflushed)
	listed := map[string]error{}
	for _, change := range unflushed.Changes {
		require.EqualValues(m.t, 1, change.N)
		listed[change.Key.String()] = change.Err
	}
	for _, b := range m.plan.the(false) {
		for i := 1; i < len(b.ops); i += 3 {
			key := b.ops[i]
			err, left := listed[key]
			switch in := m.held(1, key); {
			case b != victim && !left:
				require.EqualValues(m.t, 1, in)
			case b != victim: // before or behind one that was cut, or no reply
				require.True(m.t, m.cut || m.reply[0] == '?')
				require.ErrorIs(m.t, err, distkit.ErrOutcomeUnknown)
			case m.class == matrixUnknown:
				require.ErrorIs(m.t, err, distkit.ErrOutcomeUnknown)
			default:
				require.ErrorIs(m.t, err, distkit.ErrNotApplied)
				require.False(m.t, errors.Is(err, distkit.ErrOutcomeUnknown))
				require.Zero(m.t, in)
			}
			delete(listed, key)
		}
	}
	require.Empty(m.t, listed)
}
