package distkit_test

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/distkit/distkit-go"
	"github.com/distkit/distkit-go/internal/redistest"
	"github.com/stretchr/testify/require"
)

// Transactions: all steps or none.

func steps(steps ...distkit.Step) distkit.Tx { return distkit.Tx{Steps: steps} }

func on(key distkit.Key, do distkit.Message) distkit.Step { return distkit.Step{Key: key, Do: do} }

// apply carries out a transaction of a test's.
func (f *fixture) apply(t testing.TB, tx distkit.Tx) distkit.Outcome {
	t.Helper()
	out, err := f.Strict().Apply(f.ctx, tx)
	require.NoError(t, err)
	return out
}

func (f *fixture) once(id string) string {
	return f.prefix + ":once:{" + f.prefix + ":strict_counter}:" + id
}

// fields are the strict counters as they stand in Redis.
func (f *fixture) fields() map[string]string {
	return f.client.HGetAll(f.ctx, f.prefix+":strict_counter").Val()
}

func TestApply_eachStepComesOnWhatThoseBeforeLeft(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	out := f.apply(t, steps(
		on(keyA, distkit.Inc{N: 5}), on(keyA, distkit.Dec{N: 7}), on(keyA, distkit.Get{}),
		on(keyA, distkit.IncIf{If: distkit.Eq(-2), N: 10}), on(keyB, distkit.Set{N: 9}),
		on(keyB, distkit.SetIf{If: distkit.Gt(8), N: 4}), on(keyB, distkit.Del{}), on(keyB, distkit.Get{}),
		on(keyB, distkit.Inc{N: 1}), on(keyA, distkit.Get{}),
	))
	require.Equal(t, distkit.Outcome{Applied: true, Replies: []distkit.Reply{
		distkit.Value{N: 5}, distkit.Value{N: -2}, distkit.Value{N: -2},
		distkit.Change{Old: -2, New: 8, Applied: true}, distkit.Value{N: 9},
		distkit.Change{Old: 9, New: 4, Applied: true}, distkit.Value{N: 4}, distkit.Value{N: 0},
		distkit.Value{N: 1}, distkit.Value{N: 8},
	}}, out)
	require.Equal(t, map[string]string{"a": "8", "b": "1"}, f.fields())
	out = f.apply(t, steps(on(keyA, distkit.Del{}), on(keyB, distkit.Del{})))
	require.Equal(t, []distkit.Reply{distkit.Value{N: 8}, distkit.Value{N: 1}}, out.Replies)
	require.Zero(t, f.client.Exists(f.ctx, f.prefix+":strict_counter").Val(), "nothing is left")
}

// What is not applied leaves no trace: neither of the steps before the one that failed
// nor, where there was nothing, of the container.
func TestApply_notApplied_leavesNoTrace(t *testing.T) {
	t.Parallel()
	bad := distkit.MustKey("bad")
	for name, row := range map[string]struct {
		last distkit.Step
		want distkit.Reply // or
		err  error
	}{
		"a condition":              {last: on(keyA, distkit.IncIf{If: distkit.Ge(7), N: -7}), want: distkit.Change{Old: 6, New: 6}},
		"a condition of an absent": {last: on(keyB, distkit.SetIf{If: distkit.Ne(0), N: 1}), want: distkit.Change{}},
		"an overflow":              {last: on(keyA, distkit.Inc{N: math.MaxInt64 - 5}), err: distkit.ErrOverflow},
		"an overflow of a change":  {last: on(keyA, distkit.IncIf{If: distkit.Eq(6), N: math.MaxInt64}), err: distkit.ErrOverflow},
		"an overflow of the least": {last: on(keyA, distkit.Dec{N: math.MinInt64}), err: distkit.ErrOverflow},
		"a text":                   {last: on(bad, distkit.Inc{N: 1}), err: distkit.ErrNotInteger},
		"a text that is read":      {last: on(bad, distkit.Get{}), err: distkit.ErrNotInteger},
		"a text that is deleted":   {last: on(bad, distkit.Del{}), err: distkit.ErrNotInteger},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newFixture(t)
			container := f.prefix + ":strict_counter"
			before := map[string]string{"a": "5", "kept": "1"}
			if row.err == distkit.ErrNotInteger {
				before["bad"] = "x"
			}
			require.NoError(t, f.client.HSet(f.ctx, container, before).Err())
			tx := steps(on(distkit.MustKey("kept"), distkit.Del{}), on(distkit.MustKey("new"), distkit.Inc{N: 3}), on(keyA, distkit.Inc{N: 1}),
				row.last, on(keyA, distkit.Set{N: 99}))
			tx.ID = "it"
			out := f.apply(t, tx)
			require.False(t, out.Applied || out.Replayed)
			require.Len(t, out.Replies, 4, "those up to the one that failed")
			require.Equal(t, []distkit.Reply{distkit.Value{N: 1}, distkit.Value{N: 3}, distkit.Value{N: 6}}, out.Replies[:3])
			if row.err == nil {
				require.Equal(t, row.want, out.Replies[3])
			} else {
				failure := out.Replies[3].(distkit.Failure).Err
				requireNotApplied(t, failure, row.err)
				require.ErrorContains(t, failure, fmt.Sprintf("%q", row.last.Key))
			}
			require.Equal(t, before, f.fields())

			require.NoError(t, f.client.Del(f.ctx, container).Err())
			out = f.apply(t, steps(on(keyA, distkit.Inc{N: 1}), on(keyA, distkit.IncIf{If: distkit.Ge(7), N: 1})))
			require.False(t, out.Applied)
			require.Zero(t, f.client.Exists(f.ctx, container).Val())
		})
	}
}

