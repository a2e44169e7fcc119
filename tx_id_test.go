package distkit_test

import (
	"context"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/distkit/distkit-go"
	"github.com/distkit/distkit-go/internal/line"
	"github.com/distkit/distkit-go/internal/redistest"
	"github.com/stretchr/testify/require"
)

// Transactions with an ID: at most once, whoever repeats them, and what is known of them.

func TestApply_anID_isAppliedOnce_byWhomeverItIsRepeated(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	for _, id := range []string{"order 7", "\x00\xff{}:\r\n ", strings.Repeat("x", 255)} {
		tx := steps(on(keyA, distkit.IncIf{If: distkit.Lt(1), N: 1}), on(keyB, distkit.Inc{N: 10}))
		tx.ID = id
		first := f.apply(t, tx)
		require.True(t, first.Applied && !first.Replayed)
		_, err := f.Strict().Set(f.ctx, keyA, 0) // now it would pass again
		require.NoError(t, err)
		for _, system := range []*distkit.System{f.System, f.another(t)} {
			out, err := system.Strict().Apply(f.ctx, tx)
			require.NoError(t, err)
			require.Equal(t, distkit.Outcome{Applied: true, Replayed: true, Replies: first.Replies}, out)
			held, found, err := system.Strict().Outcome(f.ctx, id)
			require.NoError(t, err)
			require.True(t, found)
			require.Equal(t, out, held)
		}
		ttl := f.client.PTTL(f.ctx, f.once(id)).Val()
		require.InDelta(t, 24*time.Hour, ttl, float64(time.Minute), "the default")
	}
	require.Equal(t, "30", f.stored(t, "strict_counter", keyB))
}

// The first outcome counts, also where it is that nothing was applied.
func TestApply_anIDThatWasNotApplied_staysSo(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	tx := steps(on(keyB, distkit.Inc{N: 1}), on(keyA, distkit.IncIf{If: distkit.Ge(5), N: -5}), on(keyB, distkit.Get{}))
	tx.ID = "early"
	want := []distkit.Reply{distkit.Value{N: 1}, distkit.Change{}}
	require.Equal(t, distkit.Outcome{Replies: want}, f.apply(t, tx))
	_, err := f.Strict().Set(f.ctx, keyA, 100)
	require.NoError(t, err)
	require.Equal(t, distkit.Outcome{Replayed: true, Replies: want}, f.apply(t, tx))
	out, found, err := f.Strict().Outcome(f.ctx, "early")
	require.NoError(t, err)
	require.True(t, found)
	require.Equal(t, distkit.Outcome{Replayed: true, Replies: want}, out)
	require.Equal(t, map[string]string{"a": "100"}, f.fields())

	tx = steps(on(keyA, distkit.Inc{N: math.MaxInt64}))
	tx.ID = "much"
	require.False(t, f.apply(t, tx).Applied)
	out, _, err = f.Strict().Outcome(f.ctx, "much")
	require.NoError(t, err)
	requireNotApplied(t, out.Replies[0].(distkit.Failure).Err, distkit.ErrOverflow)
	require.ErrorContains(t, out.Replies[0].(distkit.Failure).Err, "step 0")
}

func TestApply_anIDOfOtherSteps_isAConflict(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	tx := steps(on(keyA, distkit.Inc{N: 1}), on(keyB, distkit.IncIf{If: distkit.Ge(0), N: 2}))
	tx.ID = "it"
	require.True(t, f.apply(t, tx).Applied)
	for name, other := range map[string][]distkit.Step{
		"fewer":           tx.Steps[:1],
		"more":            append(tx.Steps[:2:2], on(keyA, distkit.Get{})),
		"another order":   {tx.Steps[1], tx.Steps[0]},
		"another key":     {on(keyB, distkit.Inc{N: 1}), tx.Steps[1]},
		"another number":  {on(keyA, distkit.Inc{N: 2}), tx.Steps[1]},
		"another kind":    {on(keyA, distkit.Set{N: 1}), tx.Steps[1]},
		"another bound":   {tx.Steps[0], on(keyB, distkit.IncIf{If: distkit.Ge(1), N: 2})},
		"another compare": {tx.Steps[0], on(keyB, distkit.IncIf{If: distkit.Gt(0), N: 2})},
	} {
		_, err := f.another(t).Strict().Apply(f.ctx, distkit.Tx{ID: "it", Steps: other})
		requireNotApplied(t, err, distkit.ErrConflict)
		require.ErrorContains(t, err, `"it"`, name)
	}
	require.Equal(t, map[string]string{"a": "1", "b": "2"}, f.fields())
	require.True(t, f.apply(t, tx).Replayed, "the first is as it was")
}

