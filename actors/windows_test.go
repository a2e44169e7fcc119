package actors

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/distkit/distkit-go/internal/fakeredis"
	"github.com/distkit/distkit-go/internal/redisio"
	"github.com/distkit/distkit-go/internal/verb"
	"github.com/stretchr/testify/require"
)

func hourOf(at time.Time) Window {
	start := at.Truncate(time.Hour)
	return Window{Period: "3600s", Start: start, End: start.Add(time.Hour), Expires: start.Add(25 * time.Hour)}
}

// inMemory is how many windows are.
func (s *sim) inMemory() int { return len(s.windowsInMemory()) }

// A month of windows: what was accepted is in Redis, each leaves memory after its end
// with its ledgers, and nobody notices.
func TestWindows_leaveMemory_andLoseNothing(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := newSim(t, nil)
		ctx := context.Background()
		sent := map[string]int64{}
		for range 24 * 30 {
			now := time.Now()
			w := hourOf(now)
			for kind, space := range map[string]*Shards{redisio.StrictKind: s.StrictWindow(w), redisio.LaxKind: s.LaxWindow(w)} {
				for range 3 {
					require.NoError(t, space.Add("a", 1))
					require.NoError(t, space.Do(ctx, "a", inc(1)).Err)
					sent[w.name(kind)] += 2
				}
			}
			time.Sleep(time.Until(w.End.Add(-time.Millisecond)))
			late := s.LaxWindow(hourOf(time.Now()))
			require.NoError(t, late.Add("a", 1))
			sent[w.name(redisio.LaxKind)]++
			time.Sleep(time.Until(w.End.Add(time.Second)))
			require.LessOrEqual(t, s.inMemory(), 4, "they pile up in memory")
		}
		time.Sleep(2 * lingers)
		synctest.Wait()
		require.Zero(t, s.inMemory())
		for name, n := range sent {
			require.Equal(t, n, s.value(s.cfg.Prefix+":"+name, "a"), name)
		}
	})
}

// A window that leaves memory while somebody counts in it is made anew.
func TestWindows_countedInWhileTheyLeave(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := newSim(t, nil)
		ctx := context.Background()
		w := hourOf(time.Now())
		strict, lax := s.StrictWindow(w), s.LaxWindow(w)
		var accepted [2]int64
		stop := w.End.Add(5 * lingers)
		for i := 0; time.Now().Before(stop); i++ {
			for k, space := range []*Shards{strict, lax} {
				require.NoError(t, space.Add("a", 1))
				r := space.Do(ctx, "a", verb.Op{Kind: verb.Inc, N: 1})
				require.NoError(t, r.Err, fmt.Sprint(i))
				accepted[k] += 2
			}
			time.Sleep(lingers / 20)
		}
		_, err := s.Engine.Flush(ctx)
		require.NoError(t, err)
		for k, kind := range []string{redisio.StrictKind, redisio.LaxKind} {
			require.Equal(t, accepted[k], s.value(s.cfg.Prefix+":"+w.name(kind), "a"))
		}
	})
}

// Who found a window at work just before it left tries again.
func TestWindows_foundBeforeTheyLeave(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := newSim(t, nil)
		w := hourOf(time.Now())
		space := s.StrictWindow(w).at(0)
		found := space.live()
		require.False(t, space.left(found, verb.NotApplied(verb.ErrClosed)), "it is at work")
		s.retireWindow(space)
		err := (*found).Send("a", inc(1))
		require.ErrorIs(t, err, verb.ErrClosed)
		require.True(t, space.left(found, err))
		require.False(t, space.left(found, nil))
		require.EqualValues(t, 1, space.Do(context.Background(), "a", inc(1)).N)
	})
}

// Redis is away when a window is over: it stays until its changes are written.
func TestWindows_overDuringAnOutage(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := newSim(t, nil)
		w := hourOf(time.Now())
		s.set(func(*redisio.Call) fakeredis.Fate { return fakeredis.Unreachable })
		require.NoError(t, s.LaxWindow(w).Add("a", 5))
		time.Sleep(time.Until(w.End.Add(10 * lingers)))
		require.Equal(t, 1, s.inMemory(), "it waits for Redis")
		left, err := s.Engine.Shutdown(within(t, time.Second))
		require.Error(t, err)
		require.Len(t, left, 1)
		require.EqualValues(t, 5, left[0].N)
	})
}

