package distkit_test

import (
	"context"
	"math"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/distkit/distkit-go"
	"github.com/distkit/distkit-go/internal/line"
	"github.com/distkit/distkit-go/internal/redistest"
	"github.com/stretchr/testify/require"
)

// witness keeps what a Probe is told.
type witness struct {
	mu      sync.Mutex
	calls   []told
	batches []distkit.Batch
	rounds  []distkit.FlushRound
	more    chan struct{}
}

// told is a call that has ended.
type told struct {
	ctx  context.Context
	call distkit.Call
	end  distkit.CallEnd
}

func newWitness() *witness { return &witness{more: make(chan struct{}, 1)} }

type mark struct{}

// probe is a Probe that marks the contexts of calls with their operations.
func (w *witness) probe() distkit.Probe {
	return distkit.Probe{
		CallStart: func(ctx context.Context, call distkit.Call) context.Context {
			return context.WithValue(ctx, mark{}, call.Operation)
		},
		CallEnd: func(ctx context.Context, call distkit.Call, end distkit.CallEnd) {
			w.note(func() { w.calls = append(w.calls, told{ctx, call, end}) })
		},
		Batch: func(b distkit.Batch) { w.note(func() { w.batches = append(w.batches, b) }) },
		Flush: func(r distkit.FlushRound) { w.note(func() { w.rounds = append(w.rounds, r) }) },
	}
}

func (w *witness) note(what func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	what()
	select {
	case w.more <- struct{}{}:
	default:
	}
}

// await waits until what was told is so.
func (w *witness) await(t *testing.T, so func() bool) {
	t.Helper()
	limit := time.After(30 * time.Second)
	for {
		w.mu.Lock()
		ok := so()
		w.mu.Unlock()
		if ok {
			return
		}
		select {
		case <-w.more:
		case <-limit:
			require.FailNow(t, "not told")
		}
	}
}

// last is the call that ended last.
func (w *witness) last() told {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.calls[len(w.calls)-1]
}

