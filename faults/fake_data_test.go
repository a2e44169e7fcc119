// The fake Redis's data and its commands: strings that expire, and hashes, as much
// of them as the library and lua/apply.lua use.
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

	"github.com/distkit/distkit-go/lua"
)

// fakeData is what a fake Redis holds. Its server guards it.
type fakeData struct {
	keys    map[string]*fakeValue
	scripts map[string]bool // the scripts it knows, by SHA-1, and whether each runs in spite of full memory
	full    bool            // there is no memory

	// applied counts how often a batch was applied, by its ledger, number and nonce,
	// in the history that led to this state: no client can see it.
	applied map[string]int
}

// fakeValue is a string or a hash.
type fakeValue struct {
	text    string
	hash    map[string]string // nil: a string
	expires time.Time         // zero: never
}

func newFakeData() *fakeData {
	return &fakeData{keys: map[string]*fakeValue{}, scripts: map[string]bool{}, applied: map[string]int{}}
}

// clone copies what a replica or a backup would hold.
func (d *fakeData) clone() *fakeData {
	c := newFakeData()
	for name, v := range d.keys {
		c.keys[name] = &fakeValue{v.text, maps.Clone(v.hash), v.expires}
	}
	maps.Copy(c.applied, d.applied)
	return c
}

// counters are those of a container.
func (d *fakeData) counters(container string) map[string]int64 {
	counters := map[string]int64{}
	if v := d.key(container); v != nil {
		for field, text := range v.hash {
			counters[field], _ = strconv.ParseInt(text, 10, 64)
		}
	}
	return counters
}

// counter is one of a container's.
func (d *fakeData) counter(container, key string) int64 {
	v := d.key(container)
	if v == nil {
		return 0
	}
	n, _ := strconv.ParseInt(v.hash[key], 10, 64)
	return n
}

// key returns what there is of a name, nil if nothing or if it has expired.
func (d *fakeData) key(name string) *fakeValue {
	v := d.keys[name]
	if v != nil && !v.expires.IsZero() && !time.Now().Before(v.expires) {
		delete(d.keys, name)
		return nil
	}
	return v
}

// What Redis 7 says.
const (
	fakeNoScript   = "NOSCRIPT No matching script. Please use EVAL."
	fakeWrongType  = "WRONGTYPE Operation against a key holding the wrong kind of value"
	fakeNotInteger = "ERR value is not an integer or out of range"
	fakeOutOfRange = "ERR increment or decrement would overflow"
	fakeBadHash    = "ERR hash value is not an integer"
	fakeBadExpiry  = "ERR invalid expire time in 'set' command"
	fakeNoMemory   = "OOM command not allowed when used memory > 'maxmemory'."
)

