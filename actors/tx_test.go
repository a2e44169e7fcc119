package actors

import (
	"context"
	"sync"
	"testing"
	"time"

	"github.com/distkit/distkit-go/internal/fakeredis"
	"github.com/distkit/distkit-go/internal/redisio"
	"github.com/distkit/distkit-go/internal/verb"
	"github.com/stretchr/testify/require"
)

// Transactions on their way: with whom they travel, and what an outcome waits for.

func tx(id string, steps ...verb.Keyed) []verb.Keyed {
	return verb.Transaction(id, time.Hour, steps)
}

// recalled is the outcome that is asked for from now on.
func (s *sim) recalled(ctx context.Context, id string) <-chan []verb.Result {
	answer := make(chan []verb.Result, 1)
	go func() {
		results, err := s.Transactions().Recall(ctx, id)
		if err != nil {
			results = []verb.Result{{Err: err}}
		}
		answer <- results
	}()
	return answer
}

func TestTx_travelsWithOthers_inItsPlace(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := opened(t)
		goOn := make(chan struct{})
		s.hold(redisio.Apply, goOn)
		first := asked(t, s.Strict(), "a", inc(1))
		s.pass(latency)
		before := asked(t, s.Strict(), "a", inc(1)) // 3
		applied := make(chan []verb.Result, 1)
		go func() {
			results, err := s.Transactions().Apply(context.Background(), tx("it", keyed("a", inc(10)), keyed("b", inc(1)), keyed("a", verb.Op{Kind: verb.Get})))
			if err != nil {
				t.Error(err)
			}
			applied <- results
		}()
		s.pass(latency)
		after := asked(t, s.Strict(), "a", inc(1))
		s.pass(latency)
		close(goOn)
		<-first
		require.EqualValues(t, 3, (<-before).N)
		require.Equal(t, []verb.Result{{N: 3, Applied: true}, {N: 13}, {N: 1}, {N: 13}}, <-applied)
		require.EqualValues(t, 14, (<-after).N)
		sent := s.attempts(redisio.Apply)
		require.Len(t, sent, 2, "all in one call")
		require.Len(t, sent[1].ops, 6)
	})
}

func TestTx_isNeverSplit(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := opened(t)
		goOn := make(chan struct{})
		s.hold(redisio.Apply, goOn)
		first := asked(t, s.Strict(), "a", inc(1))
		s.pass(latency)
		var calls sync.WaitGroup
		for _, size := range []int{600, 399, 1, 1000, 1} {
			calls.Go(func() {
				steps := make([]verb.Keyed, size)
				for i := range steps {
					steps[i] = keyed("k", inc(1))
				}
				results, err := s.Transactions().Apply(context.Background(), tx("", steps...))
				if err != nil || !results[0].Applied || results[1].N+int64(size)-1 != results[size].N {
					t.Errorf("of %d steps: %v", size, err)
				}
			})
			s.pass(latency)
		}
		close(goOn)
		<-first
		calls.Wait()
		var sizes []int
		for _, a := range s.attempts(redisio.Apply) {
			sizes = append(sizes, len(a.ops))
		}
		require.Equal(t, []int{1, 601, 402, 1001, 2}, sizes)
		require.EqualValues(t, 2001, s.value(strictCounters, "k"))
	})
}

// It passes the actors of all its keys: what was sent to the last of them before, and
// is still with that actor, comes before it.
func TestTx_comesAfterWhatWasSentToItsKeys(t *testing.T) {
	bubble(t, func(t *testing.T) {
		goOn := make(chan struct{})
		s := newSim(t, func(cfg *Config) {
			cfg.failAt = func(place string) {
				if place == "strict key: before forward" {
					<-goOn
				}
			}
		})
		go func() { _ = s.Strict().Send("b", inc(5)) }() // an idle actor runs where it is sent to
		s.pass(latency)
		applied := make(chan []verb.Result, 1)
		go func() {
			results, _ := s.Transactions().Apply(context.Background(), tx("", keyed("a", inc(1)), keyed("b", inc(1))))
			applied <- results
		}()
		s.pass(time.Second)
		require.Empty(t, s.attempts(redisio.Apply))
		close(goOn)
		require.Equal(t, []verb.Result{{N: 2, Applied: true}, {N: 1}, {N: 6}}, <-applied)
	})
}

func TestTx_mayBeWithdrawn_untilItLeaves(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := opened(t)
		s.set(all(fakeredis.Unreachable))
		_, err := s.Transactions().Apply(within(t, wait), tx("it", keyed("a", inc(1))))
		require.ErrorIs(t, err, verb.ErrNotApplied)
		s.set(all(fakeredis.LoseReply))
		_, err = s.Transactions().Apply(within(t, 2*time.Second), tx("it", keyed("a", inc(1))))
		require.ErrorIs(t, err, verb.ErrOutcomeUnknown)
		s.set(nil)
		results := <-s.recalled(context.Background(), "it")
		require.Equal(t, []verb.Result{{N: 1, Applied: true, Replayed: true}, {N: 2, Kind: verb.Get}}, results)
	})
}

// The outcome of a transaction in doubt waits until it is none: what was lost on its
// way is applied later, and is not "never there".
func TestRecall_comesAfterTheBatchInDoubt(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := opened(t)
		s.set(only(redisio.Apply, fakeredis.LoseRequest))
		_, err := s.Transactions().Apply(within(t, wait), tx("it", keyed("a", inc(1))))
		require.ErrorIs(t, err, verb.ErrOutcomeUnknown)
		answer := s.recalled(context.Background(), "it")
		gaveUp := <-s.recalled(within(t, wait), "it")
		require.ErrorIs(t, gaveUp[0].Err, verb.ErrNotApplied)
		require.Empty(t, answer)
		s.set(nil)
		require.Equal(t, []verb.Result{{N: 1, Applied: true, Replayed: true}, {N: 2, Kind: verb.Get}}, <-answer)
	})
}

func TestRecall_manyGoTogether_andWithNothingElse(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := opened(t)
		_, err := s.Transactions().Apply(context.Background(), tx("it", keyed("a", inc(1))))
		require.NoError(t, err)
		s.forget()
		goOn := make(chan struct{})
		s.hold(redisio.Apply, goOn)
		first := asked(t, s.Strict(), "a", inc(1))
		s.pass(latency)
		one, none := s.recalled(context.Background(), "it"), s.recalled(context.Background(), "none")
		left := s.recalled(within(t, latency), "it")
		s.pass(2 * latency)
		require.ErrorIs(t, (<-left)[0].Err, verb.ErrNotApplied)
		read := asked(t, s.Strict(), "a", verb.Op{Kind: verb.Get})
		s.pass(latency)
		close(goOn)
		<-first
		require.Equal(t, []verb.Result{{N: 1, Applied: true, Replayed: true}, {N: 2, Kind: verb.Get}}, <-one)
		require.Equal(t, []verb.Result{{}}, <-none)
		require.EqualValues(t, 3, (<-read).N)
		require.Len(t, s.attempts(redisio.Recall), 1)
		require.Len(t, s.attempts(redisio.Recall)[0].ops, 2, "of those who have not left")
		require.Len(t, s.attempts(redisio.Read), 1)
	})
}