func TestApply_onAnotherType_isNotApplied(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	require.NoError(t, f.client.Set(f.ctx, f.prefix+":strict_counter", "text", 0).Err())
	for _, do := range []distkit.Message{distkit.Set{N: 1}, distkit.Inc{N: 1}, distkit.Get{}, distkit.Del{}} {
		out := f.apply(t, steps(on(keyA, do)))
		require.False(t, out.Applied)
		requireNotApplied(t, out.Replies[0].(distkit.Failure).Err, distkit.ErrWrongType)
	}
	require.Equal(t, "text", f.client.Get(f.ctx, f.prefix+":strict_counter").Val())
}

// A user who may not use one of the commands: what needs it is not applied in part.
func TestApply_aCommandThatIsNotPermitted_leavesNoTrace(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	admin := redistest.NewClient(t, patient(server.Addr))
	for i, denied := range []string{"-hdel", "-hset"} {
		user := fmt.Sprint("user", i)
		require.NoError(t, admin.ACLSetUser(t.Context(), user, "on", ">secret", "~*", "+@all", denied).Err())
		options := patient(server.Addr)
		options.Username, options.Password = user, "secret"
		f := fixtureOn(t, redistest.NewClient(t, options))
		f.client = admin
		before := map[string]string{"a": "5", "b": "6"}
		require.NoError(t, f.client.HSet(f.ctx, f.prefix+":strict_counter", before).Err())
		for n, first := range []distkit.Step{on(keyA, distkit.Inc{N: 1}), on(distkit.MustKey("new"), distkit.Inc{N: 1})} {
			tx := steps(first, on(keyB, distkit.Del{}))
			tx.ID = fmt.Sprint(n)
			for _, replayed := range []bool{false, true} {
				out := f.apply(t, tx)
				require.Equal(t, []bool{false, replayed}, []bool{out.Applied, out.Replayed})
				require.Regexp(t, "permission|can't run", out.Replies[1].(distkit.Failure).Err.Error(), "by its version")
				require.Equal(t, before, f.fields(), denied)
			}
		}
	}
}

// To read or delete what is not there makes nothing.
func TestApply_ofWhatIsAbsent_leavesItSo(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	out := f.apply(t, steps(on(keyA, distkit.Get{}), on(keyB, distkit.Del{}), on(keyB, distkit.Inc{N: 1}), on(keyB, distkit.Del{})))
	require.Equal(t, distkit.Outcome{Applied: true, Replies: []distkit.Reply{distkit.Value{}, distkit.Value{}, distkit.Value{N: 1}, distkit.Value{N: 1}}}, out)
	require.Zero(t, f.client.Exists(f.ctx, f.prefix+":strict_counter").Val())
	f.apply(t, steps(on(keyA, distkit.Set{N: 1})))
	f.apply(t, steps(on(keyA, distkit.Inc{N: 1}), on(keyB, distkit.Get{})))
	require.Equal(t, map[string]string{"a": "2"}, f.fields())
}

func TestApply_withoutAnID_isNotRemembered(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	for n := range 3 {
		require.Equal(t, distkit.Outcome{Applied: true, Replies: []distkit.Reply{distkit.Value{N: int64(n + 1)}}}, f.apply(t, steps(on(keyA, distkit.Inc{N: 1}))))
	}
	require.Empty(t, f.client.Keys(f.ctx, f.prefix+":once:*").Val())
}

func TestApply_takesAThousandSteps(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	tx := distkit.Tx{ID: "many"}
	for n := range 1000 {
		tx.Steps = append(tx.Steps, on(distkit.MustKey(fmt.Sprint("k", n)), distkit.Set{N: int64(n)}))
	}
	out := f.apply(t, tx)
	require.True(t, out.Applied)
	require.Equal(t, distkit.Value{N: 999}, out.Replies[999])
	require.Len(t, f.fields(), 1000)
	for i := range tx.Steps {
		tx.Steps[i].Do = distkit.Del{}
	}
	tx.ID = "gone"
	require.True(t, f.apply(t, tx).Applied)
	require.Empty(t, f.fields())
}

