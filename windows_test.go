package distkit_test

import (
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/distkit/distkit-go"
	"github.com/distkit/distkit-go/internal/line"
	"github.com/distkit/distkit-go/internal/redistest"
	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"
)

// per is the windows of both kinds.
func (f *fixture) per(t testing.TB, p distkit.Period, keep time.Duration) map[string]*distkit.Windows {
	t.Helper()
	strict, err := f.Strict().Per(p, keep)
	require.NoError(t, err)
	lax, err := f.Lax().Per(p, keep)
	require.NoError(t, err)
	return map[string]*distkit.Windows{"strict_counter": strict, "lax_counter": lax}
}

func TestWindows_countInTheirHashes_whichExpire(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	day := time.Date(2040, 5, 6, 7, 8, 9, 0, time.UTC)
	start := time.Date(2040, 5, 6, 0, 0, 0, 0, time.UTC)
	for kind, w := range f.per(t, distkit.Daily(time.UTC), 48*time.Hour) {
		at := w.At(day)
		for range 3 {
			_, err := at.Inc(f.ctx, keyA, 2)
			require.NoError(t, err)
		}
		n, err := w.At(day.Add(24*time.Hour)).Inc(f.ctx, keyA, 5)
		require.NoError(t, err)
		require.EqualValues(t, 5, n, "the next day begins at 0")
		f.flush(t)
		name := f.prefix + ":" + kind + "@day@" + strconv.FormatInt(start.Unix(), 10)
		require.Equal(t, map[string]string{"a": "6"}, f.client.HGetAll(f.ctx, name).Val())
		require.WithinDuration(t, start.Add(72*time.Hour), time.Now().Add(f.client.PTTL(f.ctx, name).Val()), time.Minute)

		// One that was emptied and is made anew expires too.
		_, err = at.Del(f.ctx, keyA)
		require.NoError(t, err)
		require.Zero(t, f.client.Exists(f.ctx, name).Val())
		_, err = at.SetIf(f.ctx, keyB, distkit.Absent(), 9)
		require.NoError(t, err)
		f.flush(t)
		require.WithinDuration(t, start.Add(72*time.Hour), time.Now().Add(f.client.PTTL(f.ctx, name).Val()), time.Minute)

		points, err := w.Series(f.ctx, keyA, day.Add(-24*time.Hour), day.Add(48*time.Hour))
		require.NoError(t, err)
		require.Len(t, points, 4)
		for i, n := range []int64{0, 0, 5, 0} {
			require.Equal(t, n, points[i].N)
			require.True(t, start.Add(time.Duration(i-1)*24*time.Hour).Equal(points[i].Start))
		}
	}
}

func TestWindows_areReadByOthers(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	now := time.Now()
	for kind, w := range f.per(t, distkit.Every(time.Hour), time.Hour) {
		_, err := w.At(now).Inc(f.ctx, keyA, 3)
		require.NoError(t, err)
		f.flush(t)
		other := f.another(t)
		points, err := (&fixture{System: other, ctx: f.ctx}).per(t, distkit.Every(time.Hour), time.Hour)[kind].Series(f.ctx, keyA, now, now.Add(time.Nanosecond))
		require.NoError(t, err)
		require.EqualValues(t, 3, points[0].N)
		require.Zero(t, other.Stats().Lax.Resident+other.Stats().Strict.Resident, "it reads past the windows")
	}
}

// The window of now follows the clock, for calls, Adds and PIDs, and what was accepted in
// one lands in it though it is flushed later.
func TestWindows_followTheClock(t *testing.T) {
	t.Parallel()
	f := newFixture(t, distkit.WithAllowedLag(never))
	for kind, w := range f.per(t, distkit.Every(time.Second), time.Hour) {
		var counted, added int64
		began := time.Now()
		for time.Since(began) < 2500*time.Millisecond {
			_, err := w.Inc(f.ctx, keyA, 1)
			require.NoError(t, err)
			counted++
			require.NoError(t, w.Add(keyB, 1))
			w.PID(keyB).Send(distkit.Inc{N: 1})
			added += 2
			time.Sleep(time.Millisecond)
		}
		ended := time.Now()
		f.flush(t)
		points, err := w.Series(f.ctx, keyA, began, ended)
		require.NoError(t, err)
		require.GreaterOrEqual(t, len(points), 3)
		var sum int64
		for i, p := range points {
			if sum += p.N; i == len(points)-1 && p.N == 0 {
				break // it has just begun
			}
			name := f.prefix + ":" + kind + "@1s@" + strconv.FormatInt(p.Start.Unix(), 10)
			require.Equal(t, fmt.Sprint(p.N), f.client.HGet(f.ctx, name, "a").Val())
			require.NotZero(t, p.N, "%v", points)
		}
		require.Equal(t, counted, sum)
		sum = 0
		points, err = w.Series(f.ctx, keyB, began, ended)
		require.NoError(t, err)
		for _, p := range points {
			sum += p.N
		}
		require.Equal(t, added, sum)
	}
}