func TestApply_isForgottenWhenKeepIsOver(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	tx := distkit.Tx{ID: "it", Keep: time.Second, Steps: []distkit.Step{on(keyA, distkit.Inc{N: 1})}}
	require.False(t, f.apply(t, tx).Replayed)
	require.True(t, f.apply(t, tx).Replayed)
	require.LessOrEqual(t, f.client.PTTL(f.ctx, f.once("it")).Val(), time.Second, "a repetition does not renew it")
	require.Eventually(t, func() bool { return f.client.Exists(f.ctx, f.once("it")).Val() == 0 }, 5*time.Second, 10*time.Millisecond)
	_, found, err := f.Strict().Outcome(f.ctx, "it")
	require.NoError(t, err)
	require.False(t, found)
	require.False(t, f.apply(t, tx).Replayed)
	require.Equal(t, "2", f.stored(t, "strict_counter", keyA))
}

func TestApply_afterALostReply_countsOnce(t *testing.T) {
	t.Parallel()
	line := &line.Line{}
	client := redistest.NewClient(t, line.Lead(*redistest.Options(t)))
	f := fixtureOn(t, client, distkit.WithBackoff(time.Millisecond, 10*time.Millisecond))
	f.client = redistest.Client(t)
	f.apply(t, steps(on(keyA, distkit.Inc{N: 1})))

	line.Lose(1)
	require.Equal(t, distkit.Outcome{Applied: true, Replies: []distkit.Reply{distkit.Value{N: 2}}}, f.apply(t, steps(on(keyA, distkit.Inc{N: 1}))), "resent")
	require.Equal(t, "2", f.stored(t, "strict_counter", keyA))

	// The caller leaves while it is in doubt, and asks elsewhere.
	tx := distkit.Tx{ID: "it", Steps: []distkit.Step{on(keyA, distkit.Inc{N: 1})}}
	line.Lose(1)
	line.Down(true)
	short, cancel := context.WithTimeout(f.ctx, 100*time.Millisecond)
	defer cancel()
	_, err := f.Strict().Apply(short, tx)
	require.ErrorIs(t, err, distkit.ErrOutcomeUnknown)
	require.NotErrorIs(t, err, distkit.ErrNotApplied)
	_, _, err = f.Strict().Outcome(short, "it")
	requireNotApplied(t, err, context.DeadlineExceeded)
	other := f.another(t).Strict()
	want := distkit.Outcome{Applied: true, Replayed: true, Replies: []distkit.Reply{distkit.Value{N: 3}}}
	out, err := other.Apply(f.ctx, tx)
	require.NoError(t, err)
	require.Equal(t, want, out)
	line.Down(false)
	out, found, err := f.Strict().Outcome(f.ctx, "it")
	require.NoError(t, err)
	require.True(t, found)
	require.Equal(t, want, out)
	require.Equal(t, "3", f.stored(t, "strict_counter", keyA))
}

// Redis is full, or permits nothing but reads: nothing is applied, and the outcome of
// what was is still answered.
func TestOutcome_isARead(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	admin := redistest.NewClient(t, patient(server.Addr))
	f := fixtureOn(t, admin)
	tx := distkit.Tx{ID: "it", Steps: []distkit.Step{on(keyA, distkit.Inc{N: 1})}}
	want := f.apply(t, tx)
	want.Replayed = true
	require.NoError(t, admin.ACLSetUser(f.ctx, "reader", "on", ">secret", "~"+f.prefix+":*", "+mget", "+hmget").Err())
	options := patient(server.Addr)
	options.Username, options.Password, options.DisableIdentity = "reader", "secret", true
	reader, err := distkit.NewSystem(redistest.NewClient(t, options), distkit.WithPrefix(distkit.MustKey(f.prefix)), distkit.WithLogger(quiet))
	require.NoError(t, err)
	defer func() { _ = reader.Shutdown(f.ctx) }()
	require.NoError(t, admin.ConfigSet(f.ctx, "maxmemory", "1").Err())
	for _, system := range []*distkit.System{f.System, reader} {
		out, found, err := system.Strict().Outcome(f.ctx, "it")
		require.NoError(t, err)
		require.True(t, found)
		require.Equal(t, want, out)
		for _, id := range []string{"", "another"} {
			_, err = system.Strict().Apply(f.ctx, distkit.Tx{ID: id, Steps: tx.Steps})
			requireNotApplied(t, err, distkit.ErrNotApplied)
		}
	}
	require.NoError(t, admin.ConfigSet(f.ctx, "maxmemory", "0").Err())
	_, found, err := f.Strict().Outcome(f.ctx, "another")
	require.NoError(t, err)
	require.False(t, found)
	require.Equal(t, map[string]string{"a": "1"}, f.fields())
}

