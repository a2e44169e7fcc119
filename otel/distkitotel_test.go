package distkitotel_test

import (
	"context"
	"fmt"
	"math"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/distkit/distkit-go"
	distkitotel "github.com/distkit/distkit-go/otel"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"
)

func TestMetrics_ofCallsBatchesAndFlushes(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	for range 3 {
		_, err := f.Strict().Inc(f.ctx, keyA, 1)
		require.NoError(t, err)
	}
	_, err := f.Strict().IncIf(f.ctx, keyA, distkit.Eq(-1), 1)
	require.NoError(t, err)
	_, err = f.Strict().Set(f.ctx, distkit.Key{}, 1)
	require.Error(t, err)
	require.NoError(t, f.Lax().Add(keyA, 1))
	require.NoError(t, f.Lax().Add(keyB, 1))
	require.NoError(t, f.Flush(f.ctx))
	f.eventually(t, func(m map[string]points) bool {
		flushed := m["distkit.flush.size"].of()
		return m["distkit.batch.size"].of(kind("strict")) == point{4, 4} && flushed.value == 2
	})
	m := f.collect(t)
	calls := m["distkit.operation.duration"]
	require.EqualValues(t, 3, calls.of(kind("strict"), operation("inc"), outcome("applied")).count)
	require.EqualValues(t, 1, calls.of(kind("strict"), operation("inc_if"), outcome("condition_false")).count)
	require.EqualValues(t, 1, calls.of(kind("strict"), operation("set"), outcome("not_applied")).count)
	require.EqualValues(t, 1, calls.of(kind("lax"), operation("flush"), outcome("applied")).count)
	require.EqualValues(t, 4, m["distkit.batch.duration"].of(kind("strict"), end("answered")).count)
	require.Positive(t, m["distkit.batch.duration"].of(kind("lax"), end("answered")).count)
	require.Positive(t, m["distkit.flush.duration"].of().value)
	require.EqualValues(t, 2, m["distkit.counter.resident"].of(kind("lax")).value)
	require.EqualValues(t, 1, m["distkit.counter.activations"].of(kind("strict")).value)
	require.EqualValues(t, 1, m["distkit.writer.up"].of(kind("strict")).value)
	require.EqualValues(t, 1_000_000, m["distkit.pending.limit"].of().value)
}

// All metrics are there before anything has happened to the System but a call, so that
// what counts events can rise.
func TestMetrics_areThereFromTheBeginning(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	require.Len(t, f.collect(t)["distkit.data.losses"], 6)
	for name, points := range f.collect(t) {
		if strings.HasPrefix(name, "distkit.pending") {
			continue
		}
		for _, p := range points {
			if name != "distkit.writer.up" {
				require.Zero(t, p.value, name)
			}
		}
	}
}

func TestMetrics_ofAnOutage(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	_, err := f.Strict().Inc(f.ctx, keyA, 1)
	require.NoError(t, err)
	_, err = f.Lax().Inc(f.ctx, keyA, 1)
	require.NoError(t, err)
	require.NoError(t, f.Flush(f.ctx))

	f.line.Lose(1) // the reply to a batch: it goes again
	_, err = f.Strict().Inc(f.ctx, keyA, 1)
	require.NoError(t, err)
	f.eventually(t, func(m map[string]points) bool {
		return m["distkit.batch.resends"].of(kind("strict")).value >= 1
	})
	f.line.Down(true)
	f.line.Lose(100)
	short, cancel := context.WithTimeout(f.ctx, 100*time.Millisecond)
	defer cancel()
	require.NoError(t, f.Lax().Add(keyB, 1))
	_, err = f.Strict().Set(short, keyA, 7)
	require.Error(t, err)
	f.eventually(t, func(m map[string]points) bool {
		return m["distkit.writer.up"].of(kind("lax")).value == 0 &&
			m["distkit.writer.up"].of(kind("strict")).value == 0 &&
			m["distkit.writer.failing.duration"].of(kind("lax")).value > 0 &&
			m["distkit.pending.age"].of().value > 0 &&
			m["distkit.pending.size"].of().value == 1 &&
			m["distkit.writer.restarts"].of(kind("lax")).value > 1 &&
			m["distkit.batch.duration"].of(kind("lax"), end("unreachable")).count > 1
	})

	f.line.Down(false)
	f.line.Lose(0)
	_, err = f.Strict().Get(f.ctx, keyA)
	require.NoError(t, err)
	require.NoError(t, f.Flush(f.ctx))
	f.eventually(t, func(m map[string]points) bool {
		return m["distkit.writer.up"].of(kind("lax")).value == 1 &&
			m["distkit.writer.failing.duration"].of(kind("lax")).value == 0 &&
			m["distkit.pending.age"].of().value == 0 &&
			m["distkit.pending.size"].of().value == 0 &&
			m["distkit.writer.outage.duration"].of(kind("lax")).count >= 1
	})
}

