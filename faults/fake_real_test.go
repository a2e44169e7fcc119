// What the fake Redis proves is worth as much as the fake is true: random calls of
// every task, right and wrong ones, go to lua/apply.lua on a real Redis and to the
// fake's script in Go, and must be answered alike, byte for byte.
package faults_test

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/distkit/distkit-go/internal/chaos"
	"github.com/distkit/distkit-go/internal/redistest"
	"github.com/distkit/distkit-go/lua"
	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"
)

func TestFakeScript_answersAsTheRealOne(t *testing.T) {
	t.Parallel()
	run := chaos.Begin(t, "fake script")
	client := redistest.Client(t)
	twins := newFakeTwins(t, client, redistest.Prefix(t, client), run.Rand(0))
	for i := range run.Scale(3000, 60_000) {
		twins.meddle()
		call := twins.draw()
		real, fake := twins.eval(lua.Apply, call)
		if !fakeAlike(real, fake) {
			run.Violation("call %d, %q: the script answers %q, the fake %q", i, call, real, fake)
			return
		}
		twins.take(call, fake)
		run.Cases(1)
		if i%100 == 0 || t.Failed() {
			twins.requireSame()
		}
	}
	twins.requireSame()
	for _, answer := range []string{"A0 2", "A0 3", "A1 0", "A1 1", "R", "G0 -", "G1 ", "X", "O", "F- -", "F- 1", "NOTWRITTEN ERR", "NOTWRITTEN WRONGTYPE", "NOTWRITTEN no batch"} {
		if twins.answers[answer] == 0 {
			run.Violation("no call was answered %q: nothing is proved of it", answer)
		}
	}
	for _, holds := range fakeResults {
		if twins.answers[holds] == 0 {
			run.Violation("no call was answered %q: nothing is proved of it", holds)
		}
	}
}

// fakeResults are of results what must be met.
var fakeResults = []string{"!I", "!O", "!W", "!C", "!B", " Y", " N", " y", " n"}

// TestFakeScript_withoutMemory: what passes when memory is full, and what does not.
func TestFakeScript_withoutMemory(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	client := serverAdmin(t, server.Addr)
	if err := client.Eval(t.Context(), fakeOverFull+"return 1", nil).Err(); err != nil {
		t.Skip("scripts cannot ask to run in spite of full memory before Redis 7.0")
	}
	run := chaos.Begin(t, "fake script without memory")
	twins := newFakeTwins(t, client, "p", run.Rand(0))
	for range 200 {
		_, fake := twins.eval(lua.Apply, twins.draw())
		twins.take(nil, fake)
	}
	require.NoError(t, client.ConfigSet(t.Context(), "maxmemory", "1").Err())
	twins.fake.full = true
	for i := range run.Scale(500, 5000) {
		text := lua.Apply
		if i%4 == 0 {
			text = fakeOverFull + text
		}
		call := twins.draw()
		real, fake := twins.eval(text, call)
		if !fakeAlike(real, fake) {
			run.Violation("call %d, %q: the script answers %q, the fake %q", i, call, real, fake)
			return
		}
		twins.take(call, fake)
		run.Cases(1)
	}
	twins.requireSame()
}

// fakeTwins are a real Redis and a fake one that are to stay alike.
type fakeTwins struct {
	t       *testing.T
	ctx     context.Context
	client  *redis.Client
	fake    *fakeData
	rng     *rand.Rand
	prefix  string
	answers map[string]int // how often an answer began so, or held it

	container, mark string
	onces           []string
	ledger          string
	lanes           int
	seq             int64  // of the lane's last batch
	nonce           string // its nonce, or that of the opening
	last            []string
}

func newFakeTwins(t *testing.T, client *redis.Client, prefix string, rng *rand.Rand) *fakeTwins {
	f := &fakeTwins{
		t: t, ctx: t.Context(), client: client, fake: newFakeData(), rng: rng, prefix: prefix,
		container: prefix + ":c", mark: prefix + ":cleared:{" + prefix + ":c}", answers: map[string]int{},
	}
	f.onces = []string{prefix + ":once:{" + prefix + ":c}:a", prefix + ":once:{" + prefix + ":c}:b"}
	f.newLane()
	return f
}

func (f *fakeTwins) newLane() {
	f.lanes++
	f.ledger, f.seq, f.nonce = fmt.Sprintf("%s:writer:{%s:c}:%d", f.prefix, f.prefix, f.lanes), 0, f.number()
}

// number is a nonce.
func (f *fakeTwins) number() string { return strconv.FormatUint(f.rng.Uint64(), 10) }

// eval has both carry out a call.
func (f *fakeTwins) eval(text string, call []string) (real, fake string) {
	args := []any{"eval", text}
	for _, arg := range call {
		args = append(args, arg)
	}
	answer, err := f.client.Do(f.ctx, args...).Text()
	var reply redis.Error
	switch {
	case err == nil:
		real = fakeBulk(answer)
	case errors.As(err, &reply):
		real = fakeError(err.Error())
	default:
		require.NoError(f.t, err)
	}
	return real, f.fake.do(append(fakeRequest{"eval", text}, call...))
}

