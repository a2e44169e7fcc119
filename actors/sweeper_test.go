package actors

import (
	"context"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/distkit/distkit-go/internal/fakeredis"
	"github.com/distkit/distkit-go/internal/redisio"
	"github.com/distkit/distkit-go/internal/redistest"
	"github.com/distkit/distkit-go/internal/verb"
	"github.com/stretchr/testify/require"
)

// sleepy is an engine whose keys leave memory as soon as they are idle.
func sleepy(t *testing.T, idle time.Duration) (e *Engine, stored func(space *Shards, key string) int64) {
	client := redistest.Client(t)
	cfg := testConfig(silent{})
	cfg.Client, cfg.Prefix, cfg.Passivation = client, redistest.Prefix(t, client), idle
	cfg.BackoffMax = 2 * time.Millisecond
	e = New(cfg)
	t.Cleanup(func() { _, _ = e.Shutdown(context.Background()) })
	return e, func(space *Shards, key string) int64 {
		n, err := client.HGet(context.Background(), cfg.Prefix+":"+space.kind.name, key).Int64()
		require.NoError(t, err)
		return n
	}
}

// both are the engine's spaces.
func (e *Engine) both() [2]*Shards { return [2]*Shards{e.Strict(), &e.Lax().Shards} }

// requireAsleep waits until nothing is in memory: the sweeper, which looks at what
// has come to life as long as there is any, has no more to look at.
func requireAsleep(t *testing.T, e *Engine) {
	t.Helper()
	require.Eventually(t, func() bool { return !e.sweeper.armed.Load() && len(names(e)) == 2 }, 30*time.Second, time.Millisecond)
}

func TestPassivation_idleKeyLeavesMemory_andWakesWithItsValue(t *testing.T) {
	t.Parallel()
	e, stored := sleepy(t, time.Millisecond)
	ctx := context.Background()
	for range 3 {
		for _, space := range e.both() {
			require.NoError(t, space.Do(ctx, "a", inc(1)).Err)
			require.NoError(t, space.Add("a", 1))
		}
		requireAsleep(t, e)
	}
	for _, space := range e.both() {
		require.EqualValues(t, 6, stored(space, "a"))
		require.EqualValues(t, 6, space.Do(ctx, "a", get).N)
	}
}

// A key may hold what separates the parts of an actor's name.
func TestPassivation_oddKeys_wakeUnderTheirOwnNames(t *testing.T) {
	t.Parallel()
	e, stored := sleepy(t, time.Millisecond)
	of, _, _ := strings.Cut(names(e)[0], "/") // the supervisor's name, with which all begin
	var keys []string
	for _, key := range []string{"a", ":", "/", "/a", "a/", "a:b", "a/b", "{a}", "\x00", "\xff", "\n", " "} {
		for _, under := range []string{"", "strict/", "@lax_counter/", of + "/strict/", of + "/lax/"} {
			keys = append(keys, under+key)
		}
	}
	for round := range int64(3) {
		for _, space := range e.both() {
			for i, key := range keys {
				require.NoError(t, space.Add(key, int64(i)))
				r := space.Do(context.Background(), key, inc(1))
				require.NoError(t, r.Err)
				require.Equal(t, (round+1)*int64(i+1), r.N, "%q", key)
			}
		}
		requireAsleep(t, e)
	}
	for _, space := range e.both() {
		for i, key := range keys {
			require.EqualValues(t, 3*(i+1), stored(space, key), "%q", key)
		}
	}
}

func TestPassivation_zero_keysStay(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := newSim(t, nil)
		for _, space := range s.both() {
			require.NoError(t, space.Do(context.Background(), "a", inc(1)).Err)
		}
		s.pass(24 * time.Hour)
		require.False(t, s.sweeper.armed.Load())
		require.False(t, s.asleep(strictWriter))
		require.False(t, s.asleep(coordinator))
		s.forget()
		view, err := s.Lax().View(context.Background(), "a")
		require.NoError(t, err)
		require.EqualValues(t, 1, view.N)
		require.Empty(t, s.attempts(redisio.Read), "it is the view of then")
	})
}

