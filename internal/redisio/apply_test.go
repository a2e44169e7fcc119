package redisio_test

import (
	"math"
	"strings"
	"testing"
	"time"

	"github.com/distkit/distkit-go/internal/fakeredis"
	"github.com/distkit/distkit-go/internal/redisio"
	"github.com/distkit/distkit-go/internal/redistest"
	"github.com/distkit/distkit-go/internal/verb"
	"github.com/distkit/distkit-go/lua"
	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"
)

// What the batch script does, case by case; model_test.go has all of them at once.

func TestApply_numbersAndNonces(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.open(t)
	first := f.done(t, f.batch(1, inc("a", 5)))
	require.Equal(t, []verb.Result{{N: 5}}, first.Results)
	require.False(t, first.Existed)
	require.True(t, first.Kept)

	again := f.done(t, f.batch(1, inc("a", 5)))
	require.True(t, again.Replayed)
	require.Equal(t, first.Results, again.Results, "a replay answers what was stored")
	require.NoError(t, f.admin.HSet(f.ctx, f.at.Name, "a", 100).Err())
	require.Equal(t, first.Results, f.done(t, f.batch(1, inc("a", 5))).Results, "even if the value has moved on")

	for _, seq := range []int64{3, 7, 1 << 52} {
		skipped := f.batch(seq, inc("a", 5))
		f.send(skipped)
		require.Equal(t, redisio.Gap, skipped.Status, "%d is skipped", seq)
		require.EqualValues(t, 1, skipped.Last)
	}
	for what, change := range map[string]func(*redisio.Call){
		"the number, another nonce":          func(c *redisio.Call) { c.Seq, c.Nonce = 1, 99 },
		"the next number, another past":      func(c *redisio.Call) { c.Previous = 99 },
		"the number of the opening":          func(c *redisio.Call) { c.Seq = 0 },
		"the next number, the opening's own": func(c *redisio.Call) { c.Previous = 1 },
	} {
		foreign := f.batch(2, inc("a", 5))
		change(foreign)
		f.send(foreign)
		require.Equal(t, redisio.Conflict, foreign.Status, what)
	}
	require.False(t, f.done(t, f.batch(2, inc("a", 1))).Replayed)
	old := f.batch(1, inc("a", 5))
	f.send(old)
	require.Equal(t, redisio.Conflict, old.Status, "an old number changes nothing")
	require.Equal(t, "101", f.stored()["a"])
}

func TestApply_withoutALedger_appliesNothing(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	for _, seq := range []int64{1, 2} {
		c := f.batch(seq, inc("a", 5))
		f.send(c)
		require.Equal(t, redisio.Answered, c.Class, "%v", c.Err)
		require.Equal(t, redisio.Gap, c.Status)
		require.EqualValues(t, redisio.NoLedger, c.Last)
		require.Empty(t, f.stored())
	}
	require.Zero(t, f.admin.Exists(f.ctx, f.at.Ledger("w")).Val())
}

func TestOpen_keepsALedgerThatIsThere(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.open(t)
	require.Equal(t, "0 1", f.admin.Get(f.ctx, f.at.Ledger("w")).Val())
	require.InDelta(t, time.Hour, f.admin.PTTL(f.ctx, f.at.Ledger("w")).Val(), float64(time.Minute))
	f.done(t, f.batch(1, inc("a", 5)))
	held := f.admin.Get(f.ctx, f.at.Ledger("w")).Val()
	f.open(t)
	require.Equal(t, held, f.admin.Get(f.ctx, f.at.Ledger("w")).Val(), "a late copy changes nothing")
}

func TestLedger_livesAsLongAsIsAsked_andIsRetired(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.open(t)
	c := f.batch(1, inc("a", 1))
	c.Lifetime = 3 * time.Hour
	f.done(t, c)
	require.InDelta(t, 3*time.Hour, f.admin.PTTL(f.ctx, f.at.Ledger("w")).Val(), float64(time.Minute))
	retire := f.call(redisio.Retire)
	f.send(retire)
	require.Equal(t, redisio.Answered, retire.Class, "%v", retire.Err)
	require.LessOrEqual(t, f.admin.PTTL(f.ctx, f.at.Ledger("w")).Val(), time.Minute)
}