func TestProbe_isToldOfEachCall(t *testing.T) {
	t.Parallel()
	w := newWitness()
	f := newFixture(t, distkit.WithProbe(w.probe()))
	never := distkit.Eq(-1)
	one := distkit.Update{Key: keyA, N: 1}
	oneIf := distkit.UpdateIf{Key: keyA, If: never, N: 1}
	for kind, c := range map[string]distkit.Counter{"strict": f.Strict(), "lax": f.Lax()} {
		per, err := f.Strict().Per(distkit.Every(time.Hour), time.Hour)
		if kind == "lax" {
			per, err = f.Lax().Per(distkit.Every(time.Hour), time.Hour)
		}
		require.NoError(t, err)
		for _, call := range []struct {
			name    string
			do      func() error
			outcome distkit.CallOutcome
			size    int
		}{
			{"set", func() error { _, err := c.Set(f.ctx, keyA, 5); return err }, distkit.CallApplied, 1},
			{"lookup", func() error { _, _, err := c.Lookup(f.ctx, keyA); return err }, distkit.CallApplied, 1},
			{"inc_if", func() error { _, err := c.IncIf(f.ctx, keyA, distkit.Eq(5), 1); return err }, distkit.CallApplied, 1},
			{"inc_if", func() error { _, err := c.IncIf(f.ctx, keyA, never, 1); return err }, distkit.CallConditionFalse, 1},
			{"set_if", func() error { _, err := c.SetIf(f.ctx, keyA, never, 1); return err }, distkit.CallConditionFalse, 1},
			{"del", func() error { _, err := c.Del(f.ctx, keyB); return err }, distkit.CallApplied, 1},
			{"get_all", func() error { _, err := c.GetAll(f.ctx, keyA, keyB); return err }, distkit.CallApplied, 2},
			{"inc_all", func() error { _, err := c.IncAll(f.ctx, one, one, one); return err }, distkit.CallApplied, 3},
			{"set_all", func() error { _, err := c.SetAll(f.ctx, one); return err }, distkit.CallApplied, 1},
			{"inc_all_if", func() error { _, err := c.IncAllIf(f.ctx, oneIf); return err }, distkit.CallConditionFalse, 1},
			{"set_all_if", func() error { _, err := c.SetAllIf(f.ctx, oneIf, oneIf); return err }, distkit.CallConditionFalse, 2},
			{"del_all", func() error { _, err := c.DelAll(f.ctx, keyA); return err }, distkit.CallApplied, 1},
			{"set", func() error { _, err := c.Set(f.ctx, keyB, math.MaxInt64); return err }, distkit.CallApplied, 1},
			{"inc_all", func() error {
				_, err := c.IncAll(f.ctx, one, distkit.Update{Key: keyB, N: 1})
				return err
			}, distkit.CallPartlyApplied, 2},
			{"set", func() error { _, err := c.Set(f.ctx, distkit.Key{}, 1); return err }, distkit.CallNotApplied, 1},
			{"set", func() error { _, err := per.Set(f.ctx, keyA, 1); return err }, distkit.CallApplied, 1},
			{"set", func() error { _, err := per.At(time.Now()).Set(f.ctx, keyA, 1); return err }, distkit.CallApplied, 1},
			{"clear", func() error { return c.Clear(f.ctx) }, distkit.CallApplied, 1},
		} {
			before := len(w.calls)
			err := call.do()
			require.Len(t, w.calls, before+1, "%s %s", kind, call.name)
			last := w.last()
			require.Equal(t, kind, last.call.Kind)
			require.Equal(t, call.name, last.call.Operation)
			require.Equal(t, call.outcome, last.end.Outcome, "%s %s: %v", kind, call.name, err)
			require.Equal(t, call.size, last.call.Size)
			require.Equal(t, err, last.end.Err)
			require.Equal(t, call.name, last.ctx.Value(mark{}), "CallEnd has the context of CallStart")
			require.Positive(t, last.end.Duration)
			if single := call.size == 1 && len(call.name) <= 6 && call.name != "clear"; single && err == nil {
				require.NotEqual(t, distkit.Key{}, last.call.Key)
			}
		}
	}
	f.flush(t)
	require.Equal(t, "flush", w.last().call.Operation)
}

func TestProbe_isToldOfTransactions(t *testing.T) {
	t.Parallel()
	w := newWitness()
	f := newFixture(t, distkit.WithProbe(w.probe()))
	steps := []distkit.Step{{Key: keyA, Do: distkit.Inc{N: 1}}, {Key: keyB, Do: distkit.Inc{N: 1}}}
	_, err := f.Strict().Apply(f.ctx, distkit.Tx{ID: "one", Steps: steps})
	require.NoError(t, err)
	require.Equal(t, distkit.Call{Kind: "strict", Operation: "apply", Size: 2}, w.last().call)
	require.Equal(t, distkit.CallApplied, w.last().end.Outcome)
	require.NotZero(t, w.last().end.Batch)
	steps[1].Do = distkit.IncIf{If: distkit.Eq(7), N: 1}
	_, err = f.Strict().Apply(f.ctx, distkit.Tx{Steps: steps})
	require.NoError(t, err)
	require.Equal(t, distkit.CallConditionFalse, w.last().end.Outcome)
	_, err = f.Strict().Apply(f.ctx, distkit.Tx{ID: "one", Steps: steps})
	requireNotApplied(t, err, distkit.ErrConflict)
	require.Equal(t, distkit.CallNotApplied, w.last().end.Outcome)
	_, _, err = f.Strict().Outcome(f.ctx, "one")
	require.NoError(t, err)
	require.Equal(t, distkit.Call{Kind: "strict", Operation: "outcome", Size: 1}, w.last().call)
	require.NotZero(t, w.last().end.Batch)
}

