package verb

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// pairs is the code of the form for increments only: how many of them answer a
// value, then field and number of each; see Merged for what may follow.
const pairs = "+"

// Append appends the script's arguments for the operations: how many they are,
// then each, as its code and operands. Keys and numbers go as pointers into ops,
// which must not change while the arguments are in use. Of the transactions among
// them those with an ID have a once-key each, in their order, behind so many other
// KEYS. It panics on a kind that is none: the callers have checked.
func Append(args []any, ops []Keyed, merged *Merged, keys int) []any {
	if merged != nil {
		return merged.append(args, ops)
	}
	args = append(args, len(ops))
	if told, ok := increments(ops); ok {
		args = append(args, pairs, told)
		for i := range ops {
			args = append(args, &ops[i].Key, &ops[i].N)
		}
		return args
	}
	for i := range ops {
		r := &table[ops[i].Kind]
		if r.write == nil {
			panic(fmt.Sprintf("verb: an operation of no kind on %q", ops[i].Key))
		}
		args = append(args, r.code)
		if ops[i].Kind == Apply {
			place := 0
			if ops[i].Tx.ID != "" {
				keys++
				place = keys
			}
			args = append(args, place)
		}
		args = r.write(args, &ops[i])
	}
	return args
}

// increments reports whether the operations are nothing but that, and how many of
// them, from the first, answer a value.
func increments(ops []Keyed) (told int, ok bool) {
	if len(ops) == 0 {
		return 0, false
	}
	for i := range ops {
		if ops[i].Kind != Inc {
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
	Overflows  = NotApplied(ErrOverflow)
	NotInteger = NotApplied(ErrNotInteger)
	WrongType  = NotApplied(ErrWrongType)
	Conflicts  = NotApplied(ErrConflict)
)

// errBrokenOff is why nobody will know what became of a transaction.
var errBrokenOff = errors.New("redis broke off the script that carried out the transaction")

// ErrMalformed is a reply that is not one of the script's.
var ErrMalformed = errors.New("malformed reply of the batch script")

// Parse appends the results that the script gave, one for each operation; the steps
// of a transaction have theirs behind that of its head.
func Parse(text string, ops []Keyed, merged *Merged, results []Result) (_ []Result, err error) {
	told, ok := increments(ops)
	if !ok {
		told = len(ops)
	}
	from, together := 0, 0
	if merged != nil {
		if results, text, err = merged.parse(text, results); err != nil {
			return nil, err
		}
		from, together = told, told-len(merged.groups)
	}
	for i := from; i < told; i++ {
		word, rest, err := cutResult(text, i, told)
		if err != nil {
			return nil, err
		}
		if ops[i].Kind == Apply {
			steps := int(ops[i].N)
			if results, err = parseOutcome(word, ops[i+1:i+1+steps], results); err != nil {
				return nil, err
			}
			i += steps
		} else {
			result, err := parseResult(word, ops[i].Kind)
			if err != nil {
				return nil, err
			}
			results = append(results, result)
		}
		text = rest
	}
	first := len(results) - told
	for range ops[told:] {
		results = append(results, Result{Silent: true})
	}
	for told < len(ops) { // of the silent ones, those that failed, then a full stop
		word, rest, more := strings.Cut(text, " ")
		if text = rest; word == "." && !more {
			return results, nil
		}
		place, what, _ := strings.Cut(word, "!")
		at, err := strconv.Atoi(place)
		at += together
		if err != nil || at <= told || at > len(ops) || results[first+at-1].Err != nil {
			return nil, fmt.Errorf("%w: %q after %d results, of %d operations", ErrMalformed, word, told, len(ops))
		}
		results[first+at-1] = Result{Err: resultError("!" + what)}
	}
	if text != "" {
		return nil, fmt.Errorf("%w: more than %d results", ErrMalformed, len(ops))
	}
	return results, nil
}

// cutResult takes the next result off the text, that of the operation at i.
func cutResult(text string, i, of int) (word, rest string, err error) {
	if word, rest, _ = strings.Cut(text, " "); word == "" {
		err = fmt.Errorf("%w: %d results for %d operations", ErrMalformed, i, of)
	}
	return word, rest, err
}

// noField is the script's word for a counter read that does not exist.
const noField = "-"

func parseResult(word string, kind Kind) (r Result, err error) {
	switch {
	case word[0] == '!':
		return Result{Err: resultError(word)}, nil
	case word == noField && kind == Get:
		return Result{Absent: true}, nil
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
		return Result{}, fmt.Errorf("%w: %q: %w", ErrMalformed, word, err)
	}
	return r, nil
}

func resultError(word string) error {
	switch word {
	case "!O":
		return Overflows
	case "!I":
		return NotInteger
	case "!W":
		return WrongType
	case "!C":
		return Conflicts
	case "!B":
		return Unknown(errBrokenOff)
	}
	text := strings.ReplaceAll(word[1:], "_", " ")
	if unread, found := strings.CutPrefix(text, "?"); found {
		return Unknown(fmt.Errorf("applied, but redis did not give the new value: %s", unread))
	}
	return NotApplied(fmt.Errorf("redis refused the operation: %s", strings.TrimPrefix(text, "E")))
}

// ParseField reads a counter's field as HMGET gives it: nil is none. The text
// must be canonical, as HINCRBY demands.
func ParseField(field any) Result {
	if field == nil {
		return Result{Absent: true}
	}
	text, _ := field.(string)
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil || strconv.FormatInt(n, 10) != text {
		return Result{Err: NotInteger}
	}
	return Result{N: n}
}
