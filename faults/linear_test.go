package faults_test

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"
	"github.com/distkit/distkit-go"
	"github.com/distkit/distkit-go/internal/chaos"
	"github.com/distkit/distkit-go/internal/redistest"
	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"
)

// The histories of TestLinearizability are small, so that the search for an
// order is short, and many.
const (
	linearSystems = 2 // as two processes would have
	linearClients = 8
	linearKeys    = 3
	linearOps     = 50 // of each client
	linearUnknown = 9  // unknown outcomes that a counter may have in a history
)

// TestLinearizability proves that strict counters, on a network that loses and
// delays, look like one counter each that carries out one operation after the
// other: every operation takes effect at one moment between its call and its
// return, once; an unknown one at some moment after its call, or never; one
// that was not applied, at none. Histories of clients of two Systems are
// searched for an order that explains every answer.
//
// A last Get of each counter, past the System and the faults, belongs to each
// history: what the unknown ones have done, they must have done by then.
func TestLinearizability(t *testing.T) {
	t.Parallel()
	run := chaos.Begin(t, "TestLinearizability")
	end := endOf(t, run, 2*time.Minute, 8*time.Minute)
	histories := run.Scale(20, 500)
	direct, addr := sharedRedis(t)
	w := startWire(t, addr, run.Rand(1))
	prefix := redistest.Prefix(t, direct)
	clients := make([]*redis.Client, linearSystems)
	for i := range clients {
		clients[i] = redistest.NewClient(t, retrying(direct, func() string { return w.addr }))
	}
	var total linearTotals
	for i := range histories {
		if time.Now().After(end) {
			t.Logf("stopped at %d of %d histories: time is up", i, histories)
			break
		}
		h := &linearHistory{run: run, rng: uint64(i+1) << 8, direct: direct, prefix: fmt.Sprintf("%s-%d", prefix, i)}
		h.record(t, clients, w)
		h.check(&total)
		run.Cases(1)
		for _, kind := range kinds {
			direct.Del(context.Background(), h.prefix+":"+kind)
		}
		if t.Failed() {
			break
		}
	}
	run.Faults(w.faults())
	t.Logf("%d operations, %d unknown (at most %d of a counter in a history), %d not applied, %d overflows, longest search %v; %v",
		total.operations, total.unknown, total.mostUnknown, total.notApplied, total.overflows, total.longestCheck, w)
}

// linearTotals sum up what the histories held.
type linearTotals struct {
	operations, unknown, notApplied, overflows int
	mostUnknown                                int // of one counter in one history
	longestCheck                               time.Duration
}

// linearHistory is what the clients of one prefix did and were told.
type linearHistory struct {
	run    *chaos.Run
	rng    uint64 // its first stream
	direct *redis.Client
	prefix string
	keys   [linearKeys]distkit.Key

	clock      atomic.Int64 // counts calls and returns: a later one has a higher number
	risky      [linearKeys]atomic.Int32
	notApplied atomic.Int64

	mu  sync.Mutex
	ops [linearKeys][]porcupine.Operation
}

// record runs the clients while faults come, then ends the faults, and closes
// the history.
func (h *linearHistory) record(t testing.TB, clients []*redis.Client, w *wire) {
	t.Helper()
	for k := range h.keys {
		h.keys[k] = distkit.MustKey(fmt.Sprintf("k%d", k))
	}
	systems := make([]*distkit.System, len(clients))
	for i, client := range clients {
		system, err := distkit.NewSystem(client,
			distkit.WithPrefix(distkit.MustKey(h.prefix)), distkit.WithLogger(slog.New(slog.DiscardHandler)),
			distkit.WithBackoff(time.Millisecond, 8*time.Millisecond))
		require.NoError(t, err)
		systems[i] = system
	}
	w.hurt(0.1)
	var callers sync.WaitGroup
	for c := range linearClients {
		callers.Go(func() {
			rng := h.run.Rand(h.rng | uint64(c))
			counter := systems[c%len(systems)].Strict()
			var seen [linearKeys]int64
			for range linearOps {
				k := rng.IntN(linearKeys)
				h.operate(rng, counter, c, k, &seen[k])
			}
		})
	}
	callers.Wait()
	w.heal()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	for _, system := range systems {
		if err := system.Shutdown(ctx); err != nil {
			h.run.Violation("Shutdown of %s: %v", h.prefix, err)
		}
	}
	h.finalGets(ctx, t)
	w.deliverHeld()
	h.finalGets(ctx, t)
}

