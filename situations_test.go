package distkit_test

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/distkit/distkit-go"
	"github.com/distkit/distkit-go/internal/redistest"
	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"
)

// What users of counters have run into, written as they would write it now.

// A handler has a deadline, and Redis stalls: each request has an ID, so its client asks
// again until it is told, and what was told is what was sold.
func TestTickets_soldWhileRedisStalls_areThoseThatWereTold(t *testing.T) {
	t.Parallel()
	const seats, clients, stalls = 1000, 50, 3
	server := redistest.Start(t)
	f := fixtureOn(t, redistest.NewClient(t, &redis.Options{Addr: server.Addr, MaxRetries: 3}), distkit.WithBackoff(time.Millisecond, 10*time.Millisecond))
	left := distkit.MustKey("seats")
	_, err := f.Strict().Set(f.ctx, left, seats)
	require.NoError(t, err)
	tx := func(id string) distkit.Tx {
		return distkit.Tx{ID: id, Keep: time.Hour, Steps: []distkit.Step{on(left, distkit.IncIf{If: distkit.Ge(1), N: -1})}}
	}
	var over atomic.Bool
	var sold, refused, again, unknown atomic.Int64
	var requests sync.WaitGroup
	for c := range clients {
		requests.Go(func() {
			for i := 0; !over.Load(); i++ {
				id := fmt.Sprintf("%d-%d", c, i)
				for attempt := 0; ; attempt++ {
					ctx, cancel := context.WithTimeout(f.ctx, 40*time.Millisecond)
					out, err := f.Strict().Apply(ctx, tx(id))
					cancel()
					if errors.Is(err, distkit.ErrOutcomeUnknown) {
						unknown.Add(1)
					}
					if err != nil && f.ctx.Err() == nil {
						continue
					}
					if out.Applied {
						sold.Add(1)
					} else {
						refused.Add(1)
					}
					if out.Replayed {
						again.Add(1)
					}
					break
				}
			}
		})
	}
	for range stalls {
		before := sold.Load() + refused.Load()
		require.Eventually(t, func() bool { return sold.Load()+refused.Load() > before+seats/(2*stalls) }, 30*time.Second, time.Millisecond)
		server.Pause(t)
		was := unknown.Load()
		require.Eventually(t, func() bool { return unknown.Load() > was }, 30*time.Second, time.Millisecond)
		server.Resume(t)
	}
	over.Store(true)
	requests.Wait()
	now, err := f.Strict().Get(f.ctx, left)
	require.NoError(t, err)
	require.Equal(t, seats-now, sold.Load(), "%d unknown at first, %d of which had been sold or refused; %d refused", unknown.Load(), again.Load(), refused.Load())
	require.GreaterOrEqual(t, now, int64(0))
	require.Positive(t, again.Load())
}

// Addresses, URLs and paths are names of counters; joined ones do not merge.
func TestNames_asPeopleHaveThem(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	for i, name := range []string{
		"2001:db8::1", "tenant:42:api:2026-11-25", "https://example.org/a?b=c", "arn:aws:s3:::bucket", "user@example.org",
		"1f0c9a1e-0000-4000-8000-000000000001", "naïve-键", "a b\n", "02:42:ac:11:00:02",
	} {
		key, err := distkit.ParseKey(name)
		require.NoError(t, err)
		_, err = f.Strict().Inc(f.ctx, key, int64(i)+1)
		require.NoError(t, err)
		require.Equal(t, strconv.Itoa(i+1), f.client.HGet(f.ctx, f.prefix+":strict_counter", name).Val())
	}
	for _, pair := range [][2][]string{
		{{"tenant", "1", "23", "calls"}, {"tenant", "12", "3", "calls"}},
		{{"::1"}, {"1::"}}, {{"2001:db8::12", "3"}, {"2001:db8::1", "23"}}, {{"user", "1", "10"}, {"user", "11", "0"}},
		{{"a:b", "c"}, {"a", "b:c"}},
	} {
		one, err := distkit.JoinKey(pair[0]...)
		require.NoError(t, err)
		other, err := distkit.JoinKey(pair[1]...)
		require.NoError(t, err)
		_, err = f.Strict().Inc(f.ctx, one, 100)
		require.NoError(t, err)
		_, found, err := f.Strict().Lookup(f.ctx, other)
		require.NoError(t, err)
		require.False(t, found, "%q and %q are one", one, other)
	}
	long, err := distkit.JoinKey("https://example.org/" + strings.Repeat("0", 300))
	require.NoError(t, err)
	_, err = f.Strict().Inc(f.ctx, long, 1)
	require.NoError(t, err)
	_, err = distkit.NewSystem(f.client, distkit.WithPrefix(distkit.MustKey("prod:billing")))
	require.NoError(t, err)
}