func TestApply_refusesWhatIsNoTransaction(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	good := on(keyA, distkit.Inc{N: 1})
	for name, row := range map[string]struct {
		tx   distkit.Tx
		says string
		is   error
	}{
		"no steps":          {tx: distkit.Tx{ID: "it"}, says: "1 to 1000 steps"},
		"too many":          {tx: distkit.Tx{Steps: make([]distkit.Step, 1001)}, says: "1 to 1000 steps, this one 1001"},
		"a longer ID":       {tx: distkit.Tx{ID: strings.Repeat("x", 300), Steps: []distkit.Step{good}}, says: "255 bytes, this one 300"},
		"too many, an ID":   {tx: distkit.Tx{ID: "it", Steps: slices.Repeat([]distkit.Step{good}, 1001)}, says: "1 to 1000 steps, this one 1001"},
		"a long ID":         {tx: distkit.Tx{ID: strings.Repeat("x", 256), Steps: []distkit.Step{good}}, says: "255 bytes, this one 256"},
		"a negative Keep":   {tx: distkit.Tx{ID: "it", Keep: -1, Steps: []distkit.Step{good}}, says: "at least 1s"},
		"a short Keep":      {tx: distkit.Tx{ID: "it", Keep: time.Second - 1, Steps: []distkit.Step{good}}, says: "at least 1s"},
		"no key":            {tx: steps(good, on(distkit.Key{}, distkit.Inc{N: 1})), says: "step 1", is: distkit.ErrInvalidKey},
		"nothing to do":     {tx: steps(good, on(keyA, nil)), says: "step 1"},
		"a pointer":         {tx: steps(good, on(keyA, &distkit.Inc{N: 1})), says: "by value"},
		"a condition less":  {tx: steps(good, on(keyA, distkit.IncIf{N: 1})), says: "zero Cond"},
		"a nested one":      {tx: steps(good, on(keyA, steps(good))), says: "cannot be a step"},
		"a foreign message": {tx: steps(good, on(keyA, struct{ distkit.Message }{distkit.Get{}})), says: "takes no"},
	} {
		out, err := f.Strict().Apply(f.ctx, row.tx)
		require.ErrorContains(t, err, row.says, name)
		requireNotApplied(t, err, distkit.ErrNotApplied)
		require.Zero(t, out)
		if row.is != nil {
			require.ErrorIs(t, err, row.is, name)
		}
	}
	for id, says := range map[string]string{"": "without an ID", strings.Repeat("x", 256): "255 bytes"} {
		_, found, err := f.Strict().Outcome(f.ctx, id)
		requireNotApplied(t, err, distkit.ErrNotApplied)
		require.ErrorContains(t, err, says)
		require.False(t, found)
	}
	require.Empty(t, f.client.Keys(f.ctx, f.prefix+":*").Val())
}

func TestApply_ofAClosedOrNoSystem_isErrClosed(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	require.NoError(t, f.Shutdown(f.ctx))
	used := newFixture(t)
	used.apply(t, steps(on(keyA, distkit.Inc{N: 1})))
	require.NoError(t, used.Shutdown(used.ctx))
	var none *distkit.StrictCounter
	for _, c := range []*distkit.StrictCounter{f.Strict(), used.Strict(), none, {}} {
		_, err := c.Apply(f.ctx, steps(on(keyA, distkit.Inc{N: 1})))
		requireNotApplied(t, err, distkit.ErrClosed)
		_, _, err = c.Outcome(f.ctx, "it")
		requireNotApplied(t, err, distkit.ErrClosed)
	}
	ended, cancel := context.WithCancel(f.ctx)
	cancel()
	alive := newFixture(t)
	_, err := alive.Strict().Apply(ended, steps(on(keyA, distkit.Inc{N: 1})))
	requireNotApplied(t, err, context.Canceled)
	_, _, err = alive.Strict().Outcome(ended, "it")
	requireNotApplied(t, err, context.Canceled)
}

// A PID is one counter's: it says what to use instead.
func TestPID_takesNoTransaction(t *testing.T) {
	t.Parallel()
	for kind, c := range newFixture(t).counters() {
		_, err := c.PID(keyA).Request(t.Context(), steps(on(keyA, distkit.Inc{N: 1})))
		requireNotApplied(t, err, distkit.ErrNotApplied)
		require.ErrorContains(t, err, "StrictCounter.Apply", kind)
	}
	f := newFixture(t)
	events := recordEvents(t, f.System)
	f.Strict().PID(keyA).Send(steps(on(keyA, distkit.Inc{N: 1})))
	require.ErrorContains(t, await[distkit.MessageRefused](t, events).Err, "StrictCounter.Apply")
	reply, err := f.ActorSystem().Root.RequestFuture(f.Strict().PID(keyA).Actor(), steps(), 10*time.Second).Result()
	require.NoError(t, err)
	require.ErrorContains(t, reply.(distkit.Failure).Err, "StrictCounter.Apply")
	require.Empty(t, f.fields())
}

