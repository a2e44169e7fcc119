package distkit_test

import (
	"context"
	"errors"
	"fmt"
	"math"
	"strconv"
	"testing"
	"time"

	"github.com/distkit/distkit-go"
	"github.com/distkit/distkit-go/internal/redisio"
	"github.com/distkit/distkit-go/internal/redistest"
	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"
)

// manyKeys are keys of all shards, some of them with hash tags.
func manyKeys(n int) []distkit.Key {
	keys := make([]distkit.Key, n)
	for i := range keys {
		keys[i] = distkit.MustKey(fmt.Sprint("key:", i))
		if i%5 == 0 {
			keys[i] = distkit.MustKey(fmt.Sprintf("a{%d}b", i))
		}
	}
	return keys
}

// ofShard is a key of a shard.
func ofShard(shard, of int) distkit.Key {
	for i := 0; ; i++ {
		if name := fmt.Sprint("k", i); redisio.ShardOf(name, of) == shard {
			return distkit.MustKey(name)
		}
	}
}

// container is where a key is in Redis.
func (f *fixture) container(kind string, key distkit.Key, shards int) string {
	return f.prefix + ":" + redisio.ShardName(kind, redisio.ShardOf(key.String(), shards), shards)
}

// Each key is on the shard that its hash says, by every way that an operation takes.
func TestShards_haveTheirKeys(t *testing.T) {
	t.Parallel()
	const shards = 4
	both(t, func(t *testing.T, f *fixture, c distkit.Counter, kind string) {
		keys := manyKeys(100)
		updates := make([]distkit.Update, len(keys))
		for i, key := range keys {
			n, err := c.Inc(f.ctx, key, int64(i))
			require.NoError(t, err)
			require.EqualValues(t, i, n)
			pid := c.PID(key)
			pid.Send(distkit.Inc{N: 1000})
			answer, err := f.ActorSystem().Root.RequestFuture(pid.Actor(), distkit.Inc{N: 1000}, time.Minute).Result()
			require.NoError(t, err)
			require.Equal(t, distkit.Value{N: int64(i + 2000)}, answer)
			updates[i] = distkit.Update{Key: key, N: 1000}
		}
		sums, err := c.IncAll(f.ctx, updates...)
		require.NoError(t, err)
		values, err := c.GetAll(f.ctx, keys...)
		require.NoError(t, err)
		require.Equal(t, sums, values)
		if lax, ok := c.(*distkit.LaxCounter); ok {
			require.NoError(t, lax.Add(keys[7], 5))
			view, err := lax.View(f.ctx, keys[7])
			require.NoError(t, err)
			require.EqualValues(t, 3012, view.N)
			require.NoError(t, lax.Add(keys[7], -5))
		}
		f.flush(t)
		for i, key := range keys {
			require.EqualValues(t, i+3000, sums[i])
			require.Equal(t, strconv.Itoa(i+3000), f.client.HGet(f.ctx, f.container(kind, key, shards), key.String()).Val(), key)
		}
		all := int64(0)
		for i := range shards {
			all += f.client.HLen(f.ctx, fmt.Sprint(f.prefix, ":", kind, "#", i)).Val()
		}
		require.EqualValues(t, len(keys), all, "one lies twice")
		require.Zero(t, f.client.Exists(f.ctx, f.prefix+":"+kind).Val())
		require.Equal(t, "4", f.client.Get(f.ctx, f.prefix+":layout").Val())

		found := map[distkit.Key]int64{}
		for entry, err := range c.All(f.ctx) {
			require.NoError(t, err)
			require.NotContains(t, found, entry.Key)
			found[entry.Key] = entry.N
		}
		require.Len(t, found, len(keys))
		top, err := c.Top(f.ctx, 3)
		require.NoError(t, err)
		require.Equal(t, []distkit.Entry{{Key: keys[99], N: 3099}, {Key: keys[98], N: 3098}, {Key: keys[97], N: 3097}}, top)
		met := 0
		for _, err := range c.All(f.ctx) {
			require.NoError(t, err)
			met++
			break
		}
		require.Equal(t, 1, met, "it goes on to the next shard")

		stats := f.Stats()
		require.Equal(t, len(keys), stats.Strict.Resident+stats.Lax.Resident)
		require.NoError(t, f.Health(f.ctx))
		had, err := c.DelAll(f.ctx, keys[:50]...)
		require.NoError(t, err)
		require.Equal(t, sums[:50], had)
		require.NoError(t, f.another(t, distkit.WithShards(shards)).Strict().Clear(f.ctx))
		require.NoError(t, c.Clear(f.ctx))
		for i := range shards {
			require.Zero(t, f.client.Exists(f.ctx, fmt.Sprint(f.prefix, ":", kind, "#", i)).Val())
		}
	}, distkit.WithShards(shards))
}

