// Every error that Redis knows, at every place where it can come: as the reply
// to a single call, to the first and to a middle one of a pipeline, whole and
// cut half way. Each time, the caller has to learn the right class, and the batch
// has to arrive once: go-redis must not send it again by itself. The library's
// own next attempt is half an hour or more away, so that who comes sooner is
// told apart.
package faults_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/distkit/distkit-go"
	"github.com/distkit/distkit-go/internal/chaos"
	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"
)

// matrixClass is what an error means.
type matrixClass int

const (
	matrixLater   matrixClass = iota // not applied; the writer tries again
	matrixRefused                    // not applied; the caller learns it at once
	matrixUnknown                    // may have been applied
	matrixText                       // not applied; the script's text is sent at once
	matrixElse                       // not applied; a cluster client asks another node at once
)

var matrixErrors = []struct {
	reply string
	class matrixClass
}{
	{fakeError(fakeNoScript), matrixText},
	{fakeError("MOVED 1 10.0.0.2:1"), matrixElse},
	{fakeError("ASK 1 10.0.0.2:1"), matrixElse},
	{fakeError("BUSY Redis is busy running a script. You can only call SCRIPT KILL or SHUTDOWN NOSAVE."), matrixLater},
	{fakeError("TRYAGAIN Multiple keys request during rehashing of slot"), matrixLater},
	{fakeError("LOADING Redis is loading the dataset in memory"), matrixLater},
	{fakeError("CLUSTERDOWN The cluster is down"), matrixLater},
	{fakeError("MASTERDOWN Link with MASTER is down and replica-serve-stale-data is set to 'no'."), matrixLater},
	{fakeError("READONLY You can't write against a read only replica."), matrixLater},
	{fakeError("-READONLY You can't write against a read only replica."), matrixLater}, // Redis 6, from inside a script
	{fakeError("NOREPLICAS Not enough good replicas to write."), matrixLater},
	{fakeError("ERR max number of clients reached"), matrixLater},
	{fakeError("CROSSSLOT Keys in request don't hash to the same slot"), matrixRefused},
	{fakeError("NOAUTH Authentication required."), matrixRefused},
	{fakeError("ERR Protocol error: unauthenticated multibulk length"), matrixRefused}, // NOAUTH, of many arguments
	{fakeError("WRONGPASS invalid username-password pair or user is disabled."), matrixRefused},
	{fakeError("NOPERM this user has no permissions to run the 'evalsha' command"), matrixRefused},
	{fakeError("OOM command not allowed when used memory > 'maxmemory'."), matrixRefused},
	{fakeError("-OOM command not allowed when used memory > 'maxmemory'."), matrixRefused},
	{fakeError("MISCONF Redis is configured to save RDB snapshots, but it's currently unable to persist to disk."), matrixRefused},
	{fakeError("ERR unknown command 'evalsha'"), matrixRefused},
	{fakeError("ERR Error running script (call to f_43fcf7): @user_script:56: something"), matrixUnknown},
	{fakeError("SOMETHING that no list of errors has"), matrixUnknown},
	{fakeError("BUSYGROUP is not BUSY"), matrixUnknown},
	{"?not a reply\r\n", matrixUnknown},
	{fakeBulk("Z 1"), matrixUnknown},
	{fakeNone, matrixUnknown},
}

var matrixPlaces = []struct {
	name string
	run  func(m *matrixCell)
	cut  bool
}{
	{"alone", (*matrixCell).alone, false},
	{"alone, cut", (*matrixCell).alone, true},
	{"first", (*matrixCell).first, false},
	{"first, cut", (*matrixCell).first, true},
	{"middle", (*matrixCell).middle, false},
	{"middle, cut", (*matrixCell).middle, true},
}

// TestErrorMatrix is not parallel, for the reason that TestSimulation is not.
func TestErrorMatrix(t *testing.T) {
	run := chaos.Begin(t, "error matrix")
	defer simEmptyPools()
	for _, cluster := range []bool{false, true} {
		for _, place := range matrixPlaces {
			for _, e := range matrixErrors {
				client := map[bool]string{false: "single", true: "cluster"}[cluster]
				name, _, _ := strings.Cut(e.reply, "\r")
				t.Run(fmt.Sprintf("%s/%s/%s", client, place.name, name), func(t *testing.T) {
					run.Cases(1)
					run.Faults(1)
					defer func() {
						if t.Failed() {
							run.Violation("%s", t.Name())
						}
					}()
					simBubble(t, func(t *testing.T) {
						m := newMatrixCell(t, cluster, e.reply, e.class, place.cut)
						defer m.end()
						place.run(m)
					})
				})
			}
		}
	}
}

