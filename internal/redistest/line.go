package redistest

import (
	"bytes"
	"context"
	"io"
	"net"
	"sync/atomic"
	"syscall"

	"github.com/redis/go-redis/v9"
)

// Line is the way from a client to its server, in the client's own process: it may
// be down, and lose replies.
type Line struct {
	lose    atomic.Int32
	down    atomic.Bool
	scripts atomic.Int32
}

// Lead makes a client of the options go by the line. Each connection is tried once.
func (l *Line) Lead(options redis.Options) *redis.Options {
	options.Dialer, options.DialerRetries, options.MaxRetries = l.Dial, 1, -1
	return &options
}

// Dial connects, for the options of clients of another kind.
func (l *Line) Dial(ctx context.Context, network, address string) (net.Conn, error) {
	if l.down.Load() {
		return nil, &net.OpError{Op: "dial", Net: network, Err: syscall.ECONNREFUSED}
	}
	var dialer net.Dialer
	conn, err := dialer.DialContext(ctx, network, address)
	if err != nil {
		return nil, err
	}
	return cable{conn, l}, nil
}

// Lose has the next n replies not come through; their connections break.
func (l *Line) Lose(n int) { l.lose.Store(int32(n)) }

// Down says whether no connection can be made. Those that there are stay.
func (l *Line) Down(down bool) { l.down.Store(down) }

// Scripts is how many script calls were written.
func (l *Line) Scripts() int { return int(l.scripts.Load()) }

// cable is a connection by a line.
type cable struct {
	net.Conn
	line *Line
}

func (c cable) Write(b []byte) (int, error) {
	c.line.scripts.Add(int32(bytes.Count(b, []byte("\r\neval"))))
	return c.Conn.Write(b)
}

func (c cable) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	if n > 0 && c.line.lost() {
		_ = c.Close()
		return 0, io.EOF
	}
	return n, err
}

// lost reports whether a reply is to be lost.
func (l *Line) lost() bool {
	for {
		left := l.lose.Load()
		if left <= 0 {
			return false
		}
		if l.lose.CompareAndSwap(left, left-1) {
			return true
		}
	}
}
