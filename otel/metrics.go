package distkitotel

import (
	"context"
	"errors"
	"slices"

	"github.com/distkit/distkit-go"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
)

// The metrics. Names, units and descriptions stand here and nowhere else in the code; a
// test holds the README's table and the dashboard against them.

// seconds are the bounds of durations: a strict call takes 50 µs or more.
var seconds = metric.WithExplicitBucketBoundaries(
	0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)

// outages are the bounds of what lasts longer.
var outages = metric.WithExplicitBucketBoundaries(0.01, 0.1, 0.5, 1, 5, 10, 30, 60, 300, 900, 3600)

// sizes are the bounds of batches and rounds: 1,500 is the most.
var sizes = metric.WithExplicitBucketBoundaries(1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 1500, 3000)

// metrics are the instruments.
type metrics struct {
	calls         metric.Float64Histogram
	batchDuration metric.Float64Histogram
	batchSize     metric.Int64Histogram
	resends       metric.Int64Counter
	flushDuration metric.Float64Histogram
	flushSize     metric.Int64Histogram
	viewAge       metric.Float64Histogram
	droppedTold   metric.Int64Counter

	restarts        metric.Int64Counter
	outageDuration  metric.Float64Histogram
	lost            metric.Int64Counter
	changesRefused  metric.Int64Counter
	messagesRefused metric.Int64Counter
	panics          metric.Int64Counter
	overloads       metric.Int64Counter
	eventsDropped   metric.Int64Counter

	up            metric.Int64ObservableGauge
	failing       metric.Float64ObservableGauge
	failingShards metric.Int64ObservableUpDownCounter
	queued        metric.Int64ObservableUpDownCounter
	pending       metric.Int64ObservableUpDownCounter
	pendingLimit  metric.Int64ObservableUpDownCounter
	pendingAge    metric.Float64ObservableGauge
	resident      metric.Int64ObservableUpDownCounter
	activations   metric.Int64ObservableCounter
	passivations  metric.Int64ObservableCounter

	meter metric.Meter
	known map[callKind][]metric.RecordOption
}

