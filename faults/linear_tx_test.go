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

// The histories of TestLinearizability_transactions. They are of all counters at once,
// so that the search for an order is longer than of one.
const (
	linearTxOps     = 30 // of each client
	linearTxUnknown = 8  // unknown outcomes in a history
)

// TestLinearizability_transactions is TestLinearizability for operations on several
// counters: a transaction takes effect at one moment, in whole or not at all; under an
// ID once, whichever of the Systems is asked and however often, and everybody is
// answered the first outcome, which Outcome finds from that moment on. The histories
// hold single operations too, which are transactions of one step, and tell what is
// absent from 0.
func TestLinearizability_transactions(t *testing.T) {
	t.Parallel()
	run := chaos.Begin(t, "TestLinearizability_transactions")
	end := endOf(t, run, time.Minute, 8*time.Minute)
	histories := run.Scale(20, 500)
	direct, addr := sharedRedis(t)
	w := startWire(t, addr, run.Rand(1))
	prefix := redistest.Prefix(t, direct)
	clients := make([]*redis.Client, linearSystems)
	for i := range clients {
		clients[i] = redistest.NewClient(t, retrying(direct, func() string { return w.addr }))
	}
	tally := map[string]int{}
	longest := time.Duration(0)
	for i := range histories {
		if time.Now().After(end) || t.Failed() {
			t.Logf("stopped at %d of %d histories", i, histories)
			break
		}
		h := &linearTxHistory{run: run, rng: uint64(i+1) << 8, direct: direct, prefix: fmt.Sprintf("%s-%d", prefix, i)}
		h.record(t, clients, w)
		longest = max(longest, h.check(tally))
		run.Cases(1)
	}
	run.Faults(w.faults())
	t.Logf("%v; longest search %v; %v", tally, longest, w)
	if t.Failed() {
		return
	}
	for _, what := range []string{"applied", "not applied", "replayed", "conflict", "outcome", "no outcome", "unknown"} {
		require.Positive(t, tally[what], what)
	}
}

// linearTxSearch bounds the search for an order; a history of which it finds no end proves
// nothing, and fails. A minute was too short once in 440, on a busy machine.
const linearTxSearch = 4 * time.Minute

// linearTxHistory is what the clients of one prefix did and were told.
type linearTxHistory struct {
	run    *chaos.Run
	rng    uint64 // its first stream
	direct *redis.Client
	prefix string

	clock atomic.Int64 // as linearHistory's
	risky atomic.Int32

	mu  sync.Mutex
	txs [linearIDs][]linearTxStep // the first drawn of each ID
	ops []porcupine.Operation
}

func linearKey(k int) distkit.Key { return distkit.MustKey(fmt.Sprintf("k%d", k)) }

