package redisio_test

import (
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/distkit/distkit-go/internal/ledger"
	"github.com/distkit/distkit-go/internal/redisio"
	"github.com/distkit/distkit-go/internal/redistest"
	"github.com/distkit/distkit-go/internal/verb"
	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"
)

// A Redis that has no memory left, or a user who may only read.

// carryOut sends a batch until the ledger says what became of it.
func (f *fixture) carryOut(t *testing.T, b *ledger.Batch) ledger.Verdict {
	t.Helper()
	for attempt := 0; ; attempt++ {
		require.Less(t, attempt, 10, "%v", b.Err)
		b.Sending()
		f.send(&b.Call)
		if verdict := b.Ended(); verdict != ledger.Again {
			return verdict
		}
	}
}

// fullRedis is a fixture with a counter, on a Redis of its own that is full from
// then on, and the book of one who has written there before.
func fullRedis(t *testing.T) (*fixture, *ledger.Book) {
	t.Helper()
	server := redistest.Start(t)
	client := redistest.NewClient(t, &redis.Options{Addr: server.Addr})
	f := fixtureOn(t, client, client)
	book := &ledger.Book{At: f.at, Lifetime: time.Hour}
	b := book.NewBatch([]verb.Keyed{inc("a", 7), inc("b", 8)}, nil, nil)
	require.Equal(t, ledger.Done, f.carryOut(t, b), "%v", b.Err)
	b.Release()
	require.NoError(t, client.ConfigSet(f.ctx, "maxmemory", "1").Err())
	return f, book
}

// runsOverFull reports whether the server runs a script over full memory if asked
// to: Redis since 7.0.
func (f *fixture) runsOverFull(t *testing.T) bool {
	t.Helper()
	for _, line := range strings.Split(f.admin.Info(f.ctx, "server").Val(), "\r\n") {
		if version, found := strings.CutPrefix(line, "redis_version:"); found {
			major, err := strconv.Atoi(version[:strings.IndexByte(version, '.')])
			require.NoError(t, err)
			return major >= 7
		}
	}
	t.Fatal("no version")
	return false
}

func TestFull_refusesWhatNeedsMemory_andChangesNothing(t *testing.T) {
	t.Parallel()
	f, book := fullRedis(t)
	for name, ops := range map[string][]verb.Keyed{
		"an Inc": {inc("a", 1)},
		// Del needs no memory: were it first, Redis would let the rest pass too.
		"a Del and an Inc": {op(verb.Del, "a", 0), inc("b", 1)},
	} {
		for _, book := range []*ledger.Book{book, {At: f.at, Lifetime: time.Hour}} {
			b := book.NewBatch(ops, nil, nil)
			require.Equal(t, ledger.Refuse, f.carryOut(t, b), name)
			require.ErrorContains(t, b.Err, "OOM")
			require.Equal(t, redisio.Full, b.Class)
			b.Release()
			require.Equal(t, map[string]string{"a": "7", "b": "8"}, f.stored(), name)
		}
	}
	require.NoError(t, f.admin.ConfigSet(f.ctx, "maxmemory", "0").Err())
	b := book.NewBatch([]verb.Keyed{inc("a", 1)}, nil, nil)
	require.Equal(t, ledger.Done, f.carryOut(t, b), "%v", b.Err)
	require.Equal(t, "8", f.stored()["a"])
}

func TestFull_takesDelsAndClears(t *testing.T) {
	t.Parallel()
	f, book := fullRedis(t)
	if !f.runsOverFull(t) {
		t.Skip("this Redis runs no script over full memory")
	}
	for _, book := range []*ledger.Book{book, {At: f.at, Lifetime: time.Hour}} { // on a lane, and on one to be opened
		for _, ops := range [][]verb.Keyed{
			{op(verb.Del, "a", 0)},
			{op(verb.Get, "b", 0), op(verb.Del, "b", 0), op(verb.Del, "none", 0)},
			{op(verb.Clear, "", 0)},
		} {
			require.NoError(t, f.admin.ConfigSet(f.ctx, "maxmemory", "0").Err())
			require.NoError(t, f.admin.HSet(f.ctx, f.at.Name, "a", 1, "b", 2, "c", 3).Err())
			require.NoError(t, f.admin.ConfigSet(f.ctx, "maxmemory", "1").Err())
			b := book.NewBatch(ops, nil, nil)
			b.Light()
			require.Equal(t, ledger.Done, f.carryOut(t, b), "%v", b.Err)
			require.Nil(t, b.Loss)
			for i, o := range ops {
				want := map[string]int64{"a": 1, "b": 2}[o.Key]
				require.Equal(t, verb.Result{N: want}, b.Results[i])
				require.NotContains(t, f.stored(), o.Key)
			}
			require.Equal(t, ops[0].Kind == verb.Clear, !b.Kept)
			b.Release()
		}
	}
}

