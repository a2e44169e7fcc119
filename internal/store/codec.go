package store

import (
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/distkit/distkit-go/internal/op"
)

// KeyOp is one operation on one key, as a batch carries it.
type KeyOp struct {
	Key string
	op.Op
	// Silent marks an Inc of which the value is not needed. It saves Redis a
	// third of the work where the batch is of increments only, the silent ones last;
	// elsewhere an operation may answer its value all the same.
	Silent bool
}

// cmps are apply.lua's letters for the comparators, by op.Cmp.
var cmps = [...]string{op.Always: "*", op.Eq: "=", op.Ne: "!", op.Lt: "<", op.Le: "l", op.Gt: ">", op.Ge: "g"}

// appendOps appends the script arguments of the operations. Keys and numbers
// go as pointers into ops, which spares an allocation an argument; ops must
// not change while the arguments are in use.
func appendOps(args []any, ops []KeyOp) []any {
	if told, ok := increments(ops); ok {
		args = append(args, "+", told)
		for i := range ops {
			args = append(args, &ops[i].Key, &ops[i].N)
		}
		return args
	}
	for i := range ops {
		o := &ops[i]
		switch o.Kind {
		case op.Get:
			args = append(args, "g", &o.Key)
		case op.Inc:
			args = append(args, "i", &o.Key, &o.N)
		case op.Dec:
			if negative, ok := op.Sub(0, o.N); ok {
				args = append(args, "i", &o.Key, negative)
			} else {
				args = append(args, "m", &o.Key)
			}
		case op.Set:
			args = append(args, "s", &o.Key, &o.N)
		case op.Del:
			args = append(args, "d", &o.Key)
		case op.Clear:
			args = append(args, "c")
		case op.IncIf:
			args = append(args, "I", &o.Key, &o.N, cmps[o.If.Cmp], &o.If.N)
		case op.SetIf:
			args = append(args, "S", &o.Key, &o.N, cmps[o.If.Cmp], &o.If.N)
		default:
			panic(fmt.Sprintf("store: operation kind %d has no script code", o.Kind))
		}
	}
	return args
}

// increments reports whether the operations are nothing but that, and how many of
// them, from the first, answer a value.
func increments(ops []KeyOp) (told int, ok bool) {
	for i := range ops {
		if ops[i].Kind != op.Inc {
			return 0, false
		}
		if !ops[i].Silent {
			told = i + 1
		}
	}
	return told, true
}

// The errors of single operations; nothing was changed.
var (
	errOverflow   = op.NotApplied(op.ErrOverflow)
	errNotInteger = op.NotApplied(op.ErrNotInteger)
	errWrongType  = op.NotApplied(op.ErrWrongType)
)

// errMalformed is a reply that is not one of apply.lua's.
var errMalformed = errors.New("malformed reply of the batch script")

// parseResults appends the results of apply.lua, one for each operation.
func parseResults(text string, ops []KeyOp, results []op.Result) ([]op.Result, error) {
	told, ok := increments(ops)
	if !ok {
		told = len(ops)
	}
	for i := range ops[:told] {
		word, rest, _ := strings.Cut(text, " ")
		if word == "" {
			return nil, fmt.Errorf("%w: %d results for %d operations", errMalformed, i, told)
		}
		result, err := parseResult(word, ops[i].Kind)
		if err != nil {
			return nil, err
		}
		results = append(results, result)
		text = rest
	}
	first := len(results) - told
	for range ops[told:] {
		results = append(results, op.Result{Silent: true})
	}
	for told < len(ops) { // of the silent ones, those that failed, then a full stop
		word, rest, more := strings.Cut(text, " ")
		if text = rest; word == "." && !more {
			return results, nil
		}
		place, what, _ := strings.Cut(word, "!")
		at, err := strconv.Atoi(place)
		if err != nil || at <= told || at > len(ops) || results[first+at-1].Err != nil {
			return nil, fmt.Errorf("%w: %q after %d results, of %d operations", errMalformed, word, told, len(ops))
		}
		results[first+at-1] = op.Result{Err: resultError("!" + what)}
	}
	if text != "" {
		return nil, fmt.Errorf("%w: more than %d results", errMalformed, len(ops))
	}
	return results, nil
}

func parseResult(word string, kind op.Kind) (r op.Result, err error) {
	if word[0] == '!' {
		return op.Result{Err: resultError(word)}, nil
	}
	if !kind.Conditional() {
		r.N, err = strconv.ParseInt(word, 10, 64)
	} else if was, is, found := strings.Cut(word, ":"); !found {
		err = errors.New("no colon in a change")
	} else if r.Old, err = strconv.ParseInt(was, 10, 64); err != nil || is == "" {
		r.N = r.Old
	} else {
		r.Applied = true
		r.N, err = strconv.ParseInt(is, 10, 64)
	}
	if err != nil {
		return op.Result{}, fmt.Errorf("%w: %q: %w", errMalformed, word, err)
	}
	return r, nil
}

func resultError(word string) error {
	switch word {
	case "!O":
		return errOverflow
	case "!I":
		return errNotInteger
	case "!W":
		return errWrongType
	default:
		text := strings.TrimPrefix(strings.ReplaceAll(word, "_", " "), "!E")
		return op.NotApplied(fmt.Errorf("redis refused the operation: %s", text))
	}
}

// parseField reads a counter's field as HMGET gives it: nil is 0. The text
// must be canonical, as HINCRBY demands.
func parseField(field any) (int64, error) {
	if field == nil {
		return 0, nil
	}
	text, _ := field.(string)
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil || strconv.FormatInt(n, 10) != text {
		return 0, errNotInteger
	}
	return n, nil
}