// Gets alone are a read, and Dels free memory: a Redis that is full carries them out, and
// Gets for a user who may only read.
func TestApply_thatNeedsNoMemory(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	admin := redistest.NewClient(t, patient(server.Addr))
	f := fixtureOn(t, admin)
	require.NoError(t, admin.HSet(f.ctx, f.prefix+":strict_counter", "a", 5, "b", 6, "c", "x").Err())
	gets := steps(on(keyA, distkit.Get{}), on(keyB, distkit.Get{}), on(keyA, distkit.Get{}))
	want := distkit.Outcome{Applied: true, Replies: []distkit.Reply{distkit.Value{N: 5}, distkit.Value{N: 6}, distkit.Value{N: 5}}}
	require.Equal(t, want, f.apply(t, gets))
	require.Empty(t, admin.Keys(f.ctx, f.prefix+":writer:*").Val(), "it has no number")
	require.NoError(t, admin.ACLSetUser(f.ctx, "reader", "on", ">secret", "~"+f.prefix+":*", "+hmget").Err())
	options := patient(server.Addr)
	options.Username, options.Password, options.DisableIdentity = "reader", "secret", true
	reader := f.on(t, redistest.NewClient(t, options))
	require.NoError(t, admin.ConfigSet(f.ctx, "maxmemory", "1").Err())
	for _, system := range []*distkit.System{f.System, reader} {
		out, err := system.Strict().Apply(f.ctx, gets)
		require.NoError(t, err)
		require.Equal(t, want, out)
	}
	out := f.apply(t, steps(on(keyA, distkit.Get{}), on(keyC, distkit.Get{}), on(keyB, distkit.Get{})))
	require.False(t, out.Applied)
	require.Len(t, out.Replies, 2, "up to the one that is no integer")
	require.ErrorIs(t, out.Replies[1].(distkit.Failure).Err, distkit.ErrNotInteger)

	if _, err := f.Strict().Del(f.ctx, distkit.MustKey("none")); err != nil {
		return // Redis before 7.0 refuses Dels too
	}
	for _, id := range []string{"", "it"} {
		tx := steps(on(keyA, distkit.Del{}), on(keyB, distkit.Get{}))
		tx.ID = id
		require.True(t, f.apply(t, tx).Applied, "%q", id)
		require.Equal(t, map[string]string{"b": "6", "c": "x"}, f.fields())
	}
	require.False(t, f.apply(t, steps(on(keyB, distkit.Del{}), on(keyC, distkit.Del{}))).Applied)
	require.Equal(t, map[string]string{"b": "6", "c": "x"}, f.fields())
	_, err := f.Strict().Apply(f.ctx, steps(on(keyB, distkit.Del{}), on(keyA, distkit.Inc{N: 1})))
	requireNotApplied(t, err, distkit.ErrNotApplied)
	require.NoError(t, admin.ConfigSet(f.ctx, "maxmemory", "0").Err())
}

// What somebody else left where an outcome belongs is not taken for one.
func TestOutcome_ofWhatIsNone(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	tx := distkit.Tx{ID: "it", Steps: []distkit.Step{on(keyA, distkit.Inc{N: 1})}}
	require.True(t, f.apply(t, tx).Applied)
	held := f.client.Get(f.ctx, f.once("it")).Val()
	digest, _, _ := strings.Cut(held, " ")
	for text, repeated := range map[string]error{
		"text":              distkit.ErrConflict,
		"":                  distkit.ErrConflict,
		digest:              distkit.ErrOutcomeUnknown, // it was broken off
		digest + " Z1":      distkit.ErrOutcomeUnknown,
		digest + " Y":       distkit.ErrOutcomeUnknown,
		digest + " Yx":      distkit.ErrOutcomeUnknown,
		digest + " Y1,2,3,": distkit.ErrOutcomeUnknown,
	} {
		require.NoError(t, f.client.Set(f.ctx, f.once("it"), text, 0).Err())
		_, _, err := f.Strict().Outcome(f.ctx, "it")
		require.ErrorIs(t, err, distkit.ErrOutcomeUnknown, text)
		require.NotErrorIs(t, err, distkit.ErrNotApplied)
		_, err = f.Strict().Apply(f.ctx, tx)
		require.ErrorIs(t, err, repeated, text)
	}
	require.NoError(t, f.client.Del(f.ctx, f.once("it")).Err())
	require.NoError(t, f.client.HSet(f.ctx, f.once("it"), "a", 1).Err())
	_, err := f.Strict().Apply(f.ctx, tx)
	requireNotApplied(t, err, distkit.ErrNotApplied)
	require.ErrorContains(t, err, "WRONGTYPE")
	require.Equal(t, "1", f.stored(t, "strict_counter", keyA))
	require.True(t, f.apply(t, steps(on(keyA, distkit.Inc{N: 1}))).Applied, "the writer goes on")
}