// matrixCell is one cell: an error at a place, with a client.
type matrixCell struct {
	t       *testing.T
	cluster bool
	reply   string
	class   matrixClass
	cut     bool
	plan    *matrixPlan
	server  *fakeServer
	client  redis.UniversalClient
	system  *distkit.System
	single  bool // the batch is a command of its own, not one of a pipeline
}

func newMatrixCell(t *testing.T, cluster bool, reply string, class matrixClass, cut bool) *matrixCell {
	m := &matrixCell{t: t, cluster: cluster, reply: reply, class: class, cut: cut}
	m.plan = &matrixPlan{node: simNodes[0], answer: fakeFate{instead: reply, never: class != matrixUnknown}}
	switch {
	case cut: // whatever it was to be, what has come of it tells nothing
		m.class = matrixUnknown
		m.plan.answer.cut, m.plan.answer.part, m.plan.answer.finishes = true, 0.5, true
	case class == matrixElse && !cluster:
		m.class = matrixLater
	}
	m.server = newFakeServer(m.plan, simNodes...)
	if cluster {
		m.client = redis.NewClusterClient(m.server.clusterOptions(3 * time.Second))
	} else {
		m.client = redis.NewClient(m.server.clientOptions(3 * time.Second))
	}
	var err error
	m.system, err = distkit.NewSystem(m.client, distkit.WithPrefix(distkit.MustKey(simPrefix)),
		distkit.WithBackoff(time.Hour, time.Hour), distkit.WithLogger(slog.New(slog.DiscardHandler)))
	require.NoError(t, err)
	_, err = m.system.Strict().Inc(m.within(time.Second), distkit.MustKey("first"), 1) // now Redis knows the script
	require.NoError(t, err)
	return m
}

func (m *matrixCell) within(d time.Duration) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), d)
	m.t.Cleanup(cancel)
	return ctx
}

func (m *matrixCell) end() {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	_ = m.system.Shutdown(ctx)
	require.NoError(m.t, m.client.Close())
	time.Sleep(time.Minute) // go-redis's own goroutines end
}

// arm makes the batch number n from now on the one that meets the error.
func (m *matrixCell) arm(n int, alone bool) {
	m.server.mu.Lock()
	defer m.server.mu.Unlock()
	m.plan.armed, m.plan.victim = true, n
	m.single = alone
}

// arrived waits, but not so long that the library would try again, and checks
// how often each batch has come. It returns the one that met the error.
func (m *matrixCell) arrived(batches int) *matrixBatch {
	time.Sleep(20 * time.Minute)
	m.server.mu.Lock()
	defer m.server.mu.Unlock()
	require.Len(m.t, m.plan.batches, batches)
	for _, b := range m.plan.batches {
		want := []string{"evalsha to " + simNodes[0]}
		switch {
		case !b.victim:
		case m.class == matrixText:
			want = append(want, "eval to "+simNodes[0])
		case m.class == matrixElse:
			want = append(want, "evalsha to "+simNodes[1])
		case m.cluster && m.single && !m.cut && strings.Contains(m.reply, "READONLY"):
			// A ClusterClient takes READONLY for a redirection, and follows it
			// three times (MaxRedirects), whatever NoRetry says (go-redis
			// v9.23, osscluster.go process). Nothing was applied.
			want = append(want, want[0], want[0], want[0])
		}
		require.Equal(m.t, want, b.arrivals, "the error met: %v", b.victim)
	}
	return m.plan.batches[m.plan.victim]
}

// mend makes the server a good one.
func (m *matrixCell) mend() {
	m.server.mu.Lock()
	defer m.server.mu.Unlock()
	m.plan.answer = fakeFate{}
}

