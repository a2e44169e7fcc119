package host

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/asynkron/protoactor-go/actor"
	"github.com/distkit/distkit-go/internal/ledger"
	"github.com/stretchr/testify/require"
)

func TestBackoff_delays(t *testing.T) {
	t.Parallel()
	b := Backoff{Min: 10 * time.Millisecond, Max: time.Second}
	for _, row := range []struct {
		attempt     int
		least, most time.Duration
	}{
		{1, 5 * time.Millisecond, 10 * time.Millisecond},
		{2, 10 * time.Millisecond, 20 * time.Millisecond},
		{3, 20 * time.Millisecond, 40 * time.Millisecond},
		{6, 160 * time.Millisecond, 320 * time.Millisecond},
		{7, 320 * time.Millisecond, 640 * time.Millisecond},
		{8, 500 * time.Millisecond, time.Second},
		{9, 500 * time.Millisecond, time.Second},
		{1 << 20, 500 * time.Millisecond, time.Second}, // never gives up, never overflows
	} {
		require.Equal(t, row.least, b.Delay(row.attempt, 0), "attempt %d", row.attempt)
		require.Equal(t, (row.least+row.most)/2, b.Delay(row.attempt, 0.5), "attempt %d", row.attempt)
		require.Less(t, b.Delay(row.attempt, 0.999999), row.most, "attempt %d", row.attempt)
	}
	fixed := Backoff{Min: time.Second, Max: time.Second}
	require.Equal(t, 500*time.Millisecond, fixed.Delay(5, 0))
	longest := Backoff{Min: 1, Max: 1<<63 - 1}
	require.Positive(t, longest.Delay(200, 0.5))
}

// restarts records when children are restarted.
type restarts struct {
	actor.Supervisor
	at chan time.Time
}

func (r restarts) RestartChildren(...*actor.PID) { r.at <- time.Now() }

// silent is an Observer that does nothing; tests override what they look at.
type silent struct{}

func (silent) WriterFailed(string, int, time.Duration, error)   {}
func (silent) WriterRecovered(string, int, time.Duration)       {}
func (silent) DataLost(string, *ledger.Loss)                    {}
func (silent) ChangeRefused(string, string, int64, bool, error) {}
func (silent) ActorPanicked(string, error)                      {}
func (silent) Overloaded(int)                                   {}
func (silent) MessageRefused(string, string, error)             {}

type delays struct {
	silent
	told chan time.Duration
}

func (d delays) WriterFailed(_ string, _ int, delay time.Duration, _ error) { d.told <- delay }

func TestSupervisor_restartsAWriterAfterTheDelayItTold(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		told := make(chan time.Duration, 1)
		s := newSupervisor(Backoff{time.Second, time.Minute}, delays{told: told})
		parent, child := restarts{at: make(chan time.Time, 1)}, &actor.PID{Id: "writer"}
		for attempt := 1; attempt <= 20; attempt++ {
			failed := time.Now()
			s.HandleFailure(nil, parent, child, actor.NewRestartStatistics(), &lostRedis{"strict", attempt, errors.New("EOF")}, nil)
			delay := <-told
			require.GreaterOrEqual(t, delay, 500*time.Millisecond)
			require.LessOrEqual(t, delay, time.Minute)
			require.Equal(t, delay, (<-parent.at).Sub(failed), "attempt %d", attempt)
		}
	})
}

func TestSupervisor_restartsAPanickedActorAtOnce_thenSlower(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newSupervisor(Backoff{time.Second, time.Minute}, silent{})
		parent, child := restarts{at: make(chan time.Time, 1)}, &actor.PID{Id: "key"}
		stats := actor.NewRestartStatistics()
		start := time.Now()
		s.HandleFailure(nil, parent, child, stats, "a bug", nil)
		require.Equal(t, start, <-parent.at)
		s.HandleFailure(nil, parent, child, stats, "a bug", nil)
		require.GreaterOrEqual(t, (<-parent.at).Sub(start), 500*time.Millisecond)
		time.Sleep(2 * bugWindow) // virtual
		start = time.Now()
		s.HandleFailure(nil, parent, child, stats, "a bug", nil)
		require.Equal(t, start, <-parent.at, "old failures are forgotten")
	})
}

func TestSupervisor_cancel_dropsWaitingRestarts(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newSupervisor(Backoff{time.Second, time.Minute}, silent{})
		parent, child := restarts{at: make(chan time.Time, 2)}, &actor.PID{Id: "writer"}
		lost := &lostRedis{"strict", 1, errors.New("EOF")}
		s.HandleFailure(nil, parent, child, actor.NewRestartStatistics(), lost, nil)
		s.cancel()
		s.HandleFailure(nil, parent, child, actor.NewRestartStatistics(), lost, nil)
		time.Sleep(time.Hour) // virtual
		require.Empty(t, parent.at)
	})
}

// recoveries is an Observer that keeps what it is told of writers that recovered.
type recoveries struct {
	silent
	told chan [2]any
}

func (r recoveries) WriterRecovered(_ string, attempts int, away time.Duration) {
	r.told <- [2]any{attempts, away}
}

func TestOutage_isOver_onceForAllItsFailures(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		observer := recoveries{told: make(chan [2]any, 10)}
		var o Outage
		o.Over("strict", observer)
		require.Empty(t, observer.told, "there was none")
		for range 2 {
			for attempt := 1; attempt <= 3; attempt++ {
				cause := errors.New("EOF")
				var lost *lostRedis
				err := o.Failed("strict", cause)
				require.ErrorAs(t, err, &lost)
				require.ErrorIs(t, err, cause)
				require.Equal(t, "EOF", err.Error())
				require.Equal(t, attempt, lost.attempt)
				time.Sleep(time.Second) // virtual
			}
			o.Over("strict", observer)
			o.Over("strict", observer)
			require.Equal(t, [2]any{3, 3 * time.Second}, <-observer.told)
			require.Empty(t, observer.told)
		}
	})
}
