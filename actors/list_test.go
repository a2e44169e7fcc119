package actors

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/distkit/distkit-go/internal/fakeredis"
	"github.com/distkit/distkit-go/internal/redisio"
	"github.com/distkit/distkit-go/internal/verb"
	"github.com/stretchr/testify/require"
)

// listOf lists a space; none comes twice.
func listOf(t *testing.T, s *Shards, ctx context.Context) (map[string]int64, error) {
	t.Helper()
	all := map[string]int64{}
	err := s.List(ctx, func(name string, r verb.Result) bool {
		require.NoError(t, r.Err)
		require.NotContains(t, all, name)
		all[name] = r.N
		return true
	})
	return all, err
}

func TestList_asksWhatIsPending_inEachStageOfItsWay(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := newSim(t, nil)
		lax, ctx := s.Lax(), context.Background()
		for _, key := range []string{"a", "b", "c", "d", "theirs"} {
			s.redis.Set(laxCounters, key, 10)
		}
		for _, key := range []string{"a", "b", "c", "d"} {
			require.NoError(t, lax.Do(ctx, key, get).Err)
		}
		require.NoError(t, lax.Add("a", 1))
		require.NoError(t, lax.Add("new", 3))
		require.NoError(t, lax.Send("c", verb.Op{Kind: verb.Set, N: 0}))
		want := map[string]int64{"a": 11, "b": 10, "c": 0, "d": 10, "theirs": 10, "new": 3}
		look := func(when string) {
			got, err := listOf(t, &lax.Shards, ctx)
			require.NoError(t, err)
			require.Equal(t, want, got, when)
		}
		look("pending")
		goOn := make(chan struct{})
		s.hold(redisio.Apply, goOn)
		s.pass(lag)
		look("in flight")
		deleted := asked(t, &lax.Shards, "d", del)
		parted := asked(t, &lax.Shards, "a", del) // behind what is in flight
		delete(want, "a")
		delete(want, "d")
		look("deleted")
		require.NoError(t, lax.Add("a", 5))
		want["a"] = 5
		look("counted anew")
		require.Empty(t, parted)
		require.Empty(t, deleted)
		close(goOn)
		s.pass(time.Second)
		look("flushed")
		s.redis.Set(laxCounters, "a", 77)
		want["a"] = 77
		look("by others")
	})
}

func TestList_ofManySteps_isWhole(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s, want := newSim(t, nil), map[string]int64{}
		for i := range 2000 {
			key := fmt.Sprint("k", i)
			want[key] = int64(i)
			s.redis.Set(strictCounters, key, int64(i))
			if i < 1200 {
				s.redis.Set(laxCounters, key, int64(i)-1)
				require.NoError(t, s.Lax().Add(key, 1))
			} else {
				s.redis.Set(laxCounters, key, int64(i))
			}
		}
		for _, space := range []*Shards{s.Strict(), &s.Lax().Shards} {
			got, err := listOf(t, space, context.Background())
			require.NoError(t, err)
			require.Equal(t, want, got)
		}
	})
}

// The first step is repeated until it is answered; a later one ends the listing.
func TestList_waitsForRedis_atItsBeginning(t *testing.T) {
	bubble(t, func(t *testing.T) {
		for _, fate := range []fakeredis.Fate{
			fakeredis.LoseRequest, fakeredis.LoseReply, fakeredis.Unreachable, fakeredis.Busy, fakeredis.Migrate,
		} {
			s := newSim(t, nil)
			for i := range 600 {
				s.redis.Set(strictCounters, fmt.Sprint("k", i), 1)
			}
			s.set(only(redisio.Scan, fate))
			begun, over := time.Now(), make(chan error)
			go func() {
				all, err := listOf(t, s.Strict(), context.Background())
				if err == nil && len(all) != 600 {
					err = fmt.Errorf("%d of 600", len(all))
				}
				over <- err
			}()
			s.pass(5 * time.Second)
			require.Less(t, len(s.attempts(redisio.Scan)), 20, "it backs off")
			s.set(nil)
			require.NoError(t, <-over, fate)
			require.Less(t, time.Since(begun), 7*time.Second)

			s.set(only(redisio.Scan, fate))
			ctx, cancel := context.WithTimeout(context.Background(), time.Second)
			_, err := listOf(t, s.Strict(), ctx)
			cancel()
			require.ErrorIs(t, err, context.DeadlineExceeded)
			require.ErrorIs(t, err, verb.ErrNotApplied)
			require.ErrorContains(t, err, "last from Redis")

			s.set(func(c *redisio.Call) fakeredis.Fate {
				if c.Cursor != 0 {
					return fate
				}
				return fakeredis.Deliver
			})
			ctx, cancel = context.WithTimeout(context.Background(), time.Minute)
			all, err := listOf(t, s.Strict(), ctx)
			cancel()
			require.ErrorIs(t, err, verb.ErrNotApplied, fate)
			require.NotErrorIs(t, err, context.DeadlineExceeded)
			require.ErrorContains(t, err, strictCounters)
			require.Len(t, all, 250, "the first step")
		}
	})
}

func TestList_refused_endsAtOnce(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := newSim(t, nil)
		s.set(only(redisio.Scan, fakeredis.Refuse))
		_, err := listOf(t, s.Strict(), context.Background())
		require.ErrorIs(t, err, verb.ErrNotApplied)
		require.ErrorContains(t, err, "NOPERM")
		require.Len(t, s.attempts(redisio.Scan), 1)
	})
}

// A step that hangs holds up neither who gives up nor a Shutdown.
func TestList_hanging_endsWithItsContextAndWithTheEngine(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := newSim(t, nil)
		goOn := make(chan struct{})
		defer close(goOn)
		s.hold(redisio.Scan, goOn)
		gaveUp := errors.New("gave up")
		ctx, cancel := context.WithCancelCause(context.Background())
		over := make(chan error, 2)
		go func() {
			_, err := listOf(t, s.Strict(), ctx)
			over <- err
		}()
		s.pass(time.Second)
		require.Empty(t, over)
		cancel(gaveUp)
		require.ErrorIs(t, <-over, context.Canceled)
		go func() {
			_, err := listOf(t, s.Strict(), context.Background())
			over <- err
		}()
		s.pass(time.Second)
		_, err := s.Shutdown(context.Background())
		require.NoError(t, err)
		require.ErrorIs(t, <-over, verb.ErrClosed)
		_, err = listOf(t, s.Strict(), context.Background())
		require.ErrorIs(t, err, verb.ErrClosed)
	})
}