// Windows are on shards as well.
func TestShards_ofWindows(t *testing.T) {
	t.Parallel()
	const shards = 3
	f := newFixture(t, distkit.WithShards(shards))
	start := time.Now().Truncate(time.Hour)
	for kind, per := range map[string]func(distkit.Period, time.Duration) (*distkit.Windows, error){
		"strict_counter": f.Strict().Per, "lax_counter": f.Lax().Per,
	} {
		w, err := per(distkit.Every(time.Hour), time.Hour)
		require.NoError(t, err)
		for i, key := range manyKeys(20) {
			for back := range 2 {
				n, err := w.At(start.Add(time.Duration(-back)*time.Hour)).Inc(f.ctx, key, int64(i+back))
				require.NoError(t, err)
				require.EqualValues(t, i+back, n)
			}
			f.flush(t)
			shard := redisio.ShardName(kind, redisio.ShardOf(key.String(), shards), shards)
			name := fmt.Sprint(f.prefix, ":", shard, "@3600s@", start.Unix())
			require.Equal(t, strconv.Itoa(i), f.client.HGet(f.ctx, name, key.String()).Val(), name)
			asked := time.Now()
			left := f.client.PTTL(f.ctx, name).Val() // PEXPIRETIME is of Redis 7.0
			expires := start.Add(2 * time.Hour)
			require.False(t, expires.Before(asked.Add(left-time.Millisecond)) || expires.After(time.Now().Add(left+time.Millisecond)), "%v", left)

			fresh := f.another(t, distkit.WithShards(shards)) // reads them past the windows
			other, err := map[string]func(distkit.Period, time.Duration) (*distkit.Windows, error){
				"strict_counter": fresh.Strict().Per, "lax_counter": fresh.Lax().Per,
			}[kind](distkit.Every(time.Hour), time.Hour)
			require.NoError(t, err)
			for _, of := range []*distkit.Windows{w, other} {
				points, err := of.Series(f.ctx, key, start.Add(-time.Hour), start.Add(time.Minute))
				require.NoError(t, err)
				require.Equal(t, []distkit.Point{{Start: start.Add(-time.Hour), N: int64(i + 1)}, {Start: start, N: int64(i)}}, points)
			}
		}
	}
}

// A transaction is of one shard, and its outcome is found without knowing which.
func TestShards_transactions(t *testing.T) {
	t.Parallel()
	const shards = 4
	f := newFixture(t, distkit.WithShards(shards))
	one, two := ofShard(1, shards), ofShard(2, shards)
	_, err := f.Strict().Apply(f.ctx, distkit.Tx{ID: "apart", Steps: []distkit.Step{on(one, distkit.Inc{N: 1}), on(two, distkit.Inc{N: 1})}})
	requireNotApplied(t, err, distkit.ErrCrossShard)
	require.ErrorContains(t, err, "hash tag")
	require.Empty(t, f.client.Keys(f.ctx, f.prefix+":*").Val(), "something was written")

	fresh := f.another(t, distkit.WithShards(shards))
	for i := range 20 {
		a, b, id := distkit.MustKey(fmt.Sprintf("{%d}a", i)), distkit.MustKey(fmt.Sprintf("{%d}b", i)), fmt.Sprint("tx", i)
		tx := distkit.Tx{ID: id, Steps: []distkit.Step{on(a, distkit.Inc{N: 1}), on(b, distkit.Inc{N: 1})}}
		for _, replayed := range []bool{false, true} {
			out, err := f.Strict().Apply(f.ctx, tx)
			require.NoError(t, err)
			require.Equal(t, distkit.Outcome{Applied: true, Replayed: replayed, Replies: []distkit.Reply{distkit.Value{N: 1}, distkit.Value{N: 1}}}, out)
		}
		for _, system := range []*distkit.System{f.System, fresh} {
			out, found, err := system.Strict().Outcome(f.ctx, id)
			require.NoError(t, err)
			require.True(t, found)
			require.True(t, out.Applied)
			_, found, err = system.Strict().Outcome(f.ctx, "no "+id)
			require.NoError(t, err)
			require.False(t, found)
		}
	}
}

