package script_test

import (
	"context"
	"flag"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/distkit/distkit-go/internal/chaos"
	"github.com/distkit/distkit-go/internal/fakeredis"
	"github.com/distkit/distkit-go/internal/redisio"
	"github.com/distkit/distkit-go/internal/redistest"
	"github.com/distkit/distkit-go/internal/verb"
	"github.com/distkit/distkit-go/lua"
	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

// The batch script in a real Redis against the one in memory: whatever writers and
// their clones, late copies, evictions, failovers to stale replicas, a full memory,
// wrong arguments and foreign hands do, both answer and hold the same.

// lane is a lane that may have sent anything. Its clone has the same name and the
// same past, and nonces of its own from then on.
type lane struct {
	name    string
	opening uint64
	sent    int64 // the highest number
	batches map[int64]numbered
}

// numbered is a batch as it was sent under a number.
type numbered struct {
	nonce, previous uint64
	ops             []verb.Keyed
}

// machine is a sequence under way: the two, and what was sent to them.
type machine struct {
	at      *redisio.Container
	real    redisio.Sender
	admin   *redis.Client
	model   *fakeredis.Redis
	lanes   []*lane
	nonces  uint64
	batches map[uint64][]verb.Keyed // by their nonces
	past    []fakeredis.State
	flags   bool // Redis knows the flags of scripts
	tally   map[string]int
}

const mark = "p:cleared:{p:strict_counter}"

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
	kinds = []verb.Kind{
		verb.Inc, verb.Dec, verb.IncIf, verb.SetIf, verb.Set, verb.Get, verb.Del,
		verb.Inc, verb.Dec, verb.IncIf, verb.SetIf, verb.Inc, verb.Clear,
	}
	fieldNames = rapid.SampledFrom([]string{"a", "b", "c %d\x00:é"})
	numbers    = rapid.OneOf(rapid.SampledFrom(edges), rapid.SampledFrom(edges), rapid.Int64Range(-2, 2), rapid.Int64())
	anyOps     = rapid.OneOf(mixed, mixed, increase(1, 6, rapid.Bool()), increase(8, 24, rapid.Just(false)), shrink, transactions, transactions)
	shrink     = rapid.SliceOfN(rapid.Custom(func(t *rapid.T) verb.Keyed {
		kind := rapid.SampledFrom([]verb.Kind{verb.Del, verb.Del, verb.Get, verb.Clear}).Draw(t, "kind")
		return verb.Keyed{Key: fieldNames.Draw(t, "key"), Op: verb.Op{Kind: kind}}
	}), 1, 4)
	mixed = rapid.SliceOfN(anyOf(kinds), 1, 6)
)

// increase draws from least to most increments.
func increase(least, most int, silent *rapid.Generator[bool]) *rapid.Generator[[]verb.Keyed] {
	return rapid.SliceOfN(rapid.Custom(func(t *rapid.T) verb.Keyed {
		o := verb.Op{Kind: verb.Inc, N: numbers.Draw(t, "n")}
		return verb.Keyed{Key: fieldNames.Draw(t, "key"), Op: o, Silent: silent.Draw(t, "silent")}
	}), least, most)
}

// anyOf draws an operation of one of the kinds.
func anyOf(kinds []verb.Kind) *rapid.Generator[verb.Keyed] {
	return rapid.Custom(func(t *rapid.T) verb.Keyed {
		o := verb.Keyed{Key: fieldNames.Draw(t, "key"), Op: verb.Op{Kind: rapid.SampledFrom(kinds).Draw(t, "kind")}}
		if !o.Kind.Reads() && !o.Kind.Frees() {
			o.N = numbers.Draw(t, "n")
		}
		if o.Kind.Conditional() {
			o.If = verb.Cond{Cmp: verb.Cmp(rapid.IntRange(int(verb.Always), int(verb.Present)).Draw(t, "cmp")), N: numbers.Draw(t, "than")}
		}
		return o
	})
}