// A Flush that began while a window was at work ends when it has left, though a key of it
// still has a refusal to tell.
func TestWindows_flushedWhileTheyLeave(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := newSim(t, nil)
		w := hourOf(time.Now())
		space := s.LaxWindow(w).at(0)
		s.redis.Edit(func(state *fakeredis.State) {
			state.Containers[s.cfg.Prefix+":"+w.name(redisio.LaxKind)] = fakeredis.Hash{Fields: map[string]string{"a": "no number"}}
		})
		require.NoError(t, space.Add("a", 1))
		left, err := s.Engine.Flush(context.Background())
		require.NoError(t, err)
		require.Len(t, left, 1, "it was refused, which the next reply is to tell")
		found := s.spaces()
		s.retireWindow(space)
		require.Equal(t, 1, s.inMemory(), "a key of it has something to tell")
		for _, m := range found {
			_, err := m.Flush(within(t, wait), s.shutdown.done)
			require.NoError(t, err)
		}
	})
}

// ofKinds runs a test for the windows of each kind.
func ofKinds(t *testing.T, test func(t *testing.T, s *sim, w Window, of *Shards, name string)) {
	for _, kind := range []string{redisio.StrictKind, redisio.LaxKind} {
		t.Run(kind, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				s := newSim(t, nil)
				w := hourOf(time.Now())
				of := s.StrictWindow(w)
				if kind == redisio.LaxKind {
					of = s.LaxWindow(w)
				}
				test(t, s, w, of, s.cfg.Prefix+":"+w.name(kind))
			})
		})
	}
}

// A window that Redis is away for when it is over takes what comes late, in its place
// behind what it has accepted before.
func TestWindows_countedInWhenOver_duringAnOutage_keepTheirOrder(t *testing.T) {
	ofKinds(t, func(t *testing.T, s *sim, w Window, of *Shards, name string) {
		ctx := context.Background()
		require.NoError(t, of.Do(ctx, "a", inc(1)).Err)
		_, err := s.Engine.Flush(ctx)
		require.NoError(t, err)
		s.set(func(*redisio.Call) fakeredis.Fate { return fakeredis.Unreachable })
		require.NoError(t, of.Send("a", verb.Op{Kind: verb.Set, N: 100}))
		time.Sleep(time.Until(w.End.Add(lingers + time.Second)))
		require.NoError(t, of.Send("a", inc(5)))
		s.set(nil)
		time.Sleep(lingers)
		_, err = s.Engine.Flush(within(t, wait))
		require.NoError(t, err)
		require.EqualValues(t, 105, s.value(name, "a"))
		_, err = s.Engine.Shutdown(within(t, wait))
		require.NoError(t, err)
	})
}

// Late events, of several callers, that come all the time: the window is in memory, or is
// made anew.
func TestWindows_lateEvents(t *testing.T) {
	ofKinds(t, func(t *testing.T, s *sim, w Window, of *Shards, name string) {
		var callers sync.WaitGroup
		var accepted atomic.Int64
		require.NoError(t, of.Add("a", 1))
		accepted.Add(1)
		leaves := w.End.Add(lingers)
		time.Sleep(time.Until(leaves.Add(-time.Second)))
		until := leaves.Add(time.Second)
		for i := range 3 {
			callers.Go(func() {
				for time.Now().Before(until) {
					require.NoError(t, of.Do(within(t, wait), "a", inc(1)).Err)
					require.NoError(t, of.Add("a", 1))
					accepted.Add(2)
					time.Sleep(time.Duration(i+1) * time.Millisecond)
				}
			})
		}
		callers.Wait()
		_, err := s.Engine.Flush(within(t, wait))
		require.NoError(t, err)
		require.Equal(t, accepted.Load(), s.value(name, "a"))
		time.Sleep(3 * lingers)
		require.Zero(t, s.inMemory())
	})
}

// Batch calls and Clears come to the window that there is, though it leaves meanwhile.
func TestWindows_batchCallsWhileTheyLeave(t *testing.T) {
	ofKinds(t, func(t *testing.T, s *sim, _ Window, of *Shards, name string) {
		space := of.at(0)
		over := make(chan struct{})
		var leaver sync.WaitGroup
		leaver.Go(func() {
			for {
				select {
				case <-over:
					return
				case <-time.After(time.Millisecond):
					s.retireWindow(space)
				}
			}
		})
		ops := []verb.Keyed{keyed("a", inc(1)), keyed("b", inc(1))}
		for range 300 {
			for _, r := range space.DoAll(within(t, wait), ops) {
				require.NoError(t, r.Err)
			}
		}
		_, err := s.Engine.Flush(within(t, wait))
		require.NoError(t, err)
		require.EqualValues(t, 300, s.value(name, "a"))
		for range 100 {
			require.NoError(t, space.Clear(within(t, wait)))
		}
		close(over)
		leaver.Wait()
	})
}