// A tenant's user of Redis may touch the keys of its prefix only, whatever is counted.
func TestTenant_needsNoMoreThanItsPrefix(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	admin := redistest.NewClient(t, patient(server.Addr))
	for i, prefix := range []string{"shop", "{shop}", "shop{x}", "prod:shop"} {
		user := fmt.Sprint("user", i)
		require.NoError(t, admin.ACLSetUser(t.Context(), user, "on", ">pw", "~"+prefix+":*", "+@all").Err())
		options := patient(server.Addr)
		options.Username, options.Password = user, "pw"
		f := &fixture{client: redistest.NewClient(t, options), prefix: prefix, ctx: t.Context()}
		f.System = f.another(t)
		day, err := f.Lax().Per(distkit.Daily(time.UTC), time.Hour)
		require.NoError(t, err)
		for _, c := range []distkit.Counter{f.Strict(), f.Lax(), day} {
			_, err := c.Inc(f.ctx, keyA, 1)
			require.NoError(t, err, prefix)
			_, err = c.Del(f.ctx, keyB)
			require.NoError(t, err, prefix)
			require.Equal(t, map[string]int64{"a": 1}, listed(t, f, c))
		}
		require.True(t, f.apply(t, distkit.Tx{ID: "it", Steps: []distkit.Step{on(keyA, distkit.Inc{N: 1})}}).Applied)
		_, found, err := f.Strict().Outcome(f.ctx, "it")
		require.NoError(t, err)
		require.True(t, found)
		require.NoError(t, f.Shutdown(f.ctx))
	}
}

// The caps of a user and of the organisation both hold, or neither is charged; a transfer
// takes and gives, or does nothing; who asks for up to 8 tokens gets the 5 there are.
func TestQuota_isChargedWholeOrNotAtAll(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	strict := f.Strict()
	user, org := distkit.MustKey("user:7"), distkit.MustKey("org:1")
	_, err := strict.Set(f.ctx, org, 98)
	require.NoError(t, err)
	for _, admitted := range []bool{true, true, false, false, false} {
		out := f.apply(t, steps(on(user, distkit.IncIf{If: distkit.Lt(5), N: 1}), on(org, distkit.IncIf{If: distkit.Lt(100), N: 1})))
		require.Equal(t, admitted, out.Applied)
		if !admitted {
			require.Equal(t, distkit.Change{Old: 100, New: 100}, out.Replies[1], "it is the organisation's cap")
		}
	}
	values, err := strict.GetAll(f.ctx, user, org)
	require.NoError(t, err)
	require.Equal(t, []int64{2, 100}, values)

	from, to := distkit.MustKey("wallet:a"), distkit.MustKey("wallet:b")
	_, err = strict.Set(f.ctx, from, 10)
	require.NoError(t, err)
	for amount, moved := range map[int64]bool{50: false, 11: false} {
		out := f.apply(t, steps(on(from, distkit.IncIf{If: distkit.Ge(amount), N: -amount}), on(to, distkit.Inc{N: amount})))
		require.Equal(t, moved, out.Applied)
		_, found, err := strict.Lookup(f.ctx, to)
		require.NoError(t, err)
		require.False(t, found, "it was never given anything")
	}

	tokens := distkit.MustKey("tokens")
	_, err = strict.Set(f.ctx, tokens, 5)
	require.NoError(t, err)
	take := func(upTo int64) (taken int64) {
		for {
			change, err := strict.IncIf(f.ctx, tokens, distkit.Ge(upTo), -upTo)
			require.NoError(t, err)
			if change.Applied || change.Old == 0 {
				return change.Old - change.New
			}
			upTo = change.Old // there are so many, unless somebody is faster
		}
	}
	require.EqualValues(t, 5, take(8))
	require.Zero(t, take(8))
}

