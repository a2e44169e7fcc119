package distkitotel

import (
	"context"

	"github.com/distkit/distkit-go"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"
	"go.opentelemetry.io/otel/trace"
)

// What the Probe is told. A strict call has a span, if it is sampled, and so has each
// attempt at a batch that took such calls along: a child of the first of them, so that it
// is sampled as they are, with a link to each. A batch is told when it has ended, often
// after its calls have; the calls' spans have its ID.

// spanKey finds the span of a call in its context, in which a caller's may be too.
type spanKey struct{}

func (i *Instruments) callStart(ctx context.Context, call distkit.Call) context.Context {
	if call.Kind != "strict" {
		return ctx
	}
	begun, span := i.tracer.Start(ctx, call.Kind+" "+call.Operation, trace.WithSpanKind(trace.SpanKindInternal))
	if !span.IsRecording() {
		return ctx
	}
	span.SetAttributes(i.own...)
	span.SetAttributes(kindKey.String(call.Kind), operationKey.String(call.Operation), sizeKey.Int(call.Size))
	if i.keys && call.Key != (distkit.Key{}) {
		span.SetAttributes(counterKey.String(call.Key.String()))
	}
	return context.WithValue(begun, spanKey{}, span)
}

func (i *Instruments) callEnd(ctx context.Context, call distkit.Call, end distkit.CallEnd) {
	kind := callKind{call.Kind, call.Operation, end.Outcome}
	options, known := i.known[kind]
	if !known {
		options = kind.options(i.own)
	}
	i.calls.Record(ctx, end.Duration.Seconds(), options...)
	if call.Kind != "strict" || i.tracer == nil {
		return
	}
	span, ok := ctx.Value(spanKey{}).(trace.Span)
	if !ok {
		return
	}
	span.SetAttributes(outcomeKey.String(end.Outcome.String()))
	if end.Batch != 0 {
		span.SetAttributes(batchKey.Int64(int64(end.Batch)))
	}
	if end.Err != nil {
		span.SetAttributes(semconv.ErrorTypeKey.String(errorType(end.Err)))
		text := end.Outcome.String()
		if i.keys {
			text = end.Err.Error()
		}
		span.SetStatus(codes.Error, text)
	}
	span.End()
}

func (i *Instruments) batch(b distkit.Batch) {
	ctx := context.Background()
	of := i.with(kindKey.String(b.Kind), endKey.String(b.End.String()))
	i.batchDuration.Record(ctx, b.Duration.Seconds(), of)
	if b.End == distkit.BatchAnswered {
		i.batchSize.Record(ctx, int64(b.Size), i.with(kindKey.String(b.Kind)))
	}
	if b.Resend {
		i.count(i.resends, 1, kindKey.String(b.Kind))
	}
	i.batchSpan(b)
}

// batchSpan makes the span of an attempt at a batch, if a call in it is sampled.
func (i *Instruments) batchSpan(b distkit.Batch) {
	var parent context.Context
	var links []trace.Link
	for _, ctx := range b.Calls {
		if of := trace.SpanContextFromContext(ctx); of.IsSampled() {
			if parent == nil {
				parent = trace.ContextWithSpanContext(context.Background(), of)
			}
			links = append(links, trace.Link{SpanContext: of})
		}
	}
	if parent == nil {
		return
	}
	attributes := append([]attribute.KeyValue{
		semconv.DBSystemNameRedis, semconv.DBOperationBatchSize(b.Size),
		kindKey.String(b.Kind), endKey.String(b.End.String()),
		batchKey.Int64(int64(b.ID)), attemptKey.Int(b.Attempt), resendKey.Bool(b.Resend),
	}, i.own...)
	_, span := i.tracer.Start(parent, b.Kind+" batch", trace.WithSpanKind(trace.SpanKindClient),
		trace.WithTimestamp(b.Start), trace.WithLinks(links...), trace.WithAttributes(attributes...))
	if b.End != distkit.BatchAnswered && b.End != distkit.BatchPrepared {
		span.SetAttributes(semconv.ErrorTypeKey.String(b.End.String()))
		span.SetStatus(codes.Error, b.End.String())
	}
	span.End(trace.WithTimestamp(b.Start.Add(b.Duration)))
}

func (i *Instruments) flush(r distkit.FlushRound) {
	ctx, of := context.Background(), i.with()
	i.flushDuration.Record(ctx, r.Duration.Seconds(), of)
	i.flushSize.Record(ctx, int64(r.Keys), of)
	if r.ViewAge > 0 {
		i.viewAge.Record(ctx, r.ViewAge.Seconds(), of)
	}
}

func (i *Instruments) dropped(n int) { i.count(i.droppedTold, int64(n)) }