// Of a batch over several shards some operations may be applied and others not, which
// the error tells.
func TestShards_partlyApplied(t *testing.T) {
	t.Parallel()
	const shards = 2
	f := newFixture(t, distkit.WithShards(shards))
	bad, good := ofShard(0, shards), ofShard(1, shards)
	require.NoError(t, f.client.Set(f.ctx, f.prefix+":strict_counter#0", "text", 0).Err())
	values, err := f.Strict().IncAll(f.ctx, distkit.Update{Key: bad, N: 1}, distkit.Update{Key: good, N: 2}, distkit.Update{Key: bad, N: 3})
	require.ErrorIs(t, err, distkit.ErrPartlyApplied)
	require.NotErrorIs(t, err, distkit.ErrNotApplied)
	require.ErrorIs(t, err, distkit.ErrWrongType)
	var batch *distkit.BatchError
	require.ErrorAs(t, err, &batch)
	require.ErrorIs(t, batch.Errs[0], distkit.ErrNotApplied)
	require.NoError(t, batch.Errs[1])
	require.ErrorIs(t, batch.Errs[2], distkit.ErrNotApplied)
	require.Equal(t, []int64{0, 2, 0}, values)
	require.ErrorIs(t, f.Health(f.ctx), distkit.ErrWrongType)
	require.ErrorContains(t, f.Health(f.ctx), "1 of 2 shards failed, the first of them 0")
}

// Systems of different numbers of shards never mix: whoever comes second is refused, and
// nothing of theirs is applied.
func TestLayout_isGuarded(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		before  func(f *fixture) // of the fixture's prefix
		shards  int
		settled bool
		says    string
	}{
		"1 after 4":         {func(f *fixture) { count(t, f.another(t, distkit.WithShards(4)), f.ctx) }, 1, true, "are on 4; give that number"},
		"4 after 1":         {func(f *fixture) { count(t, f.another(t), f.ctx) }, 4, true, "are on 1; give that number"},
		"4 after 8":         {func(f *fixture) { count(t, f.another(t, distkit.WithShards(8)), f.ctx) }, 4, true, "are on 8; give that number"},
		"4 after windows":   {func(f *fixture) { countWindow(t, f.another(t), f.ctx) }, 4, true, "are on 1; give that number"},
		"4 after the crate": {func(f *fixture) { f.client.HSet(f.ctx, f.prefix+":strict_counter", "a", "1") }, 4, true, "strict_counter\" holds counters without shards"},
		"4 after lax of it": {func(f *fixture) { f.client.HSet(f.ctx, f.prefix+":lax_counter", "a", "1") }, 4, true, "lax_counter\" holds counters without shards"},
		"4 in a Reshard":    {func(f *fixture) { f.client.Set(f.ctx, f.prefix+":layout", "moving 1 4", 0) }, 4, false, "are being moved by a Reshard"},
		"1 in a Reshard":    {func(f *fixture) { f.client.Set(f.ctx, f.prefix+":layout", "moving 1 4", 0) }, 1, false, "are being moved by a Reshard"},
		"1 after a list":    {func(f *fixture) { f.client.RPush(f.ctx, f.prefix+":layout", "4") }, 1, false, "is no number of shards"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newFixture(t)
			test.before(f)
			before := f.client.Keys(f.ctx, f.prefix+":*").Val()
			refused := f.another(t, distkit.WithShards(test.shards))
			events := recordEvents(t, refused)
			for range 2 {
				for _, c := range []distkit.Counter{refused.Strict(), refused.Lax()} {
					for _, op := range []func() error{
						func() error { _, err := c.Inc(f.ctx, keyA, 1); return err },
						func() error { _, err := c.Get(f.ctx, keyA); return err },
						func() error { _, err := c.Del(f.ctx, keyA); return err },
						func() error { return c.Clear(f.ctx) },
						func() error { _, err := c.IncAll(f.ctx, distkit.Update{Key: keyA, N: 1}); return err },
						func() error { _, err := c.Top(f.ctx, 1); return err },
					} {
						err := op()
						requireNotApplied(t, err, distkit.ErrLayout)
						require.ErrorContains(t, err, test.says)
					}
				}
				_, _, err := refused.Strict().Outcome(f.ctx, "it")
				requireNotApplied(t, err, distkit.ErrLayout)
				require.ErrorIs(t, refused.Health(f.ctx), distkit.ErrLayout)
			}
			require.NoError(t, refused.Lax().Add(keyB, 3), "nobody waits for Redis")
			if test.settled {
				change := await[distkit.ChangeRefused](t, events)
				require.ErrorIs(t, change.Err, distkit.ErrLayout)
				require.Equal(t, keyB, change.Key)
			} else {
				require.Equal(t, 1, refused.Stats().Pending, "it may go when the layout is settled")
			}
			short, cancel := context.WithTimeout(f.ctx, 50*time.Millisecond)
			defer cancel()
			_ = refused.Shutdown(short)
			require.ElementsMatch(t, before, f.client.Keys(f.ctx, f.prefix+":*").Val(), "something was written")
		})
	}
}