// actions are what may happen; rapid favours those that come first in the alphabet.
func (m *machine) actions() map[string]func(*rapid.T) {
	return map[string]func(*rapid.T){
		"batch": func(t *rapid.T) { m.next(t, m.lane(t), false) },
		"again": func(t *rapid.T) { // a replay, or a batch that went out in vain
			l := m.lane(t)
			m.send(t, l.call(l.sent), rapid.Bool().Draw(t, "full"))
		},
		"bare": func(t *rapid.T) {
			m.send(t, &redisio.Call{Task: redisio.Bare, Ops: anyOps.Draw(t, "ops")}, false)
		},
		"broken off": func(t *rapid.T) { // after the first write
			l := m.lane(t)
			m.advance(t, l)
			m.edit(t, func(s *fakeredis.State) {
				s.Ledgers[m.at.Ledger(l.name)] = fakeredis.Ledger{Number: l.sent, Nonce: l.batches[l.sent].nonce}
			})
		},
		"clone": func(t *rapid.T) { m.lanes = append(m.lanes, m.lane(t).clone()) },
		"delete": func(t *rapid.T) {
			m.edit(t, func(s *fakeredis.State) { delete(s.Containers, m.at.Name) })
		},
		"evict": func(t *rapid.T) {
			name := m.at.Ledger(m.lane(t).name)
			m.edit(t, func(s *fakeredis.State) { delete(s.Ledgers, name) })
		},
		"cleared and evicted": func(t *rapid.T) { // by another lane's Clear; then the ledger goes
			name := m.at.Ledger(m.lane(t).name)
			m.edit(t, func(s *fakeredis.State) {
				delete(s.Containers, m.at.Name)
				delete(s.Ledgers, name)
				s.Marks[m.at.Name] = time.Now()
			})
		},
		"evict mark": func(t *rapid.T) {
			m.edit(t, func(s *fakeredis.State) { clear(s.Marks) })
		},
		"fence": func(t *rapid.T) {
			l := m.lane(t)
			call := l.call(l.sent)
			call.Task = redisio.Fence
			m.send(t, call, rapid.Bool().Draw(t, "full"))
		},
		"foreign": func(t *rapid.T) {
			field, set := fieldNames.Draw(t, "field"), rapid.Bool().Draw(t, "set")
			text := rapid.SampledFrom(foreignTexts).Draw(t, "text")
			m.edit(t, func(s *fakeredis.State) {
				h := s.Containers[m.at.Name]
				if delete(h.Fields, field); set && h.Fields != nil {
					h.Fields[field] = text
				} else if set && !h.Foreign {
					s.Containers[m.at.Name] = fakeredis.Hash{Fields: map[string]string{field: text}}
				}
			})
		},
		"full":     func(t *rapid.T) { m.next(t, m.lane(t), true) },
		"new lane": m.newLane,
		"old": func(t *rapid.T) { // one that comes late, or that a rollback or an eviction undid
			l := m.lane(t)
			first := slices.Min(slices.Collect(maps.Keys(l.batches)))
			m.send(t, l.call(max(l.sent-rapid.Int64Range(1, 4).Draw(t, "back"), first)), false)
		},
		"open again": func(t *rapid.T) {
			m.send(t, m.lane(t).open(), rapid.Bool().Draw(t, "full"))
		},
		"once broken off": func(t *rapid.T) { // a transaction, after its first write
			id, steps := txIDs.Draw(t, "id"), txSteps.Draw(t, "steps")
			digest := verb.Transaction(id, time.Hour, steps)[0].Tx.Digest
			m.edit(t, func(s *fakeredis.State) { s.Onces[m.at.Once(id)] = fakeredis.Once{Digest: digest} })
		},
		"once over": func(t *rapid.T) {
			m.edit(t, func(s *fakeredis.State) { delete(s.Onces, m.at.Once(txIDs.Draw(t, "id"))) })
		},
		"recall": func(t *rapid.T) {
			ids := rapid.SliceOfN(txIDs, 1, 3).Draw(t, "ids")
			call := &redisio.Call{Task: redisio.Recall, Ops: make([]verb.Keyed, len(ids))}
			for i := range ids {
				call.Ops[i] = verb.Keyed{Op: verb.Op{Kind: verb.Recall}, Tx: &verb.Tx{ID: ids[i]}}
			}
			m.send(t, call, rapid.Bool().Draw(t, "full"))
		},
		"read": func(t *rapid.T) {
			ops := rapid.SliceOfN(fieldNames, 1, 5).Draw(t, "fields")
			call := &redisio.Call{Task: redisio.Read, Ops: make([]verb.Keyed, len(ops))}
			for i := range ops {
				call.Ops[i].Key = ops[i]
			}
			m.send(t, call, rapid.Bool().Draw(t, "full"))
		},
		"retire": func(t *rapid.T) {
			m.send(t, &redisio.Call{Task: redisio.Retire, Writer: m.lane(t).name}, false)
		},
		"retype": func(t *rapid.T) {
			m.edit(t, func(s *fakeredis.State) {
				if s.Containers[m.at.Name].Foreign {
					delete(s.Containers, m.at.Name)
				} else {
					s.Containers[m.at.Name] = fakeredis.Hash{Foreign: true}
				}
			})
		},
		"rollback": func(t *rapid.T) {
			before := rapid.SampledFrom(m.past).Draw(t, "to")
			m.edit(t, func(s *fakeredis.State) { *s = before.Clone() })
		},
		"scan": func(t *rapid.T) {
			m.send(t, &redisio.Call{Task: redisio.Scan}, rapid.Bool().Draw(t, "full"))
		},
		"skipped": func(t *rapid.T) {
			l := m.lane(t)
			call := l.call(l.sent)
			call.Seq += rapid.SampledFrom([]int64{1, 2, 3, 900}).Draw(t, "ahead")
			m.nonces++
			call.Nonce = m.nonces
			m.send(t, call, false)
		},
		"wrong arguments": m.wrong,
	}
}

