package store

import (
	"context"
	"fmt"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/distkit/distkit-go/internal/op"
	"github.com/distkit/distkit-go/internal/redistest"
	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"
)

func inc(key string, n int64) KeyOp { return KeyOp{Key: key, Op: op.Op{Kind: op.Inc, N: n}} }

func silent(key string, n int64) KeyOp {
	o := inc(key, n)
	o.Silent = true
	return o
}

// newStore returns a store on a prefix of its own.
func newStore(t *testing.T) (*Store, *redis.Client, context.Context) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	t.Cleanup(cancel)
	client := redistest.Client(t)
	return New(client, redistest.Prefix(t, client), "strict_counter"), client, ctx
}

// send makes one attempt at a batch, with the script's text: its hash may not
// be known yet.
func send(ctx context.Context, s *Store, writer string, seq int64, ops ...KeyOp) *Call {
	call := &Call{Writer: writer, Seq: seq, Ops: ops, Text: true}
	s.Send(ctx, []*Call{call})
	return call
}

func TestApply_numbers(t *testing.T) {
	t.Parallel()
	s, client, ctx := newStore(t)
	value := func() string { return client.HGet(ctx, s.container, "a").Val() }

	call := send(ctx, s, "w", 1, inc("a", 5))
	require.Equal(t, Applied, call.Class, "%v", call.Err)
	require.EqualValues(t, 5, call.Results[0].N)

	again := send(ctx, s, "w", 1, inc("a", 5))
	require.Equal(t, call.Results, again.Results, "a replay answers what was stored")
	require.Equal(t, "5", value())

	require.NoError(t, client.HSet(ctx, s.container, "a", 100).Err())
	again = send(ctx, s, "w", 1, inc("a", 5))
	require.Equal(t, call.Results, again.Results, "even if the value has moved on")

	for _, seq := range []int64{3, 7, 1 << 52} {
		gap := send(ctx, s, "w", seq, inc("a", 5))
		require.True(t, gap.Gap, "%d is skipped", seq)
		require.EqualValues(t, 1, gap.Last)
	}
	require.False(t, send(ctx, s, "w", 2, inc("a", 1)).Gap)
	old := send(ctx, s, "w", 1, inc("a", 5))
	require.True(t, old.Gap, "an old number changes nothing")
	require.EqualValues(t, 2, old.Last)
	require.Equal(t, "101", value())

	require.False(t, send(ctx, s, "other", 1, inc("a", 1)).Gap, "writers number by themselves")
	require.Equal(t, "102", value())

	ttl := client.PTTL(ctx, LedgerName(s.container, "w")).Val()
	require.InDelta(t, LedgerTTL, ttl, float64(time.Minute))
	require.NoError(t, s.Retire(ctx, []string{"w"}))
	require.LessOrEqual(t, client.PTTL(ctx, LedgerName(s.container, "w")).Val(), time.Minute)
}

func TestApply_resultsOfEachOperation(t *testing.T) {
	t.Parallel()
	s, client, ctx := newStore(t)
	require.NoError(t, client.HSet(ctx, s.container, "text", "a b", "full", math.MaxInt64).Err())
	ops := []KeyOp{
		inc("a", 1),
		inc("text", 1),
		inc("full", 1),
		{Key: "a", Op: op.Op{Kind: op.Get}},
		{Key: "none", Op: op.Op{Kind: op.Get}},
		{Key: "a", Op: op.Op{Kind: op.IncIf, N: math.MinInt64, If: op.Cond{Cmp: op.Gt, N: 0}}},
		{Key: "a", Op: op.Op{Kind: op.SetIf, N: 3, If: op.Cond{Cmp: op.Eq, N: 0}}},
		{Key: "full", Op: op.Op{Kind: op.IncIf, N: 1, If: op.Cond{Cmp: op.Always}}},
		{Key: "a", Op: op.Op{Kind: op.Set, N: -7}},
		{Key: "a", Op: op.Op{Kind: op.Dec, N: math.MinInt64}},
		{Key: "a", Op: op.Op{Kind: op.Del}},
		{Key: "text", Op: op.Op{Kind: op.Del}},
	}
	want := []op.Result{
		{N: 1},
		{Err: errNotInteger},
		{Err: errOverflow},
		{N: 1},
		{N: 0},
		{Old: 1, N: math.MinInt64 + 1, Applied: true},
		{Old: math.MinInt64 + 1, N: math.MinInt64 + 1},
		{Err: errOverflow},
		{N: -7},
		{N: math.MaxInt64 - 6},
		{N: math.MaxInt64 - 6},
		{Err: errNotInteger},
	}
	call := send(ctx, s, "w", 1, ops...)
	require.Equal(t, want, call.Results, "%v", call.Err)
	require.Equal(t, want, send(ctx, s, "w", 1, ops...).Results, "and again from the ledger")
}

