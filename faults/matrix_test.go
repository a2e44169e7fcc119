// Every error that Redis knows, at every place where it can come: as the reply
// to a single call, on a lane that is known or new, to a transaction, to the opening of a lane, to a
// Del, to the first and to a middle one of a pipeline, whole and cut half way. Each
// time, the caller has to learn the right class, and the batch has to arrive once:
// go-redis must not send it again by itself. The library's own next attempt is half
// an hour or more away, so that who comes sooner is told apart.
package faults_test

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/distkit/distkit-go"
	"github.com/distkit/distkit-go/internal/chaos"
	"github.com/distkit/distkit-go/lua"
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
	matrixMoving                     // not applied; where no ledger is known, it goes without one at once
)

var matrixErrors = []struct {
	reply string
	class matrixClass
}{
	{fakeError(fakeNoScript), matrixText},
	{fakeError("MOVED 1 10.0.0.2:1"), matrixElse},
	{fakeError("ASK 1 10.0.0.2:1"), matrixElse},
	{fakeError("BUSY Redis is busy running a script. You can only call SCRIPT KILL or SHUTDOWN NOSAVE."), matrixLater},
	{fakeError("TRYAGAIN Multiple keys request during rehashing of slot"), matrixMoving},
	{fakeError("LOADING Redis is loading the dataset in memory"), matrixLater},
	{fakeError("CLUSTERDOWN The cluster is down"), matrixLater},
	{fakeError("MASTERDOWN Link with MASTER is down and replica-serve-stale-data is set to 'no'."), matrixLater},
	{fakeError("READONLY You can't write against a read only replica."), matrixLater},
	{fakeError("NOTWRITTEN NOREPLICAS Not enough good replicas to write."), matrixLater},
	{fakeError("NOTWRITTEN @user_script: 114: -NOREPLICAS Not enough good replicas to write."), matrixLater}, // Redis 6, from inside a script
	{fakeError("NOREPLICAS Not enough good replicas to write."), matrixLater},
	{fakeError("ERR max number of clients reached"), matrixLater},
	{fakeError("CROSSSLOT Keys in request don't hash to the same slot"), matrixRefused},
	{fakeError("NOAUTH Authentication required."), matrixRefused},
	{fakeError("ERR Protocol error: unauthenticated multibulk length"), matrixRefused}, // NOAUTH, of many arguments
	{fakeError("WRONGPASS invalid username-password pair or user is disabled."), matrixRefused},
	{fakeError("NOPERM this user has no permissions to run the 'evalsha' command"), matrixRefused},
	{fakeError("OOM command not allowed when used memory > 'maxmemory'."), matrixRefused},
	{fakeError("NOTWRITTEN OOM command not allowed when used memory > 'maxmemory'."), matrixRefused},
	{fakeError("NOTWRITTEN @user_script: 114: -OOM command not allowed when used memory > 'maxmemory'."), matrixRefused},
	{fakeError("NOTWRITTEN ERR The user executing the script can't run this command or subcommand"), matrixRefused},
	{fakeError("NOTWRITTEN WRONGTYPE Operation against a key holding the wrong kind of value"), matrixRefused},
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
	{"alone on a new lane", (*matrixCell).aloneOnNewLane, false},
	{"alone on a new lane, cut", (*matrixCell).aloneOnNewLane, true},
	{"transaction", (*matrixCell).transaction, false},
	{"transaction, cut", (*matrixCell).transaction, true},
	{"opening", (*matrixCell).opening, false},
	{"opening, cut", (*matrixCell).opening, true},
	{"Del", (*matrixCell).del, false},
	{"Del, cut", (*matrixCell).del, true},
	{"first", (*matrixCell).first, false},
	{"first, cut", (*matrixCell).first, true},
	{"middle", (*matrixCell).middle, false},
	{"middle, cut", (*matrixCell).middle, true},
	{"middle on new lanes", (*matrixCell).middleOnNewLanes, false},
	{"middle on new lanes, cut", (*matrixCell).middleOnNewLanes, true},
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
	require.NoError(t, m.client.Eval(m.within(time.Second), lua.Apply, []string{"none"}, "fence", 0, 0, 1000).Err()) // now Redis knows the script
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

// arm makes the batch, or opening, number n from now on the one that meets the error.
func (m *matrixCell) arm(n int, open, alone bool) {
	m.server.mu.Lock()
	defer m.server.mu.Unlock()
	m.plan.armed, m.plan.victim, m.plan.open = true, n, open
	m.single = alone
}

// arrived waits, but not so long that the library would try again, and checks
// how often each call has come. It returns the one that met the error.
func (m *matrixCell) arrived(batches, openings int) (victim *matrixCall) {
	time.Sleep(20 * time.Minute)
	m.server.mu.Lock()
	defer m.server.mu.Unlock()
	require.Len(m.t, m.plan.the(false), batches)
	require.Len(m.t, m.plan.the(true), openings)
	text := false // is sent from now on
	for _, call := range m.plan.calls {
		want := []string{"evalsha to " + simNodes[0]}
		if text {
			want = []string{"eval to " + simNodes[0]}
		}
		text = text || m.class == matrixText && call.victim && call.open
		if call.victim {
			victim = call
			want = append(want, m.further(call)...)
		}
		require.Equal(m.t, want, call.arrivals, "the error met: %v", call.victim)
	}
	return victim
}

// further is how the call that met the error comes again at once.
func (m *matrixCell) further(call *matrixCall) []string {
	again := "evalsha to " + simNodes[0]
	switch {
	case m.class == matrixText:
		return []string{"eval to " + simNodes[0]}
	case m.class == matrixElse:
		return []string{"evalsha to " + simNodes[1]}
	case m.class == matrixMoving && !call.open && call.seq == 1:
		return []string{again, "evalsha bare to " + simNodes[0]}
	case m.class == matrixMoving && !call.open:
		return []string{again} // without the mark, which it may be that is not there
	case m.class == matrixRefused && call.light() && strings.Contains(m.reply, "OOM"):
		return []string{"evalsha over full memory to " + simNodes[0], "eval over full memory to " + simNodes[0]}
	case m.cluster && m.single && !m.cut && strings.HasPrefix(m.reply, "-READONLY"):
		// A ClusterClient takes READONLY for a redirection, and follows it
		// three times (MaxRedirects), whatever NoRetry says (go-redis
		// v9.23, osscluster.go process). Nothing was applied.
		return []string{again, again, again}
	default:
		return nil
	}
}

// light reports whether the batch needs no memory.
func (m *matrixCall) light() bool { return len(m.ops) > 0 && m.ops[0] == "d" }

// mend makes the server a good one.
func (m *matrixCell) mend() {
	m.server.mu.Lock()
	defer m.server.mu.Unlock()
	m.plan.answer = fakeFate{}
}

// requireAgain checks that a batch has come so often by now, always the same.
func (m *matrixCell) requireAgain(b *matrixCall, arrivals int) {
	m.server.mu.Lock()
	defer m.server.mu.Unlock()
	require.Len(m.t, b.arrivals, arrivals)
	require.False(m.t, b.changed)
}

// held is a counter in the fake Redis.
func (m *matrixCell) held(kind int, key string) int64 {
	m.server.mu.Lock()
	defer m.server.mu.Unlock()
	return m.server.data.counter(simKinds[kind], key)
}