// fakeAlike compares two replies. How Redis words what is wrong with an expiry is
// its version's affair.
func fakeAlike(real, fake string) bool {
	for _, text := range []string{fakeBadExpiry, fakeNotInteger, fakeNoMemory} {
		if fake == fakeError("NOTWRITTEN "+text) {
			return strings.HasPrefix(real, "-NOTWRITTEN ")
		}
	}
	return real == fake
}

// take notes what was answered, and follows the lane.
func (f *fakeTwins) take(call []string, answer string) {
	for _, begin := range []string{"A0 2", "A0 3", "A1 0", "A1 1", "R", "G0 -", "G1 ", "X", "O", "F- -", "F- 1", "NOTWRITTEN ERR", "NOTWRITTEN WRONGTYPE", "NOTWRITTEN no batch"} {
		if _, text, _ := strings.Cut(answer, "\r\n"); strings.HasPrefix(text, begin) || strings.HasPrefix(answer, "-"+begin) {
			f.answers[begin]++
		}
	}
	for _, holds := range fakeResults {
		if strings.Contains(answer, holds) {
			f.answers[holds]++
		}
	}
	f.last = call
	held := f.fake.key(f.ledger)
	if held == nil || held.hash != nil {
		return
	}
	if parts := fakeLedger.FindStringSubmatch(held.text); parts != nil && !strings.HasPrefix(held.text, fakeFence) {
		f.seq, _ = strconv.ParseInt(parts[1], 10, 64)
		f.nonce = parts[2]
	}
}

// meddle does now and then what others may do to a Redis.
func (f *fakeTwins) meddle() {
	field, once := fmt.Sprintf("f%d", f.rng.IntN(3)), f.onces[f.rng.IntN(2)]
	remove := func(name string) {
		require.NoError(f.t, f.client.Del(f.ctx, name).Err())
		delete(f.fake.keys, name)
	}
	put := func(name, text string) {
		remove(name)
		require.NoError(f.t, f.client.Set(f.ctx, name, text, 0).Err())
		f.fake.keys[name] = &fakeValue{text: text}
	}
	putHash := func(name, field, text string) {
		require.NoError(f.t, f.client.HSet(f.ctx, name, field, text).Err())
		if f.fake.keys[name] == nil {
			f.fake.keys[name] = &fakeValue{hash: map[string]string{}}
		}
		f.fake.keys[name].hash[field] = text
	}
	if v := f.fake.key(f.container); v != nil && v.hash == nil {
		if f.rng.IntN(5) == 0 {
			remove(f.container)
		}
		return
	}
	switch f.rng.IntN(300) {
	case 0:
		put(f.container, "no hash")
	case 1, 2, 3:
		putHash(f.container, field, []string{"", "x", "05", "1.5", "9223372036854775808", "-0"}[f.rng.IntN(6)])
	case 4:
		put(f.ledger, []string{"", "no ledger at all, but a text of more than forty characters", "1", "1 2 3"}[f.rng.IntN(4)])
	case 5:
		remove(f.ledger)
		putHash(f.ledger, "a", "1")
	case 6, 7:
		remove(f.ledger)
	case 8, 9, 10:
		remove(f.container)
	case 11:
		remove(f.container)
		remove(f.ledger)
	case 12:
		remove(once)
		putHash(once, "a", "1")
	case 13, 14:
		put(once, []string{"AA", "", "no outcome"}[f.rng.IntN(3)])
	}
	switch f.rng.IntN(30) { // few are not enough: there are two IDs
	case 0, 1, 2:
		remove(once)
	case 3:
		put(once, []string{"aa", "bb"}[f.rng.IntN(2)]) // one was broken off
	}
}

// draw returns a call: how many keys, the keys, the arguments.
func (f *fakeTwins) draw() []string {
	n := f.rng.IntN(100)
	switch {
	case n < 3:
		return []string{"1", f.ledger, "fence", "0", "0", "60000"}
	case n < 6:
		return []string{"1", f.ledger, "open", f.number(), "0", "60000"}
	case n < 14:
		f.newLane()
		if n < 12 {
			return []string{"1", f.ledger, "open", f.nonce, "0", f.lifetime()}
		}
	case n < 22 && f.last != nil:
		return f.last // the same again
	case n < 28:
		return append(append(f.keys("1", f.container), "bare", "0", "0", "0"), f.operations()...)
	}
	number, nonce, previous := f.seq+1, f.number(), f.nonce
	switch n {
	case 90:
		number += int64(f.rng.IntN(7)) - 3
	case 91:
		number, nonce = f.seq, f.nonce
	case 92:
		number = f.seq // and another's nonce
	case 93:
		previous = f.number()
	}
	keys := f.keys("2", f.container, f.ledger)
	if f.rng.IntN(2) == 0 {
		keys = f.keys("3", f.container, f.ledger, f.mark)
	}
	return append(append(keys, strconv.FormatInt(number, 10), nonce, previous, f.lifetime()), f.operations()...)
}

