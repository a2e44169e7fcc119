// The fake Redis's data, and lua/apply.lua once more, in Go. TestFakeScript
// holds it against the real one.
package faults_test

import (
	"crypto/sha1"
	"encoding/hex"
	"fmt"
	"maps"
	"math"
	"strconv"
	"strings"
	"time"
)

// fakeData is what a fake Redis holds. Its server guards it.
type fakeData struct {
	hashes  map[string]map[string]int64
	ledgers map[string]fakeLedger
	scripts map[string]bool // the scripts it knows, by their SHA-1
}

// fakeLedger is what the script keeps of a writer's last batch.
type fakeLedger struct {
	seq     int64
	results string
	expires time.Time
}

func newFakeData() *fakeData {
	return &fakeData{hashes: map[string]map[string]int64{}, ledgers: map[string]fakeLedger{}, scripts: map[string]bool{}}
}

// clone copies counters and ledgers, as a replica or a backup would hold them.
func (d *fakeData) clone() *fakeData {
	c := newFakeData()
	for name, hash := range d.hashes {
		c.hashes[name] = maps.Clone(hash)
	}
	maps.Copy(c.ledgers, d.ledgers)
	return c
}

const fakeNoScript = "NOSCRIPT No matching script. Please use EVAL."

// do executes a command and returns the encoded reply.
func (d *fakeData) do(r fakeRequest) string {
	switch name := r.name(); name {
	case "eval", "evalsha":
		sha := r[1]
		if name == "eval" {
			sum := sha1.Sum([]byte(r[1]))
			sha = hex.EncodeToString(sum[:])
			d.scripts[sha] = true
		}
		if !d.scripts[sha] {
			return fakeError(fakeNoScript)
		}
		if len(r) == 7 && r[5] == "fence" {
			return fakeBulk(d.fence(r[4], r[6]))
		}
		b, ok := r.batch()
		if !ok {
			return fakeError("ERR wrong arguments of the batch script")
		}
		return fakeBulk(d.apply(b))
	case "hmget":
		fields := make([]string, 0, len(r))
		for _, field := range r[2:] {
			reply := fakeNone
			if n, found := d.hashes[r[1]][field]; found {
				reply = fakeBulk(strconv.FormatInt(n, 10))
			}
			fields = append(fields, reply)
		}
		return fakeArray(fields...)
	case "pexpire":
		l, found := d.ledger(r[1])
		ms, err := strconv.ParseInt(r[2], 10, 64)
		if err != nil {
			return fakeError("ERR value is not an integer or out of range")
		}
		if !found {
			return ":0\r\n"
		}
		l.expires = time.Now().Add(time.Duration(ms) * time.Millisecond)
		d.ledgers[r[1]] = l
		return ":1\r\n"
	case "hello":
		return fakeArray(fakeBulk("proto"), ":2\r\n")
	case "ping":
		return "+PONG\r\n"
	case "command":
		return fakeArray()
	case "client", "asking":
		return fakeOK
	default:
		return fakeError("ERR unknown command '" + r[0] + "'")
	}
}

// ledger returns a ledger that has not expired.
func (d *fakeData) ledger(name string) (fakeLedger, bool) {
	l, found := d.ledgers[name]
	if found && time.Now().After(l.expires) {
		delete(d.ledgers, name)
		return fakeLedger{}, false
	}
	return l, found
}

// apply is the script: see lua/apply.lua for arguments and results.
func (d *fakeData) apply(b fakeBatch) string {
	l, _ := d.ledger(b.ledger)
	if b.seq == l.seq {
		return "R " + l.results
	}
	if b.seq != l.seq+1 {
		return fmt.Sprintf("G %d", l.seq)
	}
	if d.hashes[b.container] == nil {
		d.hashes[b.container] = map[string]int64{}
	}
	hash := d.hashes[b.container]
	var results []string
	for rest := b.ops; len(rest) > 0; {
		size := fakeOpSizes[rest[0]]
		results = append(results, fakeOp(hash, rest[:size]))
		rest = rest[size:]
	}
	if b.told >= 0 && b.told < len(results) {
		results = fakeSilent(results, b.told)
	}
	l = fakeLedger{b.seq, strings.Join(results, " "), fakeExpiry(b.ttl)}
	d.ledgers[b.ledger] = l
	return "A " + l.results
}

// fakeSilent leaves out what the increments behind the first told ones answer, but
// for their errors.
func fakeSilent(results []string, told int) []string {
	short := results[:told:told]
	for i, result := range results[told:] {
		if result[0] == '!' {
			short = append(short, fmt.Sprint(told+i+1, result))
		}
	}
	return append(short, ".")
}

// fakeFence is the number at which a ledger lets nothing pass.
const fakeFence = 1<<53 - 1

// fence is the script with "fence" for a number.
func (d *fakeData) fence(ledger, ttl string) string {
	l, _ := d.ledger(ledger)
	if l.seq != fakeFence {
		l = fakeLedger{fakeFence, fmt.Sprintf("%d %s", l.seq, l.results), fakeExpiry(ttl)}
		d.ledgers[ledger] = l
	}
	return "F " + l.results
}

func fakeExpiry(ttl string) time.Time {
	ms, _ := strconv.ParseInt(ttl, 10, 64)
	return time.Now().Add(time.Duration(ms) * time.Millisecond)
}

// fakeOpSizes are how many arguments an operation has, its code included.
var fakeOpSizes = map[string]int{"i": 3, "m": 2, "g": 2, "s": 3, "d": 2, "c": 1, "I": 5, "S": 5}

// fakeOp carries out one operation and returns its result.
func fakeOp(hash map[string]int64, args []string) string {
	if args[0] == "c" {
		clear(hash)
		return "0"
	}
	field, n := args[1], int64(0)
	if len(args) > 2 {
		n, _ = strconv.ParseInt(args[2], 10, 64)
	}
	old := hash[field]
	text := func(n int64) string { return strconv.FormatInt(n, 10) }
	add := func(n int64) string {
		sum := old + n
		if (sum > old) != (n > 0) && n != 0 {
			return "!O"
		}
		hash[field] = sum
		return text(sum)
	}
	switch args[0] {
	case "i":
		return add(n)
	case "m":
		if old >= 0 {
			return "!O"
		}
		hash[field] = old - math.MinInt64
		return text(hash[field])
	case "g":
		return text(old)
	case "s":
		hash[field] = n
		return text(n)
	case "d":
		delete(hash, field)
		return text(old)
	}
	than, _ := strconv.ParseInt(args[4], 10, 64)
	if !fakeHolds(old, args[3], than) {
		return text(old) + ":"
	}
	if args[0] == "S" {
		hash[field] = n
		return text(old) + ":" + text(n)
	}
	if sum := add(n); sum != "!O" {
		return text(old) + ":" + sum
	}
	return "!O"
}

func fakeHolds(v int64, cmp string, than int64) bool {
	switch cmp {
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
