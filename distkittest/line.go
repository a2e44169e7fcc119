package distkittest

import (
	"bytes"
	"context"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"syscall"
)

// line is the way from the client to the server. It may be cut, and lose replies.
type line struct {
	to string

	mu     sync.Mutex
	down   bool
	cables map[*cable]struct{}
	toLose int
	losses int
}

func newLine(to string) *line { return &line{to: to, cables: map[*cable]struct{}{}} }

// dial connects, unless the line is cut.
func (l *line) dial(ctx context.Context, network, _ string) (net.Conn, error) {
	refused := &net.OpError{Op: "dial", Net: network, Err: syscall.ECONNREFUSED}
	if l.isDown() {
		return nil, refused
	}
	var dialer net.Dialer
	conn, err := dialer.DialContext(ctx, network, l.to)
	if err != nil {
		return nil, err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.down { // it was cut meanwhile
		_ = conn.Close()
		return nil, refused
	}
	c := &cable{Conn: conn, line: l}
	l.cables[c] = struct{}{}
	return c, nil
}

func (l *line) isDown() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.down
}

// cut breaks all connections and lets none be made, or lets them be made again.
func (l *line) cut(down bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.down = down
	if !down {
		return
	}
	for c := range l.cables {
		_ = c.Conn.Close()
	}
	clear(l.cables)
}

func (l *line) lose() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.toLose++
}

func (l *line) lost() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.losses
}

// loses reports whether a reply is to be lost, and counts it.
func (l *line) loses() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.toLose == 0 {
		return false
	}
	l.toLose--
	l.losses++
	return true
}

// cable is a connection by a line.
type cable struct {
	net.Conn
	line   *line
	script atomic.Bool // a script call was written whose reply has not been read
}

func (c *cable) Write(b []byte) (int, error) {
	if bytes.Contains(b, []byte("\r\neval")) {
		c.script.Store(true)
	}
	return c.Conn.Write(b)
}

func (c *cable) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	if n > 0 && c.script.Swap(false) && applied(b[:n]) && c.line.loses() {
		_ = c.Close()
		return 0, io.EOF
	}
	return n, err
}

// applied reports whether a script's reply is that to a batch which was carried out, and
// not to the opening of a ledger, or an error.
func applied(reply []byte) bool {
	return !bytes.HasPrefix(reply, []byte("-")) && !bytes.HasPrefix(reply, []byte("$1\r\nO\r\n"))
}

func (c *cable) Close() error {
	c.line.mu.Lock()
	delete(c.line.cables, c)
	c.line.mu.Unlock()
	return c.Conn.Close()
}
