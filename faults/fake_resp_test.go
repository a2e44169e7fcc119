// What the fake Redis reads and writes: requests and replies of RESP2, no more
// than the library and go-redis's handshake need
// (https://redis.io/docs/latest/develop/reference/protocol-spec/).
package faults_test

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
)

// fakeRequest is one command and its arguments.
type fakeRequest []string

// name is the command's name in lower case.
func (r fakeRequest) name() string { return strings.ToLower(r[0]) }

// fakeCall is a call of the batch script, as it came.
type fakeCall struct {
	keys, args []string
}

// task is what the call says to do: a number, or a word.
func (c fakeCall) task() string {
	if len(c.args) == 0 {
		return ""
	}
	return c.args[0]
}

// call reads a call of a script; false if the request is none.
func (r fakeRequest) call() (fakeCall, bool) {
	if name := r.name(); name != "evalsha" && name != "eval" || len(r) < 4 {
		return fakeCall{}, false
	}
	keys, err := strconv.Atoi(r[2])
	if err != nil || keys < 1 || len(r) < 3+keys {
		return fakeCall{}, false
	}
	return fakeCall{r[3 : 3+keys], r[3+keys:]}, true
}

// fakeBatch is a batch that a call of the script carries.
type fakeBatch struct {
	container, ledger string
	seq               int64 // 0: bare
	nonce, previous   string
	ops               []string // the operations' codes and arguments; none if every caller had left
	told              int      // how many increments answer a value; -1 where every operation does
}

// batch reads the batch of a call; false if the request carries none.
func (r fakeRequest) batch() (fakeBatch, bool) {
	c, ok := r.call()
	if !ok || len(c.args) < 5 {
		return fakeBatch{}, false
	}
	b := fakeBatch{container: c.keys[0], nonce: c.args[1], previous: c.args[2], ops: c.args[5:], told: -1}
	var err error
	if c.task() != "bare" {
		b.seq, err = strconv.ParseInt(c.task(), 10, 64)
		if err != nil || len(c.keys) < 2 {
			return fakeBatch{}, false
		}
		b.ledger = c.keys[1]
	}
	if len(b.ops) > 1 && b.ops[0] == "+" {
		b.told, err = strconv.Atoi(b.ops[1])
		count, _ := strconv.Atoi(c.args[4])
		b.ops, b.told = fakePairs(b.ops[2:], count, b.told)
	}
	return b, err == nil
}

// fakePairs writes the fields and numbers of increments in the long form, sums as what
// they are of. So many of them answer a value.
func fakePairs(pairs []string, count, told int) (long []string, answering int) {
	if len(pairs) < 2*count {
		return pairs, told
	}
	sums := fakeSums(pairs[2*count:])
	answering = told
	for at := range count {
		of := []string{pairs[2*at+1]}
		if sum, found := sums[strconv.Itoa(at+1)]; found {
			of = strings.Split(sum, ",")
			answering += len(of) - 1
		}
		for _, n := range of {
			long = append(long, "i", pairs[2*at], n)
		}
	}
	return long, answering
}

// fakeSums reads what sums of increments are of, by their places.
func fakeSums(tail []string) map[string]string {
	sums := map[string]string{}
	for at := 0; at+1 < len(tail); at += 2 {
		sums[tail[at]] = tail[at+1]
	}
	return sums
}

// content is what a batch does, to compare batches by.
func (b fakeBatch) content() string { return strings.Join(b.ops, " ") }

// identity is by which Redis tells a batch from every other.
func (b fakeBatch) identity() string {
	return fmt.Sprintf("%s %d %s after %s", b.ledger, b.seq, b.nonce, b.previous)
}

var errFakeProtocol = errors.New("the client sent something else than an array of bulk strings")

// fakeReadRequest reads one command.
func fakeReadRequest(in *bufio.Reader) (fakeRequest, error) {
	count, err := fakeReadLength(in, '*')
	if err != nil {
		return nil, err
	}
	r := make(fakeRequest, count)
	for i := range r {
		size, err := fakeReadLength(in, '$')
		if err != nil {
			return nil, err
		}
		text := make([]byte, size+2)
		if _, err := io.ReadFull(in, text); err != nil {
			return nil, err
		}
		r[i] = string(text[:size])
	}
	return r, nil
}

func fakeReadLength(in *bufio.Reader, mark byte) (int, error) {
	line, err := in.ReadString('\n')
	if err != nil {
		return 0, err
	}
	n, err := strconv.Atoi(strings.TrimSuffix(line[1:], "\r\n"))
	if line[0] != mark || err != nil || n < 0 || mark == '*' && n == 0 {
		return 0, fmt.Errorf("%w: %q", errFakeProtocol, line)
	}
	return n, nil
}

// Replies, encoded.

func fakeBulk(text string) string { return fmt.Sprintf("$%d\r\n%s\r\n", len(text), text) }

func fakeError(text string) string { return "-" + text + "\r\n" }

func fakeArray(items ...string) string {
	return fmt.Sprintf("*%d\r\n%s", len(items), strings.Join(items, ""))
}

const (
	fakeOK   = "+OK\r\n"
	fakeNone = "$-1\r\n"
)
