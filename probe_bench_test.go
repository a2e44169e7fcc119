package distkit_test

import (
	"context"
	"testing"

	"github.com/distkit/distkit-go"
)

// BenchmarkProbe measures what a Probe costs that does nothing but listen: compare with
// and without.
func BenchmarkProbe(b *testing.B) {
	listener := distkit.Probe{
		CallStart: func(ctx context.Context, _ distkit.Call) context.Context { return ctx },
		CallEnd:   func(context.Context, distkit.Call, distkit.CallEnd) {},
		Batch:     func(distkit.Batch) {},
		Flush:     func(distkit.FlushRound) {},
	}
	for _, with := range []struct {
		name string
		opts []distkit.Option
	}{{"without", nil}, {"with", []distkit.Option{distkit.WithProbe(listener)}}} {
		f := newFixture(b, with.opts...)
		_, _ = f.Lax().Inc(f.ctx, keyA, 1)
		ctx := context.Background()
		b.Run("strict-inc-64/"+with.name, func(b *testing.B) {
			b.ReportAllocs()
			b.SetParallelism(32) // times two processors
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					if _, err := f.Strict().Inc(ctx, keyA, 1); err != nil {
						b.Error(err)
					}
				}
			})
		})
		b.Run("lax-set/"+with.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				_, _ = f.Lax().Set(ctx, keyB, 1)
			}
		})
		b.Run("lax-inc/"+with.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				_, _ = f.Lax().Inc(ctx, keyA, 1)
			}
		})
		b.Run("lax-add/"+with.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				_ = f.Lax().Add(keyA, 1)
			}
		})
	}
}