// make makes the instruments.
func (m *metrics) make(meter metric.Meter) error {
	m.meter = meter
	var errs []error
	histogram := func(name, unit, about string, bounds metric.HistogramOption) metric.Float64Histogram {
		h, err := meter.Float64Histogram(name, metric.WithUnit(unit), metric.WithDescription(about), bounds)
		errs = append(errs, err)
		return h
	}
	size := func(name, unit, about string) metric.Int64Histogram {
		h, err := meter.Int64Histogram(name, metric.WithUnit(unit), metric.WithDescription(about), sizes)
		errs = append(errs, err)
		return h
	}
	counter := func(name, unit, about string) metric.Int64Counter {
		c, err := meter.Int64Counter(name, metric.WithUnit(unit), metric.WithDescription(about))
		errs = append(errs, err)
		return c
	}
	gauge := func(name, about string) metric.Float64ObservableGauge {
		g, err := meter.Float64ObservableGauge(name, metric.WithUnit("s"), metric.WithDescription(about))
		errs = append(errs, err)
		return g
	}
	number := func(name, unit, about string) metric.Int64ObservableUpDownCounter {
		n, err := meter.Int64ObservableUpDownCounter(name, metric.WithUnit(unit), metric.WithDescription(about))
		errs = append(errs, err)
		return n
	}
	total := func(name, unit, about string) metric.Int64ObservableCounter {
		c, err := meter.Int64ObservableCounter(name, metric.WithUnit(unit), metric.WithDescription(about))
		errs = append(errs, err)
		return c
	}
	m.calls = histogram("distkit.operation.duration", "s", "Duration of calls that waited for an answer.", seconds)
	m.batchDuration = histogram("distkit.batch.duration", "s", "Duration of attempts at batches.", seconds)
	m.batchSize = size("distkit.batch.size", "{operation}", "Operations in batches that were answered.")
	m.resends = counter("distkit.batch.resends", "{attempt}", "Attempts at batches that an earlier attempt may have applied.")
	m.flushDuration = histogram("distkit.flush.duration", "s", "Duration of rounds of the lax writer.", seconds)
	m.viewAge = histogram("distkit.view.age", "s", "How old the oldest lax view in use had become when a round renewed it.", seconds)
	m.flushSize = size("distkit.flush.size", "{counter}", "Counters in rounds of the lax writer.")
	m.droppedTold = counter("distkit.probe.dropped", "{record}", "Batches and flush rounds that are missing in these metrics.")

	m.restarts = counter("distkit.writer.restarts", "{restart}", "Restarts of a writer that lost Redis.")
	m.outageDuration = histogram("distkit.writer.outage.duration", "s", "Duration of outages that are over.", outages)
	m.lost = counter("distkit.data.losses", "{loss}", "Losses found of what Redis had acknowledged.")
	m.changesRefused = counter("distkit.change.refusals", "{change}", "Lax changes that were set aside.")
	m.messagesRefused = counter("distkit.message.refusals", "{message}", "Messages that nobody waits for and that failed.")
	m.panics = counter("distkit.actor.panics", "{panic}", "Actors that failed by a bug.")
	m.overloads = counter("distkit.overloads", "{overload}", "How often as much was pending as is allowed.")
	m.eventsDropped = counter("distkit.event.dropped", "{event}", "Events that are missing in these metrics.")

	var err error
	m.up, err = meter.Int64ObservableGauge("distkit.writer.up", metric.WithUnit("{writer}"), metric.WithDescription("1 while Redis answers the writer, on all shards, else 0."))
	errs = append(errs, err)
	m.failing = gauge("distkit.writer.failing.duration", "For how long the writer has failed; 0 while Redis answers.")
	m.failingShards = number("distkit.writer.failing.shards", "{shard}", "Shards on which Redis fails.")
	m.queued = number("distkit.queue.size", "{item}", "Strict calls that wait for a batch, lax counters that wait for a flush.")
	m.pending = number("distkit.pending.size", "{item}", "Lax counters with changes that are not in Redis, and messages that are not answered.")
	m.pendingLimit = number("distkit.pending.limit", "{item}", "The most that may be pending.")
	m.pendingAge = gauge("distkit.pending.age", "Age of the oldest lax change that is not in Redis.")
	m.resident = number("distkit.counter.resident", "{counter}", "Counters in memory, those of windows left out.")
	m.activations = total("distkit.counter.activations", "{counter}", "Counters that came to memory, those of windows left out.")
	m.passivations = total("distkit.counter.passivations", "{counter}", "Counters that left memory, those of windows left out.")
	return errors.Join(errs...)
}

// callKind is what tells calls apart in metrics.
type callKind struct {
	kind, operation string
	outcome         distkit.CallOutcome
}

func (k callKind) options(own []attribute.KeyValue) []metric.RecordOption {
	set := attribute.NewSet(append(slices.Clone(own),
		kindKey.String(k.kind), operationKey.String(k.operation), outcomeKey.String(k.outcome.String()))...)
	return []metric.RecordOption{metric.WithAttributeSet(set)}
}

// knownCalls has the attributes of all calls there are at hand: to make them takes longer
// than to record.
func knownCalls(own []attribute.KeyValue) map[callKind][]metric.RecordOption {
	known := map[callKind][]metric.RecordOption{}
	for _, kind := range []string{"strict", "lax"} {
		for _, operation := range []string{
			"inc", "dec", "get", "lookup", "set", "del", "clear", "inc_if", "set_if", "get_all",
			"inc_all", "set_all", "inc_all_if", "set_all_if", "del_all", "apply", "outcome", "flush",
		} {
			for outcome := distkit.CallApplied; outcome <= distkit.CallPartlyApplied; outcome++ {
				k := callKind{kind, operation, outcome}
				known[k] = k.options(own)
			}
		}
	}
	return known
}

// with are attributes beside those of WithAttributes.
func (i *Instruments) with(attributes ...attribute.KeyValue) metric.MeasurementOption {
	return metric.WithAttributeSet(attribute.NewSet(append(slices.Clone(i.own), attributes...)...))
}

// count adds to a counter, on no caller's behalf.
func (i *Instruments) count(c metric.Int64Counter, n int64, attributes ...attribute.KeyValue) {
	c.Add(context.Background(), n, i.with(attributes...))
}