// Callers hammer a few keys, with pauses in which the sweeper strikes as fast as
// it can: each message finds the old actor or the new one, none falls between.
func TestPassivation_midTraffic_losesNothing(t *testing.T) {
	t.Parallel()
	e, stored := sleepy(t, 20*time.Microsecond)
	ctx := context.Background()
	const keys, callers, lives, rounds = 4, 6, 6, 50
	var told [2][keys]atomic.Int64
	for range lives {
		var wait sync.WaitGroup
		for range callers {
			wait.Go(func() {
				for i := range rounds {
					key := i % keys
					name := strconv.Itoa(key)
					for at, space := range e.both() {
						if r := space.Do(ctx, name, inc(1)); r.Err != nil {
							t.Error(r.Err)
						}
						for range 5 {
							_ = space.Add(name, 1)
						}
						all := space.DoAll(ctx, []verb.Keyed{keyed(name, inc(1)), keyed("shared", inc(1))})
						if all[0].Err != nil || all[1].Err != nil {
							t.Error(all)
						}
						told[at][key].Add(7)
					}
					if i%25 == 0 {
						if _, err := e.Flush(ctx); err != nil {
							t.Error(err)
						}
					}
				}
			})
		}
		wait.Wait()
		requireAsleep(t, e)
	}
	_, err := e.Shutdown(ctx)
	require.NoError(t, err)
	for at, space := range e.both() {
		for key := range keys {
			require.Equal(t, told[at][key].Load(), stored(space, strconv.Itoa(key)))
		}
		require.EqualValues(t, lives*callers*rounds, stored(space, "shared"))
	}
}

func TestSystem_neverUsed_isASupervisorOnly(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := newSim(t, func(cfg *Config) { cfg.Passivation = time.Minute })
		s.pass(24 * time.Hour)
		require.Len(t, names(s.Engine), 1)
		require.False(t, s.sweeper.armed.Load())
		_, err := s.Flush(context.Background())
		require.NoError(t, err)
		require.Len(t, names(s.Engine), 1, "a Flush of nothing needs nobody")
		_, err = s.Shutdown(context.Background())
		require.NoError(t, err)
		require.Empty(t, names(s.Engine))
		for _, space := range s.both() {
			require.ErrorIs(t, space.Do(context.Background(), "a", get).Err, verb.ErrClosed)
			require.ErrorIs(t, space.DoAll(context.Background(), []verb.Keyed{keyed("a", get)})[0].Err, verb.ErrClosed)
			require.ErrorIs(t, space.Clear(context.Background()), verb.ErrClosed)
			require.Error(t, space.Send("a", inc(1)))
			require.Error(t, space.Add("a", 1))
		}
		_, err = s.Lax().View(context.Background(), "a")
		require.ErrorIs(t, err, verb.ErrClosed)
		_, err = s.Flush(context.Background())
		require.ErrorIs(t, err, verb.ErrClosed)
		require.Empty(t, names(s.Engine))
		require.Empty(t, s.attempts(redisio.Open, redisio.Apply, redisio.Read, redisio.Retire))
	})
}