func TestApply_silentIncrements_answerErrorsOnly(t *testing.T) {
	t.Parallel()
	s, client, ctx := newStore(t)
	require.NoError(t, client.HSet(ctx, s.container, "text", "a b", "full", math.MaxInt64).Err())
	ops := []KeyOp{
		inc("a", 1), silent("b", 2), inc("full", 1), // all three answer: only those at the end need not
		silent("a", 4), silent("text", 1), silent("full", 1), silent("b", math.MaxInt64-2),
	}
	want := []op.Result{
		{N: 1}, {N: 2}, {Err: errOverflow},
		{Silent: true}, {Err: errNotInteger}, {Err: errOverflow}, {Silent: true},
	}
	for range 2 { // and again from the ledger
		require.Equal(t, want, send(ctx, s, "w", 1, ops...).Results)
		require.Equal(t, "1 1 2 !O 5!I 6!O .", client.Get(ctx, LedgerName(s.container, "w")).Val())
	}
	require.Equal(t, map[string]string{"a": "5", "b": "9223372036854775807", "text": "a b", "full": "9223372036854775807"},
		client.HGetAll(ctx, s.container).Val())

	require.NoError(t, client.Set(ctx, LedgerName(s.container, "w"), "2 ", 0).Err())
	call := send(ctx, s, "w", 2, silent("a", 1))
	require.Equal(t, Applied, call.Class)
	require.ErrorIs(t, call.Results[0].Err, op.ErrOutcomeUnknown, "broken off after its first write")
}

func TestApply_outOfMemory_changesNothing(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	client := redistest.NewClient(t, &redis.Options{Addr: server.Addr})
	s, ctx := New(client, "p", "strict_counter"), t.Context()
	require.Equal(t, Applied, send(ctx, s, "w", 1, inc("a", 1)).Class)
	require.NoError(t, client.ConfigSet(ctx, "maxmemory", "1").Err())
	// Del needs no memory: were it first, Redis would let the rest pass too.
	call := send(ctx, s, "w", 2, KeyOp{Key: "a", Op: op.Op{Kind: op.Del}}, inc("b", 1))
	require.Equal(t, Refused, call.Class)
	require.ErrorContains(t, call.Err, "OOM")
	require.NoError(t, client.ConfigSet(ctx, "maxmemory", "0").Err())
	require.Equal(t, map[string]string{"a": "1"}, client.HGetAll(ctx, "p:strict_counter").Val())
	require.Equal(t, Applied, send(ctx, s, "w", 2, inc("b", 1)).Class)
}

func TestApply_brokenOffAfterItsFirstWrite_isUnknownForGood(t *testing.T) {
	t.Parallel()
	s, client, ctx := newStore(t)
	require.NoError(t, client.Set(ctx, LedgerName(s.container, "w"), "1 ", 0).Err())
	call := send(ctx, s, "w", 1, inc("a", 1))
	require.Equal(t, Applied, call.Class, "so that it is not sent for ever")
	require.ErrorIs(t, call.Results[0].Err, op.ErrOutcomeUnknown)
}

func TestSend_pipelinesCalls_andReadReadsAnyNumber(t *testing.T) {
	t.Parallel()
	s, client, ctx := newStore(t)
	require.Equal(t, Applied, send(ctx, s, "warm", 1, inc("a", 1)).Class)
	require.NoError(t, client.HSet(ctx, s.container, "text", "x").Err())
	keys := make([]string, 2500)
	for i := range keys {
		keys[i] = "none"
	}
	keys[0], keys[1001], keys[2499] = "a", "text", "b"
	calls := []*Call{{Writer: "w0", Seq: 1, Ops: []KeyOp{inc("a", 1)}}, {Writer: "w1", Seq: 1, Ops: []KeyOp{inc("b", 2)}}}
	read := &Read{Keys: keys}
	s.Send(ctx, calls)
	s.Read(ctx, read)
	require.Equal(t, Applied, calls[0].Class)
	require.Equal(t, Applied, calls[1].Class)
	require.Equal(t, Applied, read.Class)
	require.Len(t, read.Values, 2500)
	require.Equal(t, Value{N: 2}, read.Values[0])
	require.Equal(t, Value{}, read.Values[1])
	require.Equal(t, Value{Err: errNotInteger}, read.Values[1001])
	require.Equal(t, Value{N: 2}, read.Values[2499])
}

