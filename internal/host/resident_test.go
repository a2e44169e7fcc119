package host

import (
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"
)

func always() bool { return true }
func never() bool  { return false }

// sweepAll sweeps as often as it takes to put to sleep what is idle.
func (r *Resident) sweepAll(quiet func() bool) {
	for range sweeps {
		r.Sweep(quiet)
	}
}

func TestResident_livesFromItsFirstMessageToItsStop(t *testing.T) {
	t.Parallel()
	for _, inline := range []bool{false, true} {
		h := newHost(t, silent{})
		before := listed(h)
		handled := make(chan any, 10)
		d := &diary{handle: func(message any) { handled <- message }}
		r := NewResident(h, "resident", inline, d)
		require.False(t, r.Awake())
		require.Equal(t, before, listed(h), "nothing has come to life")
		r.sweepAll(always) // which changes nothing
		require.Empty(t, d.read())

		r.Post(1)
		r.Post(2)
		for _, want := range []any{Started{}, 1, 2} {
			require.Equal(t, want, <-handled)
		}
		require.True(t, r.Awake())
		require.Equal(t, before+1, listed(h))
		r.Stop()
		require.Equal(t, []any{Started{}, 1, 2, Stopped{}}, d.read())
		require.Equal(t, before, listed(h))
		r.Post(3)
		r.sweepAll(always)
	}
}

func TestResident_stoppedAsleep_neverWakes(t *testing.T) {
	t.Parallel()
	h, d := newHost(t, silent{}), &diary{}
	r := NewResident(h, "resident", true, d)
	r.Stop()
	r.Post(1)
	require.Empty(t, d.read())
	require.False(t, r.Awake())
}

func TestResident_idle_sleeps_andWakesWithWhatItIsSent(t *testing.T) {
	t.Parallel()
	for _, inline := range []bool{false, true} {
		h := newHost(t, silent{})
		before := listed(h)
		handled := make(chan any, 10)
		r := NewResident(h, "resident", inline, &diary{handle: func(message any) { handled <- message }})
		for life := range 3 {
			r.Post(life)
			require.Equal(t, Started{}, <-handled)
			require.Equal(t, life, <-handled)
			r.awaitRest()
			r.sweepAll(never)
			require.True(t, r.Awake(), "it holds something")
			r.Sweep(always)
			require.False(t, r.Awake(), "the sweeps count all the same")
			require.Equal(t, Stopped{}, <-handled)
			require.Equal(t, before, listed(h))
		}
		r.Stop()
	}
}

// awaitRest waits until nothing is handled.
func (r *Resident) awaitRest() {
	for r.Awake() && r.box.Busy() {
		runtime.Gosched()
	}
}

func TestResident_message_startsTheSweepsAnew(t *testing.T) {
	t.Parallel()
	r := NewResident(newHost(t, silent{}), "resident", true, &diary{})
	for range 5 {
		r.Post(1)
		for range sweeps - 1 {
			r.Sweep(always)
		}
	}
	require.True(t, r.Awake())
	r.Sweep(always)
	require.False(t, r.Awake())
}

// A resident that waits for its restart is not put to sleep: it may have work left
// that no message speaks of.
func TestResident_awaitingItsRestart_staysAwake(t *testing.T) {
	t.Parallel()
	observer := panics{of: make(chan string, 2)}
	h := newHost(t, observer)
	restarted := make(chan struct{})
	d := &diary{handle: func(message any) {
		switch message {
		case "bug":
			panic("a bug")
		case Started{}:
			restarted <- struct{}{}
		}
	}}
	r := NewResident(h, "resident", false, d)
	r.Post("bug")
	<-restarted
	<-observer.of
	<-restarted
	h.supervisor.backoff.Min = 1 << 62
	h.supervisor.backoff.Max = 1 << 62
	r.Post("bug")
	<-observer.of // which was told when the actor was suspended
	r.sweepAll(always)
	require.True(t, r.Awake())
	h.EndRestarts()
	r.Stop()
}

// Whoever wakes a resident up runs it, and holds no lock of it then: what the
// resident calls may want it too.
func TestResident_runsWithoutItsLock(t *testing.T) {
	t.Parallel()
	d := &diary{}
	r := NewResident(newHost(t, silent{}), "resident", true, d)
	var held atomic.Int64
	d.handle = func(message any) {
		if message == (Stopped{}) {
			return
		}
		if !r.mu.TryLock() {
			held.Add(1)
			return
		}
		r.mu.Unlock()
	}
	r.Post(1)
	require.Len(t, d.read(), 2)
	require.Zero(t, held.Load())
	r.Stop()
}

// Many post while it is swept as fast as can be, and in the end stopped: each
// message is handled once, in its sender's order, and one incarnation follows the
// other. What comes after the stop is not handled.
func TestResident_postSleepWakeStop_inAnyOrder(t *testing.T) {
	t.Parallel()
	for _, inline := range []bool{false, true} {
		t.Run(fmt.Sprint("inline=", inline), func(t *testing.T) {
			t.Parallel()
			const rounds, senders, each = 20, 6, 50
			h := newHost(t, silent{})
			before := listed(h)
			d := &diary{}
			var running atomic.Int64
			lives := 0
			d.handle = func(message any) {
				if running.Add(1) != 1 {
					t.Error("two goroutines in one actor")
				}
				defer running.Add(-1)
				if message == (Started{}) {
					lives++
				}
			}
			r := NewResident(h, "resident", inline, d)
			for round := range rounds {
				var sending sync.WaitGroup
				for s := range senders {
					sending.Go(func() {
						for n := 1; n <= each; n++ {
							r.Post([2]int{s, round*each + n})
							if n%10 == 0 {
								r.sweepAll(always)
							}
						}
					})
				}
				sending.Wait()
				r.awaitRest()
				r.sweepAll(always)
				require.False(t, r.Awake())
			}
			r.Post("last")
			var stopping sync.WaitGroup
			for range 4 {
				stopping.Go(func() { r.Post("last") })
				stopping.Go(func() { r.Sweep(always) })
			}
			stopping.Go(r.Stop)
			stopping.Wait()
			requireLives(t, d.read(), senders, rounds*each)
			require.Greater(t, lives, rounds)
			require.Equal(t, before, listed(h))
		})
	}
}

// requireLives checks what a resident has got: lives from Started to Stopped, and
// in them everything that each sender has sent, in its order.
func requireLives(t *testing.T, got []any, senders, each int) {
	t.Helper()
	last, alive, lasts := make([]int, senders), false, 0
	for _, message := range got {
		switch message := message.(type) {
		case Started:
			require.False(t, alive)
			alive = true
		case Stopped:
			require.True(t, alive)
			alive = false
		case string:
			require.True(t, alive)
			lasts++
		case [2]int:
			require.True(t, alive)
			require.Equal(t, last[message[0]]+1, message[1], "order of sender %d", message[0])
			last[message[0]] = message[1]
		}
	}
	require.False(t, alive, "stopped")
	require.LessOrEqual(t, lasts, 5)
	for _, n := range last {
		require.Equal(t, each, n)
	}
}