// A key leaves memory after 1 to 1½ idle times: the looks are every half of it, and
// the third that finds no message since the one before ends it. The key of a lax
// counter is known to be gone by the read that it needs again.
func TestPassivation_keysLeave_after1To1AndAHalfIdleTimes(t *testing.T) {
	const idle = time.Minute
	first := latency // when the first look begins to be waited for
	for _, row := range []struct {
		used  time.Duration // after the first use
		asked time.Duration // after the last
		gone  bool
	}{
		{0, idle, false},
		{0, 3*idle/2 - latency - 1, false},
		{0, 3*idle/2 + latency, true},
		{idle/2 - 2*latency, idle, false},
		{idle/2 - 2*latency, idle + 3*latency, true},
		{idle/2 + 2*latency, idle, false},
		{idle/2 + 2*latency, 3*idle/2 - 4*latency, false},
		{idle/2 + 2*latency, 3 * idle / 2, true},
	} {
		bubble(t, func(t *testing.T) {
			s := newSim(t, func(cfg *Config) { cfg.Passivation = idle })
			view := func() {
				_, err := s.Lax().View(context.Background(), "a")
				require.NoError(t, err)
			}
			view()
			require.Equal(t, first, s.now())
			s.pass(row.used)
			view()
			s.pass(row.asked)
			s.forget()
			view()
			require.Equal(t, row.gone, len(s.attempts(redisio.Read)) == 1, "used after %v, asked %v later", row.used, row.asked)
		})
	}
}

// When a space has no key left its writer goes to sleep too, with the goroutine that
// sends for it. It wakes up with what it knows: its lanes go on under their numbers.
func TestPassivation_writersSleep_andGoOnUnderTheirNumbers(t *testing.T) {
	const idle = time.Minute
	const sending = "github.com/distkit/distkit-go/actors/internal/strict.(*writer).sendAll"
	bubble(t, func(t *testing.T) {
		s := newSim(t, func(cfg *Config) { cfg.Passivation = idle })
		for life := int64(1); life <= 3; life++ {
			s.forget()
			for _, space := range s.both() {
				for range 2 {
					require.NoError(t, space.Do(context.Background(), "a", inc(1)).Err)
				}
			}
			_, err := s.Flush(context.Background())
			require.NoError(t, err)
			require.Equal(t, 1, running(sending))
			from := s.now()
			applied := s.attempts(redisio.Apply)
			require.Len(t, applied, 3)
			require.Equal(t, []int64{2*life - 1, 2 * life, life}, []int64{applied[0].seq, applied[1].seq, applied[2].seq})
			if life > 1 {
				require.Empty(t, s.attempts(redisio.Open))
			}

			s.pass(3*idle/2 - 10*latency)
			require.False(t, s.asleep(strictWriter))
			s.until(from + 5*idle/2)
			require.True(t, s.asleep(strictWriter), "two looks after its last key")
			require.True(t, s.asleep(coordinator))
			require.Zero(t, running(sending))
			s.pass(idle)
			require.False(t, s.sweeper.armed.Load(), "nobody looks where there is nothing")
		}
		for _, container := range []string{strictCounters, laxCounters} {
			require.EqualValues(t, 6, s.value(container, "a"))
		}
	})
}

// What wakes a writer up without a key, a Clear or a Flush, lets it sleep again.
func TestPassivation_writerWokenWithoutAKey_sleepsAgain(t *testing.T) {
	const idle = time.Minute
	bubble(t, func(t *testing.T) {
		s := newSim(t, func(cfg *Config) { cfg.Passivation = idle })
		for _, space := range s.both() {
			require.NoError(t, space.Do(context.Background(), "a", inc(1)).Err)
		}
		s.pass(3 * idle)
		for name, wake := range map[string]func() error{
			"clear strict": func() error { return s.Strict().Clear(context.Background()) },
			"clear lax":    func() error { return s.Lax().Clear(context.Background()) },
			"flush": func() error {
				_, err := s.Flush(context.Background())
				return err
			},
		} {
			require.True(t, s.asleep(strictWriter) && s.asleep(coordinator), name)
			require.NoError(t, wake(), name)
			s.pass(2 * idle)
			require.True(t, s.asleep(strictWriter) && s.asleep(coordinator), name)
		}
	})
}