// A series has what of a window that is over is not in Redis yet.
func TestWindows_seriesOfOneThatIsOver_duringAnOutage(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := newSim(t, nil)
		w := hourOf(time.Now())
		require.NoError(t, s.LaxWindow(w).Do(context.Background(), "a", inc(1)).Err)
		_, err := s.Engine.Flush(context.Background())
		require.NoError(t, err)
		s.set(func(call *redisio.Call) fakeredis.Fate {
			if call.Task == redisio.Read {
				return fakeredis.Deliver
			}
			return fakeredis.Unreachable
		})
		require.NoError(t, s.LaxWindow(w).Add("a", 7))
		for _, after := range []time.Duration{0, lingers + time.Second} {
			time.Sleep(time.Until(w.End.Add(after)))
			values, err := s.LaxSeries(within(t, wait), []Window{w}, "a")
			require.NoError(t, err)
			require.Equal(t, []int64{8}, values, after)
		}
	})
}

// The ledgers of a window that has left are let go of, which hangs: Shutdown keeps to its
// context.
func TestWindows_retiringHangs_shutdownKeepsToItsContext(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := newSim(t, nil)
		w := hourOf(time.Now())
		require.NoError(t, s.StrictWindow(w).Do(context.Background(), "a", inc(1)).Err)
		goOn := make(chan struct{})
		s.hold(redisio.Retire, goOn)
		time.Sleep(time.Until(w.End.Add(lingers + time.Second)))
		require.Zero(t, s.inMemory())
		begun := time.Now()
		_, err := s.Engine.Shutdown(within(t, time.Second))
		require.NoError(t, err)
		require.Equal(t, time.Second, time.Since(begun))
		close(goOn)
	})
}

// What others have counted in a window is read, also right after it came to life here.
func TestWindows_ofOthersAreRead(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := newSim(t, nil)
		w := hourOf(time.Now())
		s.redis.Set(s.cfg.Prefix+":"+w.name(redisio.LaxKind), "a", 5)
		require.EqualValues(t, 5, s.LaxWindow(w).Do(context.Background(), "a", get).N)
		require.EqualValues(t, 6, s.LaxWindow(w).Do(context.Background(), "a", inc(1)).N)
	})
}

// What there is of windows in memory, and what is wrong with them, is told as of other
// counters: of one that leaves memory too, as long as Redis does not have all of it.
func TestWindows_healthAndStats(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := newSim(t, nil)
		now, next := hourOf(time.Now()), hourOf(time.Now().Add(time.Hour))
		for _, w := range []Window{now, next} {
			require.NoError(t, s.StrictWindow(w).Do(context.Background(), "a", inc(1)).Err)
			require.NoError(t, s.LaxWindow(w).Do(context.Background(), "a", inc(1)).Err)
		}
		_, err := s.Engine.Flush(context.Background())
		require.NoError(t, err)
		require.NoError(t, s.WindowsHealth(context.Background()))
		strict, lax := s.WindowsStats()
		require.Equal(t, []int{2, 2, 0, 0}, []int{strict.Resident, lax.Resident, strict.Fails, lax.Fails})
		require.Zero(t, s.Strict().Stats().Resident+s.Lax().Stats().Resident, "those of windows are not among the others")

		lost := now.name(redisio.LaxKind)
		s.set(func(c *redisio.Call) fakeredis.Fate {
			if c.At.Name == s.cfg.Prefix+":"+lost {
				return fakeredis.Unreachable
			}
			return fakeredis.Deliver
		})
		began := time.Now()
		require.NoError(t, s.LaxWindow(now).Add("a", 1))
		for _, at := range []time.Time{began.Add(time.Second), now.End.Add(2 * lingers)} {
			time.Sleep(time.Until(at))
			err = s.WindowsHealth(context.Background())
			require.ErrorContains(t, err, " windows fail, the first of them "+lost)
			require.ErrorContains(t, err, "unreachable")
			_, lax = s.WindowsStats()
			require.Equal(t, 1, lax.Fails)
			require.ErrorContains(t, lax.Failing, "unreachable")
			require.Equal(t, began, lax.Oldest)
		}
	})
}
