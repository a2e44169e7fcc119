package distkit_test

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"math"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/distkit/distkit-go"
	"github.com/distkit/distkit-go/internal/redistest"
	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"
)

// Listing all counters, and the largest.

// fill gives a container fields, past the library.
func (f *fixture) fill(t testing.TB, kind string, fields map[string]int64) {
	t.Helper()
	pairs := make([]any, 0, 2*len(fields))
	for field, n := range fields {
		pairs = append(pairs, field, n)
	}
	for part := range slices.Chunk(pairs, 20_000) {
		require.NoError(t, f.client.HSet(f.ctx, f.prefix+":"+kind, part...).Err())
	}
}

// many are so many fields with small values, in which ties are frequent.
func many(n int) map[string]int64 {
	fields := make(map[string]int64, n)
	for i := range n {
		fields[fmt.Sprint("k", i)] = rand.Int64N(2000) - 1000
	}
	return fields
}

// listed is what All yields; no counter comes twice.
func listed(t testing.TB, f *fixture, c distkit.Counter) map[string]int64 {
	t.Helper()
	all := map[string]int64{}
	for e, err := range c.All(f.ctx) {
		require.NoError(t, err)
		require.NotContains(t, all, e.Key.String())
		all[e.Key.String()] = e.N
	}
	return all
}

func TestAll_isComplete(t *testing.T) {
	t.Parallel()
	for _, size := range []int{0, 1, 300, 100_000} {
		both(t, func(t *testing.T, f *fixture, c distkit.Counter, kind string) {
			want := many(size)
			f.fill(t, kind, want)
			all := c.All(f.ctx)
			for range 2 { // each use goes through them anew
				got := map[string]int64{}
				for e, err := range all {
					require.NoError(t, err)
					got[e.Key.String()] = e.N
				}
				require.True(t, maps.Equal(want, got), "%d of %d", len(got), size)
			}
		})
	}
}

func TestTop_isTheHeadOfAllSorted(t *testing.T) {
	t.Parallel()
	both(t, func(t *testing.T, f *fixture, c distkit.Counter, kind string) {
		fields := many(5000)
		fields["least"], fields["most"] = math.MinInt64, math.MaxInt64
		f.fill(t, kind, fields)
		sorted := make([]distkit.Entry, 0, len(fields))
		for field, n := range fields {
			sorted = append(sorted, distkit.Entry{Key: distkit.MustKey(field), N: n})
		}
		slices.SortFunc(sorted, func(a, b distkit.Entry) int {
			return cmp.Or(cmp.Compare(b.N, a.N), strings.Compare(a.Key.String(), b.Key.String()))
		})
		for _, n := range []int{1, 2, 10, 777, 5001, 5002, 9999, math.MaxInt} {
			top, err := c.Top(f.ctx, n)
			require.NoError(t, err)
			require.Equal(t, sorted[:min(n, len(sorted))], top, "%d", n)
		}
		for _, n := range []int{0, -1, math.MinInt} {
			_, err := c.Top(f.ctx, n)
			requireNotApplied(t, err, distkit.ErrNotApplied)
			require.ErrorContains(t, err, strconv.Itoa(n))
		}
	})
	f := newFixture(t)
	top, err := f.Strict().Top(f.ctx, 3)
	require.NoError(t, err)
	require.Empty(t, top)
}

// Writers come, go and count while counters are listed; those that stay are met.
func TestAll_amongWriters_meetsWhatStays(t *testing.T) {
	t.Parallel()
	both(t, func(t *testing.T, f *fixture, c distkit.Counter, kind string) {
		want := many(20_000)
		f.fill(t, kind, want)
		over, done := make(chan struct{}), make(chan struct{})
		go func() {
			defer close(done)
			for i := 0; ; i++ {
				select {
				case <-over:
					return
				default:
				}
				keys := make([]distkit.Key, 100)
				for k := range keys {
					keys[k] = distkit.MustKey(fmt.Sprint("passing", (i*50+k)%30_000))
				}
				for _, key := range keys {
					_, _ = f.Lax().Inc(f.ctx, key, 1)
					f.Strict().PID(key).Send(distkit.Inc{N: 1})
				}
				_, _ = f.Strict().DelAll(f.ctx, keys[:50]...)
				_, _ = f.Lax().DelAll(f.ctx, keys[:50]...)
			}
		}()
		defer func() { close(over); <-done }()
		for range 3 {
			met := map[string]int64{}
			for e, err := range c.All(f.ctx) {
				require.NoError(t, err)
				met[e.Key.String()] = e.N
			}
			maps.DeleteFunc(met, func(key string, _ int64) bool { return strings.HasPrefix(key, "passing") })
			require.True(t, maps.Equal(want, met), "%d of %d", len(met), len(want))
		}
	})
}