func TestMetrics_ofRefusalsAndLosses(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	require.NoError(t, f.client.HSet(f.ctx, f.prefix+":lax_counter", keyA.String(), math.MaxInt64).Err())
	require.NoError(t, f.Lax().Add(keyA, 1))
	require.Error(t, f.Flush(f.ctx))
	f.Strict().PID(keyA).Send(distkit.Inc{N: 1})
	_, err := f.Strict().Set(f.ctx, keyB, math.MaxInt64)
	require.NoError(t, err)
	f.Strict().PID(keyB).Send(distkit.Inc{N: 1})
	f.eventually(t, func(m map[string]points) bool {
		return m["distkit.change.refusals"].of().value == 1 && m["distkit.message.refusals"].of().value == 1
	})
	require.NoError(t, f.client.Del(f.ctx, f.prefix+":strict_counter").Err())
	_, err = f.Strict().Inc(f.ctx, keyB, 1)
	require.NoError(t, err)
	f.eventually(t, func(m map[string]points) bool {
		return m["distkit.data.losses"].of(kind("strict"), attribute.String("distkit.loss.reason", "counters gone")).value == 1
	})
}

// Each sampled strict call has a span in its caller's trace, and its batch one that links
// to all of them.
func TestSpans_ofCallsLinkWithTheirBatch(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	tracer := sdktrace.NewTracerProvider().Tracer("caller")
	var all sync.WaitGroup
	for range 20 {
		all.Go(func() {
			ctx, span := tracer.Start(f.ctx, "caller")
			defer span.End()
			_, err := f.Strict().Inc(ctx, keyA, 1)
			require.NoError(t, err)
			require.True(t, span.IsRecording(), "the caller's span is the caller's to end")
		})
	}
	all.Wait()
	_, err := f.Lax().Set(f.ctx, keyA, 1)
	require.NoError(t, err)
	require.NoError(t, f.Flush(f.ctx))
	linked := map[trace.SpanID]int64{}
	require.Eventually(t, func() bool {
		for _, span := range f.spans.Ended() {
			if span.Name() == "strict batch" && value(span, "distkit.batch.end").AsString() == "answered" {
				for _, link := range span.Links() {
					linked[link.SpanContext.SpanID()] = value(span, "distkit.batch.id").AsInt64()
				}
			}
		}
		return len(linked) == 20
	}, 20*time.Second, 5*time.Millisecond)
	calls := 0
	for _, span := range f.spans.Ended() {
		switch span.Name() {
		case "strict inc":
			calls++
			id := value(span, "distkit.batch.id").AsInt64()
			require.NotZero(t, id)
			require.Equal(t, id, linked[span.SpanContext().SpanID()])
			require.Equal(t, "applied", value(span, "distkit.outcome").AsString())
			require.True(t, span.Parent().IsValid())
			require.Equal(t, trace.SpanKindInternal, span.SpanKind())
			require.Equal(t, codes.Unset, span.Status().Code)
		case "strict batch":
			require.Equal(t, trace.SpanKindClient, span.SpanKind())
			require.Equal(t, "redis", value(span, "db.system.name").AsString())
			require.EqualValues(t, len(span.Links()), value(span, "db.operation.batch.size").AsInt64())
			require.Equal(t, span.Links()[0].SpanContext.TraceID(), span.SpanContext().TraceID())
			require.True(t, span.EndTime().After(span.StartTime()))
		default:
			require.Failf(t, "a span of something else", "%s", span.Name())
		}
	}
	require.Equal(t, 20, calls)
}

func TestSpans_ofFailures(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.line.Down(true)
	short, cancel := context.WithTimeout(f.ctx, 50*time.Millisecond)
	defer cancel()
	_, err := f.Strict().Inc(short, keyA, 1)
	require.ErrorIs(t, err, distkit.ErrNotApplied)
	require.Eventually(t, func() bool {
		call, batch := false, false
		for _, span := range f.spans.Ended() {
			call = call || span.Name() == "strict inc" && span.Status().Code == codes.Error &&
				value(span, "error.type").AsString() == "deadline_exceeded" && value(span, "distkit.outcome").AsString() == "not_applied"
			batch = batch || span.Name() == "strict batch" && span.Status().Code == codes.Error &&
				value(span, "error.type").AsString() == "unreachable"
		}
		return call && batch
	}, 20*time.Second, 5*time.Millisecond)
}

