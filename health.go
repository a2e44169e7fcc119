package distkit

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/distkit/distkit-go/internal/request"
	"github.com/distkit/distkit-go/internal/verb"
)

// Health asks Redis, within ctx, by the way that batches go, and says what is wrong: nil
// if Redis would take a batch now; it does not learn whether each command is permitted.
// It changes nothing in Redis, and costs a round trip for each kind of counter, each shard,
// and each window that is in memory. Use it for readiness; counting survives a Redis that
// is away, so it is no reason to restart a process.
func (s *System) Health(ctx context.Context) error {
	if s == nil || s.engine == nil {
		return ErrClosed
	}
	if ctx == nil {
		return errNilContext
	}
	var errs []error
	wrong := func(kind string, err error) {
		if err != nil {
			errs = append(errs, fmt.Errorf("distkit: %s counters: %w", kind, bare{err}))
		}
	}
	wrong("strict", s.engine.Strict().Health(ctx))
	wrong("lax", s.engine.Lax().Health(ctx))
	wrong("window", s.engine.WindowsHealth(ctx))
	if s.engine.Full() {
		errs = append(errs, ErrOverloaded)
	}
	return errors.Join(errs...)
}

// bare is an error whose text does not begin with "distkit:".
type bare struct{ error }

func (b bare) Error() string { return verb.Bare(b.error) }
func (b bare) Unwrap() error { return b.error }

// Stats is a System at a moment.
type Stats struct {
	Strict, Lax CounterStats
	// StrictWindows and LaxWindows are the same of all windows that are in memory.
	StrictWindows, LaxWindows CounterStats
	// Pending is how many lax counters have changes that are not written, and how many
	// messages nobody waits for; MaxPending is the most, see WithMaxPending.
	Pending, MaxPending int
}

// CounterStats is one kind of counters at a moment.
type CounterStats struct {
	// Resident is how many counters are in memory.
	Resident int
	// Queued is how many strict calls wait for a batch, or how many lax counters wait
	// for the next flush.
	Queued int
	// Failing is what Redis last failed with; nil while it answers.
	Failing error
	// FailingSince is when that began; zero while Redis answers.
	FailingSince time.Time
	// FailingShards is on how many shards, or in how many containers of windows, Redis
	// fails; Failing is the one that began first.
	FailingShards int
	// Oldest is when the oldest lax change was made that is not in Redis; zero if there is
	// none, and for strict counters.
	Oldest time.Time
	// Activations and Passivations are how often a counter came to memory, and left it.
	Activations, Passivations int64
}

// Stats returns what is in memory, pending, queued and failing. It costs no I/O.
func (s *System) Stats() Stats {
	if s == nil || s.engine == nil {
		return Stats{}
	}
	stats := Stats{Strict: counterStats(s.engine.Strict().Stats()), Lax: counterStats(s.engine.Lax().Stats())}
	strict, lax := s.engine.WindowsStats()
	stats.StrictWindows, stats.LaxWindows = counterStats(strict), counterStats(lax)
	stats.Pending, stats.MaxPending = s.engine.Pending()
	return stats
}

func counterStats(s request.Stats) CounterStats {
	stats := CounterStats{Resident: s.Resident, Queued: s.Queued, Failing: s.Failing, FailingShards: s.Fails, Oldest: s.Oldest, Activations: s.Woken, Passivations: s.Slept}
	if s.Failing != nil {
		stats.FailingSince = s.Since
	}
	return stats
}