func TestApply_int64_isExactToItsEnds(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	const most, least = math.MaxInt64, math.MinInt64
	for _, row := range []struct {
		from int64
		do   distkit.Message
		want int64
		ok   bool
	}{
		{most - 1, distkit.Inc{N: 1}, most, true},
		{most, distkit.Inc{N: 1}, 0, false},
		{most, distkit.Inc{N: least}, -1, true},
		{least, distkit.Inc{N: most}, -1, true},
		{least, distkit.Dec{N: 1}, 0, false},
		{least, distkit.Inc{N: least}, 0, false},
		{least + 1, distkit.Dec{N: 1}, least, true},
		{-1, distkit.Dec{N: least}, most, true},
		{least, distkit.Dec{N: least}, 0, true},
		{0, distkit.Dec{N: least}, 0, false},
		{1 << 53, distkit.Inc{N: 1}, 1<<53 + 1, true},
		{-1 << 53, distkit.Dec{N: 1}, -1<<53 - 1, true},
		{999_999_999_999_999, distkit.Inc{N: 1}, 1_000_000_000_000_000, true},
		{1_000_000_000_000_000_000, distkit.Dec{N: 1}, 999_999_999_999_999_999, true},
		{-3_000_000_000_000_000_000, distkit.Inc{N: 1_000_000_000_000_000_000}, -2_000_000_000_000_000_000, true},
		{4_000_000_000_000_000_005, distkit.Dec{N: 4_000_000_000_000_000_005}, 0, true},
		{4_000_000_000_000_000_005, distkit.Dec{N: 4_000_000_000_000_000_006}, -1, true},
	} {
		out := f.apply(t, steps(on(keyA, distkit.Set{N: row.from}), on(keyA, row.do), on(keyA, distkit.Get{})))
		require.Equal(t, row.ok, out.Applied, "%d %+v", row.from, row.do)
		if row.ok {
			require.Equal(t, []distkit.Reply{distkit.Value{N: row.from}, distkit.Value{N: row.want}, distkit.Value{N: row.want}}, out.Replies)
			require.Equal(t, fmt.Sprint(row.want), f.stored(t, "strict_counter", keyA))
		}
	}
}

// Transfers between wallets by many callers in two processes, all repeated: the sum
// stays, no wallet is ever in debt, and nobody sees a transfer half done.
func TestApply_transfers_keepTheSum(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	other := f.another(t)
	const wallets, sum = 5, 500
	var keys []distkit.Key
	var look distkit.Tx
	for n := range wallets {
		keys = append(keys, distkit.MustKey(fmt.Sprint("wallet", n)))
		look.Steps = append(look.Steps, on(keys[n], distkit.Get{}))
		_, err := f.Strict().Set(f.ctx, keys[n], sum/wallets)
		require.NoError(t, err)
	}
	fail := make(chan error, 100)
	var callers sync.WaitGroup
	for caller := range 16 {
		callers.Go(func() {
			random := rand.New(rand.NewPCG(1, uint64(caller)))
			for n := range 50 {
				from, to, amount := random.IntN(wallets), random.IntN(wallets), random.Int64N(80)
				tx := distkit.Tx{ID: fmt.Sprint(caller, " ", n), Steps: []distkit.Step{
					on(keys[from], distkit.IncIf{If: distkit.Ge(amount), N: -amount}), on(keys[to], distkit.Inc{N: amount}),
				}}
				first, err := f.Strict().Apply(f.ctx, tx)
				again, errAgain := other.Strict().Apply(f.ctx, tx)
				seen, errSeen := other.Strict().Apply(f.ctx, look)
				if err := errors.Join(err, errAgain, errSeen); err != nil {
					fail <- err
					return
				}
				if first.Replayed || !again.Replayed || first.Applied != again.Applied {
					fail <- fmt.Errorf("first %+v, again %+v", first, again)
				}
				var total int64
				for _, reply := range seen.Replies {
					if n := reply.(distkit.Value).N; n < 0 {
						fail <- fmt.Errorf("a wallet holds %d", n)
					} else {
						total += n
					}
				}
				if total != sum {
					fail <- fmt.Errorf("the sum is %d", total)
				}
			}
		})
	}
	callers.Wait()
	close(fail)
	require.NoError(t, <-fail)
}
