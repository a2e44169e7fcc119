package verb

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// Tx is what a transaction has beside its steps; a Recall only the ID.
type Tx struct {
	ID     string // "" where the outcome is not remembered
	Keep   int64  // the milliseconds for which it is
	Digest string // of the steps: the same for the same steps, in any process
}

// Transaction returns the operations of a transaction: its head, and the steps. Their
// kinds are those of single counters.
func Transaction(id string, keep time.Duration, steps []Keyed) []Keyed {
	tx := &Tx{ID: id, Keep: keep.Milliseconds(), Digest: noDigest}
	if id != "" {
		tx.Digest = digest(steps)
	}
	return append([]Keyed{{Op: Op{Kind: Apply, N: int64(len(steps))}, Tx: tx}}, steps...)
}

func head(args []any, o *Keyed) []any { return append(args, o.Tx.Digest, o.Tx.Keep, &o.N) }

// noDigest is that of a transaction that is not remembered.
const noDigest = "0"

// digestSize is how much of a SHA-256 is enough, in bytes.
const digestSize = 16

// digest tells steps from others by how they are written for the script: an Inc by -5
// is a Dec by 5. Redis keeps it beside the outcome, so it must not change between
// versions of the library.
func digest(steps []Keyed) string {
	var text []byte
	for i := range steps {
		for _, arg := range table[steps[i].Kind].write([]any{table[steps[i].Kind].code}, &steps[i]) {
			var word string
			switch arg := arg.(type) {
			case string:
				word = arg
			case *string:
				word = *arg
			case int64:
				word = strconv.FormatInt(arg, 10)
			case *int64:
				word = strconv.FormatInt(*arg, 10)
			}
			text = strconv.AppendInt(text, int64(len(word)), 10) // which keeps words apart
			text = append(append(text, ':'), word...)
		}
	}
	hash := sha256.Sum256(text)
	return hex.EncodeToString(hash[:digestSize])
}

// outcomeWords are the words of the steps of an outcome as the script writes it,
// behind a letter: Y applied, N not, and y and n by an earlier transaction. Only the
// last may be an error, which may hold a comma.
func outcomeWords(text string) (r Result, words []string, err error) {
	at := strings.IndexByte("YNyn", text[0])
	if at < 0 {
		return r, nil, fmt.Errorf("%w: %.40q is no outcome", ErrMalformed, text)
	}
	for rest, more := text[1:], true; more; {
		word := rest
		if more = false; !strings.HasPrefix(rest, "!") {
			word, rest, more = strings.Cut(rest, ",")
		}
		if word == "" {
			return r, nil, fmt.Errorf("%w: %.40q lacks a step", ErrMalformed, text)
		}
		words = append(words, word)
	}
	return Result{Applied: at%2 == 0, Replayed: at >= 2, N: int64(len(words))}, words, nil
}

// parseOutcome appends the result of a transaction's head and those of its steps.
func parseOutcome(text string, steps []Keyed, results []Result) ([]Result, error) {
	if text[0] == '!' {
		return append(append(results, Result{Err: resultError(text)}), make([]Result, len(steps))...), nil
	}
	r, words, err := outcomeWords(text)
	if err != nil {
		return nil, err
	}
	if len(words) > len(steps) || r.Applied && len(words) < len(steps) {
		return nil, fmt.Errorf("%w: %d results of %d steps", ErrMalformed, len(words), len(steps))
	}
	results = append(results, r)
	for i, word := range words {
		step, err := parseResult(word, steps[i].Kind)
		if err != nil {
			return nil, err
		}
		results = append(results, step)
	}
	return append(results, make([]Result, len(steps)-len(words))...), nil
}

var errNoOutcome = errors.New("what Redis holds under the transaction's ID is no outcome of ours")

// ParseOnce appends what a once-key holds, nil if nothing: the result of a head,
// Replayed if there is an outcome, and behind it those of the steps that answer.
func ParseOnce(held any, results []Result) []Result {
	text, found := held.(string)
	if !found {
		return append(results, Result{})
	}
	digest, outcome, ended := strings.Cut(text, " ")
	if !ended && len(digest) == 2*digestSize {
		return append(results, Result{Err: Unknown(errBrokenOff)})
	}
	if outcome == "" {
		return append(results, Result{Err: Unknown(errNoOutcome)})
	}
	r, words, err := outcomeWords(outcome)
	if err != nil {
		return append(results, Result{Err: Unknown(fmt.Errorf("%w: %w", errNoOutcome, err))})
	}
	r.Replayed = true
	first := len(results)
	results = append(results, r)
	for _, word := range words {
		kind := Get
		if word[0] != '!' && strings.Contains(word, ":") {
			kind = IncIf
		}
		step, err := parseResult(word, kind)
		if err != nil {
			return append(results[:first], Result{Err: Unknown(fmt.Errorf("%w: %w", errNoOutcome, err))})
		}
		step.Kind = kind
		results = append(results, step)
	}
	return results
}
