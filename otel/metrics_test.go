package distkitotel_test

import (
	"fmt"
	"os"
	"regexp"
	"testing"

	distkitotel "github.com/distkit/distkit-go/otel"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/metric/noop"
)

// catalogue is a meter provider that notes what is made: as the README has it, by name.
type catalogue struct {
	noop.MeterProvider
	made map[string]instrument
}

// instrument is a metric that New has made.
type instrument struct{ kind, unit, about string }

// meter is the catalogue's one.
type meter struct {
	noop.Meter
	to *catalogue
}

func (c *catalogue) Meter(string, ...metric.MeterOption) metric.Meter { return meter{to: c} }

func (m meter) note(name, kind string, of interface {
	Unit() string
	Description() string
}) {
	m.to.made[name] = instrument{kind, of.Unit(), of.Description()}
}

func (m meter) Float64Histogram(name string, o ...metric.Float64HistogramOption) (metric.Float64Histogram, error) {
	m.note(name, "histogram", metric.NewFloat64HistogramConfig(o...))
	return m.Meter.Float64Histogram(name, o...)
}

func (m meter) Int64Histogram(name string, o ...metric.Int64HistogramOption) (metric.Int64Histogram, error) {
	m.note(name, "histogram", metric.NewInt64HistogramConfig(o...))
	return m.Meter.Int64Histogram(name, o...)
}

func (m meter) Int64Counter(name string, o ...metric.Int64CounterOption) (metric.Int64Counter, error) {
	m.note(name, "counter", metric.NewInt64CounterConfig(o...))
	return m.Meter.Int64Counter(name, o...)
}

func (m meter) Int64ObservableCounter(name string, o ...metric.Int64ObservableCounterOption) (metric.Int64ObservableCounter, error) {
	m.note(name, "counter", metric.NewInt64ObservableCounterConfig(o...))
	return m.Meter.Int64ObservableCounter(name, o...)
}

func (m meter) Int64ObservableUpDownCounter(name string, o ...metric.Int64ObservableUpDownCounterOption) (metric.Int64ObservableUpDownCounter, error) {
	m.note(name, "up-down counter", metric.NewInt64ObservableUpDownCounterConfig(o...))
	return m.Meter.Int64ObservableUpDownCounter(name, o...)
}

func (m meter) Int64ObservableGauge(name string, o ...metric.Int64ObservableGaugeOption) (metric.Int64ObservableGauge, error) {
	m.note(name, "gauge", metric.NewInt64ObservableGaugeConfig(o...))
	return m.Meter.Int64ObservableGauge(name, o...)
}

func (m meter) Float64ObservableGauge(name string, o ...metric.Float64ObservableGaugeOption) (metric.Float64ObservableGauge, error) {
	m.note(name, "gauge", metric.NewFloat64ObservableGaugeConfig(o...))
	return m.Meter.Float64ObservableGauge(name, o...)
}

// made are the metrics that there are.
func made(t *testing.T) map[string]instrument {
	t.Helper()
	c := &catalogue{made: map[string]instrument{}}
	_, err := distkitotel.New(distkitotel.WithMeterProvider(c))
	require.NoError(t, err)
	require.Greater(t, len(c.made), 20)
	return c.made
}

// The README's table has the metrics that there are, each as it is.
func TestREADME_listsTheMetrics(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("README.md")
	require.NoError(t, err)
	listed := map[string]string{}
	for _, row := range regexp.MustCompile("(?m)^\\| `(distkit[^`]*)` \\| ([^|]*) \\|[^|]*\\| (.*) \\|$").FindAllStringSubmatch(string(text), -1) {
		listed[row[1]] = row[2] + ": " + row[3]
	}
	want := map[string]string{}
	for name, of := range made(t) {
		kind := of.kind
		if of.unit == "s" {
			kind += ", s"
		}
		want[name] = fmt.Sprint(kind, ": ", of.about)
	}
	require.Equal(t, want, listed)
}
