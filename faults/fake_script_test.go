// lua/apply.lua once more, in Go. TestFakeScript holds it against the real one: its
// head says what arguments and answers mean.
package faults_test

import (
	"fmt"
	"maps"
	"math"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// fakeScript is one run of the script.
type fakeScript struct {
	*fakeData
	args     []string
	overFull bool // it runs in spite of full memory
	wrote    bool // it has begun to write

	container, ledger, mark string
	all                     []string // KEYS
	before                  int
	freed                   bool
	out                     []string
	answer                  string
}

// arg is ARGV[n], "" where there is none.
func (s *fakeScript) arg(n int) string {
	if n > len(s.args) {
		return ""
	}
	return s.args[n-1]
}

// run is the whole script: its answer, or why nothing was written.
func (s *fakeScript) run(keys []string) (failure string) {
	switch s.arg(1) {
	case "open":
		s.answer = "O"
		return s.set(keys[0], "0 "+s.arg(2), s.arg(4), true)
	case "fence":
		return s.fence(keys[0])
	}
	s.all = keys
	keys = append(slices.Clip(keys), "", "") // which are then none
	s.container, s.ledger, s.mark = keys[0], keys[1], keys[2]
	if s.ledger == s.container {
		s.ledger = ""
	}
	if s.mark == s.container {
		s.mark = ""
	}
	s.before = s.exists(s.container)
	if s.arg(1) != "bare" {
		if failure := s.compare(); failure != "" || s.answer != "" {
			return failure
		}
	}
	count, ok := fakeNumber(s.arg(5))
	if !ok {
		return "ERR the number of operations is missing"
	}
	if s.arg(6) == "+" {
		return s.increments(count)
	}
	return s.operations(count)
}

// fakeFence is how a ledger begins that lets nothing pass.
const fakeFence = "9007199254740991 0 "

func (s *fakeScript) fence(ledger string) (failure string) {
	held, found, err := s.get(ledger)
	switch fenced, is := strings.CutPrefix(held, fakeFence); {
	case err != "":
		return err
	case !found:
		held = "-"
	case is:
		held = fenced
	default:
		failure = s.set(ledger, fakeFence+held, s.arg(4), false)
	}
	s.answer = "F- " + held
	return failure
}

var fakeLedger = regexp.MustCompile(`(?s)^([0-9]+) ([0-9]+) ?(.*)$`)

// compare looks at the ledger. It answers if the batch is not the next one.
func (s *fakeScript) compare() (failure string) {
	held, found, err := s.get(s.ledger)
	if err != "" {
		return err
	}
	if !found {
		s.answer = fmt.Sprintf("G%d -", s.before)
		return ""
	}
	number, ok := fakeNumber(s.arg(1))
	parts := fakeLedger.FindStringSubmatch(held)
	if !ok || parts == nil {
		return "no batch number, or no ledger: " + held[:min(len(held), 40)]
	}
	last, _ := fakeNumber(parts[1])
	switch {
	case number == last && parts[2] == s.arg(2):
		s.answer = fmt.Sprintf("R%d %s", s.before, parts[3])
	case last < number-1:
		s.answer = fmt.Sprintf("G%d %.0f", s.before, last)
	case last >= number || parts[2] != s.arg(3):
		s.answer = fmt.Sprintf("X%d", s.before)
	}
	return ""
}

// opened is the batch's first write.
func (s *fakeScript) opened() (failure string) {
	if s.arg(1) == "bare" {
		return s.needsMemory() // it asks, with SETRANGE
	}
	failure = s.set(s.ledger, s.arg(1)+" "+s.arg(2), s.arg(4), false)
	if failure == "" {
		s.applied[s.ledger+" "+s.arg(1)+" "+s.arg(2)]++
	}
	return failure
}

const fakeMarkLifetime = "604800000"

func (s *fakeScript) finish() {
	kept := s.before
	if s.before == 0 || s.freed {
		kept = s.exists(s.container)
		if s.mark != "" && kept == 0 && s.before == 1 {
			_ = s.set(s.mark, "", fakeMarkLifetime, false)
		}
	}
	if s.before == 0 {
		kept += 2
	}
	results := fmt.Sprintf(" %d %s", kept, strings.Join(s.out, " "))
	if s.ledger != "" {
		s.appendTo(s.ledger, results)
	}
	s.answer = fmt.Sprintf("A%d%s", s.before, results)
}

// increments carries out the short form.
func (s *fakeScript) increments(count float64) (failure string) {
	silent, ok := fakeNumber(s.arg(7))
	given := len(s.args)
	if left := float64(given) - 7 - 2*count; !ok || silent < 0 || silent > count || left < 0 || math.Mod(left, 2) != 0 {
		return fmt.Sprintf("ERR %.14g increments do not have %d arguments", count, given)
	}
	stop := 7 + 2*int(count)
	for at := stop + 1; at < len(s.args); at += 2 {
		place, ok := fakeNumber(s.arg(at))
		if !ok || place != math.Trunc(place) || place < 1 || place > silent || !strings.Contains(s.arg(at+1), ",") {
			what := s.arg(at) + " " + s.arg(at+1)
			return "ERR no sum of increments: " + what[:min(40, len(what))]
		}
	}
	sums := fakeSums(s.args[stop:])
	if failure := s.opened(); failure != "" {
		return failure
	}
	told := 8 + 2*int(silent)
	for at := 8; at <= stop; at += 2 {
		sum, err := s.hincrby(s.container, s.arg(at), s.arg(at+1))
		switch {
		case at < told && err == "":
			s.out = append(s.out, strconv.FormatInt(sum, 10))
		case at < told && fakeFailed(err) == "!O" && sums[strconv.Itoa((at-6)/2)] != "":
			var each []string
			for _, n := range strings.FieldsFunc(sums[strconv.Itoa((at-6)/2)], func(r rune) bool { return r == ',' }) {
				if one, err := s.hincrby(s.container, s.arg(at), n); err == "" {
					each = append(each, strconv.FormatInt(one, 10))
				} else {
					each = append(each, fakeFailed(err))
				}
			}
			s.out = append(s.out, strings.Join(each, ","))
		case at < told:
			s.out = append(s.out, fakeFailed(err))
		case err != "":
			s.out = append(s.out, fmt.Sprint((at-6)/2, fakeFailed(err)))
		}
	}
	if told < stop {
		s.out = append(s.out, ".")
	}
	s.finish()
	return ""
}

// fakeOperands are the operands of each verb: a field, a number, a comparator; a
// once-key's place, a digest, what is not 0.
var fakeOperands = map[string]string{
	"g": "f", "i": "fn", "s": "fn", "d": "f", "m": "f", "c": "", "I": "fncn", "S": "fncn", "t": "ohpp",
}

var fakeNoWord = regexp.MustCompile(`[^0-9A-Za-z]`)

// operations looks at every operation, and then carries them out.
func (s *fakeScript) operations(count float64) (failure string) {
	seen, steps := 0, 0.0
	for at := 6; at <= len(s.args); seen++ {
		code := s.arg(at)
		operands, known := fakeOperands[code]
		if !known {
			return "ERR unknown verb " + fakeNoWord.ReplaceAllString(code[:min(len(code), 20)], "?")
		}
		if steps > 0 && (code == "t" || code == "c") {
			return "ERR verb " + code + " is no step"
		}
		for i, kind := range operands {
			if at+1+i > len(s.args) || !s.fits(kind, s.arg(at+1+i)) {
				return fmt.Sprintf("ERR operand %d of verb %s is missing or wrong", i+1, code)
			}
		}
		if code == "t" {
			if steps, _ = fakeNumber(s.arg(at + 4)); steps > 1000 {
				return fmt.Sprintf("ERR a transaction of %.14g steps", steps)
			}
		} else if steps > 0 {
			steps--
		}
		at += 1 + len(operands)
	}
	if steps > 0 {
		return fmt.Sprintf("ERR %.14g steps are missing", steps)
	}
	if float64(seen) != count {
		return fmt.Sprintf("ERR %d operations are not the number announced", seen)
	}
	if failure := s.opened(); failure != "" {
		return failure
	}
	for at := 6; at <= len(s.args); {
		var op []string
		if op, at = s.next(at); op[0] != "t" {
			s.out = append(s.out, s.operation(op))
			continue
		}
		var steps [][]string
		for left, _ := fakeNumber(op[4]); left > 0; left-- {
			var step []string
			step, at = s.next(at)
			steps = append(steps, step)
		}
		s.out = append(s.out, s.transaction(op, steps))
	}
	s.finish()
	return ""
}

// next is the operation at an argument, and where the one behind it is.
func (s *fakeScript) next(at int) (op []string, end int) {
	end = at + 1 + len(fakeOperands[s.arg(at)])
	return s.args[at-1 : end-1], end
}

var fakeOnce = regexp.MustCompile(`(?s)^([0-9A-Fa-f]+) ?(.*)$`)

// transaction carries out a transaction: on what there is, and puts that back if a
// step fails.
func (s *fakeScript) transaction(head []string, steps [][]string) string {
	once := ""
	if place, _ := strconv.Atoi(head[1]); place > 0 {
		once = s.all[place-1]
		switch held, found, err := s.get(once); {
		case err != "":
			return "!E" + strings.Join(strings.Fields(err), "_")
		case found:
			return fakeReplay(held, head[2])
		}
		if err := s.set(once, head[2], head[3], false); err != "" {
			return fakeFailed(err)
		}
	}
	before, freed := s.key(s.container), s.freed
	if before != nil {
		before = &fakeValue{before.text, maps.Clone(before.hash), before.expires}
	}
	outcome, results := "Y", []string(nil)
	for _, step := range steps {
		result := s.operation(step)
		results = append(results, result)
		if result[0] == '!' || result[len(result)-1] == ':' {
			outcome, s.freed = "N", freed
			if delete(s.keys, s.container); before != nil {
				s.keys[s.container] = before
			}
			break
		}
	}
	outcome += strings.Join(results, ",")
	if once != "" {
		s.appendTo(once, " "+outcome)
	}
	return outcome
}

// fakeReplay is what an earlier transaction answers, by what its once-key holds.
func fakeReplay(held, digest string) string {
	switch parts := fakeOnce.FindStringSubmatch(held); {
	case parts == nil || parts[1] != digest:
		return "!C"
	case parts[2] == "":
		return "!B"
	default:
		return strings.ToLower(parts[2][:1]) + parts[2][1:]
	}
}

var (
	fakePositive = regexp.MustCompile(`^[1-9][0-9]*$`)
	fakeHex      = regexp.MustCompile(`^[0-9A-Fa-f]+$`)
)

func (s *fakeScript) fits(kind rune, operand string) bool {
	switch kind {
	case 'o':
		place, err := strconv.Atoi(operand)
		return operand == "0" || err == nil && fakePositive.MatchString(operand) && place > 3 && place <= len(s.all)
	case 'h':
		return fakeHex.MatchString(operand)
	case 'p':
		return fakePositive.MatchString(operand) && len(operand) < 16
	case 'n':
		return fakeInteger(operand)
	case 'c':
		return len(operand) == 1 && strings.Contains("*=!<l>gap", operand)
	default:
		return true
	}
}

// operation carries out one operation and returns its result.
func (s *fakeScript) operation(op []string) string {
	code, old, absent := op[0], "", false
	if code != "c" && code != "i" && code != "s" {
		var failure string
		if old, absent, failure = s.value(op[1]); failure != "" {
			return failure
		}
	}
	switch code {
	case "g":
		if absent {
			return "-"
		}
		return old
	case "i":
		return s.add(op[1], op[2])
	case "s":
		return s.assign(op[1], op[2])
	case "d":
		if err := s.hdel(s.container, op[1]); err != "" {
			return fakeFailed(err)
		}
		s.freed = true
		return old
	case "m":
		if old[0] != '-' {
			return "!O"
		}
		s.add(op[1], strconv.Itoa(math.MaxInt64))
		return s.add(op[1], "1")
	case "c":
		if _, err := s.hash(s.container); err != "" {
			return fakeFailed(err)
		}
		s.unlink(s.container)
		s.freed = true
		return "0"
	}
	return s.change(old, absent, op)
}

// change carries out a conditional operation.
func (s *fakeScript) change(old string, absent bool, op []string) string {
	v, _ := strconv.ParseInt(old, 10, 64)
	than, _ := strconv.ParseInt(op[4], 10, 64)
	if !fakeHolds(v, absent, op[3], than) {
		return old + ":"
	}
	result := ""
	if op[0] == "S" {
		result = s.assign(op[1], op[2])
	} else {
		result = s.add(op[1], op[2])
	}
	if result[0] == '!' {
		return result
	}
	return old + ":" + result
}

// value is what a field holds, "0" if it is absent; or a failure's result.
func (s *fakeScript) value(field string) (text string, absent bool, failure string) {
	text, found, err := s.hget(s.container, field)
	switch {
	case err != "":
		return "", false, fakeFailed(err)
	case !found:
		return "0", true, ""
	case !fakeInteger(text):
		return "", false, "!I"
	}
	return text, false, ""
}

func (s *fakeScript) add(field, n string) string {
	sum, err := s.hincrby(s.container, field, n)
	if err != "" {
		return fakeFailed(err)
	}
	return strconv.FormatInt(sum, 10)
}

func (s *fakeScript) assign(field, n string) string {
	if err := s.hset(s.container, field, n); err != "" {
		return fakeFailed(err)
	}
	return n
}

// fakeFailed turns an error reply into a result.
func fakeFailed(text string) string {
	switch {
	case strings.Contains(text, "overflow"):
		return "!O"
	case strings.Contains(text, "not an integer"):
		return "!I"
	case strings.Contains(text, "WRONGTYPE"):
		return "!W"
	}
	return "!E" + strings.Join(strings.Fields(text), "_")
}

// fakeNumber is Lua's tonumber, for what tests give it.
func fakeNumber(text string) (float64, bool) {
	n, err := strconv.ParseFloat(text, 64)
	return n, err == nil
}

func fakeHolds(v int64, absent bool, cmp string, than int64) bool {
	switch cmp {
	case "a":
		return absent
	case "p":
		return !absent
	case "=":
		return v == than
	case "!":
		return v != than
	case "<":
		return v < than
	case "l":
		return v <= than
	case ">":
		return v > than
	case "g":
		return v >= than
	default:
		return true
	}
}
