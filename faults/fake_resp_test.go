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

// fakeBatch is a call of the batch script, as it came.
type fakeBatch struct {
	container, ledger string
	seq               int64
	ttl               string
	ops               []string // the operations' codes and arguments; none if every caller had left
	told              int      // how many increments answer a value; -1 where every operation does
}

// batch reads a call of the batch script; false if the request is none.
func (r fakeRequest) batch() (fakeBatch, bool) {
	if name := r.name(); name != "evalsha" && name != "eval" || len(r) < 7 {
		return fakeBatch{}, false
	}
	seq, err := strconv.ParseInt(r[5], 10, 64)
	b := fakeBatch{r[3], r[4], seq, r[6], r[7:], -1}
	if len(b.ops) > 1 && b.ops[0] == "+" && err == nil {
		b.told, err = strconv.Atoi(b.ops[1])
		b.ops = fakePairs(b.ops[2:])
	}
	return b, err == nil
}

// fakePairs writes the fields and numbers of increments in the long form.
func fakePairs(pairs []string) []string {
	var long []string
	for at := 0; at < len(pairs); at += 2 {
		long = append(long, "i", pairs[at], pairs[at+1])
	}
	return long
}

// content is what a batch does, to compare batches by.
func (b fakeBatch) content() string { return strings.Join(b.ops, " ") }

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