// While Redis is away lax keys stay, and answer from what they have; strict ones,
// which hold nothing, go.
func TestPassivation_whileRedisIsAway_laxKeysStay(t *testing.T) {
	const idle = time.Minute
	bubble(t, func(t *testing.T) {
		s := newSim(t, func(cfg *Config) { cfg.Passivation = idle })
		for _, space := range s.both() {
			require.NoError(t, space.Do(context.Background(), "a", inc(1)).Err)
		}
		_, err := s.Flush(context.Background())
		require.NoError(t, err)
		s.pass(2 * lag)
		s.set(all(fakeredis.Unreachable))
		n, took := s.get(t, "a")
		require.EqualValues(t, 1, n)
		require.LessOrEqual(t, took, wait)
		s.pass(10 * idle)
		require.True(t, s.asleep(strictWriter))
		require.False(t, s.asleep(coordinator))
		n, took = s.get(t, "a")
		require.EqualValues(t, 1, n)
		require.Zero(t, took)
		s.set(nil)
		s.pass(4 * idle)
		require.True(t, s.asleep(coordinator))
		s.forget()
		_, _ = s.get(t, "a")
		require.Len(t, s.attempts(redisio.Read), 1, "it is a key like any other")
	})
}

// A change that Redis does not take keeps its key, and the coordinator.
func TestPassivation_changeThatIsNotInRedis_keepsItsKey(t *testing.T) {
	const idle = time.Minute
	bubble(t, func(t *testing.T) {
		s := newSim(t, func(cfg *Config) { cfg.Passivation = idle })
		require.NoError(t, s.Lax().Do(context.Background(), "a", get).Err)
		s.set(only(redisio.Apply, fakeredis.NoMemory))
		require.NoError(t, s.Lax().Add("a", 5))
		s.pass(10 * idle)
		view, err := s.Lax().View(context.Background(), "a")
		require.NoError(t, err)
		require.EqualValues(t, 5, view.Pending)
		require.False(t, s.asleep(coordinator))
		s.set(nil)
		s.pass(4 * idle)
		require.EqualValues(t, 5, s.value(laxCounters, "a"))
		require.True(t, s.asleep(coordinator))
	})
}

// A change that is not to be written for long keeps its key.
func TestPassivation_changeThatWaits_keepsItsKey(t *testing.T) {
	const idle = time.Minute
	bubble(t, func(t *testing.T) {
		s := newSim(t, func(cfg *Config) { cfg.Passivation, cfg.AllowedLag = idle, 20*idle })
		require.NoError(t, s.Lax().Do(context.Background(), "a", get).Err)
		require.NoError(t, s.Lax().Add("a", 5))
		s.pass(10 * idle)
		require.Equal(t, 1, s.Lax().Stats().Resident)
		s.pass(20 * idle)
		require.EqualValues(t, 5, s.value(laxCounters, "a"))
		require.Zero(t, s.Lax().Stats().Resident)
	})
}

// What a key is sent at the very moment at which it leaves memory finds it or the
// next one. Virtual time makes the moments meet.
func TestPassivation_messagesAtTheMomentOfLeaving_areNotLost(t *testing.T) {
	const idle = time.Second
	bubble(t, func(t *testing.T) {
		s := newSim(t, func(cfg *Config) { cfg.Passivation, cfg.AllowedLag = idle, idle/2 })
		var sending sync.WaitGroup
		for _, space := range s.both() {
			for c := range 4 {
				sending.Go(func() {
					for i := range 50 {
						if c%2 == 0 {
							_ = space.Add("a", 1)
						} else if r := space.Do(context.Background(), "a", inc(1)); r.Err != nil {
							t.Error(r.Err)
						}
						time.Sleep([]time.Duration{3 * idle / 2, 5 * idle / 2, idle}[i%3])
					}
				})
			}
		}
		sending.Wait()
		_, err := s.Shutdown(context.Background())
		require.NoError(t, err)
		for _, container := range []string{strictCounters, laxCounters} {
			require.EqualValues(t, 200, s.value(container, "a"))
		}
	})
}
