package script_test

import (
	"math"
	"math/rand/v2"
	"testing"

	"github.com/distkit/distkit-go/internal/chaos"
	"github.com/distkit/distkit-go/internal/fakeredis"
	"github.com/distkit/distkit-go/internal/redisio"
	"github.com/distkit/distkit-go/internal/verb"
	"github.com/stretchr/testify/require"
)

// Conditions as the script evaluates them against conditions as Go does.
func TestScript_conditionsAgreeWithGo(t *testing.T) {
	t.Parallel()
	r := chaos.Begin(t, "conditions in Lua")
	at, real, random := redisio.NewContainer("p", "strict_counter"), redisio.New(privateRedis(t)), r.Rand(0)
	model := fakeredis.New()
	const perCall, callsAtOnce = 450, 4 // a Set or Del and a condition each: 900 operations a call
	for left := r.Scale(20_000, 2_000_000); left > 0 && !t.Failed(); {
		calls, again := make([]*redisio.Call, callsAtOnce), make([]*redisio.Call, callsAtOnce)
		for i := range calls {
			var ops []verb.Keyed
			for range perCall {
				v, than := pair(random)
				o := verb.Op{Kind: verb.IncIf, N: anyInt64(random), If: verb.Cond{Cmp: verb.Always + verb.Cmp(random.IntN(9)), N: than}}
				if random.IntN(2) == 0 {
					o.Kind = verb.SetIf
				}
				before := verb.Op{Kind: verb.Set, N: v}
				if random.IntN(8) == 0 {
					before = verb.Op{Kind: verb.Del}
				}
				ops = append(ops, verb.Keyed{Key: "a", Op: before}, verb.Keyed{Key: "a", Op: o})
			}
			calls[i] = &redisio.Call{Task: redisio.Bare, At: at, Ops: ops}
			again[i] = &redisio.Call{Task: redisio.Bare, At: at, Ops: ops}
		}
		real.Send(t.Context(), calls)
		model.Send(t.Context(), again)
		for i, call := range calls {
			require.Equal(t, redisio.Done, call.Status, "%v", call.Err)
			for n, got := range call.Results {
				if want := again[i].Results[n]; got != want {
					r.Violation("%+v after %+v answers %+v, want %+v", call.Ops[n].Op, call.Ops[max(n-1, 0)].Op, got, want)
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