func TestSend_freezesWhenItIsWritten(t *testing.T) {
	t.Parallel()
	nowhere := redistest.NewClient(t, &redis.Options{Addr: "127.0.0.1:1", DialerRetries: 1})
	frozen := 0
	call := &Call{Writer: "w", Seq: 1, Freeze: func() []KeyOp { frozen++; return []KeyOp{inc("a", 1)} }}
	New(nowhere, "p", "strict_counter").Send(t.Context(), []*Call{call})
	require.Equal(t, NotYet, call.Class)
	require.False(t, call.Left())
	require.Zero(t, frozen)

	s, _, ctx := newStore(t)
	call.Text = true
	s.Send(ctx, []*Call{call})
	s.Send(ctx, []*Call{call})
	require.Equal(t, Applied, call.Class, "%v", call.Err)
	require.True(t, call.Left())
	require.Equal(t, 1, frozen)
	require.EqualValues(t, 1, call.Results[0].N)
}

func TestSend_isOneAttempt_whateverTheClientsRetries(t *testing.T) {
	t.Parallel()
	direct, _, ctx := newStore(t)
	options := redistest.Options(t)
	proxy := redistest.StartProxy(t, options.Addr)
	options.Addr, options.MaxRetries = proxy.Addr, 5
	s := &Store{client: redistest.NewClient(t, options), container: direct.container}
	proxy.Swallow(1)
	for calls := 1; calls <= 2; calls++ { // alone, and in a pipeline
		var batch []*Call
		for i := range calls {
			batch = append(batch, &Call{Writer: fmt.Sprint("w", calls, i), Seq: 1, Ops: []KeyOp{inc("a", 1)}, Text: true})
		}
		before := proxy.Calls()
		s.Send(ctx, batch)
		require.Equal(t, Unknown, batch[0].Class)
		require.EqualValues(t, 1, proxy.Calls()-before, "requests that arrived")
	}
}

func TestParseResults_refusesWhatItDoesNotKnow(t *testing.T) {
	t.Parallel()
	get, change := KeyOp{Key: "a", Op: op.Op{Kind: op.Get}}, KeyOp{Key: "a", Op: op.Op{Kind: op.IncIf}}
	for text, ops := range map[string][]KeyOp{
		"":                    {get},
		"1":                   {get, get},
		"1 2":                 {get},
		"x":                   {get},
		"1.5":                 {get},
		"1:":                  {get},
		"2":                   {change},
		":1":                  {change},
		"1:2:3":               {change},
		"9223372036854775808": {get},
		"7":                   {inc("a", 1), silent("b", 1)},
		"7 2":                 {inc("a", 1), silent("b", 1)},
		"1 . ":                {inc("a", 1), silent("b", 1)},
		"1 1!O .":             {inc("a", 1), silent("b", 1)},
		"1 3!O .":             {inc("a", 1), silent("b", 1)},
		"1 2!O 2!O .":         {inc("a", 1), silent("b", 1)},
		"1 x!O .":             {inc("a", 1), silent("b", 1)},
		". .":                 {silent("a", 1)},
	} {
		_, err := parseResults(text, ops, nil)
		require.ErrorIs(t, err, errMalformed, "%q", text)
	}
	got, err := parseResults("!Eno_permission", []KeyOp{get}, nil)
	require.NoError(t, err)
	require.ErrorContains(t, got[0].Err, "no permission")
	require.ErrorIs(t, got[0].Err, op.ErrNotApplied)
}

func TestApply_longErrorTexts_stayOneResult(t *testing.T) {
	t.Parallel()
	s, client, ctx := newStore(t)
	require.NoError(t, client.HSet(ctx, s.container, "a", strings.Repeat("1 ", 5000)).Err())
	call := send(ctx, s, "w", 1, KeyOp{Key: "a", Op: op.Op{Kind: op.Get}}, inc("b", 1))
	require.Equal(t, []op.Result{{Err: errNotInteger}, {N: 1}}, call.Results)
}
