package redisio_test

import (
	"strings"
	"testing"
	"time"

	"github.com/distkit/distkit-go/internal/redisio"
	"github.com/distkit/distkit-go/internal/verb"
	"github.com/stretchr/testify/require"
)

// Transactions in a batch: their places among KEYS, and among the results.

func tx(id string, steps ...verb.Keyed) []verb.Keyed { return verb.Transaction(id, time.Hour, steps) }

func (f *fixture) once(id string) string { return f.prefix + ":once:{" + f.at.Name + "}:" + id }

// Two with an ID, one without, and others between: with a mark and without, numbered
// and bare. A once-key whose place were another's would show.
func TestTx_amongOthers_inItsPlace(t *testing.T) {
	t.Parallel()
	for _, row := range []struct {
		task     redisio.Task
		del      bool
		unmarked bool
	}{
		{redisio.Apply, false, false}, {redisio.Apply, true, false}, {redisio.Apply, true, true},
		{redisio.Bare, false, false}, {redisio.Bare, true, false},
	} {
		f := newFixture(t)
		f.open(t)
		ops := []verb.Keyed{inc("a", 1)}
		ops = append(ops, tx("one", inc("a", 1), op(verb.Get, "a", 0))...)
		ops = append(ops, inc("a", 1))
		ops = append(ops, tx("", inc("a", 1))...)
		ops = append(ops, tx("two", op(verb.Set, "a", 9), verb.Keyed{Key: "a", Op: verb.Op{Kind: verb.IncIf, N: 1, If: verb.Cond{Cmp: verb.Lt, N: 9}}}, inc("a", 1))...)
		ops = append(ops, tx("one", inc("a", 1), op(verb.Get, "a", 0))...)
		ops = append(ops, tx("one", inc("a", 2))...)
		want := []verb.Result{
			{N: 1}, {N: 2, Applied: true}, {N: 2}, {N: 2}, {N: 3}, {N: 1, Applied: true}, {N: 4},
			{N: 2}, {N: 9}, {N: 9, Old: 9}, {},
			{N: 2, Applied: true, Replayed: true}, {N: 2}, {N: 2},
			{Err: verb.Conflicts}, {},
		}
		if row.del {
			ops, want = append(ops, op(verb.Del, "a", 0)), append(want, verb.Result{N: 4})
		}
		require.NoError(t, f.admin.HSet(f.ctx, f.at.Name, "a", 0).Err())
		c := f.batch(1, ops...)
		c.Task, c.Unmarked = row.task, row.unmarked
		f.done(t, c)
		require.Equal(t, want, c.Results, "%+v", row)
		if row.del {
			require.Empty(t, f.stored())
		} else {
			require.Equal(t, map[string]string{"a": "4"}, f.stored())
		}
		marked := row.task == redisio.Apply && row.del && !row.unmarked
		require.Equal(t, marked, f.admin.Exists(f.ctx, f.mark()).Val() == 1, "%+v", row)
		require.Contains(t, f.admin.Get(f.ctx, f.once("one")).Val(), " Y2,2")
		require.Contains(t, f.admin.Get(f.ctx, f.once("two")).Val(), " N9,9:")
		require.InDelta(t, time.Hour, f.admin.PTTL(f.ctx, f.once("one")).Val(), float64(time.Minute))
		if row.task == redisio.Bare {
			continue
		}
		again := f.batch(1, ops...)
		f.done(t, again)
		require.True(t, again.Replayed)
		require.Equal(t, want, again.Results, "a replay of the batch is no replay of its transactions")
	}
}

// Of one that was broken off nobody will know more: that is its result, and no other's.
func TestTx_brokenOff_isUnknownForGood(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.open(t)
	ops := append([]verb.Keyed{inc("a", 1)}, tx("it", inc("a", 1))...)
	ops = append(ops, inc("a", 1))
	require.NoError(t, f.admin.Set(f.ctx, f.once("it"), ops[1].Tx.Digest, 0).Err())
	c := f.done(t, f.batch(1, ops...))
	require.Equal(t, []verb.Result{{N: 1}, {}, {N: 2}}, []verb.Result{c.Results[0], c.Results[2], c.Results[3]})
	require.ErrorIs(t, c.Results[1].Err, verb.ErrOutcomeUnknown)
}

func TestTx_thatEmptiesTheContainer_leavesAMark(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.open(t)
	require.NoError(t, f.admin.HSet(f.ctx, f.at.Name, "a", 5, "b", 6).Err())
	c := f.done(t, f.batch(1, tx("it", op(verb.Del, "a", 0), op(verb.Del, "b", 0))...))
	require.False(t, c.Kept)
	require.EqualValues(t, 1, f.admin.Exists(f.ctx, f.mark()).Val())
}

// The container may expire, and must not lose that to a transaction whose steps empty
// it for a moment.
func TestTx_keepsTheContainersExpiry(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.open(t)
	require.NoError(t, f.admin.HSet(f.ctx, f.at.Name, "a", 5).Err())
	require.NoError(t, f.admin.Expire(f.ctx, f.at.Name, time.Hour).Err())
	f.done(t, f.batch(1, tx("", op(verb.Del, "a", 0), op(verb.Set, "b", 1))...))
	require.Equal(t, map[string]string{"b": "1"}, f.stored())
	require.Positive(t, f.admin.TTL(f.ctx, f.at.Name).Val())
}

func TestRecall_readsManyAtOnce(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.open(t)
	f.done(t, f.batch(1, append(tx("a", inc("a", 5)), tx("b", op(verb.Get, "a", 0), verb.Keyed{Key: "a", Op: verb.Op{Kind: verb.SetIf, If: verb.Cond{Cmp: verb.Eq, N: 99}}})...)...))
	require.NoError(t, f.admin.Append(f.ctx, f.once("broken"), strings.Repeat("0", 32)).Err())
	recall := func(ids ...string) *redisio.Call {
		c := f.call(redisio.Recall)
		for _, id := range ids {
			c.Ops = append(c.Ops, verb.Keyed{Op: verb.Op{Kind: verb.Recall}, Tx: &verb.Tx{ID: id}})
		}
		return f.done(t, c)
	}
	got := recall("none", "a", "broken", "a", "none").Results
	one := []verb.Result{{N: 1, Applied: true, Replayed: true}, {N: 5, Kind: verb.Get}}
	require.Equal(t, append([]verb.Result{{}}, one...), got[:3])
	require.ErrorIs(t, got[3].Err, verb.ErrOutcomeUnknown)
	require.Equal(t, append(one, verb.Result{}), got[4:], "the same twice")
	require.Empty(t, recall().Results, "of none, which everybody who asked has left")
}