// keys are KEYS behind their number, and mostly the once-keys behind them.
func (f *fakeTwins) keys(keys ...string) []string {
	if f.rng.IntN(4) == 0 {
		return keys
	}
	for len(keys) < 4 {
		keys = append(keys, f.container)
	}
	keys[0] = strconv.Itoa(len(keys) - 1 + len(f.onces))
	return append(keys, f.onces...)
}

// lifetime is nearly always right.
func (f *fakeTwins) lifetime() string {
	if f.rng.IntN(50) == 0 {
		return []string{"0", "-1", "soon", ""}[f.rng.IntN(4)]
	}
	return "60000"
}

// operations draws operations, and now and then spoils their arguments.
func (f *fakeTwins) operations() []string {
	ops := fakeRandomOps(f.rng)
	if f.rng.IntN(10) > 0 {
		return ops
	}
	at := f.rng.IntN(len(ops))
	switch f.rng.IntN(3) {
	case 0:
		return ops[:at]
	case 1:
		return slices.Delete(ops, at, at+1)
	default:
		wrong := []string{"", "x", "z y!", "07", "+1", "1.5x", "-0", "9223372036854775808", "-9223372036854775809", "i", "c", "*", "=<", strings.Repeat("long", 10)}
		ops[at] = wrong[f.rng.IntN(len(wrong))]
		return ops
	}
}

// requireSame compares all that both hold.
func (f *fakeTwins) requireSame() {
	if fake := f.fake.key(f.container); fake == nil || fake.hash != nil {
		fields, err := f.client.HGetAll(f.ctx, f.container).Result()
		require.NoError(f.t, err)
		held := map[string]string{}
		if fake != nil {
			held = fake.hash
		}
		require.Equal(f.t, fields, held)
	}
	for _, name := range append([]string{f.ledger, f.mark}, f.onces...) {
		fake := f.fake.key(name)
		exists, err := f.client.Exists(f.ctx, name).Result()
		require.NoError(f.t, err)
		require.Equal(f.t, exists == 1, fake != nil, name)
		if fake == nil || fake.hash != nil {
			continue
		}
		text, err := f.client.Get(f.ctx, name).Result()
		require.NoError(f.t, err)
		require.Equal(f.t, text, fake.text, name)
		left, err := f.client.PTTL(f.ctx, name).Result()
		require.NoError(f.t, err)
		require.Equal(f.t, left > 0, !fake.expires.IsZero(), name)
	}
}

// fakeRandomOps draws a few operations on a few fields, at the edges of int64 and
// of what a double holds, with their number in front.
func fakeRandomOps(rng *rand.Rand) []string {
	numbers := []int64{math.MinInt64, math.MinInt64 + 1, -1 << 53, -3, -1, 0, 1, 2, 1 << 53, 1<<53 + 1, 99_999_999_999_999, 100_000_000_000_000, math.MaxInt64}
	number := func() string { return strconv.FormatInt(numbers[rng.IntN(len(numbers))], 10) }
	field := func() string { return fmt.Sprintf("f%d", rng.IntN(3)) }
	codes := []string{"i", "i", "i", "m", "g", "s", "d", "I", "S", "c", "t", "t"}
	size := rng.IntN(7)
	ops := []string{strconv.Itoa(size)}
	if rng.IntN(4) == 0 {
		told := rng.IntN(size + 1)
		ops = append(ops, "+", strconv.Itoa(told))
		for range size {
			ops = append(ops, field(), number())
		}
		for place := 1; place <= told; place += 1 + rng.IntN(3) { // sums, of whatever
			ops = append(ops, strconv.Itoa(place), number()+","+number()+","+number())
		}
		return ops
	}
	steps := 0 // of a transaction, yet to come
	for left := size; left > 0; left-- {
		code := codes[rng.IntN(len(codes))]
		if steps > 0 {
			steps--
			code = codes[rng.IntN(len(codes)-3)]
		} else if code == "t" && left > 1 {
			steps = 1 + rng.IntN(left-1)
			digest := []string{"aa", "bb"}[rng.IntN(2)] // often of other steps: it is a name
			ops = append(ops, "t", []string{"0", "4", "5"}[rng.IntN(3)], digest, "60000", strconv.Itoa(steps))
			continue
		} else if code == "t" {
			code = "g"
		}
		ops = append(ops, code)
		for _, kind := range fakeOperands[code] {
			switch kind {
			case 'f':
				ops = append(ops, field())
			case 'n':
				ops = append(ops, number())
			default:
				ops = append(ops, "*=!<l>gap"[rng.IntN(9):][:1])
			}
		}
	}
	return ops
}