// Keys are told nowhere, unless they are asked for.
func TestKeys_areToldWhereAskedFor(t *testing.T) {
	t.Parallel()
	for _, asked := range []bool{false, true} {
		t.Run(fmt.Sprint(asked), func(t *testing.T) {
			t.Parallel()
			opts := []distkitotel.Option{distkitotel.WithAttributes(attribute.String("system", "one"))}
			if asked {
				opts = append(opts, distkitotel.WithKeys())
			}
			f := newFixture(t, opts...)
			_, err := f.Strict().Set(f.ctx, keyA, math.MaxInt64)
			require.NoError(t, err)
			_, err = f.Strict().Inc(f.ctx, keyA, 1)
			require.ErrorIs(t, err, distkit.ErrOverflow)
			_, err = f.Strict().GetAll(f.ctx, keyA, keyB)
			require.NoError(t, err)
			require.NoError(t, f.Lax().Add(keyB, 1))
			require.NoError(t, f.Flush(f.ctx))
			require.Eventually(t, func() bool { return len(f.spans.Ended()) >= 6 }, 20*time.Second, 5*time.Millisecond)
			text := ""
			for _, span := range f.spans.Ended() {
				text += fmt.Sprint(span.Name(), span.Attributes(), span.Status(), span.Events())
				require.Equal(t, "one", value(span, "system").AsString())
			}
			require.Equal(t, asked, strings.Contains(text, "secret"), text)
			for name, points := range f.collect(t) {
				for of := range points {
					require.NotContains(t, of.Encoded(attribute.DefaultEncoder()), "secret", name)
					at, _ := of.Value("system")
					require.Equal(t, "one", at.AsString(), name)
				}
			}
		})
	}
}

// A tracer that samples nothing costs no links, and stop ends what Observe began.
func TestInstruments_withoutSamplesAndStopped(t *testing.T) {
	t.Parallel()
	f := newFixture(t, distkitotel.WithTracerProvider(sdktrace.NewTracerProvider(sdktrace.WithSampler(sdktrace.NeverSample()))))
	_, err := f.Strict().Inc(f.ctx, keyA, 1)
	require.NoError(t, err)
	f.eventually(t, func(m map[string]points) bool { return m["distkit.batch.size"].of(kind("strict")).count == 1 })
	require.Empty(t, f.spans.Ended())
	f.stop()
	require.Empty(t, f.collect(t)["distkit.writer.up"])
}

func value(span sdktrace.ReadOnlySpan, key attribute.Key) attribute.Value {
	for _, a := range span.Attributes() {
		if a.Key == key {
			return a.Value
		}
	}
	return attribute.Value{}
}

func TestWithoutCalls_leavesOnlyThemOut(t *testing.T) {
	t.Parallel()
	f := newFixture(t, distkitotel.WithoutCalls())
	_, err := f.Strict().Inc(f.ctx, keyA, 1)
	require.NoError(t, err)
	f.eventually(t, func(m map[string]points) bool { return m["distkit.batch.size"].of(kind("strict")).count == 1 })
	require.NotContains(t, f.collect(t), "distkit.operation.duration")
	require.Empty(t, f.spans.Ended())
}

// The writers of shards count as their kind.
func TestMetrics_ofShards(t *testing.T) {
	t.Parallel()
	f := newSharded(t, 2)
	keys := []distkit.Key{keyA, keyB, distkit.MustKey("c"), distkit.MustKey("d"), distkit.MustKey("e")}
	for _, key := range keys {
		_, err := f.Strict().Inc(f.ctx, key, 1)
		require.NoError(t, err)
	}
	f.line.Down(true)
	f.line.Lose(100)
	short, cancel := context.WithTimeout(f.ctx, 100*time.Millisecond)
	defer cancel()
	_, err := f.Strict().GetAll(short, keys...)
	require.Error(t, err)
	f.eventually(t, func(m map[string]points) bool {
		return m["distkit.writer.failing.shards"].of(kind("strict")).value == 2 &&
			m["distkit.writer.up"].of(kind("strict")).value == 0 &&
			m["distkit.writer.restarts"].of(kind("strict")).value > 0
	})
	require.Len(t, f.collect(t)["distkit.writer.restarts"], 2)
}
