package faults_test

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"strconv"
)

// As much of Redis's protocol as a proxy needs to tell one request from the
// next and a whole reply from half of one. Nothing is decoded; the bytes go on
// as they came.

// burst is what a client has sent in one go: a command, or a pipeline of some.
type burst struct {
	bytes    []byte
	commands int
	scripts  int  // calls of the batch script
	openings int  // those of them that open a lane
	reads    int  // HMGETs
	greeting bool // part of the handshake of a new connection
}

// worthy reports whether the burst carries something to lose.
func (b *burst) worthy() bool { return b.scripts+b.reads > 0 }

// readBurst reads a command, and those that have arrived behind it. After an
// error the burst holds the bytes that came.
func readBurst(in *bufio.Reader) (*burst, error) {
	b := &burst{}
	for {
		start := len(b.bytes)
		var err error
		if b.bytes, err = readValue(in, b.bytes); err != nil {
			return b, err
		}
		b.commands++
		switch name := commandName(b.bytes[start:]); string(name) {
		case "eval", "evalsha":
			b.scripts++
			if bytes.Contains(b.bytes[start:], []byte("\r\nopen\r\n")) {
				b.openings++
			}
		case "hmget", "hscan":
			b.reads++
		case "hello", "client":
			b.greeting = true
		}
		if in.Buffered() == 0 {
			return b, nil
		}
	}
}

// readReplies reads n replies.
func readReplies(in *bufio.Reader, n int) (replies []byte, err error) {
	for range n {
		if replies, err = readValue(in, replies); err != nil {
			return replies, err
		}
	}
	return replies, nil
}

// commandName is the first word of a command, in lower case.
func commandName(command []byte) []byte {
	parts := bytes.SplitN(command, []byte("\r\n"), 4)
	if len(parts) < 4 {
		return nil
	}
	return bytes.ToLower(parts[2])
}

var errProtocol = errors.New("not the protocol of Redis")

// readValue appends one value, with all that it contains, to buf.
func readValue(in *bufio.Reader, buf []byte) ([]byte, error) {
	for open := 1; open > 0; open-- {
		line, err := in.ReadBytes('\n')
		buf = append(buf, line...)
		if err != nil {
			return buf, err
		}
		if len(line) < 3 {
			return buf, errProtocol
		}
		kind := line[0]
		switch kind {
		case '$', '=', '!', '*', '~', '>', '%':
		default: // a line is all there is to it
			continue
		}
		size, err := strconv.Atoi(string(line[1 : len(line)-2]))
		switch {
		case err != nil:
			return buf, errProtocol
		case size < 0: // nil
		case kind == '$' || kind == '=' || kind == '!':
			at := len(buf)
			buf = append(buf, make([]byte, size+2)...)
			n, err := io.ReadFull(in, buf[at:])
			if err != nil {
				return buf[:at+n], err
			}
		case kind == '%':
			open += 2 * size
		default:
			open += size
		}
	}
	return buf, nil
}