// do executes a command and returns the encoded reply.
func (d *fakeData) do(r fakeRequest) string {
	switch name := r.name(); name {
	case "eval", "evalsha":
		return d.eval(r)
	case "hmget":
		v := d.key(r[1])
		if v != nil && v.hash == nil {
			return fakeError(fakeWrongType)
		}
		fields := make([]string, 0, len(r))
		for _, field := range r[2:] {
			reply := fakeNone
			if v != nil {
				if text, found := v.hash[field]; found {
					reply = fakeBulk(text)
				}
			}
			fields = append(fields, reply)
		}
		return fakeArray(fields...)
	case "hscan":
		v := d.key(r[1])
		if v == nil {
			v = &fakeValue{hash: map[string]string{}}
		}
		if v.hash == nil {
			return fakeError(fakeWrongType)
		}
		fields := make([]string, 0, 2*len(v.hash))
		for field, text := range v.hash {
			fields = append(fields, fakeBulk(field), fakeBulk(text))
		}
		return fakeArray(fakeBulk("0"), fakeArray(fields...)) // whole, as a small one
	case "mget":
		texts := make([]string, 0, len(r))
		for _, name := range r[1:] {
			reply := fakeNone
			if v := d.key(name); v != nil && v.hash == nil {
				reply = fakeBulk(v.text)
			}
			texts = append(texts, reply)
		}
		return fakeArray(texts...)
	case "get":
		switch v := d.key(r[1]); {
		case v == nil:
			return fakeNone
		case v.hash != nil:
			return fakeError(fakeWrongType)
		default:
			return fakeBulk(v.text)
		}
	case "set": // never without NX
		if d.key(r[1]) != nil {
			return fakeNone
		}
		d.keys[r[1]] = &fakeValue{text: r[2]}
		return fakeOK
	case "exists":
		if d.key(r[1]) == nil {
			return ":0\r\n"
		}
		return ":1\r\n"
	case "pexpire":
		v := d.key(r[1])
		ms, err := strconv.ParseInt(r[2], 10, 64)
		switch {
		case err != nil:
			return fakeError(fakeNotInteger)
		case v == nil:
			return ":0\r\n"
		}
		v.expires = time.Now().Add(time.Duration(ms) * time.Millisecond)
		return ":1\r\n"
	case "pttl":
		switch v := d.key(r[1]); {
		case v == nil:
			return ":-2\r\n"
		case v.expires.IsZero():
			return ":-1\r\n"
		default:
			return fmt.Sprintf(":%d\r\n", time.Until(v.expires).Milliseconds())
		}
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

// fakeOverFull is how a script's text begins that runs in spite of full memory.
const fakeOverFull = "#!lua flags=allow-oom\n"

// eval runs the batch script: no other is known.
func (d *fakeData) eval(r fakeRequest) string {
	sha := r[1]
	if r.name() == "eval" {
		text, overFull := strings.CutPrefix(r[1], fakeOverFull)
		if text != lua.Apply {
			return fakeError("ERR this is not the batch script")
		}
		sum := sha1.Sum([]byte(r[1]))
		sha = hex.EncodeToString(sum[:])
		d.scripts[sha] = overFull
	}
	overFull, known := d.scripts[sha]
	if !known {
		return fakeError(fakeNoScript)
	}
	c, ok := r.call()
	if !ok {
		return fakeError("ERR Number of keys can't be greater than number of args")
	}
	s := fakeScript{fakeData: d, args: c.args, overFull: overFull}
	if failure := s.run(c.keys); failure != "" {
		return fakeError("NOTWRITTEN " + failure)
	}
	return fakeBulk(s.answer)
}

// The commands of the script. Each returns the error that Redis gives, or "".

func (s *fakeScript) exists(name string) int {
	if s.key(name) == nil {
		return 0
	}
	return 1
}

// get returns the text of a string; found is false if there is nothing.
func (s *fakeScript) get(name string) (text string, found bool, err string) {
	switch v := s.key(name); {
	case v == nil:
		return "", false, ""
	case v.hash != nil:
		return "", false, fakeWrongType
	default:
		return v.text, true, ""
	}
}

// needsMemory is what a command meets that may need memory: once a script has begun
// to write, Redis lets it go on.
func (s *fakeScript) needsMemory() (err string) {
	if s.full && !s.overFull && !s.wrote {
		return fakeNoMemory
	}
	s.wrote = true
	return ""
}

// set is SET with PX and, if fresh, NX.
func (s *fakeScript) set(name, text, px string, fresh bool) (err string) {
	if err := s.needsMemory(); err != "" {
		return err
	}
	ms, parsed := strconv.ParseInt(px, 10, 64)
	switch {
	case parsed != nil:
		return fakeNotInteger
	case ms <= 0:
		return fakeBadExpiry
	case fresh && s.key(name) != nil:
		return ""
	}
	s.keys[name] = &fakeValue{text: text, expires: time.Now().Add(time.Duration(ms) * time.Millisecond)}
	return ""
}

// appendTo is APPEND, of a key that is there.
func (s *fakeScript) appendTo(name, text string) {
	if v := s.key(name); v != nil && v.hash == nil {
		v.text += text
	}
}

func (s *fakeScript) unlink(name string) {
	s.wrote = true
	delete(s.keys, name)
}

// hash returns a key's fields; nil if there are none.
func (s *fakeScript) hash(name string) (fields map[string]string, err string) {
	v := s.key(name)
	if v == nil {
		return nil, ""
	}
	if v.hash == nil {
		return nil, fakeWrongType
	}
	return v.hash, ""
}

func (s *fakeScript) hget(name, field string) (text string, found bool, err string) {
	fields, err := s.hash(name)
	text, found = fields[field]
	return text, found, err
}

func (s *fakeScript) hset(name, field, text string) (err string) {
	if err := s.needsMemory(); err != "" {
		return err
	}
	fields, err := s.hash(name)
	if err != "" {
		return err
	}
	if fields == nil {
		fields = map[string]string{}
		s.keys[name] = &fakeValue{hash: fields}
	}
	fields[field] = text
	return ""
}

// hdel deletes a field, and a hash without fields.
func (s *fakeScript) hdel(name, field string) (err string) {
	s.wrote = true
	fields, err := s.hash(name)
	if _, found := fields[field]; err != "" || !found {
		return err
	}
	if delete(fields, field); len(fields) == 0 {
		delete(s.keys, name)
	}
	return ""
}

func (s *fakeScript) hincrby(name, field, by string) (sum int64, err string) {
	if err := s.needsMemory(); err != "" {
		return 0, err
	}
	if !fakeInteger(by) {
		return 0, fakeNotInteger
	}
	text, found, err := s.hget(name, field)
	switch {
	case err != "":
		return 0, err
	case found && !fakeInteger(text):
		return 0, fakeBadHash
	}
	old, _ := strconv.ParseInt(text, 10, 64)
	n, _ := strconv.ParseInt(by, 10, 64)
	if n > 0 && old > math.MaxInt64-n || n < 0 && old < math.MinInt64-n {
		return 0, fakeOutOfRange
	}
	return old + n, s.hset(name, field, strconv.FormatInt(old+n, 10))
}

// fakeInteger reports whether a text is an int64 as Redis takes it: canonical.
func fakeInteger(text string) bool {
	n, err := strconv.ParseInt(text, 10, 64)
	return err == nil && strconv.FormatInt(n, 10) == text
}