// operate carries out one operation and adds it to the history.
func (h *linearHistory) operate(rng *rand.Rand, c *distkit.StrictCounter, client, k int, seen *int64) {
	in := linearDraw(rng, *seen)
	ctx, cancel, risky := h.wait(rng, k)
	defer cancel()
	key, call := h.keys[k], h.clock.Add(1)
	var out linearOutput
	var err error
	switch in.kind {
	case linearGet:
		out.value, err = c.Get(ctx, key)
	case linearInc:
		out.value, err = c.Inc(ctx, key, in.n)
	case linearDec:
		out.value, err = c.Dec(ctx, key, in.n)
	case linearSet:
		out.value, err = c.Set(ctx, key, in.n)
	case linearDel:
		out.value, err = c.Del(ctx, key)
	case linearIncIf:
		out.change, err = c.IncIf(ctx, key, linearCmps[in.cmp].cond(in.than), in.n)
	case linearSetIf:
		out.change, err = c.SetIf(ctx, key, linearCmps[in.cmp].cond(in.than), in.n)
	}
	returned := h.clock.Add(1)
	out, keep := h.classify(in, out, err)
	if risky && !out.unknown {
		h.risky[k].Add(-1)
	}
	if !keep {
		return
	}
	if out.unknown {
		returned = math.MaxInt64
	} else if !out.overflow {
		*seen = out.value + out.change.New
	}
	h.add(k, porcupine.Operation{ClientId: client, Input: in, Call: call, Output: out, Return: returned})
}

// classify turns an error into an output; keep is false for an operation that
// was not applied, which had no moment.
func (h *linearHistory) classify(in linearInput, out linearOutput, err error) (_ linearOutput, keep bool) {
	notApplied, unknown := errors.Is(err, distkit.ErrNotApplied), errors.Is(err, distkit.ErrOutcomeUnknown)
	switch {
	case err == nil:
		return out, true
	case notApplied == unknown:
		h.run.Violation("%v: neither not applied nor unknown, or both: %v", in, err)
	case errors.Is(err, distkit.ErrOverflow):
		return linearOutput{overflow: true}, true
	case !gaveUp(err):
		h.run.Violation("%v: failed for another reason than its context: %v", in, err)
	case notApplied:
		h.notApplied.Add(1)
		return linearOutput{}, false
	}
	return linearOutput{unknown: true}, true
}

// wait bounds one operation. Few have little time, and only while the counter
// may have more unknown outcomes: the search grows with them.
func (h *linearHistory) wait(rng *rand.Rand, k int) (ctx context.Context, cancel context.CancelFunc, risky bool) {
	d := patience
	if rng.IntN(4) == 0 {
		if risky = h.risky[k].Add(1) <= linearUnknown; risky {
			d = time.Duration(rng.IntN(5000)) * time.Microsecond
		} else {
			h.risky[k].Add(-1)
		}
	}
	ctx, cancel = context.WithTimeout(context.Background(), d)
	return ctx, cancel, risky
}

// linearDraw draws an operation; conditions are about the value last seen, or
// near it, and few values lie at the ends of the range.
func linearDraw(rng *rand.Rand, seen int64) linearInput {
	in := linearInput{kind: linearKind(rng.IntN(int(linearKinds))), n: 1 + rng.Int64N(1000)}
	if in.kind == linearGet || in.kind == linearDel {
		in.n = 0
	}
	if in.kind == linearIncIf || in.kind == linearSetIf {
		in.cmp = rng.IntN(len(linearCmps))
		if in.than = seen; rng.IntN(3) == 0 {
			in.than, _ = linearAdd(seen, rng.Int64N(200)-100)
		}
	}
	if in.kind == linearSet || in.kind == linearSetIf {
		switch rng.IntN(8) {
		case 0:
			in.n = math.MaxInt64 - in.n
		case 1:
			in.n = math.MinInt64 + in.n
		}
	}
	return in
}

func (h *linearHistory) add(k int, o porcupine.Operation) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.ops[k] = append(h.ops[k], o)
}

// finalGets ends the history with a look at Redis itself.
func (h *linearHistory) finalGets(ctx context.Context, t testing.TB) {
	t.Helper()
	for k, key := range h.keys {
		call := h.clock.Add(1)
		n, err := h.direct.HGet(ctx, h.prefix+":"+kinds[0], key.String()).Int64()
		if !errors.Is(err, redis.Nil) {
			require.NoError(t, err)
		}
		h.add(k, porcupine.Operation{ClientId: linearClients, Call: call, Return: h.clock.Add(1),
			Input: linearInput{kind: linearGet}, Output: linearOutput{value: n}})
	}
}

// check looks for an order that explains the history of each counter.
func (h *linearHistory) check(total *linearTotals) {
	total.notApplied += int(h.notApplied.Load())
	for k, ops := range h.ops {
		slices.SortFunc(ops, func(a, b porcupine.Operation) int { return cmp.Compare(a.Call, b.Call) })
		unknown := 0
		for _, o := range ops {
			if out := o.Output.(linearOutput); out.unknown {
				unknown++
			} else if out.overflow {
				total.overflows++
			}
		}
		total.operations += len(ops)
		total.unknown += unknown
		total.mostUnknown = max(total.mostUnknown, unknown)
		start := time.Now()
		result := porcupine.CheckOperationsTimeout(linearModel, ops, time.Minute)
		total.longestCheck = max(total.longestCheck, time.Since(start))
		if result != porcupine.Ok {
			h.run.Violation("history of %s %s, %d unknown: %s%s", h.prefix, h.keys[k], unknown, result, linearText(ops))
		}
	}
}