func TestFence_saysWhereTheLedgerStood_andLetsNothingPass(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	fence := func(seq int64) *redisio.Call {
		c := f.batch(seq, inc("a", 5))
		c.Task = redisio.Fence
		f.send(c)
		require.Equal(t, redisio.Answered, c.Class, "%v", c.Err)
		require.Equal(t, redisio.Fenced, c.Status)
		return c
	}
	require.EqualValues(t, redisio.NoLedger, fence(1).Last)
	require.Zero(t, f.admin.Exists(f.ctx, f.at.Ledger("w")).Val(), "there is nothing to fence")
	f.open(t)
	f.done(t, f.batch(1, inc("a", 5)))
	for range 2 { // and again, the same
		c := fence(1)
		require.EqualValues(t, 1, c.Last)
		require.EqualValues(t, 2, c.LastNonce)
		require.Equal(t, []verb.Result{{N: 5}}, c.Results, "this is the batch that is in")
		require.True(t, c.Kept)
		c = fence(3)
		require.EqualValues(t, 1, c.Last)
		require.Empty(t, c.Results)
	}
	for _, seq := range []int64{1, 2, 3} {
		c := f.batch(seq, inc("a", 5))
		f.send(c)
		require.Equal(t, redisio.Conflict, c.Status, "a late copy")
	}
	f.open(t)
	require.Equal(t, "5", f.stored()["a"])
	require.InDelta(t, time.Hour, f.admin.PTTL(f.ctx, f.at.Ledger("w")).Val(), float64(time.Minute))
}

func TestBare_isApplied_howeverOftenItComes(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	for range 2 {
		require.False(t, f.done(t, f.call(redisio.Bare, inc("a", 5))).Replayed)
	}
	require.Equal(t, "10", f.stored()["a"])
	require.Zero(t, f.admin.Exists(f.ctx, f.at.Ledger("w")).Val())
}

// resultsOfEach are operations and their results, of a container in which text is no
// number and full is the largest.
var resultsOfEach = []struct {
	o    verb.Keyed
	want verb.Result
}{
	{inc("a", 1), verb.Result{N: 1}},
	{inc("text", 1), verb.Result{Err: verb.NotInteger}},
	{inc("full", 1), verb.Result{Err: verb.Overflows}},
	{op(verb.Get, "a", 0), verb.Result{N: 1}},
	{op(verb.Get, "none", 0), verb.Result{Absent: true}},
	{verb.Keyed{Key: "a", Op: verb.Op{Kind: verb.IncIf, N: math.MinInt64, If: verb.Cond{Cmp: verb.Gt, N: 0}}},
		verb.Result{Old: 1, N: math.MinInt64 + 1, Applied: true}},
	{verb.Keyed{Key: "a", Op: verb.Op{Kind: verb.SetIf, N: 3, If: verb.Cond{Cmp: verb.Eq, N: 0}}},
		verb.Result{Old: math.MinInt64 + 1, N: math.MinInt64 + 1}},
	{verb.Keyed{Key: "full", Op: verb.Op{Kind: verb.IncIf, N: 1, If: verb.Cond{Cmp: verb.Always}}}, verb.Result{Err: verb.Overflows}},
	{op(verb.Set, "a", -7), verb.Result{N: -7}},
	{op(verb.Dec, "a", math.MinInt64), verb.Result{N: math.MaxInt64 - 6}},
	{op(verb.Dec, "full", math.MinInt64), verb.Result{Err: verb.Overflows}},
	{op(verb.Del, "a", 0), verb.Result{N: math.MaxInt64 - 6}},
	{op(verb.Del, "text", 0), verb.Result{Err: verb.NotInteger}},
}

func TestApply_resultsOfEachOperation(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	require.NoError(t, f.admin.HSet(f.ctx, f.at.Name, "text", "a b", "full", math.MaxInt64).Err())
	f.open(t)
	var ops []verb.Keyed
	var want []verb.Result
	for _, row := range resultsOfEach {
		ops, want = append(ops, row.o), append(want, row.want)
	}
	require.Equal(t, want, f.done(t, f.batch(1, ops...)).Results)
	require.Equal(t, want, f.done(t, f.batch(1, ops...)).Results, "and again from the ledger")
	c := f.batch(2, op(verb.Clear, "", 0))
	require.Equal(t, []verb.Result{{}}, f.done(t, c).Results)
	require.Empty(t, f.stored())
}

func TestApply_silentIncrements_answerErrorsOnly(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	require.NoError(t, f.admin.HSet(f.ctx, f.at.Name, "text", "a b", "full", math.MaxInt64).Err())
	f.open(t)
	ops := []verb.Keyed{
		inc("a", 1), silent("b", 2), inc("full", 1), // all three answer: only those at the end need not
		silent("a", 4), silent("text", 1), silent("full", 1), silent("b", math.MaxInt64-2),
	}
	want := []verb.Result{
		{N: 1}, {N: 2}, {Err: verb.Overflows},
		{Silent: true}, {Err: verb.NotInteger}, {Err: verb.Overflows}, {Silent: true},
	}
	for range 2 { // and again from the ledger
		require.Equal(t, want, f.done(t, f.batch(1, ops...)).Results)
		require.Equal(t, "1 2 1 1 2 !O 5!I 6!O .", f.admin.Get(f.ctx, f.at.Ledger("w")).Val())
	}
	require.Equal(t, map[string]string{"a": "5", "b": "9223372036854775807", "text": "a b", "full": "9223372036854775807"}, f.stored())
}

