package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/distkit/distkit-go"
	"github.com/distkit/distkit-go/internal/redistest"
	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	redistest.Main(m, func() error { return goleak.Find() })
}

// fixture runs commands on a prefix of its own.
type fixture struct {
	t      *testing.T
	ctx    context.Context
	client *redis.Client
	url    string
	prefix string
}

func newFixture(t *testing.T) *fixture {
	t.Helper()
	client := redistest.Client(t)
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	t.Cleanup(cancel)
	return &fixture{t, ctx, client, redistest.URL(t), redistest.Prefix(t, client)}
}

// on is a fixture for a server of the test's own.
func on(t *testing.T, server *redistest.Server) *fixture {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	t.Cleanup(cancel)
	client := redistest.NewClient(t, &redis.Options{Addr: server.Addr})
	return &fixture{t, ctx, client, "redis://" + server.Addr, "app"}
}

// run runs a command and returns what it has written, and its error.
func (f *fixture) run(args ...string) (string, error) {
	var out bytes.Buffer
	cmd := root()
	cmd.SetOut(&out)
	cmd.SetErr(&out)
	cmd.SetArgs(append([]string{"--url", f.url, "--prefix", f.prefix}, args...))
	err := cmd.ExecuteContext(f.ctx)
	return out.String(), err
}

// says runs a command that succeeds and returns the words of what it has written.
func (f *fixture) says(args ...string) string {
	f.t.Helper()
	out, err := f.run(args...)
	require.NoError(f.t, err, out)
	return strings.Join(strings.Fields(out), " ")
}

// tells runs a command with -o json and reads what it has written.
func (f *fixture) tells(into any, args ...string) {
	f.t.Helper()
	out, err := f.run(append(args, "-o", "json")...)
	require.NoError(f.t, err, out)
	require.NoError(f.t, json.Unmarshal([]byte(out), into), out)
}

// system is a System of the prefix.
func (f *fixture) system(opts ...distkit.Option) *distkit.System {
	f.t.Helper()
	system, err := distkit.NewSystem(f.client, append([]distkit.Option{distkit.WithPrefix(distkit.MustKey(f.prefix))}, opts...)...)
	require.NoError(f.t, err)
	f.t.Cleanup(func() { require.NoError(f.t, system.Shutdown(context.WithoutCancel(f.ctx))) })
	return system
}

func TestCounters(t *testing.T) {
	t.Parallel()
	for _, kind := range []string{"strict", "lax"} {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			f := newFixture(t)
			require.Equal(t, "1", f.says("inc", "seats", "--kind", kind))
			require.Equal(t, "-4", f.says("inc", "--kind", kind, "seats", "--", "-5"))
			require.Equal(t, "9223372036854775807", f.says("set", "--kind", kind, "stock", "9223372036854775807"))
			require.Equal(t, "-4", f.client.HGet(f.ctx, f.prefix+":"+kind+"_counter", "seats").Val(), "it is in Redis when the command has ended")
			require.Equal(t, "1", f.says("inc", "--kind", kind, `"a\x00\xff"`))
			require.Equal(t, "KEY VALUE seats -4 nothing (none)", f.says("get", "--kind", kind, "seats", "nothing"))
			require.Equal(t, "0", f.says("get", "--kind", kind, "nothing"))
			require.Equal(t, "KEY VALUE stock 9223372036854775807", f.says("top", "-n", "1", "--kind", kind))
			require.Equal(t, "-4 seats", f.says("ls", "s??ts", "--kind", kind))

			var values []value
			f.tells(&values, "ls", "--kind", kind)
			require.ElementsMatch(t, []value{
				{distkit.MustKey("seats"), -4, true},
				{distkit.MustKey("stock"), 9223372036854775807, true},
				{distkit.MustKey("a\x00\xff"), 1, true},
			}, values)
			f.tells(&values, "ls", "--limit", "2", "--kind", kind)
			require.Len(t, values, 2)
			f.tells(&values, "ls", "none of these", "--kind", kind)
			require.Empty(t, values)
			f.tells(&values, "get", "nothing", "--kind", kind)
			require.Equal(t, []value{{distkit.MustKey("nothing"), 0, false}}, values)

			_, err := f.run("inc", "--kind", kind, "stock")
			require.Error(t, err, "it overflows")
		})
	}
}

func TestCounters_ofShards(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	system := f.system(distkit.WithShards(8))
	for i := range 50 {
		_, err := system.Strict().Inc(f.ctx, distkit.MustKey(fmt.Sprint("k", i)), int64(i))
		require.NoError(t, err)
	}
	require.Equal(t, "8", f.says("inc", "k7"), "the number of shards is read from Redis")
	var values []value
	f.tells(&values, "ls")
	require.Len(t, values, 50)

	require.NoError(t, f.client.Set(f.ctx, f.prefix+":layout", "moving 8 4 by somebody", 0).Err())
	_, err := f.run("get", "k7")
	require.ErrorContains(t, err, "run distkit reshard again")
	require.NoError(t, f.client.Set(f.ctx, f.prefix+":layout", "many", 0).Err())
	_, err = f.run("get", "k7")
	require.ErrorContains(t, err, "no number of shards (1 to 16384)")
	require.NoError(t, f.client.Set(f.ctx, f.prefix+":layout", "8", 0).Err())
}