// A message that is delivered twice counts once, though the first consumer died before it
// acknowledged it; and no marker stays for ever.
func TestMessage_deliveredTwice_countsOnce(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	usage := distkit.MustKey("usage:tenant-9")
	handle := func(system *distkit.System, id string) distkit.Outcome {
		out, err := system.Strict().Apply(f.ctx, distkit.Tx{ID: id, Keep: time.Hour, Steps: []distkit.Step{on(usage, distkit.Inc{N: 250})}})
		require.NoError(t, err)
		return out
	}
	first := f.another(t)
	require.False(t, handle(first, "evt-1").Replayed)
	require.NoError(t, first.Shutdown(f.ctx))
	require.Equal(t, distkit.Outcome{Applied: true, Replayed: true, Replies: []distkit.Reply{distkit.Value{N: 250}}}, handle(f.System, "evt-1"))
	var consumers sync.WaitGroup
	for range 5 {
		system := f.another(t)
		consumers.Go(func() { handle(system, "evt-2") })
	}
	consumers.Wait()
	require.Equal(t, map[string]string{"usage:tenant-9": "500"}, f.fields(), "no markers among the counters")
	for _, id := range []string{"evt-1", "evt-2"} {
		ttl := f.client.TTL(f.ctx, f.once(id)).Val()
		require.Positive(t, ttl)
		require.LessOrEqual(t, ttl, time.Hour)
	}
}

// Counters by the day go away by themselves: of 30 days' usage that is written, those to
// keep are in Redis. What has no end is deleted many at once, and a 0 is not nothing.
func TestDays_thatAreOver_takeNoMemory(t *testing.T) {
	t.Parallel()
	const users = 100
	f := newFixture(t)
	events := recordEvents(t, f.System)
	days, err := f.Lax().Per(distkit.Daily(time.UTC), 7*24*time.Hour)
	require.NoError(t, err)
	now := time.Now().UTC()
	user := func(u int) distkit.Key { return distkit.MustKey(fmt.Sprint("user:", u)) }
	for ago := range 30 {
		day := days.At(now.AddDate(0, 0, -ago))
		for u := range users {
			day.PID(user(u)).Send(distkit.Inc{N: int64(1 + ago)})
		}
		f.flush(t)
	}
	kept, err := f.client.Keys(f.ctx, f.prefix+":lax_counter@day@*").Result()
	require.NoError(t, err)
	require.Contains(t, []int{7, 8}, len(kept), "today, and seven days before: one less where it has just become tomorrow")
	points, err := days.Series(f.ctx, user(7), now.AddDate(0, 0, -6), now.Add(time.Nanosecond))
	require.NoError(t, err)
	require.Len(t, points, 7)
	for i, p := range points {
		require.EqualValues(t, 7-i, p.N)
	}
	for _, name := range kept {
		require.EqualValues(t, users, f.client.HLen(f.ctx, name).Val())
		require.Positive(t, f.client.TTL(f.ctx, name).Val())
	}
	require.Empty(t, events.all(), "days that are over are no loss")

	keys := make([]distkit.Key, 3*users)
	for i := range keys {
		keys[i] = user(i)
		require.NoError(t, f.Lax().Add(keys[i], 1))
	}
	was, err := f.Lax().DelAll(f.ctx, keys...)
	require.NoError(t, err)
	require.Len(t, was, len(keys))
	require.Zero(t, f.client.HLen(f.ctx, f.prefix+":lax_counter").Val())
	_, err = f.Strict().SetAll(f.ctx, distkit.Update{Key: keyA, N: 0})
	require.NoError(t, err)
	n, found, err := f.Strict().Lookup(f.ctx, keyA)
	require.NoError(t, err)
	require.Equal(t, []any{int64(0), true}, []any{n, found})
}