func TestApply_brokenOffAfterItsFirstWrite_isUnknownForGood(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	require.NoError(t, f.admin.Set(f.ctx, f.at.Ledger("w"), "1 2", 0).Err())
	for _, o := range []verb.Keyed{inc("a", 1), silent("a", 1), op(verb.Set, "a", 1)} {
		c := f.done(t, f.batch(1, o)) // so that it is not sent for ever
		require.True(t, c.Replayed)
		require.Len(t, c.Results, 1)
		require.ErrorIs(t, c.Results[0].Err, verb.ErrOutcomeUnknown)
	}
	require.Empty(t, f.stored())
	require.False(t, f.done(t, f.batch(2, inc("a", 1))).Replayed, "the lane goes on")
}

func TestApply_longErrorTexts_stayOneResult(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	require.NoError(t, f.admin.HSet(f.ctx, f.at.Name, "a", strings.Repeat("1 ", 5000)).Err())
	f.open(t)
	c := f.done(t, f.batch(1, op(verb.Get, "a", 0), inc("b", 1)))
	require.Equal(t, []verb.Result{{Err: verb.NotInteger}, {N: 1}}, c.Results)
}

func TestApply_onAnotherType_isWrongType_ofEachOperation(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	require.NoError(t, f.admin.Set(f.ctx, f.at.Name, "text", 0).Err())
	f.open(t)
	ops := []verb.Keyed{
		op(verb.Clear, "", 0), inc("a", 1), op(verb.Set, "a", 1), op(verb.Del, "a", 0),
		{Key: "a", Op: verb.Op{Kind: verb.SetIf, If: verb.Cond{Cmp: verb.Always}}}, op(verb.Dec, "a", math.MinInt64),
	}
	c := f.done(t, f.batch(1, ops...))
	for _, r := range c.Results {
		require.Equal(t, verb.Result{Err: verb.WrongType}, r)
	}
	require.True(t, c.Existed && c.Kept)
	require.Equal(t, "text", f.admin.Get(f.ctx, f.at.Name).Val())
}

// What is not as the script has it is refused before the first write.
func TestApply_wrongArguments_writeNothing(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.open(t)
	keys := []string{f.at.Name, f.at.Ledger("w"), f.mark()}
	for _, head := range [][]any{{1, 2, 1, 3_600_000}, {"bare", 0, 0, 0}} {
		for _, wrong := range fakeredis.WrongOperations {
			args := head
			for _, word := range wrong {
				args = append(args, word)
			}
			err := f.admin.Eval(f.ctx, lua.Apply, keys, args...).Err()
			require.Equal(t, redisio.Refused, redisio.Classify(err), "%q: %v", args, err)
			require.ErrorContains(t, err, "NOTWRITTEN ERR ")
		}
	}
	err := f.admin.Eval(f.ctx, lua.Apply, keys, "one", 2, 1, 3_600_000, 1, "g", "a").Err()
	require.ErrorContains(t, err, "NOTWRITTEN no batch number")
	require.Empty(t, f.stored())
	require.Equal(t, "0 1", f.admin.Get(f.ctx, keys[1]).Val())
	require.Zero(t, f.admin.Exists(f.ctx, f.mark()).Val())
	f.done(t, f.batch(1, inc("a", 1)))
}

// A key of the ledger's name that is none of ours.
func TestApply_onWhatIsNoLedger_isRefused(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	for _, put := range []func() error{
		func() error { return f.admin.Set(f.ctx, f.at.Ledger("w"), "text", 0).Err() },
		func() error { return f.admin.HSet(f.ctx, f.at.Ledger("w"), "a", 1).Err() },
	} {
		require.NoError(t, f.admin.Del(f.ctx, f.at.Ledger("w")).Err())
		require.NoError(t, put())
		c := f.batch(1, inc("a", 1))
		f.send(c)
		require.Equal(t, redisio.Refused, c.Class, "%v", c.Err)
	}
	c := f.batch(1, inc("a", 1))
	c.Task = redisio.Fence
	f.send(c)
	require.Equal(t, redisio.Refused, c.Class, "%v", c.Err)
	require.Empty(t, f.stored())
}