// A lax window that begins while Redis is away counts from 0 at once; nothing of it is
// lost.
func TestWindows_beginDuringAnOutage(t *testing.T) {
	t.Parallel()
	line := &line.Line{}
	f := fixtureOn(t, redistest.NewClient(t, line.Lead(*redistest.Options(t))), distkit.WithBackoff(time.Millisecond, 5*time.Millisecond))
	events := recordEvents(t, f.System)
	line.Down(true)
	require.NoError(t, f.Lax().Add(keyA, 1))
	await[distkit.WriterFailed](t, events)
	w, err := f.Lax().Per(distkit.Daily(time.UTC), 24*time.Hour)
	require.NoError(t, err)
	for i := range 5 {
		n, err := w.Inc(f.ctx, keyA, 1)
		require.NoError(t, err)
		require.EqualValues(t, i+1, n)
	}
	line.Down(false)
	f.flush(t)
	points, err := w.Series(f.ctx, keyA, time.Now(), time.Now().Add(time.Nanosecond))
	require.NoError(t, err)
	require.EqualValues(t, 5, points[0].N)
}

// What comes for a window that is over and not kept is let go, which is no loss of data.
func TestWindows_thatAreOver_areGone(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	events := recordEvents(t, f.System)
	old := time.Now().Add(-48 * time.Hour)
	for _, w := range f.per(t, distkit.Every(time.Hour), time.Hour) {
		for range 3 {
			_, err := w.At(old).Inc(f.ctx, keyA, 1)
			require.NoError(t, err)
			f.flush(t)
		}
	}
	for kind, w := range f.per(t, distkit.Every(time.Second), 0) { // one that ends between two changes
		at := w.At(time.Now())
		_, err := at.Inc(f.ctx, keyA, 1)
		require.NoError(t, err)
		f.flush(t)
		require.Eventually(t, func() bool {
			return len(f.client.Keys(f.ctx, f.prefix+":"+kind+"@1s@*").Val()) == 0
		}, 10*time.Second, time.Millisecond)
		_, err = at.Inc(f.ctx, keyA, 1)
		require.NoError(t, err)
		f.flush(t)
	}
	keys, err := f.client.Keys(f.ctx, f.prefix+":*@*").Result()
	require.NoError(t, err)
	for _, key := range keys {
		require.Contains(t, key, ":writer:", "a window is left: %s", key)
	}
	require.NoError(t, f.Shutdown(f.ctx))
	require.Empty(t, events.all())
}

func TestWindows_refuseWhatIsNone(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	for says, p := range map[string]distkit.Period{
		"zero Period":        {},
		"500ms":              distkit.Every(500 * time.Millisecond),
		"1.5s":               distkit.Every(1500 * time.Millisecond),
		"-1s":                distkit.Every(-time.Second),
		"the location":       distkit.Daily(nil),
		"by the hour is nil": distkit.Hourly(nil),
		"use time.UTC":       distkit.Monthly(nil),
	} {
		_, err := f.Strict().Per(p, time.Hour)
		require.ErrorContains(t, err, says)
		require.ErrorIs(t, err, distkit.ErrNotApplied)
	}
	_, err := f.Lax().Per(distkit.Daily(time.UTC), -1)
	require.ErrorContains(t, err, "0 or more")
	require.ErrorIs(t, err, distkit.ErrNotApplied)
	require.Empty(t, f.client.Keys(f.ctx, f.prefix+":*").Val(), "nothing came of it")
	w, err := f.Strict().Per(distkit.Every(time.Second), 0)
	require.NoError(t, err)
	_, err = w.Series(f.ctx, keyA, time.Now(), time.Now().Add(-time.Hour))
	require.ErrorContains(t, err, "before")
	_, err = w.Series(f.ctx, keyA, time.Unix(0, 0), time.Now())
	require.ErrorContains(t, err, "100000")
	_, err = (*distkit.StrictCounter)(nil).Per(distkit.Daily(time.UTC), 0)
	require.ErrorIs(t, err, distkit.ErrClosed)
	var none *distkit.Windows
	_, err = none.At(time.Now()).Inc(f.ctx, keyA, 1)
	require.ErrorIs(t, err, distkit.ErrClosed)
	require.ErrorIs(t, new(distkit.Windows).Add(keyA, 1), distkit.ErrClosed)
	require.NoError(t, f.Shutdown(f.ctx))
	_, err = w.Inc(f.ctx, keyA, 1)
	requireNotApplied(t, err, distkit.ErrClosed)
}

