package actors

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/distkit/distkit-go/internal/fakeredis"
	"github.com/distkit/distkit-go/internal/redisio"
	"github.com/distkit/distkit-go/internal/verb"
	"github.com/stretchr/testify/require"
)

const someShards = 4

func sharded(c *Config) { c.Shards = someShards }

// keyOf is a key of a shard.
func keyOf(shard int) string {
	for i := 0; ; i++ {
		if key := fmt.Sprint("k", i); redisio.ShardOf(key, someShards) == shard {
			return key
		}
	}
}

// away has the node of a shard be away.
func away(shard int) func(*redisio.Call) fakeredis.Fate {
	return func(c *redisio.Call) fakeredis.Fate {
		if strings.HasSuffix(c.At.Name, fmt.Sprint("#", shard)) {
			return fakeredis.Unreachable
		}
		return fakeredis.Deliver
	}
}

// A shard whose node is away holds up no other: not its single calls, not its flushes, and
// of a batch only what is its own.
func TestShards_oneAway_othersGoOn(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := newSim(t, sharded)
		lost, well := keyOf(1), keyOf(2)
		for _, key := range []string{lost, well} {
			require.NoError(t, s.Lax().Do(context.Background(), key, inc(1)).Err)
			require.NoError(t, s.Strict().Do(context.Background(), key, inc(1)).Err)
		}
		_, err := s.Engine.Flush(context.Background())
		require.NoError(t, err)
		s.set(away(1))

		from := s.now()
		results := s.Strict().DoAll(within(t, time.Second), []verb.Keyed{keyed(lost, inc(1)), keyed(well, inc(1)), keyed(lost, inc(1))})
		require.ErrorIs(t, results[0].Err, verb.ErrNotApplied)
		require.EqualValues(t, 2, results[1].N)
		require.ErrorIs(t, results[2].Err, verb.ErrNotApplied)
		require.Equal(t, time.Second, s.now()-from)

		for i := range 50 {
			require.NoError(t, s.Lax().Add(lost, 1))
			require.NoError(t, s.Lax().Add(well, 1))
			from := s.now()
			require.EqualValues(t, 3+i, s.Strict().Do(within(t, time.Second), well, inc(1)).N)
			require.Equal(t, latency, s.now()-from, "it waits for another shard")
			s.pass(lag + 2*latency)
			require.EqualValues(t, 2+i, s.value(laxCounters+"#2", well), "its flush waits for another shard")
			from = s.now()
			require.EqualValues(t, 2+i, s.Lax().Do(within(t, time.Second), well, get).N)
			require.Less(t, s.now()-from, wait, "its read waits for another shard")
		}
		for _, of := range []*Shards{s.Strict(), &s.Lax().Shards} {
			stats := of.Stats()
			require.ErrorContains(t, stats.Failing, "unreachable")
			require.Equal(t, 1, stats.Fails)
		}
		err = s.Strict().Health(context.Background())
		require.ErrorContains(t, err, "1 of 4 shards failed, the first of them 1: ")

		told := s.outages()
		require.Contains(t, told, writerFailed{"strict#1", 1}, "which shard it is, nobody is told")
		require.Contains(t, told, writerFailed{"lax#1", 1})
		err = s.Strict().Clear(within(t, time.Second))
		require.ErrorIs(t, err, verb.ErrPartlyApplied)
		require.ErrorIs(t, err, context.DeadlineExceeded)
		s.set(nil)
		left, err := s.Engine.Flush(context.Background())
		require.NoError(t, err)
		require.Empty(t, left)
		require.EqualValues(t, 51, s.value(laxCounters+"#1", lost), "nothing was lost")
		require.EqualValues(t, 1, s.Strict().Do(context.Background(), lost, get).N)
		require.True(t, s.Strict().Do(context.Background(), well, get).Absent)
	})
}

// The outcome of a transaction is found while another shard is away; that there is none
// is not said before all have answered.
func TestShards_recall(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := newSim(t, sharded)
		_, err := s.Transactions().Apply(context.Background(), tx("it", keyed(keyOf(2), inc(1))))
		require.NoError(t, err)
		for _, other := range []*sim{s, {Engine: New(s.Engine.cfg)}} {
			for shard := range someShards {
				s.set(away(shard))
				results, err := other.Transactions().Recall(within(t, 10*time.Second), "it")
				if shard == 2 {
					require.ErrorIs(t, err, verb.ErrNotApplied)
					require.ErrorIs(t, err, context.DeadlineExceeded)
				} else {
					require.NoError(t, err)
					require.True(t, results[0].Replayed)
				}
				_, err = other.Transactions().Recall(within(t, 10*time.Second), "another")
				require.ErrorIs(t, err, verb.ErrNotApplied, "shard %d has not answered", shard)
			}
			s.set(nil)
			results, err := other.Transactions().Recall(context.Background(), "another")
			require.NoError(t, err)
			require.False(t, results[0].Replayed)
			if other != s {
				_, err := other.Engine.Shutdown(context.Background())
				require.NoError(t, err)
			}
		}
	})
}

// Shards come to life when they are used, and when they are idle nothing of them stays
// awake or is sent.
func TestShards_idle_costNothing(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := newSim(t, func(c *Config) { c.Shards, c.Passivation = 64, time.Second })
		require.Empty(t, s.spaces())
		require.NoError(t, s.Strict().Health(context.Background()))
		_, err := s.Transactions().Recall(context.Background(), "it")
		require.NoError(t, err)
		require.NoError(t, s.Strict().List(context.Background(), func(string, verb.Result) bool { return true }))
		require.Empty(t, s.spaces(), "who only asks brings something to life")
		for i := range 1000 {
			require.NoError(t, s.Strict().Do(context.Background(), fmt.Sprint(i), inc(1)).Err)
			require.NoError(t, s.Lax().Add(fmt.Sprint(i), 1))
		}
		require.Len(t, s.spaces(), 128)
		require.Contains(t, strings.Join(names(s.Engine), " "), "#", "nothing is awake")
		time.Sleep(10 * time.Second)
		synctest.Wait()
		s.forget()
		for _, name := range names(s.Engine) {
			require.NotContains(t, name, "#", "awake")
		}
		time.Sleep(time.Hour)
		require.Empty(t, s.attempts(), "something is sent for nobody")
	})
}
