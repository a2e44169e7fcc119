package distkitotel

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/distkit/distkit-go"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
)

// Observe has the instruments tell what the System's Stats and events say, until stop is
// called, which Shutdown does not do. stop waits for nothing.
func (i *Instruments) Observe(system *distkit.System) (stop func(), err error) {
	registered, err := i.meter.RegisterCallback(
		func(_ context.Context, o metric.Observer) error {
			i.observe(o, system.Stats(), time.Now())
			return nil
		},
		i.up, i.failing, i.failingShards, i.queued, i.pending, i.pendingLimit, i.pendingAge, i.resident, i.activations, i.passivations)
	if err != nil {
		return nil, fmt.Errorf("distkitotel: observe the System: %w", err)
	}
	i.zero()
	cancel := system.Subscribe(i.event)
	return func() {
		cancel()
		_ = registered.Unregister() // of what is registered it is no error
	}, nil
}

func (i *Instruments) observe(o metric.Observer, stats distkit.Stats, now time.Time) {
	all := i.with()
	o.ObserveInt64(i.pending, int64(stats.Pending), all)
	o.ObserveInt64(i.pendingLimit, int64(stats.MaxPending), all)
	o.ObserveFloat64(i.pendingAge, max(since(stats.Lax.Oldest, now), since(stats.LaxWindows.Oldest, now)), all)
	for kind, of := range map[string][2]distkit.CounterStats{
		"strict": {stats.Strict, stats.StrictWindows}, "lax": {stats.Lax, stats.LaxWindows},
	} {
		by, counters, windows := i.with(kindKey.String(kind)), of[0], of[1]
		up := int64(1)
		if counters.Failing != nil || windows.Failing != nil {
			up = 0
		}
		o.ObserveInt64(i.up, up, by)
		o.ObserveFloat64(i.failing, max(since(counters.FailingSince, now), since(windows.FailingSince, now)), by)
		o.ObserveInt64(i.failingShards, int64(counters.FailingShards+windows.FailingShards), by)
		o.ObserveInt64(i.queued, int64(counters.Queued+windows.Queued), by)
		o.ObserveInt64(i.resident, int64(counters.Resident+windows.Resident), by)
		// Not those of windows, which are forgotten when a window leaves memory.
		o.ObserveInt64(i.activations, counters.Activations, by)
		o.ObserveInt64(i.passivations, counters.Passivations, by)
	}
}

// since is how long ago something was, in seconds; 0 if it was not.
func since(at, now time.Time) float64 {
	if at.IsZero() {
		return 0
	}
	return max(0, now.Sub(at).Seconds())
}

// zero begins the counts of what has not happened: what begins at 1 has not risen, and
// raises no alert.
func (i *Instruments) zero() {
	for _, kind := range []string{"strict", "lax"} {
		i.count(i.resends, 0, kindKey.String(kind))
		i.count(i.restarts, 0, kindKey.String(kind))
		for _, reason := range []distkit.LossReason{distkit.RolledBack, distkit.CountersGone, distkit.LedgerGone} {
			i.count(i.lost, 0, kindKey.String(kind), reasonKey.String(reason.String()))
		}
	}
	for _, c := range []metric.Int64Counter{
		i.changesRefused, i.messagesRefused, i.panics, i.overloads, i.eventsDropped, i.droppedTold,
	} {
		i.count(c, 0)
	}
}

// kindOf is the kind of a writer, which may be one of a shard's: "strict#3". Which shard
// the event in the log says.
func kindOf(writer string) attribute.KeyValue {
	kind, _, _ := strings.Cut(writer, "#")
	return kindKey.String(kind)
}

func (i *Instruments) event(event distkit.Event) {
	switch e := event.(type) {
	case distkit.WriterFailed:
		i.count(i.restarts, 1, kindOf(e.Writer))
	case distkit.WriterRecovered:
		i.outageDuration.Record(context.Background(), e.Away.Seconds(), i.with(kindOf(e.Writer)))
	case distkit.DataLost:
		i.count(i.lost, 1, kindOf(e.Writer), reasonKey.String(e.Reason.String()))
	case distkit.ChangeRefused:
		i.count(i.changesRefused, 1)
	case distkit.MessageRefused:
		i.count(i.messagesRefused, 1)
	case distkit.ActorPanicked:
		i.count(i.panics, 1)
	case distkit.Overloaded:
		i.count(i.overloads, 1)
	case distkit.EventsDropped:
		i.count(i.eventsDropped, int64(e.N))
	}
}
