package distkitotel_test

import (
	"context"
	"log/slog"
	"testing"

	"github.com/distkit/distkit-go"
	"github.com/distkit/distkit-go/internal/redistest"
	distkitotel "github.com/distkit/distkit-go/otel"
	"github.com/stretchr/testify/require"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace/noop"
)

// BenchmarkInstruments measures strict increments at full load, of 1,024 callers, without
// instruments, with those of batches only, with all metrics, with traces of which one in a hundred is sampled, and with all
// of them.
func BenchmarkInstruments(b *testing.B) {
	for _, with := range []struct {
		name    string
		sampler sdktrace.Sampler
	}{
		{"nothing", nil},
		{"without-calls", sdktrace.NeverSample()},
		{"metrics", sdktrace.NeverSample()},
		{"traces=1%", sdktrace.TraceIDRatioBased(0.01)},
		{"traces=100%", sdktrace.AlwaysSample()},
	} {
		b.Run(with.name, func(b *testing.B) {
			client := redistest.Client(b)
			opts := []distkit.Option{
				distkit.WithPrefix(distkit.MustKey(redistest.Prefix(b, client))), distkit.WithLogger(slog.New(slog.DiscardHandler)),
			}
			var instruments *distkitotel.Instruments
			if with.sampler != nil {
				meters := sdkmetric.NewMeterProvider(sdkmetric.WithReader(sdkmetric.NewManualReader()))
				tracing := []distkitotel.Option{distkitotel.WithMeterProvider(meters), distkitotel.WithTracerProvider(noop.NewTracerProvider())}
				switch with.name {
				case "metrics":
				case "without-calls":
					tracing = append(tracing, distkitotel.WithoutCalls())
				default:
					tracing[1] = distkitotel.WithTracerProvider(sdktrace.NewTracerProvider(sdktrace.WithSampler(with.sampler)))
				}
				var err error
				instruments, err = distkitotel.New(tracing...)
				require.NoError(b, err)
				opts = append(opts, distkit.WithProbe(instruments.Probe()))
			}
			system, err := distkit.NewSystem(client, opts...)
			require.NoError(b, err)
			defer func() { require.NoError(b, system.Shutdown(context.Background())) }()
			b.ReportAllocs()
			b.SetParallelism(512) // times two processors
			b.ResetTimer()
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					if _, err := system.Strict().Inc(context.Background(), keyA, 1); err != nil {
						b.Error(err)
					}
				}
			})
		})
	}
}