// What of lax counters is pending is listed as this process sees it.
func TestAll_ofLaxCounters_hasWhatIsPending(t *testing.T) {
	t.Parallel()
	f := newFixture(t, distkit.WithAllowedLag(time.Second))
	f.fill(t, "lax_counter", map[string]int64{"a": 5, "b": 6, "c": 7, "other": 8, "cleared": 9})
	lax := f.Lax()
	require.NoError(t, lax.Add(keyA, 2))
	require.NoError(t, second(lax.Set(f.ctx, keyB, 0)))
	require.NoError(t, lax.Add(distkit.MustKey("new"), 3))
	lax.PID(keyC).Send(distkit.Del{})
	require.Equal(t, map[string]int64{"a": 7, "b": 0, "new": 3, "other": 8, "cleared": 9}, listed(t, f, lax))
	top, err := lax.Top(f.ctx, 2)
	require.NoError(t, err)
	require.Equal(t, []distkit.Entry{{Key: distkit.MustKey("cleared"), N: 9}, {Key: distkit.MustKey("other"), N: 8}}, top)
	f.flush(t)
	require.Equal(t, map[string]int64{"a": 7, "b": 0, "new": 3, "other": 8, "cleared": 9}, listed(t, f, lax))

	// A counter in memory with nothing pending is as others have left it.
	f.fill(t, "lax_counter", map[string]int64{"a": 100})
	require.NoError(t, f.client.HDel(f.ctx, f.prefix+":lax_counter", "b").Err())
	require.Equal(t, map[string]int64{"a": 100, "new": 3, "other": 8, "cleared": 9}, listed(t, f, lax))
	require.NoError(t, lax.Clear(f.ctx))
	require.Empty(t, listed(t, f, lax))
	require.NoError(t, lax.Add(keyA, 1))
	require.Equal(t, map[string]int64{"a": 1}, listed(t, f, lax))
}

func TestAll_goesOnAfterWhatCannotBeRead(t *testing.T) {
	t.Parallel()
	both(t, func(t *testing.T, f *fixture, c distkit.Counter, kind string) {
		f.fill(t, kind, many(1000))
		foreign := map[string]error{
			"text": distkit.ErrNotInteger, "float": distkit.ErrNotInteger,
			"": distkit.ErrInvalidKey, strings.Repeat("x", 256): distkit.ErrInvalidKey,
		}
		require.NoError(t, f.client.HSet(f.ctx, f.prefix+":"+kind, "text", "a b", "float", "1.5", "", 3, strings.Repeat("x", 256), 4).Err())
		good, bad := 0, map[string]error{}
		for e, err := range c.All(f.ctx) {
			if err == nil {
				good++
				continue
			}
			bad[e.Key.String()] = err
		}
		require.Equal(t, 1000, good)
		require.Len(t, bad, len(foreign))
		for key, want := range foreign {
			requireNotApplied(t, bad[key], want)
			require.ErrorContains(t, bad[key], strconv.Quote(key))
		}
		top, err := c.Top(f.ctx, 5)
		requireNotApplied(t, err, distkit.ErrNotApplied)
		require.ErrorContains(t, err, "4 of the counters")
		require.Len(t, top, 5)
	})
}

// requireEnd asks for an error that ends a listing, and for no entries after so many.
func requireEnd(t testing.TB, f *fixture, kind string, ctx context.Context, c distkit.Counter, after int, cause error) error {
	t.Helper()
	met, end := 0, error(nil)
	for e, err := range c.All(ctx) {
		require.NoError(t, end, "it has ended")
		if err == nil {
			met++
			continue
		}
		require.Zero(t, e)
		end = err
	}
	requireNotApplied(t, end, cause)
	require.ErrorContains(t, end, f.prefix+":"+kind, "it says which")
	require.LessOrEqual(t, met, after)
	return end
}