// The batch that is run over full memory is still run once.
func TestFull_aLightBatchInDoubt_isAnsweredFromTheLedger(t *testing.T) {
	t.Parallel()
	f, book := fullRedis(t)
	if !f.runsOverFull(t) {
		t.Skip("this Redis runs no script over full memory")
	}
	b := book.NewBatch([]verb.Keyed{op(verb.Del, "a", 0)}, nil, nil)
	b.Light()
	require.Equal(t, ledger.Done, f.carryOut(t, b), "%v", b.Err)
	b.OverFull = false // as a late copy may be
	f.send(&b.Call)
	require.Equal(t, redisio.Done, b.Status, "%v", b.Err)
	require.True(t, b.Replayed)
	require.Equal(t, []verb.Result{{N: 7}}, b.Results)
}

func TestFull_isRead(t *testing.T) {
	t.Parallel()
	f, _ := fullRedis(t)
	read := f.done(t, f.call(redisio.Read, op(verb.Get, "b", 0), op(verb.Get, "none", 0), op(verb.Get, "a", 0)))
	require.Equal(t, []verb.Result{{N: 8}, {Absent: true}, {N: 7}}, read.Results)
}

// Without a ledger the first operation would be the first write: the whole batch is
// refused, so that a lax change is kept and not set aside.
func TestFull_ofABareBatch_refusesItWhole(t *testing.T) {
	t.Parallel()
	f, _ := fullRedis(t)
	for name, ops := range map[string][]verb.Keyed{
		"increments": {inc("a", 1), inc("b", 1)},
		"a mixture":  {op(verb.Get, "b", 0), op(verb.Del, "a", 0), op(verb.Set, "b", 1)},
	} {
		c := f.call(redisio.Bare, ops...)
		f.send(c)
		require.Equal(t, redisio.Full, c.Class, "%s: %v", name, c.Err)
		require.Equal(t, map[string]string{"a": "7", "b": "8"}, f.stored(), name)
	}
	require.NoError(t, f.admin.ConfigSet(f.ctx, "maxmemory", "0").Err())
	c := f.done(t, f.call(redisio.Bare, inc("a", 1), inc("c", 1)))
	require.Equal(t, []verb.Result{{N: 8}, {N: 1}}, c.Results)
	require.NoError(t, f.admin.Del(f.ctx, f.at.Name).Err())
	f.done(t, f.call(redisio.Bare, op(verb.Del, "a", 0)))
	require.Zero(t, f.admin.Exists(f.ctx, f.at.Name).Val(), "asking whether it may write leaves something behind")
}

func TestRead_needsNoMoreThanTheRightToRead(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	admin := redistest.NewClient(t, &redis.Options{Addr: server.Addr})
	require.NoError(t, admin.Do(t.Context(), "acl", "setuser", "u", "on", ">p", "~*", "+@read").Err())
	reader := redistest.NewClient(t, &redis.Options{Addr: server.Addr, Username: "u", Password: "p"})
	f := fixtureOn(t, reader, admin)
	require.NoError(t, admin.HSet(f.ctx, f.at.Name, "a", 7).Err())
	read := f.done(t, f.call(redisio.Read, op(verb.Get, "a", 0), op(verb.Get, "b", 0)))
	require.Equal(t, []verb.Result{{N: 7}, {Absent: true}}, read.Results)
	c := f.call(redisio.Open)
	f.send(c)
	require.Equal(t, redisio.Refused, c.Class, "%v", c.Err)
	c = f.batch(1, inc("a", 1))
	f.send(c)
	require.Equal(t, redisio.Refused, c.Class, "%v", c.Err)
	require.Equal(t, "7", f.stored()["a"])
}