func count(t *testing.T, s *distkit.System, ctx context.Context) {
	t.Helper()
	_, err := s.Strict().Inc(ctx, keyA, 1)
	require.NoError(t, err)
	require.NoError(t, s.Shutdown(ctx))
}

func countWindow(t *testing.T, s *distkit.System, ctx context.Context) {
	t.Helper()
	w, err := s.Lax().Per(distkit.Every(time.Hour), 0)
	require.NoError(t, err)
	require.NoError(t, w.Add(keyA, 1))
	require.NoError(t, s.Shutdown(ctx))
}

// Reads and questions write no layout; the first change does, and of many who begin at
// the same time with two numbers those of one go on.
func TestLayout_isOfWhoChangesFirst(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	layout := func() string { return f.client.Get(f.ctx, f.prefix+":layout").Val() }
	for _, shards := range []int{1, 4} {
		reader := f.another(t, distkit.WithShards(shards))
		for _, c := range []distkit.Counter{reader.Strict(), reader.Lax()} {
			_, err := c.Get(f.ctx, keyA)
			require.NoError(t, err)
		}
		require.NoError(t, reader.Health(f.ctx))
		require.Empty(t, layout())
	}
	const systems = 8
	errs := make(chan error, systems)
	of := map[int]*distkit.System{}
	for i := range systems {
		of[i] = f.another(t, distkit.WithShards(1+i%2))
	}
	for _, s := range of {
		go func() {
			_, err := s.Strict().Inc(f.ctx, keyA, 1)
			errs <- err
		}()
	}
	went := 0
	for range systems {
		if err := <-errs; err == nil {
			went++
		} else {
			requireNotApplied(t, err, distkit.ErrLayout)
		}
	}
	require.Equal(t, systems/2, went, "those of one number")
	shards, err := strconv.Atoi(layout())
	require.NoError(t, err)
	require.Equal(t, strconv.Itoa(systems/2), f.client.HGet(f.ctx, f.container("strict_counter", keyA, shards), "a").Val())
}

// Who reads where there is nothing yet learns of a layout that comes later.
func TestLayout_comesLater(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	for _, shards := range []int{1, 4} {
		f.prefix = redistest.Prefix(t, f.client)
		reader := f.another(t, distkit.WithShards(shards))
		n, err := reader.Strict().Get(f.ctx, keyA)
		require.NoError(t, err)
		require.Zero(t, n)
		count(t, f.another(t, distkit.WithShards(5-shards)), f.ctx)
		require.Eventually(t, func() bool {
			_, err = reader.Strict().Get(f.ctx, keyA)
			return errors.Is(err, distkit.ErrLayout)
		}, 30*time.Second, 10*time.Millisecond)
	}
}

// While Redis is away nothing is decided: calls wait, as always, and are decided when it
// is back.
func TestLayout_undecidedInAnOutage(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	admin := redistest.NewClient(t, &redis.Options{Addr: server.Addr})
	f := fixtureOn(t, redistest.NewClient(t, patient(server.Addr)), distkit.WithShards(4), distkit.WithBackoff(time.Millisecond, 10*time.Millisecond))
	wrong := f.another(t, distkit.WithShards(2), distkit.WithBackoff(time.Millisecond, 10*time.Millisecond))
	server.Kill(t)
	short, cancel := context.WithTimeout(f.ctx, 100*time.Millisecond)
	defer cancel()
	_, err := f.Strict().Inc(short, keyA, 1)
	requireNotApplied(t, err, context.DeadlineExceeded)
	require.NoError(t, f.Lax().Add(keyA, 7))
	fits, fails := make(chan error, 1), make(chan error, 1)
	server.Restart(t)
	require.NoError(t, admin.Set(f.ctx, f.prefix+":layout", 4, 0).Err())
	go func() { _, err := f.Strict().Inc(f.ctx, keyA, 1); fits <- err }()
	go func() { _, err := wrong.Strict().Inc(f.ctx, keyA, 1); fails <- err }()
	require.NoError(t, <-fits)
	requireNotApplied(t, <-fails, distkit.ErrLayout)
	f.flush(t)
	n, err := f.Lax().Get(f.ctx, keyA)
	require.NoError(t, err)
	require.EqualValues(t, 7, n)
	n, err = f.Strict().Get(f.ctx, keyA)
	require.NoError(t, err)
	require.EqualValues(t, 1, n)
}