// record runs the clients while faults come, ends the faults, and closes the history.
func (h *linearTxHistory) record(t testing.TB, clients []*redis.Client, w *wire) {
	t.Helper()
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
			for range linearTxOps {
				h.operate(rng, systems[c%len(systems)].Strict(), c)
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
	h.lastLook(ctx, t)
	w.deliverHeld()
	h.lastLook(ctx, t)
}

// operate carries out one operation and adds it to the history.
func (h *linearTxHistory) operate(rng *rand.Rand, c *distkit.StrictCounter, client int) {
	in := h.draw(rng)
	ctx, cancel, risky := h.wait(rng)
	defer cancel()
	call := h.clock.Add(1)
	var out linearTxOutput
	var err error
	id := fmt.Sprint("id", in.id)
	switch {
	case in.recall:
		var told distkit.Outcome
		told, out.found, err = c.Outcome(ctx, id)
		if out.found {
			out.outcome = linearOutcome(told)
		}
	default:
		tx := distkit.Tx{Steps: linearSteps(in.steps)}
		if in.id >= 0 {
			tx.ID, tx.Keep = id, time.Hour
		}
		var told distkit.Outcome
		if told, err = c.Apply(ctx, tx); err == nil {
			out.found, out.outcome = told.Replayed, linearOutcome(told)
		}
	}
	returned := h.clock.Add(1)
	notApplied, unknown := errors.Is(err, distkit.ErrNotApplied), errors.Is(err, distkit.ErrOutcomeUnknown)
	switch {
	case err == nil:
	case notApplied == unknown:
		h.run.Violation("%v: neither not applied nor unknown, or both: %v", in, err)
	case errors.Is(err, distkit.ErrConflict) && notApplied:
		out = linearTxOutput{conflict: true}
	case !gaveUp(err):
		h.run.Violation("%v: failed for another reason than its context: %v", in, err)
	case unknown:
		out, returned = linearTxOutput{unknown: true}, math.MaxInt64
	}
	if risky && !unknown {
		h.risky.Add(-1)
	}
	if notApplied && !out.conflict {
		return // it had no moment
	}
	h.add(porcupine.Operation{ClientId: client, Input: in, Call: call, Output: out, Return: returned})
}

// linearSteps are the steps as the library takes them.
func linearSteps(steps []linearTxStep) []distkit.Step {
	out := make([]distkit.Step, len(steps))
	for i, s := range steps {
		cond := linearCmps[s.cmp].cond(s.than)
		switch s.absence {
		case 'a':
			cond = distkit.Absent()
		case 'p':
			cond = distkit.Present()
		}
		out[i] = distkit.Step{Key: linearKey(s.key), Do: [...]distkit.Message{
			distkit.Get{}, distkit.Inc{N: s.n}, distkit.Dec{N: s.n}, distkit.Set{N: s.n}, distkit.Del{},
			distkit.IncIf{If: cond, N: s.n}, distkit.SetIf{If: cond, N: s.n},
		}[s.kind]}
	}
	return out
}

// draw draws an operation. One with an ID has mostly the steps that the first with it
// has: it is a repetition, else a conflict.
func (h *linearTxHistory) draw(rng *rand.Rand) linearTxInput {
	in := linearTxInput{id: -1}
	if rng.IntN(2) == 0 {
		in.id = rng.IntN(linearIDs)
	}
	if in.id >= 0 && rng.IntN(4) == 0 {
		in.recall = true
		return in
	}
	for range 1 + rng.IntN(3) {
		in.steps = append(in.steps, linearDrawStep(rng))
	}
	if in.id >= 0 {
		h.mu.Lock()
		defer h.mu.Unlock()
		if h.txs[in.id] == nil {
			h.txs[in.id] = in.steps
		} else if rng.IntN(5) > 0 {
			in.steps = h.txs[in.id]
		}
	}
	return in
}

// linearDrawStep draws a step: of small numbers, so that conditions hold now and then.
func linearDrawStep(rng *rand.Rand) linearTxStep {
	s := linearTxStep{key: rng.IntN(linearKeys), linearInput: linearDraw(rng, rng.Int64N(3000))}
	if s.kind == linearIncIf || s.kind == linearSetIf {
		if s.absence = []byte{0, 0, 'a', 'p'}[rng.IntN(4)]; s.absence != 0 {
			s.cmp, s.than = 0, 0
		}
	}
	return s
}

// wait bounds one operation. Few have little time, and only while the history may have
// more unknown outcomes.
func (h *linearTxHistory) wait(rng *rand.Rand) (ctx context.Context, cancel context.CancelFunc, risky bool) {
	d := patience
	if rng.IntN(4) == 0 {
		if risky = h.risky.Add(1) <= linearTxUnknown; risky {
			d = time.Duration(rng.IntN(5000)) * time.Microsecond
		} else {
			h.risky.Add(-1)
		}
	}
	ctx, cancel = context.WithTimeout(context.Background(), d)
	return ctx, cancel, risky
}

func (h *linearTxHistory) add(o porcupine.Operation) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.ops = append(h.ops, o)
}

// lastLook ends the history with what Redis itself holds: it tells absent from 0 by a
// condition.
func (h *linearTxHistory) lastLook(ctx context.Context, t testing.TB) {
	t.Helper()
	for k := range linearKeys {
		call := h.clock.Add(1)
		n, err := h.direct.HGet(ctx, h.prefix+":"+kinds[0], linearKey(k).String()).Int64()
		exists := !errors.Is(err, redis.Nil)
		if exists {
			require.NoError(t, err)
		}
		// It is a read that tells both: "assign it what it has, if it is present".
		in := linearTxStep{key: k, linearInput: linearInput{kind: linearSetIf, n: n}, absence: 'p'}
		told := "not applied {Old:0 New:0 Applied:false}"
		if exists {
			told = fmt.Sprintf("applied %+v", distkit.Change{Old: n, New: n, Applied: true})
		}
		h.add(porcupine.Operation{ClientId: linearClients, Call: call, Return: h.clock.Add(1),
			Input: linearTxInput{id: -1, steps: []linearTxStep{in}}, Output: linearTxOutput{outcome: told}})
	}
}

// check looks for an order that explains the history, and says how long it took.
func (h *linearTxHistory) check(tally map[string]int) time.Duration {
	slices.SortFunc(h.ops, func(a, b porcupine.Operation) int { return cmp.Compare(a.Call, b.Call) })
	for _, o := range h.ops {
		switch in, out := o.Input.(linearTxInput), o.Output.(linearTxOutput); {
		case out.unknown:
			tally["unknown"]++
		case out.conflict:
			tally["conflict"]++
		case in.recall && out.found:
			tally["outcome"]++
		case in.recall:
			tally["no outcome"]++
		case out.found:
			tally["replayed"]++
		case out.outcome[0] == 'n':
			tally["not applied"]++
		default:
			tally["applied"]++
		}
	}
	start := time.Now()
	if result := porcupine.CheckOperationsTimeout(linearTxModel, h.ops, linearTxSearch); result != porcupine.Ok {
		h.run.Violation("history of %s: %s%s", h.prefix, result, linearTxText(h.ops))
	}
	return time.Since(start)
}

// linearTxText shows a history, an operation a line, in the order of the calls.
func linearTxText(history []porcupine.Operation) string {
	text := ""
	for _, o := range history {
		text += fmt.Sprintf("\n  [%d, %d] client %d: %s", o.Call, o.Return, o.ClientId, linearTxModel.DescribeOperation(o.Input, o.Output))
	}
	return text
}
