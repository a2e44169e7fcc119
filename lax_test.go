package distkit_test

import (
	"context"
	"math"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/distkit/distkit-go"
	"github.com/stretchr/testify/require"
)

// never is a lag that no test outlives: changes stay pending until a Flush.
const never = time.Hour

func TestLax_add_reachesRedisByItself(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	other := f.another(t)
	require.NoError(t, f.Lax().Add(keyA, 5))
	require.NoError(t, f.Lax().Add(keyA, -2))
	require.Eventually(t, func() bool { return f.stored(t, "lax_counter", keyA) == "3" }, 10*time.Second, time.Millisecond)
	require.Eventually(t, func() bool {
		got, err := other.Lax().Get(f.ctx, keyA)
		return err == nil && got == 3
	}, 10*time.Second, time.Millisecond, "another process sees it")
}

func TestLax_add_fromManyGoroutines_losesNothing(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	keys := []distkit.Key{keyA, keyB, keyC}
	var wg sync.WaitGroup
	for g := range 8 {
		wg.Go(func() {
			for i := range 5000 {
				key := keys[(g+i)%len(keys)]
				var err error
				switch i % 3 {
				case 0:
					err = f.Lax().Add(key, 1)
				case 1:
					_, err = f.Lax().Inc(f.ctx, key, 1)
				default:
					f.Lax().PID(key).Send(distkit.Inc{N: 1})
				}
				if err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	f.flush(t)
	sum := 0
	for _, key := range keys {
		n, err := strconv.Atoi(f.stored(t, "lax_counter", key))
		require.NoError(t, err)
		sum += n
	}
	require.Equal(t, 8*5000, sum)
}

func TestLax_view_tellsPendingFromRemote(t *testing.T) {
	t.Parallel()
	f := newFixture(t, distkit.WithAllowedLag(never))
	require.NoError(t, f.client.HSet(f.ctx, f.prefix+":lax_counter", "a", 10).Err())
	view, err := f.Lax().View(f.ctx, keyA)
	require.NoError(t, err)
	require.EqualValues(t, 10, view.N)
	require.Zero(t, view.Pending)
	require.NoError(t, f.Lax().Add(keyA, 5))
	view, err = f.Lax().View(f.ctx, keyA)
	require.NoError(t, err)
	require.EqualValues(t, 15, view.N)
	require.EqualValues(t, 5, view.Pending)
	require.Positive(t, view.Age)
	require.Equal(t, "10", f.stored(t, "lax_counter", keyA), "nothing was written yet")
	f.flush(t)
	view, err = f.Lax().View(f.ctx, keyA)
	require.NoError(t, err)
	require.EqualValues(t, 15, view.N)
	require.Zero(t, view.Pending)
	require.Equal(t, "15", f.stored(t, "lax_counter", keyA))
}

func TestLax_set_isAnAssignmentAtFlushTime(t *testing.T) {
	t.Parallel()
	f := newFixture(t, distkit.WithAllowedLag(never))
	other := f.another(t)
	require.NoError(t, f.Lax().Add(keyA, 1000), "before the assignment: without effect")
	_, err := f.Lax().Set(f.ctx, keyA, 100)
	require.NoError(t, err)
	require.NoError(t, f.Lax().Add(keyA, 5))
	require.NoError(t, other.Lax().Add(keyA, 7))
	require.NoError(t, other.Flush(f.ctx))
	require.Equal(t, "7", f.stored(t, "lax_counter", keyA))
	f.flush(t)
	require.Equal(t, "105", f.stored(t, "lax_counter", keyA))
}

func TestLax_del_returnsPendingAndDropsIt(t *testing.T) {
	t.Parallel()
	f := newFixture(t, distkit.WithAllowedLag(never))
	require.NoError(t, f.client.HSet(f.ctx, f.prefix+":lax_counter", "a", 10).Err())
	require.NoError(t, f.Lax().Add(keyA, 5))
	got, err := f.Lax().Del(f.ctx, keyA)
	require.NoError(t, err)
	require.EqualValues(t, 15, got)
	require.Empty(t, f.stored(t, "lax_counter", keyA), "it reached Redis at once")
	require.NoError(t, f.Lax().Add(keyA, 1))
	got, err = f.Lax().Get(f.ctx, keyA)
	require.NoError(t, err)
	require.EqualValues(t, 1, got)
	f.flush(t)
	require.Equal(t, "1", f.stored(t, "lax_counter", keyA))
}

func TestLax_clear_dropsPendingOfEveryKey(t *testing.T) {
	t.Parallel()
	f := newFixture(t, distkit.WithAllowedLag(never))
	for i := range 50 {
		require.NoError(t, f.Lax().Add(distkit.MustKey(strconv.Itoa(i)), 1))
	}
	require.NoError(t, f.client.HSet(f.ctx, f.prefix+":lax_counter", "unseen", 1).Err())
	require.NoError(t, f.Lax().Clear(f.ctx))
	f.flush(t)
	require.Empty(t, f.client.HGetAll(f.ctx, f.prefix+":lax_counter").Val())
}

func TestLax_refusedChange_isSetAsideAndReported(t *testing.T) {
	t.Parallel()
	f := newFixture(t, distkit.WithAllowedLag(never))
	events := recordEvents(t, f.System)
	require.NoError(t, f.client.HSet(f.ctx, f.prefix+":lax_counter", "a", math.MaxInt64, "b", "text").Err())
	require.NoError(t, f.Lax().Add(keyA, 2))
	require.NoError(t, f.Lax().Add(keyB, 3))
	require.NoError(t, f.Lax().Add(keyC, 4))

	err := f.Flush(f.ctx)
	var unflushed *distkit.UnflushedError
	require.ErrorAs(t, err, &unflushed)
	require.Len(t, unflushed.Changes, 2)
	require.ErrorIs(t, err, distkit.ErrOverflow)
	require.ErrorIs(t, err, distkit.ErrNotInteger)
	require.Equal(t, "4", f.stored(t, "lax_counter", keyC), "the neighbour went on")
	require.ErrorIs(t, await[distkit.ChangeRefused](t, events).Err, distkit.ErrNotApplied)

	_, err = f.Lax().Inc(f.ctx, keyA, -1)
	requireNotApplied(t, err, distkit.ErrOverflow)
	require.ErrorContains(t, err, "earlier change")
	got, err := f.Lax().Inc(f.ctx, keyA, -1)
	require.NoError(t, err, "told once")
	require.EqualValues(t, math.MaxInt64-1, got)
	f.flush(t)
	require.Equal(t, strconv.FormatInt(math.MaxInt64-1, 10), f.stored(t, "lax_counter", keyA))
}

func TestLax_refusedChange_ofAKeyOnlyAddedTo_isReported(t *testing.T) {
	t.Parallel()
	f := newFixture(t, distkit.WithAllowedLag(never))
	for _, key := range []distkit.Key{keyA, keyB} {
		require.NoError(t, f.Lax().Add(key, 1))
	}
	f.flush(t)
	require.NoError(t, f.client.HSet(f.ctx, f.prefix+":lax_counter", "a", "text").Err())
	for _, key := range []distkit.Key{keyA, keyB} {
		require.NoError(t, f.Lax().Add(key, 2))
	}
	err := f.Flush(f.ctx)
	var unflushed *distkit.UnflushedError
	require.ErrorAs(t, err, &unflushed)
	require.Len(t, unflushed.Changes, 1)
	require.Equal(t, keyA, unflushed.Changes[0].Key)
	require.EqualValues(t, 2, unflushed.Changes[0].N)
	require.ErrorIs(t, err, distkit.ErrNotInteger)
	require.Equal(t, "3", f.stored(t, "lax_counter", keyB))
}

func TestLax_overflowOfTheLocalSum_isNotApplied(t *testing.T) {
	t.Parallel()
	f := newFixture(t, distkit.WithAllowedLag(never))
	_, err := f.Lax().Inc(f.ctx, keyA, math.MaxInt64)
	require.NoError(t, err)
	_, err = f.Lax().Inc(f.ctx, keyA, 1)
	requireNotApplied(t, err, distkit.ErrOverflow)
	events := recordEvents(t, f.System)
	require.NoError(t, f.Lax().Add(keyA, 7)) // which was accepted, so a Flush and an event tell of it
	var left *distkit.UnflushedError
	require.ErrorAs(t, f.Flush(f.ctx), &left)
	require.Len(t, left.Changes, 1)
	require.EqualValues(t, 7, left.Changes[0].N)
	requireNotApplied(t, left.Changes[0].Err, distkit.ErrOverflow)
	aside := await[distkit.ChangeRefused](t, events)
	require.Equal(t, distkit.ChangeRefused{Key: keyA, N: 7, Err: aside.Err}, aside)
	require.ErrorIs(t, aside.Err, distkit.ErrOverflow)
	f.flush(t) // a second one has nothing to tell
	require.Equal(t, "9223372036854775807", f.stored(t, "lax_counter", keyA))
}

func TestLax_freshness_seesOthersWithinTheLag(t *testing.T) {
	t.Parallel()
	f := newFixture(t, distkit.WithAllowedLag(time.Millisecond), distkit.WithRefreshWait(10*time.Second))
	got, err := f.Lax().Get(f.ctx, keyA)
	require.NoError(t, err)
	require.Zero(t, got)
	require.NoError(t, f.client.HSet(f.ctx, f.prefix+":lax_counter", "a", 5).Err())
	require.Eventually(t, func() bool {
		view, err := f.Lax().View(f.ctx, keyA)
		return err == nil && view.Age > time.Millisecond
	}, 10*time.Second, time.Millisecond)
	got, err = f.Lax().Inc(f.ctx, keyA, 1)
	require.NoError(t, err)
	require.EqualValues(t, 6, got)
}

func TestLax_idle_sendsNoCommand(t *testing.T) {
	t.Parallel()
	f := newFixture(t, distkit.WithAllowedLag(time.Millisecond))
	require.NoError(t, f.Lax().Add(keyA, 1))
	f.flush(t)
	hook := &countingHook{}
	f.client.AddHook(hook)
	quiet, cancel := context.WithTimeout(f.ctx, 50*time.Millisecond) // fifty lags
	defer cancel()
	<-quiet.Done()
	require.Zero(t, hook.commands.Load())
}

func TestLax_flush_writesWhatWasAcceptedBefore(t *testing.T) {
	t.Parallel()
	f := newFixture(t, distkit.WithAllowedLag(never))
	for round := 1; round <= 20; round++ {
		var wg sync.WaitGroup
		for range 4 {
			wg.Go(func() {
				for i := range 25 {
					f.Lax().PID(distkit.MustKey(strconv.Itoa(i))).Send(distkit.Inc{N: 1})
				}
			})
		}
		wg.Wait()
		f.flush(t)
		for i := range 25 {
			require.Equal(t, strconv.Itoa(4*round), f.stored(t, "lax_counter", distkit.MustKey(strconv.Itoa(i))))
		}
	}
}