// Pods that start cold seed a counter from the database if it is not there: one of them
// does, and none does again when all is sold.
func TestSeed_isSownOnce(t *testing.T) {
	t.Parallel()
	const inDatabase = 10
	f := newFixture(t)
	stock := distkit.MustKey("stock:42")
	var pods sync.WaitGroup
	var sown atomic.Int64
	seed := func(system *distkit.System) {
		change, err := system.Strict().SetIf(f.ctx, stock, distkit.Absent(), inDatabase)
		if err != nil {
			t.Error(err)
		}
		if change.Applied {
			sown.Add(1)
		}
	}
	for range 5 {
		system := f.another(t)
		pods.Go(func() { seed(system) })
	}
	pods.Wait()
	sell := func() (sold int) {
		for {
			change, err := f.Strict().IncIf(f.ctx, stock, distkit.Gt(0), -1)
			require.NoError(t, err)
			if !change.Applied {
				return sold
			}
			sold++
		}
	}
	require.Equal(t, inDatabase, sell())
	seed(f.another(t)) // a rolling restart
	require.Zero(t, sell())
	require.EqualValues(t, 1, sown.Load())
	n, found, err := f.Strict().Lookup(f.ctx, stock)
	require.NoError(t, err)
	require.Equal(t, []any{int64(0), true}, []any{n, found}, "sold out is not unknown")
}

// The ten most visited pages, and all for a nightly copy, with what is not in Redis yet.
func TestPages_areListedWithWhatIsPending(t *testing.T) {
	t.Parallel()
	const pages = 3000
	f := newFixture(t)
	other := f.another(t)
	sum := int64(0)
	for i := range pages {
		n := int64(i%100) + 1
		sum += n
		require.NoError(t, other.Lax().Add(distkit.MustKey(fmt.Sprint("page:", i)), n))
	}
	require.NoError(t, other.Flush(f.ctx))
	best := distkit.MustKey("page:best")
	require.NoError(t, f.Lax().Add(best, 5000))
	sum += 5000
	top, err := f.Lax().Top(f.ctx, 10)
	require.NoError(t, err)
	require.Len(t, top, 10)
	require.Equal(t, distkit.Entry{Key: best, N: 5000}, top[0])
	for i, entry := range top[1:] {
		require.EqualValues(t, 100, entry.N)
		if i > 0 {
			require.Less(t, top[i].Key.String(), entry.Key.String(), "of equals the first by name")
		}
	}
	all := listed(t, f, f.Lax())
	require.Len(t, all, pages+1)
	for _, n := range all {
		sum -= n
	}
	require.Zero(t, sum)
}

// A dashboard that polls all counters costs Redis a few steps of a cursor, and nothing
// between its polls.
func TestDashboard_costsRedisLittle(t *testing.T) {
	t.Parallel()
	const counters, polls = 2000, 5
	server := redistest.Start(t)
	f := fixtureOn(t, redistest.NewClient(t, patient(server.Addr)))
	for i := range counters {
		require.NoError(t, f.Lax().Add(distkit.MustKey(fmt.Sprint("page:", i)), 1))
	}
	f.flush(t)
	looks := regexp.MustCompile(`cmdstat_(hmget|hscan|hgetall|hget):calls=(\d+)`)
	calls := func() (n int) {
		for _, found := range looks.FindAllStringSubmatch(f.client.Info(f.ctx, "commandstats").Val(), -1) {
			calls, err := strconv.Atoi(found[2])
			require.NoError(t, err)
			n += calls
		}
		return n
	}
	before := calls()
	for range polls {
		require.Len(t, listed(t, f, f.Lax()), counters)
	}
	took := calls() - before
	require.LessOrEqual(t, took, polls*counters/100, "steps of 250, more or less")
	time.Sleep(200 * time.Millisecond) // ten flushes' and reads' time
	require.Equal(t, took, calls()-before, "and nobody reads on")
}
