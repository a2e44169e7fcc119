// What the fake Redis proves is worth as much as the fake is true: random
// batches go to lua/apply.lua on a real Redis and to the fake's script in Go,
// and must be answered alike, byte for byte.
package faults_test

import (
	"fmt"
	"math"
	"math/rand/v2"
	"strconv"
	"testing"

	"github.com/distkit/distkit-go/internal/chaos"
	"github.com/distkit/distkit-go/internal/redistest"
	"github.com/distkit/distkit-go/lua"
	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"
)

func TestFakeScript_answersAsTheRealOne(t *testing.T) {
	run := chaos.Begin(t, "fake script")
	client := redistest.Client(t)
	prefix := redistest.Prefix(t, client)
	script := redis.NewScript(lua.Apply)
	ctx := t.Context()
	rng := run.Rand(0)
	fake := newFakeData()
	container, ledger := prefix+":c", "{"+prefix+":c}:writer:w"
	seq := int64(1)
	for i := range run.Scale(500, 20_000) {
		if rng.IntN(50) == 0 { // the next batch meets the fence; then another writer goes on
			for range 2 {
				real, err := script.Run(ctx, client, []string{container, ledger}, "fence", 60_000).Text()
				require.NoError(t, err)
				require.Equal(t, fakeBulk(real), fake.do(fakeRequest{"eval", lua.Apply, "2", container, ledger, "fence", "60000"}))
			}
		}
		if l, _ := fake.ledger(ledger); l.seq == fakeFence && rng.IntN(2) == 0 {
			ledger, seq = fmt.Sprintf("{%s:c}:writer:%d", prefix, i), 1
		}
		switch rng.IntN(10) {
		case 0: // the same again
		case 1: // a gap, or one that is long done
			seq = max(1, seq+int64(rng.IntN(7))-3) // the library never sends number 0
		default:
			seq++
		}
		ops := fakeRandomOps(rng)
		args := []any{seq, 60_000}
		for _, a := range ops {
			args = append(args, a)
		}
		real, err := script.Run(ctx, client, []string{container, ledger}, args...).Text()
		require.NoError(t, err)
		request := fakeRequest{"eval", lua.Apply, "2", container, ledger, strconv.FormatInt(seq, 10), "60000"}
		reply := fake.do(append(request, ops...))
		if reply != fakeBulk(real) {
			run.Violation("batch %d, %v as number %d: the script answers %q, the fake %q", i, ops, seq, real, reply)
			return
		}
		if l, _ := fake.ledger(ledger); seq > l.seq || l.seq == fakeFence {
			seq = max(1, min(l.seq, seq)) // after a gap
		}
		run.Cases(1)
	}
	fields, err := client.HGetAll(ctx, container).Result()
	require.NoError(t, err)
	held := map[string]string{}
	for field, n := range fake.hashes[container] {
		held[field] = strconv.FormatInt(n, 10)
	}
	require.Equal(t, fields, held)
}

// fakeRandomOps draws a few operations on a few fields, at the edges of int64
// and of what a double holds.
func fakeRandomOps(rng *rand.Rand) []string {
	numbers := []int64{math.MinInt64, math.MinInt64 + 1, -1 << 53, -3, -1, 0, 1, 2, 1 << 53, 1<<53 + 1, math.MaxInt64}
	number := func() string { return strconv.FormatInt(numbers[rng.IntN(len(numbers))], 10) }
	codes := []string{"i", "i", "i", "m", "g", "s", "d", "I", "S", "c"}
	cmps := []string{"*", "=", "!", "<", "l", ">", "g"}
	var ops []string
	if rng.IntN(4) == 0 {
		size := 1 + rng.IntN(5)
		ops = append(ops, "+", strconv.Itoa(rng.IntN(size+1)))
		for range size {
			ops = append(ops, fmt.Sprintf("f%d", rng.IntN(3)), number())
		}
		return ops
	}
	for range rng.IntN(7) {
		code, field := codes[rng.IntN(len(codes))], fmt.Sprintf("f%d", rng.IntN(3))
		switch fakeOpSizes[code] {
		case 1:
			ops = append(ops, code)
		case 2:
			ops = append(ops, code, field)
		case 3:
			ops = append(ops, code, field, number())
		default:
			ops = append(ops, code, field, number(), cmps[rng.IntN(len(cmps))], number())
		}
	}
	return ops
}
