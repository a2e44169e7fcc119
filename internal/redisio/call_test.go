package redisio

import (
	"regexp"
	"testing"

	"github.com/distkit/distkit-go/internal/verb"
	"github.com/distkit/distkit-go/lua"
	"github.com/stretchr/testify/require"
)

// The script's answers as the library reads them.

func aCall(task Task) *Call {
	return &Call{Task: task, Seq: 3, Nonce: 7, Ops: []verb.Keyed{{Key: "a", Op: verb.Op{Kind: verb.Set, N: 5}}}}
}

func TestRead_everyAnswer(t *testing.T) {
	t.Parallel()
	five := []verb.Result{{N: 5}}
	for _, row := range []struct {
		task Task
		text string
		want Reply
	}{
		{Apply, "A0 3 5", Reply{Status: Done, Kept: true, Results: five}},
		{Apply, "A1 0 5", Reply{Status: Done, Existed: true, Before: true, Results: five}},
		{Apply, "R1 1 5", Reply{Status: Done, Existed: true, Before: true, Kept: true, Replayed: true, Results: five}},
		{Apply, "R0 0 5", Reply{Status: Done, Before: true, Replayed: true, Results: five}},
		{Apply, "R0 2 5", Reply{Status: Done, Replayed: true, Results: five}},
		{Apply, "R1 3 5", Reply{Status: Done, Existed: true, Kept: true, Replayed: true, Results: five}},
		{Apply, "G1 -", Reply{Status: Gap, Existed: true, Last: NoLedger}},
		{Apply, "G0 0", Reply{Status: Gap}},
		{Apply, "G0 9007199254740990", Reply{Status: Gap, Last: 9007199254740990}},
		{Apply, "X1", Reply{Status: Conflict, Existed: true}},
		{Bare, "A1 1 5", Reply{Status: Done, Existed: true, Before: true, Kept: true, Results: five}},
		{Open, "O", Reply{Status: Opened}},
		{Fence, "F- -", Reply{Status: Fenced, Last: NoLedger}},
		{Fence, "F- 0 18446744073709551615", Reply{Status: Fenced, LastNonce: 18446744073709551615}},
		{Fence, "F- 3 8 1 6", Reply{Status: Fenced, Last: 3, LastNonce: 8}},
		{Fence, "F- 2 7 1 6", Reply{Status: Fenced, Last: 2, LastNonce: 7}},
		{Fence, "F- 3 7 1 5", Reply{Status: Fenced, Last: 3, LastNonce: 7, Before: true, Kept: true, Results: five}},
	} {
		got, err := aCall(row.task).read(row.text, nil)
		require.NoError(t, err, row.text)
		require.Equal(t, row.want, got, row.text)
	}
}

// Results that are not there or cannot be read are unknown: the batch is in.
func TestRead_ofResultsThatCannotBeRead(t *testing.T) {
	t.Parallel()
	for task, texts := range map[Task][]string{
		Apply: {"R1 ", "R1", "A1 1", "A1 1 ", "R1 1 x", "R1 1 5 5"},
		Bare:  {"A1 1 5 5"},
		Fence: {"F- 3 7", "F- 3 7 1", "F- 3 7 1 x"},
	} {
		for _, text := range texts {
			got, err := aCall(task).read(text, nil)
			require.NoError(t, err, text)
			require.Len(t, got.Results, 1, text)
			require.ErrorIs(t, got.Results[0].Err, verb.ErrOutcomeUnknown, text)
		}
	}
}

// What is no answer to the task is none at all.
func TestRead_refusesWhatItDoesNotKnow(t *testing.T) {
	t.Parallel()
	for task, texts := range map[Task][]string{
		Apply: {"", " ", "O", "F- -", "OK", "5", "B1 1 5", "A 1 5", "A2 1 5", "A- 1 5", "R 1 5", "G -", "G1 x", "G1 1 1", "G1", "X", "X-", "QUEUED"},
		Bare:  {"", "R1 1 5", "G1 -", "X1", "O", "F- -"},
		Open:  {"", "OK", "O1", "A1 1 5", "F- -"},
		Fence: {"", "F", "F1 -", "F-", "F- x 7 1 5", "F- 3 x 1 5", "F- 3", "F- 3 -7", "A1 1 5", "O", "G1 -"},
	} {
		for _, text := range texts {
			got, err := aCall(task).read(text, nil)
			require.Error(t, err, "task %d, %q is %+v", task, text, got)
		}
	}
	for _, reply := range []any{nil, "A", int64(1), []any{}, []any{"1", "2"}, map[any]any{}} {
		_, err := aCall(Read).readFields(reply)
		require.Error(t, err, "%v", reply)
	}
}

// A verb's two halves, there and in lua/apply.lua, have the same code.
func TestScript_knowsEveryVerb(t *testing.T) {
	t.Parallel()
	known := map[string]bool{}
	for _, row := range regexp.MustCompile(`(?m)^  (\w) = '[fncohp]*',`).FindAllStringSubmatch(lua.Apply, -1) {
		known[row[1]] = true
	}
	written := map[string]bool{}
	for kind := verb.Get; kind <= verb.Apply; kind++ {
		for _, n := range []int64{1, -1 << 63} {
			o := verb.Keyed{Key: "a", Op: verb.Op{Kind: kind, N: n, If: verb.Cond{Cmp: verb.Eq}}, Tx: &verb.Tx{}}
			args := verb.Append(nil, []verb.Keyed{{Op: verb.Op{Kind: verb.Clear}}, o}, nil, 3) // not increments alone
			written[args[2].(string)] = true
		}
	}
	require.Equal(t, known, written)
}