// Redis loses everything under a System: it writes the layout anew, before others come
// with another number.
func TestLayout_isWrittenAgainAfterALoss(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	f := fixtureOn(t, redistest.NewClient(t, patient(server.Addr)), distkit.WithShards(4))
	_, err := f.Strict().Inc(f.ctx, keyA, 1)
	require.NoError(t, err)
	require.NoError(t, f.client.FlushAll(f.ctx).Err())
	n, err := f.Strict().Inc(f.ctx, keyA, 1)
	require.NoError(t, err)
	require.EqualValues(t, 1, n)
	require.Equal(t, "4", f.client.Get(f.ctx, f.prefix+":layout").Val())

	require.NoError(t, f.client.FlushAll(f.ctx).Err())
	require.NoError(t, f.client.Set(f.ctx, f.prefix+":layout", 2, 0).Err(), "another was faster")
	_, err = f.Strict().Inc(f.ctx, keyA, 1)
	requireNotApplied(t, err, distkit.ErrLayout)
}

func TestWithShards_refusesBadNumbers(t *testing.T) {
	t.Parallel()
	client := redistest.Client(t)
	for _, n := range []int{0, -1, 16_385, 20_000, math.MinInt, math.MaxInt} {
		_, err := distkit.NewSystem(client, distkit.WithShards(n))
		require.ErrorContains(t, err, fmt.Sprintf("WithShards: %d is not 1 to 16384", n))
	}
	system, err := distkit.NewSystem(client, distkit.WithShards(16_384), distkit.WithPrefix(distkit.MustKey(redistest.Prefix(t, client))))
	require.NoError(t, err)
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	n, err := system.Strict().Inc(ctx, keyA, 1)
	require.NoError(t, err)
	require.EqualValues(t, 1, n)
	require.NoError(t, system.Shutdown(ctx))
}

// The errors of a Clear of which not all shards were cleared.
func TestShards_clearInPart(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	f := fixtureOn(t, redistest.NewClient(t, patient(server.Addr)), distkit.WithShards(2))
	for shard := range 2 {
		_, err := f.Strict().Inc(f.ctx, ofShard(shard, 2), 1)
		require.NoError(t, err)
	}
	options := patient(server.Addr)
	options.Username, options.Password = "half", "secret"
	require.NoError(t, f.client.ACLSetUser(f.ctx, "half", "on", ">secret", "+@all", "~"+f.prefix+":layout", "~"+f.prefix+":*#1*").Err())
	half := fixtureOn(t, redistest.NewClient(t, options))
	half.prefix = f.prefix
	err := half.another(t, distkit.WithShards(2)).Strict().Clear(f.ctx)
	require.ErrorIs(t, err, distkit.ErrPartlyApplied)
	require.False(t, errors.Is(err, distkit.ErrNotApplied) || errors.Is(err, distkit.ErrOutcomeUnknown))
	require.ErrorContains(t, err, "NOPERM")
	require.EqualValues(t, 1, f.client.Exists(f.ctx, f.prefix+":strict_counter#0").Val())
	require.Zero(t, f.client.Exists(f.ctx, f.prefix+":strict_counter#1").Val())
}

// Somebody writes the layout just when a System is about to: what was there first counts.
func TestLayout_writtenAtTheSameTime(t *testing.T) {
	t.Parallel()
	direct := redistest.Client(t)
	client := redistest.NewClient(t, redistest.Options(t))
	f := fixtureOn(t, client, distkit.WithShards(3))
	layout := f.prefix + ":layout"
	client.AddHook(setHook(func() { require.NoError(t, direct.Set(f.ctx, layout, 5, 0).Err()) }))
	_, err := f.Strict().Inc(f.ctx, keyA, 1)
	requireNotApplied(t, err, distkit.ErrLayout)
	require.Equal(t, "5", direct.Get(f.ctx, layout).Val())
}

// setHook is called before a SET.
type setHook func()

func (setHook) DialHook(next redis.DialHook) redis.DialHook { return next }

func (h setHook) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		if cmd.Name() == "set" {
			h()
		}
		return next(ctx, cmd)
	}
}

func (setHook) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return next
}