func TestWatch(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.says("set", "seats", "7")
	require.Regexp(t, `^KEY VALUE A SECOND [0-9:]+ seats 7 \+0\.0 KEY VALUE A SECOND [0-9:]+ seats 7 \+0\.0$`,
		f.says("watch", "seats", "--count", "2", "--interval", "100ms"))
	var found reading
	f.tells(&found, "watch", "--count", "1")
	require.Equal(t, []watchedRate{{distkit.MustKey("seats"), 7, 0}}, found.Values)

	ctx, cancel := context.WithTimeout(f.ctx, 300*time.Millisecond)
	defer cancel()
	f.ctx = ctx
	_, err := f.run("watch", "seats")
	require.NoError(t, err, "it was interrupted, as it is meant to be")
}

func TestWindowsAndLedgers(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	system := f.system()
	daily, err := system.Strict().Per(distkit.Daily(time.UTC), 48*time.Hour)
	require.NoError(t, err)
	_, err = daily.Inc(f.ctx, distkit.MustKey("views"), 3)
	require.NoError(t, err)
	_, err = system.Strict().Inc(f.ctx, distkit.MustKey("seats"), 3)
	require.NoError(t, err)

	var ws []window
	f.tells(&ws, "windows")
	require.Len(t, ws, 1)
	require.Equal(t, "strict", ws[0].Kind)
	require.Equal(t, int64(1), ws[0].Counters)
	require.Positive(t, ws[0].Bytes)
	require.Greater(t, time.Until(*ws[0].Expires), 47*time.Hour)
	require.True(t, ws[0].Start.UTC().Equal(time.Now().UTC().Truncate(24*time.Hour)))
	require.Contains(t, f.says("windows"), "KIND PERIOD START COUNTERS SIZE EXPIRES IN strict day")

	var ls []ledger
	f.tells(&ls, "ledgers")
	require.Len(t, ls, 2, "of the window's writer and the other")
	for _, l := range ls {
		require.Equal(t, "alive", l.State)
		require.Equal(t, int64(1), l.Batch)
		require.NotNil(t, l.Idle)
		require.Less(t, *l.Idle, 60.0)
	}
	f.says("inc", "seats")
	f.tells(&ls, "ledgers")
	require.Len(t, ls, 3)
	require.Equal(t, "ended", ls[1].State, "the command's own: it was shut down")
	require.Nil(t, ls[1].Idle, "its lifetime tells nothing any more")
	require.Contains(t, f.says("ledgers"), "strict_counter "+ls[0].ID+" alive 1")
}

func TestOutcome(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	system := f.system()
	apply := func(id string, steps ...distkit.Step) {
		t.Helper()
		_, err := system.Strict().Apply(f.ctx, distkit.Tx{ID: id, Steps: steps})
		require.NoError(t, err)
	}
	a, b := distkit.MustKey("a"), distkit.MustKey("b")
	apply("order 1", distkit.Step{Key: a, Do: distkit.Inc{N: 5}}, distkit.Step{Key: b, Do: distkit.IncIf{If: distkit.Eq(0), N: 2}})
	apply("order 2", distkit.Step{Key: a, Do: distkit.IncIf{If: distkit.Gt(100), N: 1}})
	require.Equal(t, "applied step 0: 5 step 1: 2, was 0", f.says("outcome", "order 1"))
	require.Equal(t, "not applied: the last step shown has kept it from being step 0: its condition did not hold for 5", f.says("outcome", "order 2"))
	require.Equal(t, "no transaction with this ID is known", f.says("outcome", "order 3"))
	var told transaction
	f.tells(&told, "outcome", "order 1")
	require.True(t, told.Found && told.Applied)
	require.Equal(t, int64(2), *told.Replies[1].New)
}

func TestWrongUse_isExplained(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	for _, use := range []struct {
		args []string
		says string
	}{
		{[]string{"get", "a", "--kind", "loose"}, `--kind: "loose" is not one of strict, lax`},
		{[]string{"get", "a", "-o", "xml"}, `--output: "xml" is not one of table, json`},
		{[]string{"get", "a", "--timeout", "-1s"}, "--timeout: -1s is negative"},
		{[]string{"inc", "a", "-5"}, `a negative number comes behind "--"`},
		{[]string{"inc", "a", "five"}, `"five" is not a whole number`},
		{[]string{"inc", ""}, "1 to 255 bytes"},
		{[]string{"get"}, "requires at least 1 arg"},
		{[]string{"top", "-n", "0"}, "not at least 1"},
		{[]string{"watch", "--interval", "1ms"}, "not at least 100ms"},
		{[]string{"migrate"}, `required flag(s) "match" not set`},
		{[]string{"get", "a", "--nothing"}, "see distkit get -h"},
		{[]string{"get", "a", "--url", "redis://user:secret@127.0.0.1:port"}, "--url: not a URL"},
		{[]string{"get", "a", "--url", "redis://127.0.0.1:1", "--timeout", "2s"}, "refused"},
	} {
		out, err := f.run(use.args...)
		require.ErrorContains(t, err, use.says, use.args)
		require.NotContains(t, out+err.Error(), "secret")
	}
	require.Contains(t, f.says("completion", "bash"), "distkit")
	require.Contains(t, f.says("__complete", "ls", "--kind", ""), "strict lax")
}