// In Redis Cluster a window's ledgers are in its slot.
func TestWindows_onACluster(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t, "--cluster-enabled", "yes")
	node := redistest.NewClient(t, &redis.Options{Addr: server.Addr})
	redistest.AwaitCluster(t, node)
	client := redis.NewClusterClient(&redis.ClusterOptions{Addrs: []string{server.Addr}})
	t.Cleanup(func() { _ = client.Close() })
	system, err := distkit.NewSystem(client, distkit.WithLogger(quiet))
	require.NoError(t, err)
	f := &fixture{System: system, ctx: t.Context()}
	for _, w := range f.per(t, distkit.Hourly(time.UTC), time.Hour) {
		for i := range 20 {
			n, err := w.At(time.Now().Add(time.Duration(i)*time.Hour)).Inc(t.Context(), keyA, 1)
			require.NoError(t, err)
			require.EqualValues(t, 1, n)
		}
		points, err := w.Series(t.Context(), keyA, time.Now(), time.Now().Add(19*time.Hour))
		require.NoError(t, err)
		require.NotContains(t, strings.Trim(fmt.Sprint(points), "[]"), " 0}")
	}
	require.NoError(t, system.Shutdown(t.Context()))
}

// What was refused in a window says in which.
func TestWindows_namedWhereTheyAreRefused(t *testing.T) {
	t.Parallel()
	f := newFixture(t, distkit.WithAllowedLag(never))
	events := recordEvents(t, f.System)
	start := time.Date(2040, 5, 6, 0, 0, 0, 0, time.UTC)
	window := "day@" + strconv.FormatInt(start.Unix(), 10)
	windows := f.per(t, distkit.Daily(time.UTC), time.Hour)
	for kind := range windows {
		require.NoError(t, f.client.HSet(f.ctx, f.prefix+":"+kind+"@"+window, "a", "text").Err())
	}
	windows["strict_counter"].At(start.Add(time.Hour)).PID(keyA).Send(distkit.Inc{N: 1})
	message := await[distkit.MessageRefused](t, events)
	require.Equal(t, distkit.MessageRefused{Key: keyA, Window: window, Err: message.Err}, message)
	require.ErrorIs(t, message.Err, distkit.ErrNotInteger)
	require.Contains(t, message.String(), `"a" of `+window)
	require.Contains(t, message.LogValue().String(), "window="+window)

	windows["lax_counter"].At(start.Add(time.Hour)).PID(keyA).Send(distkit.Inc{N: 3})
	err := f.Flush(f.ctx)
	var left *distkit.UnflushedError
	require.ErrorAs(t, err, &left)
	require.Equal(t, []distkit.Unflushed{{Key: keyA, Window: window, N: 3, Err: left.Changes[0].Err}}, left.Changes)
	require.ErrorContains(t, err, `"a" of `+window+` +3`)
	change := await[distkit.ChangeRefused](t, events)
	require.Equal(t, distkit.ChangeRefused{Key: keyA, Window: window, N: 3, Err: change.Err}, change)
	require.Contains(t, change.String(), window)

	stats := f.Stats()
	require.Equal(t, []int{1, 1, 0, 0}, []int{stats.StrictWindows.Resident, stats.LaxWindows.Resident, stats.Strict.Resident, stats.Lax.Resident})
}