// requireAgain checks that a batch has come so often by now, always the same.
func (m *matrixCell) requireAgain(b *matrixBatch, arrivals int) {
	m.server.mu.Lock()
	defer m.server.mu.Unlock()
	require.Len(m.t, b.arrivals, arrivals)
	require.False(m.t, b.changed)
}

// held is a counter in the fake Redis.
func (m *matrixCell) held(kind int, key string) int64 {
	m.server.mu.Lock()
	defer m.server.mu.Unlock()
	return m.server.data.hashes[simKinds[kind]][key]
}

// alone sends one strict call, in a command of its own.
func (m *matrixCell) alone() {
	m.arm(0, true)
	began := time.Now()
	_, err := m.system.Strict().Inc(m.within(time.Second), distkit.MustKey("k"), 1)
	took := time.Since(began)
	b := m.arrived(1)
	in := int64(0)
	switch m.class {
	case matrixText, matrixElse:
		require.NoError(m.t, err)
		in = 1
	case matrixLater:
		require.ErrorIs(m.t, err, distkit.ErrNotApplied)
		require.ErrorIs(m.t, err, context.DeadlineExceeded)
	case matrixRefused:
		require.ErrorIs(m.t, err, distkit.ErrNotApplied)
		require.NotErrorIs(m.t, err, distkit.ErrOutcomeUnknown)
		require.Zero(m.t, took, "it fails at once")
	case matrixUnknown:
		require.ErrorIs(m.t, err, distkit.ErrOutcomeUnknown)
		require.NotErrorIs(m.t, err, distkit.ErrNotApplied)
		in = 1
	}
	// The server mends. What was not applied stays so, what is unknown comes again,
	// under its number, and counts once.
	came := len(b.arrivals)
	m.mend()
	time.Sleep(time.Hour)
	require.Equal(m.t, in, m.held(0, "k"))
	if m.class == matrixUnknown {
		m.requireAgain(b, came+1)
	}
	got, err := m.system.Strict().Inc(m.within(time.Second), distkit.MustKey("k"), 1)
	require.NoError(m.t, err)
	require.Equal(m.t, in+1, got)
}

// first flushes three calls, the first of which meets the error.
func (m *matrixCell) first() { m.pipeline(2*callKeys+1, 0) }

// middle flushes three calls, the second of which meets the error.
func (m *matrixCell) middle() { m.pipeline(2*callKeys+1, 1) }

// callKeys is how many keys a flush writes with one call.
const callKeys = 500

// pipeline flushes so many keys; the call number victim meets the error. A read
// is under way at the same time.
func (m *matrixCell) pipeline(keys, victim int) {
	lax := m.system.Lax()
	m.arm(victim, false)
	for i := range keys {
		require.NoError(m.t, lax.Add(distkit.MustKey(fmt.Sprint("k", i)), 1))
	}
	read := make(chan error, 1)
	go func() {
		_, err := lax.Get(m.within(3*time.Second), distkit.MustKey("unseen"))
		read <- err
	}()
	err := m.system.Flush(m.within(3 * time.Second))
	b := m.arrived((keys + callKeys - 1) / callKeys)
	ledgers := map[string]bool{}
	for _, b := range m.plan.batches {
		require.False(m.t, ledgers[b.ledger], "calls of one pipeline have a lane each")
		ledgers[b.ledger] = true
	}
	if readErr := <-read; readErr != nil { // it met a server that is away
		require.ErrorIs(m.t, readErr, distkit.ErrNotApplied)
	}
	if m.class == matrixText || m.class == matrixElse {
		require.NoError(m.t, err)
		require.EqualValues(m.t, 1, m.held(1, b.ops[1]))
		return
	}
	require.ErrorIs(m.t, err, context.DeadlineExceeded)
	m.checkLeft(b)
}

// checkLeft ends the System and checks what it says of the changes of each call.
func (m *matrixCell) checkLeft(victim *matrixBatch) {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	var unflushed *distkit.UnflushedError
	require.ErrorAs(m.t, m.system.Shutdown(ctx), &unflushed)
	listed := map[string]error{}
	for _, change := range unflushed.Changes {
		require.EqualValues(m.t, 1, change.N)
		listed[change.Key.String()] = change.Err
	}
	for _, b := range m.plan.batches {
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