func TestMark_isLeftByWhoEmptiesTheContainer(t *testing.T) {
	t.Parallel()
	for _, row := range []struct {
		name   string
		ops    []verb.Keyed
		kept   bool
		marked bool
	}{
		{"the last field goes", []verb.Keyed{op(verb.Del, "a", 0)}, false, true},
		{"all go", []verb.Keyed{op(verb.Clear, "", 0)}, false, true},
		{"one of two goes", []verb.Keyed{inc("b", 1), op(verb.Del, "a", 0)}, true, false},
		{"it goes and comes back", []verb.Keyed{op(verb.Clear, "", 0), inc("b", 1)}, true, false},
		{"a field goes that is not there", []verb.Keyed{op(verb.Del, "none", 0)}, true, false},
		{"nothing goes", []verb.Keyed{inc("a", 1)}, true, false},
	} {
		for _, task := range []redisio.Task{redisio.Apply, redisio.Bare} {
			for _, unmarked := range []bool{false, true} {
				f := newFixture(t)
				f.open(t)
				require.NoError(t, f.admin.HSet(f.ctx, f.at.Name, "a", 1).Err())
				c := f.batch(1, row.ops...)
				c.Task, c.Unmarked = task, unmarked
				f.done(t, c)
				require.True(t, c.Existed)
				require.Equal(t, row.kept, c.Kept, "%s, by task %d, unmarked %v", row.name, task, unmarked)
				if row.marked && task == redisio.Apply && !unmarked {
					require.InDelta(t, 7*24*time.Hour, f.admin.PTTL(f.ctx, f.mark()).Val(), float64(time.Minute), row.name)
				} else {
					require.Zero(t, f.admin.Exists(f.ctx, f.mark()).Val(), row.name)
				}
			}
		}
	}
}

// Nor by who finds none: that would look as if it had been emptied on purpose.
func TestMark_isNotLeftWhereThereWasNothing(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.open(t)
	for i, ops := range [][]verb.Keyed{
		{op(verb.Clear, "", 0)}, {op(verb.Del, "a", 0)}, {inc("a", 1), op(verb.Clear, "", 0)},
	} {
		c := f.done(t, f.batch(int64(i+1), ops...))
		require.False(t, c.Existed || c.Kept)
		require.Zero(t, f.admin.Exists(f.ctx, f.mark()).Val())
	}
}

// Where a container is gone that was there, the answer says whether somebody has
// emptied it, and when.
func TestVanished_saysWhetherItWasOnPurpose(t *testing.T) {
	t.Parallel()
	for _, onPurpose := range []bool{false, true} {
		f := newFixture(t)
		f.open(t)
		f.done(t, f.batch(1, inc("a", 1)))
		if onPurpose {
			f.done(t, f.batch(2, op(verb.Clear, "", 0)))
			require.NoError(t, f.admin.PExpire(f.ctx, f.mark(), 6*24*time.Hour).Err(), "a day ago")
		} else {
			f.done(t, f.batch(2, inc("a", 1)))
			require.NoError(t, f.admin.Del(f.ctx, f.at.Name).Err())
		}
		for _, known := range []bool{false, true} {
			c := f.batch(9, inc("a", 1))
			c.Known = known
			f.send(c)
			require.Equal(t, redisio.Gap, c.Status)
			require.Equal(t, known, c.Vanished())
			require.Equal(t, known && onPurpose, c.Emptied, "nobody asks who is not to know")
			if c.Emptied {
				require.InDelta(t, 24*time.Hour, c.EmptiedAgo, float64(time.Minute))
			}
		}
		replay := f.done(t, f.batch(2, op(verb.Clear, "", 0)))
		require.True(t, replay.Replayed)
		require.Equal(t, !onPurpose, replay.Vanished(), "when the batch was applied there was one")

		// One that came when there was none, and made another.
		require.NoError(t, f.admin.Del(f.ctx, f.at.Name).Err())
		f.done(t, f.batch(3, inc("a", 1)))
		for _, known := range []bool{false, true} {
			replay = f.batch(3, inc("a", 1))
			replay.Known = known
			f.done(t, replay)
			require.True(t, replay.Replayed && replay.Existed && !replay.Before)
			require.Equal(t, known, replay.Vanished())
		}
	}
}

func TestApply_ofAUserWhoMayNotWrite_changesNothing(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	admin := redistest.NewClient(t, &redis.Options{Addr: server.Addr})
	require.NoError(t, admin.Do(t.Context(), "acl", "setuser", "u", "on", ">p", "~*", "+@all", "-set").Err())
	f := fixtureOn(t, redistest.NewClient(t, &redis.Options{Addr: server.Addr, Username: "u", Password: "p"}), admin)
	c := f.call(redisio.Open)
	f.send(c)
	require.Equal(t, redisio.Refused, c.Class, "%v", c.Err)
	fixture := *f
	fixture.Sender = redisio.New(admin)
	fixture.open(t)
	c = f.batch(1, inc("a", 1))
	f.send(c)
	require.Equal(t, redisio.Refused, c.Class, "%v", c.Err)
	require.Empty(t, f.stored())
}