func TestAll_ends_withWhatKeepsItFromTheRest(t *testing.T) {
	t.Parallel()
	both(t, func(t *testing.T, f *fixture, c distkit.Counter, kind string) {
		ended, cancel := context.WithCancel(f.ctx)
		cancel()
		_ = requireEnd(t, f, kind, ended, c, 0, context.Canceled)
		f.fill(t, kind, many(5000))

		ctx, cancel := context.WithCancel(f.ctx)
		defer cancel()
		met, end := 0, error(nil)
		for _, err := range c.All(ctx) {
			if met++; met == 300 {
				cancel()
			}
			end = err
		}
		requireNotApplied(t, end, context.Canceled)
		require.Less(t, met, 2000, "it ends with the step under way")

		for e, err := range c.All(f.ctx) { // nothing comes of the rest: the loop may end
			require.NoError(t, err)
			require.NotZero(t, e)
			break
		}

		require.NoError(t, f.client.Del(f.ctx, f.prefix+":"+kind).Err())
		require.NoError(t, f.client.Set(f.ctx, f.prefix+":"+kind, "text", 0).Err())
		_ = requireEnd(t, f, kind, f.ctx, c, 0, distkit.ErrWrongType)
		top, err := c.Top(f.ctx, 3)
		requireNotApplied(t, err, distkit.ErrWrongType)
		require.Empty(t, top)

		//nolint:staticcheck // a nil context is the point
		for _, err := range c.All(nil) {
			require.ErrorContains(t, err, "context is nil")
		}
		require.NoError(t, f.Shutdown(f.ctx))
		_ = requireEnd(t, f, kind, f.ctx, c, 0, distkit.ErrClosed)
	})
	for _, c := range []distkit.Counter{new(distkit.StrictCounter), new(distkit.LaxCounter)} {
		for e, err := range c.All(t.Context()) {
			requireNotApplied(t, err, distkit.ErrClosed)
			require.Zero(t, e)
		}
	}
}

// While Redis is away the beginning waits, and the middle ends.
func TestAll_whileRedisIsAway(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	for _, kind := range []string{"strict_counter", "lax_counter"} {
		f := fixtureOn(t, redistest.NewClient(t, &redis.Options{Addr: server.Addr, MaxRetries: -1}))
		c := f.counters()[kind]
		f.fill(t, kind, many(2000))
		met, end := 0, error(nil)
		for _, err := range c.All(f.ctx) {
			require.NoError(t, end, "it has ended")
			if met++; met == 1 {
				server.Kill(t)
			}
			end = err
		}
		requireNotApplied(t, end, distkit.ErrNotApplied)
		require.ErrorContains(t, end, f.prefix+":"+kind)
		ctx, cancel := context.WithTimeout(f.ctx, 2*time.Second) // go-redis dials for a while
		end = requireEnd(t, f, kind, ctx, c, 0, context.DeadlineExceeded)
		cancel()
		require.ErrorContains(t, end, "last from Redis")
		counted := make(chan int)
		go func() {
			n := 0
			for _, err := range c.All(f.ctx) {
				if err == nil {
					n++
				}
			}
			counted <- n
		}()
		server.Restart(t)
		require.Zero(t, <-counted, "it was in memory only")
	}
}

// A user with the right to read, and a Redis without memory.
func TestAll_needsNoMoreThanTheRightToRead(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	admin := redistest.NewClient(t, &redis.Options{Addr: server.Addr})
	require.NoError(t, admin.Do(t.Context(), "acl", "setuser", "u", "on", ">p", "~*", "+@read").Err())
	for _, kind := range []string{"strict_counter", "lax_counter"} {
		f := fixtureOn(t, redistest.NewClient(t, &redis.Options{Addr: server.Addr, Username: "u", Password: "p"}))
		require.NoError(t, admin.HSet(f.ctx, f.prefix+":"+kind, "a", 5, "b", 6).Err())
		require.NoError(t, f.Lax().Add(keyA, 1)) // which Redis refuses for good
		require.NoError(t, admin.ConfigSet(f.ctx, "maxmemory", "1").Err())
		want := map[string]int64{"a": 5, "b": 6}
		if kind == "lax_counter" {
			want["a"] = 6
		}
		require.Equal(t, want, listed(t, f, f.counters()[kind]))
		require.NoError(t, admin.ConfigSet(f.ctx, "maxmemory", "0").Err())
		ended, cancel := context.WithCancel(f.ctx)
		cancel()
		_ = f.Shutdown(ended) // it would wait for what Redis refuses
	}
	require.NoError(t, admin.Do(t.Context(), "acl", "setuser", "u", "-hscan").Err())
	f := fixtureOn(t, redistest.NewClient(t, &redis.Options{Addr: server.Addr, Username: "u", Password: "p"}))
	end := requireEnd(t, f, "strict_counter", f.ctx, f.Strict(), 0, distkit.ErrNotApplied)
	require.ErrorContains(t, end, "NOPERM")
}
