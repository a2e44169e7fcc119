package actors

import (
	"context"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/distkit/distkit-go/internal/fakeredis"
	"github.com/distkit/distkit-go/internal/redisio"
	"github.com/distkit/distkit-go/internal/verb"
	"github.com/stretchr/testify/require"
)

// Whether a lax counter exists is part of its view.

func setIf(n int64, cmp verb.Cmp) verb.Op {
	return verb.Op{Kind: verb.SetIf, N: n, If: verb.Cond{Cmp: cmp}}
}

// exists looks a lax counter up.
func (s *sim) exists(t *testing.T, key string) bool {
	t.Helper()
	r := s.Lax().Do(context.Background(), key, get)
	require.NoError(t, r.Err)
	return !r.Absent
}

func TestExistence_whileADelIsInFlight(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := newSim(t, nil)
		s.redis.Set(laxCounters, "a", 0)
		require.True(t, s.exists(t, "a"))
		goOn := make(chan struct{})
		s.hold(redisio.Apply, goOn)
		deleted := asked(t, &s.Lax().Shards, "a", del)
		require.False(t, s.exists(t, "a"))
		again := asked(t, &s.Lax().Shards, "a", del) // waits for the first to land
		require.True(t, s.Lax().Do(context.Background(), "a", setIf(0, verb.Absent)).Applied)
		require.False(t, s.Lax().Do(context.Background(), "a", setIf(4, verb.Absent)).Applied)
		require.True(t, s.exists(t, "a"))
		thrice := asked(t, &s.Lax().Shards, "a", del)
		require.False(t, s.exists(t, "a"))
		require.Empty(t, deleted)
		close(goOn)
		for _, answer := range []<-chan verb.Result{deleted, again, thrice} {
			require.NoError(t, (<-answer).Err)
			require.False(t, s.exists(t, "a"))
		}
		_, found := s.redis.Get(laxCounters, "a")
		require.False(t, found)
	})
}

func TestExistence_whereADelIsRefused_isAsBefore(t *testing.T) {
	bubble(t, func(t *testing.T) {
		for _, pending := range []bool{false, true} {
			for _, stored := range []bool{false, true} {
				s, key := newSim(t, nil), "a"
				if stored {
					s.redis.Set(laxCounters, key, 5)
				}
				require.Equal(t, stored, s.exists(t, key))
				s.set(only(redisio.Apply, fakeredis.Refuse))
				if pending {
					require.NoError(t, s.Lax().Do(context.Background(), key, inc(2)).Err)
				}
				deleted := asked(t, &s.Lax().Shards, key, del)
				require.False(t, s.exists(t, key))
				require.ErrorIs(t, (<-deleted).Err, verb.ErrNotApplied)
				require.Equal(t, stored || pending, s.exists(t, key), "stored: %v, pending: %v", stored, pending)
				s.set(nil)
				s.pass(time.Minute)
				_, found := s.redis.Get(laxCounters, key)
				require.Equal(t, stored || pending, found)
			}
		}
	})
}

func TestExistence_afterAClear(t *testing.T) {
	bubble(t, func(t *testing.T) {
		for _, fate := range []fakeredis.Fate{fakeredis.Deliver, fakeredis.Refuse} {
			s := newSim(t, nil)
			s.redis.Set(laxCounters, "a", 5)
			require.True(t, s.exists(t, "a"))
			require.NoError(t, s.Lax().Do(context.Background(), "b", inc(2)).Err)
			s.set(only(redisio.Apply, fate))
			err := s.Lax().Clear(context.Background())
			require.Equal(t, fate == fakeredis.Refuse, err != nil)
			require.Equal(t, fate == fakeredis.Refuse, s.exists(t, "a"))
			require.Equal(t, fate == fakeredis.Refuse, s.exists(t, "b"))
			s.set(nil)
			require.NoError(t, s.Lax().Do(context.Background(), "a", inc(2)).Err)
			require.True(t, s.exists(t, "a"))
		}
	})
}