// A batch knows the contexts of its calls, and a call the batch.
func TestProbe_batchesKnowTheirCalls(t *testing.T) {
	t.Parallel()
	w := newWitness()
	f := newFixture(t, distkit.WithProbe(w.probe()))
	var all sync.WaitGroup
	for range 50 {
		all.Go(func() {
			_, err := f.Strict().Inc(f.ctx, keyA, 1)
			require.NoError(t, err)
		})
	}
	all.Wait()
	_, err := f.Strict().Get(f.ctx, keyA)
	require.NoError(t, err)
	w.await(t, func() bool {
		return slices.ContainsFunc(w.batches, func(b distkit.Batch) bool { return b.Reads })
	})
	in := map[uint64]int{}
	for _, call := range w.calls {
		require.NotZero(t, call.end.Batch)
		in[call.end.Batch]++
	}
	size := 0
	for _, b := range w.batches {
		require.False(t, b.Resend)
		if b.End != distkit.BatchAnswered { // the lane was opened, perhaps the script loaded
			require.Equal(t, distkit.BatchPrepared, b.End)
			continue
		}
		require.Equal(t, "strict", b.Kind)
		require.Equal(t, in[b.ID], b.Size)
		require.Len(t, b.Calls, b.Size)
		for _, ctx := range b.Calls {
			want := "inc"
			if b.Reads {
				want = "get"
			}
			require.Equal(t, want, ctx.Value(mark{}))
		}
		require.Positive(t, b.Duration)
		size += b.Size
	}
	require.Equal(t, 51, size)
}

// A batch whose reply is lost goes again as the same batch.
func TestProbe_tellsResendsAndOutages(t *testing.T) {
	t.Parallel()
	for _, kind := range []string{"strict", "lax"} {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			line, w := &line.Line{}, newWitness()
			f := fixtureOn(t, redistest.NewClient(t, line.Lead(*redistest.Options(t))),
				distkit.WithBackoff(time.Millisecond, 5*time.Millisecond), distkit.WithProbe(w.probe()))
			c := f.counters()[kind+"_counter"]
			_, err := c.Inc(f.ctx, keyA, 1)
			require.NoError(t, err)
			f.flush(t)
			line.Lose(1)
			_, err = c.Inc(f.ctx, keyA, 1)
			require.NoError(t, err)
			f.flush(t)
			w.await(t, func() bool {
				at := slices.IndexFunc(w.batches, func(b distkit.Batch) bool { return b.End == distkit.BatchUnknown })
				return at >= 0 && slices.ContainsFunc(w.batches[at:], func(b distkit.Batch) bool {
					return b.ID == w.batches[at].ID && b.Attempt > w.batches[at].Attempt && b.Resend && b.End == distkit.BatchAnswered && b.Kind == kind && b.Size == 1
				})
			})

			line.Down(true)
			line.Lose(1) // what is connected
			require.NoError(t, f.Lax().Add(keyB, 1))
			short, cancel := context.WithTimeout(f.ctx, 50*time.Millisecond)
			defer cancel()
			if kind == "strict" {
				_, err = c.Set(short, keyA, 1)
			} else {
				err = f.Flush(short)
			}
			require.Error(t, err)
			require.Contains(t, []distkit.CallOutcome{distkit.CallNotApplied, distkit.CallOutcomeUnknown}, w.last().end.Outcome)
			w.await(t, func() bool {
				return slices.ContainsFunc(w.batches, func(b distkit.Batch) bool {
					return b.Kind == kind && b.End == distkit.BatchUnreachable && b.Err != nil
				})
			})
			if kind == "lax" {
				require.WithinDuration(t, time.Now(), f.Stats().Lax.Oldest, 10*time.Second)
				require.NotZero(t, f.Stats().Lax.Oldest)
			}
			line.Down(false)
			f.flush(t)
			require.Eventually(t, func() bool { return f.Stats().Lax.Oldest.IsZero() }, 10*time.Second, time.Millisecond)
		})
	}
}

func TestProbe_isToldOfFlushRounds(t *testing.T) {
	t.Parallel()
	w := newWitness()
	f := newFixture(t, distkit.WithProbe(w.probe()))
	for _, key := range []distkit.Key{keyA, keyB, keyC} {
		require.NoError(t, f.Lax().Add(key, 1))
	}
	f.flush(t)
	w.await(t, func() bool {
		keys := 0
		for _, r := range w.rounds {
			keys += r.Keys
			require.Positive(t, r.Duration)
			require.Equal(t, 1, r.Batches)
			require.Zero(t, r.ViewAge, "nobody had asked")
		}
		return keys == 3
	})
}

