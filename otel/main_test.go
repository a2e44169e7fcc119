package distkitotel_test

import (
	"context"
	"log/slog"
	"testing"
	"time"

	"github.com/distkit/distkit-go"
	"github.com/distkit/distkit-go/internal/line"
	"github.com/distkit/distkit-go/internal/redistest"
	distkitotel "github.com/distkit/distkit-go/otel"
	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/otel/attribute"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	redistest.Main(m, func() error { return goleak.Find() })
}

var keyA, keyB = distkit.MustKey("secret-a"), distkit.MustKey("secret-b")

// fixture is a System with instruments, and what they tell.
type fixture struct {
	*distkit.System
	line   *line.Line
	client *redis.Client
	prefix string
	reader *sdkmetric.ManualReader
	spans  *tracetest.SpanRecorder
	ctx    context.Context
	stop   func()
}

func newFixture(t testing.TB, opts ...distkitotel.Option) *fixture {
	t.Helper()
	return newSharded(t, 1, opts...)
}

func newSharded(t testing.TB, shards int, opts ...distkitotel.Option) *fixture {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 60*time.Second)
	t.Cleanup(cancel)
	f := &fixture{line: &line.Line{}, client: redistest.Client(t), reader: sdkmetric.NewManualReader(), spans: tracetest.NewSpanRecorder(), ctx: ctx}
	f.prefix = redistest.Prefix(t, f.client)
	tracers := sdktrace.NewTracerProvider(sdktrace.WithSpanProcessor(f.spans))
	instruments, err := distkitotel.New(append([]distkitotel.Option{
		distkitotel.WithMeterProvider(sdkmetric.NewMeterProvider(sdkmetric.WithReader(f.reader))),
		distkitotel.WithTracerProvider(tracers),
	}, opts...)...)
	require.NoError(t, err)
	f.System, err = distkit.NewSystem(redistest.NewClient(t, f.line.Lead(*redistest.Options(t))),
		distkit.WithPrefix(distkit.MustKey(f.prefix)), distkit.WithLogger(slog.New(slog.DiscardHandler)),
		distkit.WithBackoff(time.Millisecond, 5*time.Millisecond), distkit.WithProbe(instruments.Probe()), distkit.WithShards(shards))
	require.NoError(t, err)
	f.stop, err = instruments.Observe(f.System)
	require.NoError(t, err)
	t.Cleanup(func() {
		f.line.Down(false)
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		require.NoError(t, f.Shutdown(ctx))
		f.stop()
	})
	return f
}

// points are the series of a metric by their attributes: values of sums and gauges, and
// counts and sums of histograms.
type points map[attribute.Set]point

type point struct {
	value float64
	count uint64
}

// collect are all metrics, by name.
func (f *fixture) collect(t testing.TB) map[string]points {
	t.Helper()
	var all metricdata.ResourceMetrics
	require.NoError(t, f.reader.Collect(f.ctx, &all))
	found := map[string]points{}
	for _, scope := range all.ScopeMetrics {
		require.Equal(t, distkitotel.Scope, scope.Scope.Name)
		for _, m := range scope.Metrics {
			at := points{}
			found[m.Name] = at
			switch data := m.Data.(type) {
			case metricdata.Sum[int64]:
				for _, p := range data.DataPoints {
					at[p.Attributes] = point{value: float64(p.Value)}
				}
			case metricdata.Gauge[int64]:
				for _, p := range data.DataPoints {
					at[p.Attributes] = point{value: float64(p.Value)}
				}
			case metricdata.Gauge[float64]:
				for _, p := range data.DataPoints {
					at[p.Attributes] = point{value: p.Value}
				}
			case metricdata.Histogram[float64]:
				for _, p := range data.DataPoints {
					at[p.Attributes] = point{p.Sum, p.Count}
				}
			case metricdata.Histogram[int64]:
				for _, p := range data.DataPoints {
					at[p.Attributes] = point{float64(p.Sum), p.Count}
				}
			default:
				require.Failf(t, "metric of another type", "%s: %T", m.Name, m.Data)
			}
		}
	}
	return found
}

// of is the point with these attributes and no others.
func (p points) of(attributes ...attribute.KeyValue) point { return p[attribute.NewSet(attributes...)] }

func kind(of string) attribute.KeyValue      { return attribute.String("distkit.kind", of) }
func operation(of string) attribute.KeyValue { return attribute.String("distkit.operation", of) }
func outcome(of string) attribute.KeyValue   { return attribute.String("distkit.outcome", of) }
func end(of string) attribute.KeyValue       { return attribute.String("distkit.batch.end", of) }

// eventually waits until what is collected is so.
func (f *fixture) eventually(t testing.TB, so func(map[string]points) bool) {
	t.Helper()
	require.Eventually(t, func() bool { return so(f.collect(t)) }, 20*time.Second, 5*time.Millisecond)
}