// Whatever one process does to a counter, and whenever that reaches Redis or is
// refused there, the view says of existence what a model says.
func TestExistence_agreesWithAModel(t *testing.T) {
	bubble(t, func(t *testing.T) {
		for seed := range uint64(40) {
			random := rand.New(rand.NewPCG(seed, 0))
			s := newSim(t, nil)
			var history []string
			n, exists := int64(0), false
			if random.IntN(2) == 0 {
				s.redis.Set(laxCounters, "a", 0)
				exists = true
			}
			for range 60 {
				history = append(history, s.liveOn(t, random, &n, &exists))
				if random.IntN(3) == 0 {
					s.pass(time.Duration(random.IntN(40)) * time.Millisecond)
				}
				if random.IntN(2) == 0 {
					r := s.Lax().Do(context.Background(), "a", get)
					require.NoError(t, r.Err)
					require.Equal(t, verb.Result{N: n, Absent: !exists}, verb.Result{N: r.N, Absent: r.Absent}, "seed %d: %v", seed, history)
				}
			}
			_, err := s.Shutdown(context.Background())
			require.NoError(t, err)
			stored, found := s.redis.Get(laxCounters, "a")
			require.Equal(t, exists, found, "seed %d: %v", seed, history)
			require.Equal(t, n, stored, "seed %d: %v", seed, history)
		}
	})
}

// liveOn does one thing to the counter, and to the model of it.
func (s *sim) liveOn(t *testing.T, random *rand.Rand, n *int64, exists *bool) string {
	lax, ctx, by := s.Lax(), context.Background(), random.Int64N(5)-2
	switch what := random.IntN(9); what {
	case 0, 1:
		if what == 0 {
			require.NoError(t, lax.Add("a", by))
		} else {
			require.NoError(t, lax.Do(ctx, "a", inc(by)).Err)
		}
		*n, *exists = *n+by, true
		return fmt.Sprint("add ", by)
	case 2:
		require.NoError(t, lax.Do(ctx, "a", verb.Op{Kind: verb.Set, N: by}).Err)
		*n, *exists = by, true
		return fmt.Sprint("set ", by)
	case 3: // nobody waits for it
		require.NoError(t, lax.Send("a", del))
		*n, *exists = 0, false
		return "del"
	case 4:
		require.NoError(t, lax.Clear(ctx))
		*n, *exists = 0, false
		return "clear"
	case 5, 6:
		o := incIf(by, verb.Absent, 0)
		if what == 6 {
			o.If.Cmp = verb.Present
		}
		r := lax.Do(ctx, "a", o)
		require.NoError(t, r.Err)
		require.Equal(t, *exists == (what == 6), r.Applied)
		if r.Applied {
			*n, *exists = *n+by, true
		}
		return fmt.Sprint("inc if ", what, r.Applied)
	case 7:
		s.pass(time.Second) // what is under way lands: it is this Del that is refused
		s.set(only(redisio.Apply, fakeredis.Refuse))
		require.Error(t, lax.Do(ctx, "a", del).Err)
		s.set(nil)
		return "del refused"
	default:
		s.pass(time.Second)
		s.set(only(redisio.Apply, fakeredis.Refuse))
		require.Error(t, lax.Clear(ctx))
		s.set(nil)
		return "clear refused"
	}
}

// Many Dels wait for Redis, as one does: who gives up on them learns that it is not
// known whether they were applied.
func TestDels_ofABatch_waitForRedis(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := newSim(t, nil)
		ops := []verb.Keyed{keyed("a", del), keyed("b", del), keyed("a", del)}
		s.redis.Set(laxCounters, "a", 3)
		s.redis.Set(laxCounters, "b", 4)
		goOn := make(chan struct{})
		s.hold(redisio.Apply, goOn)
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		for _, r := range s.Lax().DoAll(ctx, ops) {
			require.ErrorIs(t, r.Err, verb.ErrOutcomeUnknown)
			require.ErrorIs(t, r.Err, context.DeadlineExceeded)
		}
		close(goOn)
		s.pass(time.Second)
		require.False(t, s.exists(t, "a"))
		require.False(t, s.exists(t, "b"))
		s.redis.Set(laxCounters, "b", 5)
		results := s.Lax().DoAll(context.Background(), ops)
		for i, want := range []int64{0, 5, 0} {
			require.NoError(t, results[i].Err)
			require.Equal(t, want, results[i].N)
		}
	})
}