// A round tells how old the views were that callers had needed.
func TestProbe_isToldTheAgeOfViews(t *testing.T) {
	t.Parallel()
	w := newWitness()
	f := newFixture(t, distkit.WithProbe(w.probe()), distkit.WithAllowedLag(time.Hour)) // only Flush flushes
	_, err := f.Lax().Get(f.ctx, keyA)
	require.NoError(t, err)
	view, err := f.Lax().View(f.ctx, keyA)
	require.NoError(t, err)
	f.inc(t, f.Lax(), keyA)
	f.flush(t)
	w.await(t, func() bool {
		if len(w.rounds) == 0 {
			return false
		}
		require.GreaterOrEqual(t, w.rounds[0].ViewAge, view.Age+w.rounds[0].Duration)
		return true
	})
}

// A Probe that blocks loses what finds no room, and is told how much; one that panics
// loses that record. Counting goes on.
func TestProbe_thatIsSlowOrPanics(t *testing.T) {
	t.Parallel()
	held, dropped := make(chan struct{}), make(chan int, 1)
	told := 0
	probe := distkit.Probe{
		Batch:   func(distkit.Batch) { <-held; told++; panic("the probe's") },
		Dropped: func(n int) { dropped <- n },
	}
	f := newFixture(t, distkit.WithProbe(probe))
	const calls = 5000
	for range calls {
		_, err := f.Strict().Inc(f.ctx, keyA, 1)
		require.NoError(t, err)
	}
	close(held)
	n := <-dropped
	require.GreaterOrEqual(t, told+n, calls)
	require.LessOrEqual(t, told, 4097)
	got, err := f.Strict().Get(f.ctx, keyA)
	require.NoError(t, err)
	require.EqualValues(t, calls, got)
}

// A Probe may have any of its functions, and CallStart may return nothing.
func TestProbe_withHoles(t *testing.T) {
	t.Parallel()
	for _, probe := range []distkit.Probe{
		{},
		{CallStart: func(context.Context, distkit.Call) context.Context { return nil }},
		{Flush: func(distkit.FlushRound) {}},
	} {
		f := newFixture(t, distkit.WithProbe(probe))
		_, err := f.Strict().Inc(f.ctx, keyA, 1)
		require.NoError(t, err)
		_, err = f.Lax().Set(f.ctx, keyA, 1)
		require.NoError(t, err)
		f.flush(t)
		//nolint:staticcheck // a nil context is what this is about
		_, err = f.Strict().Inc(nil, keyA, 1)
		require.ErrorIs(t, err, distkit.ErrNotApplied)
	}
}

func TestStats_countsActivationsAndPassivations(t *testing.T) {
	t.Parallel()
	f := newFixture(t, distkit.WithPassivation(10*time.Millisecond))
	both := []distkit.Counter{f.Strict(), f.Lax()}
	for _, c := range both {
		_, err := c.Inc(f.ctx, keyA, 1)
		require.NoError(t, err)
	}
	require.Eventually(t, func() bool {
		s := f.Stats()
		return s.Strict.Passivations == 1 && s.Lax.Passivations == 1
	}, 10*time.Second, time.Millisecond)
	for _, c := range both {
		_, err := c.Inc(f.ctx, keyA, 1)
		require.NoError(t, err)
	}
	require.EqualValues(t, 2, f.Stats().Strict.Activations)
	require.EqualValues(t, 2, f.Stats().Lax.Activations)
}

func TestProbe_names(t *testing.T) {
	t.Parallel()
	require.Equal(t, "applied", distkit.CallApplied.String())
	require.Equal(t, "CallOutcome(9)", distkit.CallOutcome(9).String())
	require.Equal(t, "unreachable", distkit.BatchUnreachable.String())
	require.Equal(t, "BatchEnd(9)", distkit.BatchEnd(9).String())
}
