package store

import (
	"context"
	"flag"
	"fmt"
	"maps"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/distkit/distkit-go/internal/chaos"
	"github.com/distkit/distkit-go/internal/op"
	"github.com/distkit/distkit-go/internal/redistest"
	"github.com/distkit/distkit-go/lua"
	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

// The batch script against the model of fuzz_test.go: whatever writers, late copies, evictions, failovers to stale
// replicas, a full memory and foreign hands do, Redis answers and holds what
// the model says. What is asked does not depend on the answers, so a sequence
// is one pipeline, compared when it is through.

// writer is a writer that may have sent anything, but never two batches under
// one number.
type writer struct {
	name    string
	sent    int64 // the highest number
	batches map[int64][]KeyOp
}

// machine is a sequence under way: the model, and what goes to Redis.
type machine struct {
	model
	ctx     context.Context
	store   *Store
	pipe    redis.Pipeliner
	writers []*writer
	steps   []step
}

// step is an action: the call it made, if any, and what Redis held after it.
type step struct {
	action  string
	call    *Call
	command *command
	want    answer
	held    model
	fields  *redis.MapStringStringCmd
	ledgers []*redis.StringCmd // by the index of the writer
}

var (
	edges = []int64{
		0, 1, -1, 9, 10, -10, 99, 1<<53 - 1, 1 << 53, 1<<53 + 1, -1<<53 - 1, -1 << 53, 1<<62 + 1, 1e18, 1e18 - 1,
		math.MaxInt64 - 1, math.MaxInt64, math.MinInt64, math.MinInt64 + 1,
	}
	foreignTexts = []string{
		"text", "", " 1", "1 ", "+1", "-0", "-", "00", "007", "1.0", "1e3", "0x10", "1\x00", "a b", "1\n", "!O", "5:8",
		"9223372036854775807", "-9223372036854775808", "9223372036854775808", "-9223372036854775809",
		"9007199254740993", "12345678901234567890", "123456789012345678901",
	}
	kinds = []op.Kind{
		op.Inc, op.Dec, op.IncIf, op.SetIf, op.Set, op.Get, op.Del, op.Inc, op.Dec, op.IncIf, op.SetIf, op.Inc, op.Clear,
	}
	fieldNames = rapid.SampledFrom([]string{"a", "b", "c %d\x00:é"})
	numbers    = rapid.OneOf(rapid.SampledFrom(edges), rapid.SampledFrom(edges), rapid.Int64Range(-2, 2), rapid.Int64())
	batches    = rapid.OneOf(mixed, mixed, increase)
	increase   = rapid.SliceOfN(rapid.Custom(func(t *rapid.T) KeyOp {
		o := op.Op{Kind: op.Inc, N: numbers.Draw(t, "n")}
		return KeyOp{fieldNames.Draw(t, "key"), o, rapid.Bool().Draw(t, "silent")}
	}), 1, 6)
	mixed = rapid.SliceOfN(rapid.Custom(func(t *rapid.T) KeyOp {
		o := KeyOp{Key: fieldNames.Draw(t, "key"), Op: op.Op{Kind: rapid.SampledFrom(kinds).Draw(t, "kind")}}
		if o.Kind != op.Get && o.Kind != op.Del && o.Kind != op.Clear {
			o.N = numbers.Draw(t, "n")
		}
		if o.Kind.Conditional() {
			o.If = op.Cond{Cmp: op.Cmp(rapid.IntRange(int(op.Always), int(op.Ge)).Draw(t, "cmp")), N: numbers.Draw(t, "than")}
		}
		return o
	}), 1, 6)
)

// actions are what may happen; rapid favours those that come first in the alphabet.
func (m *machine) actions() map[string]func(*rapid.T) {
	return map[string]func(*rapid.T){
		"batch":      func(t *rapid.T) { m.next(t, "batch", m.writer(t), false) },
		"full":       func(t *rapid.T) { m.next(t, "full", m.writer(t), true) },
		"new writer": m.newWriter,
		"again": func(t *rapid.T) { // a replay, or a batch that went out in vain
			w := m.writer(t)
			m.send("again", w, w.sent, w.batches[w.sent], rapid.Bool().Draw(t, "memory full"))
		},
		"old": func(t *rapid.T) { // one that comes late, or that a rollback or an eviction undid
			w := m.writer(t)
			seq := max(w.sent-rapid.Int64Range(1, 4).Draw(t, "back"), slices.Min(slices.Collect(maps.Keys(w.batches))))
			m.send("old", w, seq, w.batches[seq], false)
		},
		"skipped": func(t *rapid.T) {
			w := m.writer(t)
			m.send("skipped", w, w.sent+rapid.SampledFrom([]int64{2, 3, 900}).Draw(t, "ahead"), batches.Draw(t, "batch"), false)
		},
		"evict": func(t *rapid.T) {
			name := m.writer(t).name
			delete(m.model.ledgers, name)
			m.pipe.Unlink(m.ctx, LedgerName(m.store.container, name))
			m.look(step{action: "evict"})
		},
		"rollback": func(t *rapid.T) {
			m.model = m.steps[rapid.IntRange(0, len(m.steps)-1).Draw(t, "to")].held.clone()
			m.put("rollback")
		},
		"retype": func(*rapid.T) {
			m.replaced = !m.replaced
			m.put("retype")
		},
		"foreign": func(t *rapid.T) {
			field := fieldNames.Draw(t, "field")
			if delete(m.model.fields, field); rapid.Bool().Draw(t, "set") {
				m.model.fields[field] = rapid.SampledFrom(foreignTexts).Draw(t, "text")
			}
			m.put("foreign")
		},
	}
}

func (m *machine) writer(t *rapid.T) *writer {
	return m.writers[rapid.IntRange(0, len(m.writers)-1).Draw(t, "writer")]
}

// newWriter adds one, of which the ledger may stand where the number gains a
// digit, or near its limit.
func (m *machine) newWriter(t *rapid.T) {
	w := &writer{name: fmt.Sprint("w", len(m.writers)), batches: map[int64][]KeyOp{}}
	m.writers = append(m.writers, w)
	if w.sent = rapid.SampledFrom([]int64{0, 9, 99999, 1<<53 - 1000}).Draw(t, "sent"); w.sent > 0 {
		w.batches[w.sent] = []KeyOp{{Key: "a", Op: op.Op{Kind: op.Get}}}
		m.model.ledgers[w.name] = ledger{w.sent, "7", []op.Result{{N: 7}}}
		m.put("new writer")
	}
	m.next(t, "new writer", w, false)
}

func (m *machine) next(t *rapid.T, action string, w *writer, memoryFull bool) {
	w.sent++
	w.batches[w.sent] = batches.Draw(t, "batch")
	m.send(action, w, w.sent, w.batches[w.sent], memoryFull)
}

func (m *machine) send(action string, w *writer, seq int64, ops []KeyOp, memoryFull bool) {
	call := &Call{Writer: w.name, Seq: seq, Ops: ops}
	s := step{action: action, call: call, command: m.store.applyCmd(m.ctx, call), want: m.batch(w.name, seq, ops, memoryFull)}
	if memoryFull {
		m.pipe.ConfigSet(m.ctx, "maxmemory", "1")
	}
	_ = m.pipe.Process(m.ctx, s.command) // only queues
	if memoryFull {
		m.pipe.ConfigSet(m.ctx, "maxmemory", "0")
	}
	m.look(s)
}

// put makes Redis what the model is, past the script.
func (m *machine) put(action string) {
	m.pipe.Del(m.ctx, m.store.container)
	if m.replaced {
		m.pipe.Set(m.ctx, m.store.container, "text", 0)
	} else if len(m.model.fields) > 0 {
		m.pipe.HSet(m.ctx, m.store.container, m.model.fields)
	}
	for _, w := range m.writers {
		if l := m.model.ledgers[w.name]; l.seq > 0 {
			m.pipe.Set(m.ctx, LedgerName(m.store.container, w.name), fmt.Sprintf("%d %s", l.seq, l.payload), 0)
		} else {
			m.pipe.Del(m.ctx, LedgerName(m.store.container, w.name))
		}
	}
	m.look(step{action: action})
}

// look reads all that Redis holds.
func (m *machine) look(s step) {
	s.held = m.model.clone()
	s.fields = m.pipe.HGetAll(m.ctx, m.store.container)
	for _, w := range m.writers {
		s.ledgers = append(s.ledgers, m.pipe.Get(m.ctx, LedgerName(m.store.container, w.name)))
	}
	m.steps = append(m.steps, s)
}

// compare sends the sequence and says where Redis and the model differ first.
func (m *machine) compare(tally map[string]int) error {
	m.pipe.Del(m.ctx, m.store.container)
	for _, w := range m.writers {
		m.pipe.Del(m.ctx, LedgerName(m.store.container, w.name))
	}
	_, _ = m.pipe.Exec(m.ctx) // each command holds its error
	for i, s := range m.steps {
		tally[s.action]++
		if s.call != nil {
			tally[s.want.text[:1]]++
			if err := s.answered(); err != nil {
				return fmt.Errorf("step %d, %s of %d: %w", i, s.action, s.call.Seq, err)
			}
		}
		switch fields, err := s.fields.Result(); {
		case s.held.replaced && redis.HasErrorPrefix(err, "WRONGTYPE"):
		case err != nil || s.held.replaced || !maps.Equal(fields, s.held.fields):
			return fmt.Errorf("step %d, %s: holds %q (%v), want %q", i, s.action, fields, err, s.held.fields)
		}
		for w, get := range s.ledgers {
			want := ""
			if l := s.held.ledgers[m.writers[w].name]; l.seq > 0 {
				want = fmt.Sprintf("%d %s", l.seq, l.payload)
			}
			if get.Val() != want {
				return fmt.Errorf("step %d, %s: ledger %d is %q (%v), want %q", i, s.action, w, get.Val(), get.Err(), want)
			}
		}
	}
	return nil
}

// answered compares the reply's text, and what the library makes of it.
func (s *step) answered() error {
	raw, err := s.command.Result()
	text, _ := raw.(string)
	switch s.call.finish(raw, err); {
	case s.want.text == "OOM":
		if s.call.Class == Refused && strings.Contains(err.Error(), "OOM") {
			return nil
		}
	case text == s.want.text && s.call.Class == Applied && s.call.Gap == (text[0] == 'G') &&
		(!s.call.Gap || fmt.Sprint("G ", s.call.Last) == text) && slices.Equal(s.call.Results, s.want.results):
		return nil
	}
	return fmt.Errorf("answers %q (%v) %v, want %q", text, err, s.call.Results, s.want.text)
}

func TestScript_agreesWithModel(t *testing.T) {
	t.Parallel()
	r := chaos.Begin(t, "script against its model")
	const workers = 2
	seeded := setRapid(t, r.Scale(2_000, 100_000)/workers)
	var mu sync.Mutex // of tally, and until rapid has read its seed
	tally := map[string]int{}
	t.Cleanup(func() {
		t.Logf("what happened: %v", tally)
		for _, action := range []string{"evict", "rollback", "retype", "foreign", "full"} {
			r.Faults(tally[action])
		}
		for _, what := range append(slices.Collect(maps.Keys(new(machine).actions())), "A", "R", "G", "O") {
			if tally[what] == 0 && !t.Failed() {
				t.Errorf("%s never happened", what)
			}
		}
	})
	for k := range workers {
		t.Run(fmt.Sprint(k), func(t *testing.T) {
			t.Parallel()
			client, n, mine := privateRedis(t), 0, map[string]int{}
			mu.Lock()
			if !seeded {
				require.NoError(t, flag.Set("rapid.seed", fmt.Sprint(r.Rand(uint64(k)).Uint64())))
			}
			rapid.Check(t, func(t *rapid.T) {
				if n++; n == 1 {
					mu.Unlock()
				}
				r.Cases(1)
				m := &machine{
					model: model{fields: map[string]string{}, ledgers: map[string]ledger{}},
					ctx:   context.Background(),
					store: New(client, fmt.Sprint("p", n), "strict_counter"),
					pipe:  client.Pipeline(),
				}
				m.newWriter(t)
				t.Repeat(m.actions())
				if err := m.compare(mine); err != nil {
					t.Fatal(err)
				}
			})
			mu.Lock()
			defer mu.Unlock()
			for what, times := range mine {
				tally[what] += times
			}
		})
	}
}

// setRapid makes rapid run so many short sequences, until the test ends, and
// reports whether it was given a seed of its own.
func setRapid(t *testing.T, checks int) (seeded bool) {
	t.Helper()
	for name, value := range map[string]string{
		"rapid.checks": fmt.Sprint(checks), "rapid.steps": "8", "rapid.nofailfile": "true", "rapid.seed": "",
	} {
		given := flag.Lookup(name).Value.String()
		if seeded = seeded || name == "rapid.seed" && given != "0"; value != "" {
			require.NoError(t, flag.Set(name, value))
		}
		t.Cleanup(func() { _ = flag.Set(name, given) })
	}
	return seeded
}

// privateRedis is a client of a server of the test's own, which knows the script.
func privateRedis(t *testing.T) *redis.Client {
	t.Helper()
	server := redistest.Start(t)
	client := redistest.NewClient(t, &redis.Options{Addr: server.Addr, MaxRetries: -1, ReadTimeout: time.Minute})
	require.NoError(t, client.ScriptLoad(t.Context(), lua.Apply).Err())
	return client
}

// Conditions as the script evaluates them against conditions as Go does.
func TestLuaConditions(t *testing.T) {
	t.Parallel()
	r := chaos.Begin(t, "conditions in Lua")
	s, random := New(privateRedis(t), "p", "strict_counter"), r.Rand(0)
	const perCall, callsAtOnce = 450, 4 // a Set and a condition each: 900 operations a call
	for seq, left := int64(1), r.Scale(20_000, 2_000_000); left > 0 && !t.Failed(); seq++ {
		calls := make([]*Call, callsAtOnce)
		for i := range calls {
			calls[i] = &Call{Writer: fmt.Sprint("w", i), Seq: seq}
			for range perCall {
				v, than := pair(random)
				o := op.Op{Kind: op.IncIf, N: anyInt64(random), If: op.Cond{Cmp: op.Always + op.Cmp(random.IntN(7)), N: than}}
				if random.IntN(2) == 0 {
					o.Kind = op.SetIf
				}
				calls[i].Ops = append(calls[i].Ops, KeyOp{Key: "a", Op: op.Op{Kind: op.Set, N: v}}, KeyOp{Key: "a", Op: o})
			}
		}
		s.Send(t.Context(), calls)
		for _, call := range calls {
			require.Equal(t, Applied, call.Class, "%v", call.Err)
			require.False(t, call.Gap)
			for i := 0; i < len(call.Ops); i += 2 {
				v, o := call.Ops[i].N, call.Ops[i+1]
				m := model{fields: map[string]string{"a": fmt.Sprint(v)}}
				if got, want := call.Results[i+1], m.apply(&o); got != want || call.Results[i].N != v {
					r.Violation("%+v on %d answers %+v, want %+v", o.Op, v, got, want)
				}
			}
			r.Cases(perCall)
			left -= perCall
		}
	}
}

// pair returns two numbers that are hard to tell apart, or any two.
func pair(random *rand.Rand) (int64, int64) {
	a := anyInt64(random)
	switch random.IntN(4) {
	case 0:
		return a, anyInt64(random)
	case 1:
		return a, -a
	default: // most differ by less than a double's precision
		return a, a + random.Int64N(7) - 3
	}
}

// anyInt64 favours what is near a power of 2 or 10, and uses every length.
func anyInt64(random *rand.Rand) int64 {
	near := []int64{1 << random.IntN(64), int64(math.Pow10(random.IntN(19))), 0, int64(random.Uint64() >> random.IntN(64))}
	n := near[random.IntN(len(near))] + random.Int64N(5) - 2
	if random.IntN(2) == 0 {
		return -n
	}
	return n
}