func (m *machine) lane(t *rapid.T) *lane { return rapid.SampledFrom(m.lanes).Draw(t, "lane") }

func (l *lane) clone() *lane { return &lane{l.name, l.opening, l.sent, maps.Clone(l.batches)} }

func (l *lane) open() *redisio.Call {
	return &redisio.Call{Task: redisio.Open, Writer: l.name, Previous: l.opening}
}

func (l *lane) call(seq int64) *redisio.Call {
	b := l.batches[seq]
	return &redisio.Call{Task: redisio.Apply, Writer: l.name, Seq: seq, Nonce: b.nonce, Previous: b.previous, Ops: b.ops}
}

// newLane adds one that is opened, or not; its ledger may also stand where the
// number gains a digit, or near its limit.
func (m *machine) newLane(t *rapid.T) {
	m.nonces++
	l := &lane{name: fmt.Sprint("w", len(m.lanes)), opening: m.nonces, batches: map[int64]numbered{}}
	m.lanes = append(m.lanes, l)
	switch sent := rapid.SampledFrom([]int64{0, 0, -1, 9, 99999, 1<<53 - 1000}).Draw(t, "sent"); sent {
	case -1:
	case 0:
		m.send(t, l.open(), false)
	default:
		ops := []verb.Keyed{{Key: "a", Op: verb.Op{Kind: verb.Get}}}
		l.sent, l.batches[sent], m.batches[l.opening] = sent, numbered{l.opening, 0, ops}, ops
		m.edit(t, func(s *fakeredis.State) {
			s.Ledgers[m.at.Ledger(l.name)] = fakeredis.Ledger{
				Number: sent, Nonce: l.opening, Ended: true, Before: true, Kept: true, Results: []verb.Result{{N: 7}},
			}
		})
	}
	m.next(t, l, false)
}

// advance gives a lane its next batch.
func (m *machine) advance(t *rapid.T, l *lane) {
	previous := l.opening
	if l.sent > 0 {
		previous = l.batches[l.sent].nonce
	}
	m.nonces++
	l.sent++
	l.batches[l.sent] = numbered{m.nonces, previous, anyOps.Draw(t, "ops")}
	m.batches[m.nonces] = l.batches[l.sent].ops
}

func (m *machine) next(t *rapid.T, l *lane, full bool) {
	m.advance(t, l)
	m.send(t, l.call(l.sent), full)
}

// send makes an attempt at the call in both, and compares.
func (m *machine) send(t *rapid.T, call *redisio.Call, full bool) {
	call.At, call.Lifetime = m.at, time.Hour
	call.Unmarked = rapid.IntRange(0, 3).Draw(t, "unmarked") == 0
	call.OverFull = m.flags && rapid.IntRange(0, 3).Draw(t, "over full") == 0
	call.Known = rapid.Bool().Draw(t, "known")
	again := &redisio.Call{
		Task: call.Task, At: call.At, Writer: call.Writer, Seq: call.Seq, Nonce: call.Nonce, Previous: call.Previous,
		Lifetime: call.Lifetime, Unmarked: call.Unmarked, OverFull: call.OverFull, Known: call.Known, Ops: call.Ops,
	}
	if full {
		m.memory(t, "1")
		defer m.memory(t, "0")
	}
	m.model.SetFull(full)
	m.real.Send(context.Background(), []*redisio.Call{call})
	m.model.Send(context.Background(), []*redisio.Call{again})
	if err := differ(call, again); err != nil {
		t.Fatalf("%v of number %d: %v", call.Task, call.Seq, err)
	}
	m.tally[told(call)]++
	m.tallyOutcomes(call)
	m.compare(t)
}

func (m *machine) memory(t *rapid.T, most string) {
	if err := m.admin.ConfigSet(context.Background(), "maxmemory", most).Err(); err != nil {
		t.Fatal(err)
	}
}

