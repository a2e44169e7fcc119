package strict

import (
	"context"
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/distkit/distkit-go/internal/limit"
	"github.com/distkit/distkit-go/internal/request"
	"github.com/distkit/distkit-go/internal/verb"
	"github.com/stretchr/testify/require"
)

func callOf(key string) *request.Request {
	return request.Asked(key, verb.Op{Kind: verb.Inc, N: 1}, limit.New(1<<40, nil), func(verb.Op, verb.Result) {})
}

func messageOf(key string) *request.Request {
	return request.Message(key, verb.Op{Kind: verb.Inc, N: 1}, limit.New(1<<40, nil))
}

func batchOf(keys ...string) *request.Request {
	parts := make([]verb.Keyed, len(keys))
	for i, key := range keys {
		parts[i] = verb.Keyed{Key: key, Op: verb.Op{Kind: verb.Inc, N: 1}}
	}
	return request.Batch(parts, len(keys))
}

func large() *request.Request {
	keys := make([]string, 1000)
	for i := range keys {
		keys[i] = fmt.Sprint("large", i)
	}
	return batchOf(keys...)
}

// A single call goes in the next batch, whatever bulk waits; and so does some of bulk,
// whatever single calls wait.
func TestQueue_bothLinesGetTheirTurn(t *testing.T) {
	t.Parallel()
	var q queue
	for range 1000 {
		q.push(large())
	}
	single := callOf("a")
	q.push(single)
	taken := q.take(1000)
	require.Equal(t, single, taken[0])
	require.Len(t, taken, 2)
	for range 5000 {
		q.push(callOf("a"))
	}
	taken = q.take(1000)
	require.Len(t, taken, 501)
	require.Equal(t, 1000, taken[500].Size())

	q = queue{}
	for i := range 300_000 {
		q.push(messageOf(fmt.Sprint("k", i)))
	}
	q.push(single)
	require.Contains(t, q.take(1000), single)
}

func TestQueue_aCallStaysBehindBulkOnItsKey(t *testing.T) {
	t.Parallel()
	var q queue
	first, second := messageOf("a"), callOf("a")
	q.push(first)
	q.push(second)
	require.Equal(t, []*request.Request{first, second}, q.take(10))
	require.Empty(t, q.keys)
	q.putBack([]*request.Request{first})
	other := callOf("b")
	q.push(other)
	third := callOf("a")
	q.push(third)
	require.Equal(t, []*request.Request{other, first, third}, q.take(10))
	require.Zero(t, q.len())
}

// Clear goes behind all that is older, and before all that is younger.
func TestQueue_clearGoesBehindWhatIsOlder(t *testing.T) {
	t.Parallel()
	var q queue
	message, clears := messageOf("a"), request.Batch([]verb.Keyed{{Op: verb.Op{Kind: verb.Clear}}}, 0)
	q.push(message)
	q.push(clears)
	call := callOf("b")
	q.push(call)
	require.Equal(t, []*request.Request{message, clears, call}, q.take(10))
}

// Whatever is pushed, taken, withdrawn and put back, each key's requests keep their
// order, and none is lost.
func TestQueue_keepsTheOrderOfEachKey(t *testing.T) {
	t.Parallel()
	for seed := range uint64(300) {
		rng := rand.New(rand.NewPCG(seed, 0))
		var q queue
		var last []*request.Request
		at, order, pushed, gone, done := map[string]int{}, map[*request.Request]map[string]int{}, 0, 0, 0
		note := func(r *request.Request, keys ...string) {
			order[r] = map[string]int{}
			for _, key := range keys {
				at[key]++
				order[r][key] = at[key]
			}
			q.push(r)
			pushed++
		}
		carried := map[string]int{}
		carryOut := func(taken []*request.Request) {
			for _, r := range taken {
				done++
				for key, n := range order[r] {
					require.Greater(t, n, carried[key], "seed %d: key %s", seed, key)
					carried[key] = n
				}
			}
		}
		for range 400 {
			key, other := fmt.Sprint(rng.IntN(6)), fmt.Sprint("x", rng.IntN(6))
			switch rng.IntN(10) {
			case 0, 1, 2:
				note(callOf(key), key)
			case 3, 4:
				note(messageOf(key), key)
			case 5:
				note(batchOf(key, other), key, other)
			case 6:
				r := request.Call(key, verb.Op{})
				q.push(r)
				ended, cancel := context.WithCancel(t.Context())
				cancel()
				_, _ = r.Await(ended, func() error { return nil })
				gone++
			case 7:
				q.drop()
			case 8:
				carryOut(last)
				last = q.take(1 + rng.IntN(8))
			case 9:
				q.putBack(last)
				last = nil
			}
		}
		carryOut(last)
		for q.len() > 0 {
			carryOut(q.take(5))
		}
		require.Equal(t, pushed, done, "seed %d", seed)
		require.Empty(t, q.keys)
	}
}