// edit changes what both hold, past the script.
func (m *machine) edit(t *rapid.T, f func(*fakeredis.State)) {
	m.model.Edit(f)
	s, ctx := m.model.Snapshot(), context.Background()
	_, err := m.admin.Pipelined(ctx, func(pipe redis.Pipeliner) error {
		pipe.Del(ctx, m.at.Name, mark)
		for _, id := range ids {
			if held, found := s.Onces[m.at.Once(id)]; found {
				pipe.Set(ctx, m.at.Once(id), onceText(held), 0)
			} else {
				pipe.Del(ctx, m.at.Once(id))
			}
		}
		if h := s.Containers[m.at.Name]; h.Foreign {
			pipe.Set(ctx, m.at.Name, "text", 0)
		} else if len(h.Fields) > 0 {
			pipe.HSet(ctx, m.at.Name, h.Fields)
		}
		for _, l := range m.lanes {
			if held, found := s.Ledgers[m.at.Ledger(l.name)]; found {
				pipe.Set(ctx, m.at.Ledger(l.name), m.text(held), 0)
			} else {
				pipe.Del(ctx, m.at.Ledger(l.name))
			}
		}
		if emptied, found := s.Marks[m.at.Name]; found {
			pipe.Set(ctx, mark, "", 7*24*time.Hour-time.Since(emptied))
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	m.compare(t)
}

// wrong sends what nothing must come of, to a lane that would take it if it can.
func (m *machine) wrong(t *rapid.T) {
	l := m.lane(t)
	ledger := m.at.Ledger(l.name)
	held, found := m.model.Snapshot().Ledgers[ledger]
	head := []any{"bare", 0, 0, 0}
	if found && held.Fenced == nil {
		m.nonces++
		head = []any{held.Number + 1, m.nonces, held.Nonce, 3_600_000}
	}
	for _, word := range rapid.SampledFrom(fakeredis.WrongOperations).Draw(t, "arguments") {
		head = append(head, word)
	}
	ctx := context.Background()
	err := m.admin.Eval(ctx, lua.Apply, []string{m.at.Name, ledger, mark}, head...).Err()
	if class := redisio.Classify(err); class != redisio.Refused || !strings.HasPrefix(err.Error(), "NOTWRITTEN ERR ") {
		t.Fatalf("%q answers %v", head, err)
	}
	m.tally["wrong"]++
	m.compare(t)
}

// outcomes are what of the tally must not be nothing.
var outcomes = []string{
	"class 0 status 1", "class 0 status 1 replayed", "class 0 status 1 emptied", "class 0 status 2", "class 0 status 2 without a ledger",
	"class 0 status 2 without a ledger emptied", "class 0 status 3", "class 0 status 4", "class 0 status 5",
	"class 0 status 5 without a ledger", "class 4 status 0", "wrong",
	"transaction applied", "transaction not applied", "transaction replayed", "transaction in conflict", "transaction unknown",
}

func TestScript_agreesWithTheRedisInMemory(t *testing.T) {
	t.Parallel()
	r := chaos.Begin(t, "script against its model")
	const workers = 2
	seeded := setRapid(t, r.Scale(2_000, 100_000)/workers)
	var mu sync.Mutex // of tally, and until rapid has read its seed
	tally := map[string]int{}
	t.Cleanup(func() {
		t.Logf("what happened: %v", tally)
		for _, action := range []string{"clone", "delete", "evict", "foreign", "full", "retype", "rollback"} {
			r.Faults(tally[action])
		}
		for _, what := range append(slices.Collect(maps.Keys(new(machine).actions())), outcomes...) {
			if tally[what] == 0 && !t.Failed() {
				t.Errorf("%s never happened", what)
			}
		}
	})
	for k := range workers {
		t.Run(fmt.Sprint(k), func(t *testing.T) {
			t.Parallel()
			client, n, mine := privateRedis(t), 0, map[string]int{}
			flags := client.ScriptLoad(t.Context(), "#!lua flags=allow-oom\n"+lua.Apply).Err() == nil
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
					at: redisio.NewContainer("p", "strict_counter"), real: redisio.New(client), admin: client, model: fakeredis.New(),
					batches: map[uint64][]verb.Keyed{}, flags: flags, tally: mine,
				}
				if err := client.FlushAll(context.Background()).Err(); err != nil {
					t.Fatal(err)
				}
				m.newLane(t)
				t.Repeat(m.counted())
			})
			mu.Lock()
			defer mu.Unlock()
			for what, times := range mine {
				tally[what] += times
			}
		})
	}
}

// counted are the actions, counted.
func (m *machine) counted() map[string]func(*rapid.T) {
	actions := m.actions()
	for name, do := range actions {
		actions[name] = func(t *rapid.T) {
			do(t)
			m.tally[name]++
		}
	}
	return actions
}

// setRapid makes rapid run so many short sequences, until the test ends, and
// reports whether it was given a seed of its own.
func setRapid(t *testing.T, checks int) (seeded bool) {
	t.Helper()
	for name, value := range map[string]string{
		"rapid.checks": fmt.Sprint(checks), "rapid.steps": "10", "rapid.nofailfile": "true", "rapid.seed": "",
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
