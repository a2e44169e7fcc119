// Package line is the way from a client to its server, in the client's own process: a
// dialer whose connections may be refused, break, and lose replies. A reply that is lost
// is of a request that was carried out; its connection breaks. That is the failure that
// makes clients count twice. It is for tests, and for programs that show outages.
package line

import (
	"bytes"
	"context"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"syscall"

	"github.com/redis/go-redis/v9"
)

// Line is such a way. Its zero value is up and loses nothing. It is safe for concurrent
// use.
type Line struct {
	scripts atomic.Int64

	mu     sync.Mutex
	down   bool
	cables map[*cable]struct{}
	any    int   // replies to lose, whatever they are of
	batch  int   // replies to lose, of script calls that were carried out
	every  int64 // the reply to every so manyth script call is lost; 0: to none
	passed int64 // script calls since every was set
	lost   int64
}

// Lead makes a client of the options go by the line. Each connection is tried once.
func (l *Line) Lead(options redis.Options) *redis.Options {
	dial := options.Dialer
	if dial == nil {
		to := options
		dial = redis.NewDialer(&to)
	}
	options.DialerRetries, options.MaxRetries = 1, -1
	options.Dialer = func(ctx context.Context, network, address string) (net.Conn, error) {
		return l.dial(ctx, network, address, dial)
	}
	return &options
}

// Dial connects, for the options of clients of another kind.
func (l *Line) Dial(ctx context.Context, network, address string) (net.Conn, error) {
	return l.dial(ctx, network, address, new(net.Dialer).DialContext)
}

// dial connects, unless the line is down.
func (l *Line) dial(ctx context.Context, network, address string, by redis.DialHook) (net.Conn, error) {
	refused := &net.OpError{Op: "dial", Net: network, Err: syscall.ECONNREFUSED}
	if l.isDown() {
		return nil, refused
	}
	conn, err := by(ctx, network, address)
	if err != nil {
		return nil, err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.down { // meanwhile
		_ = conn.Close()
		return nil, refused
	}
	if l.cables == nil {
		l.cables = map[*cable]struct{}{}
	}
	c := &cable{Conn: conn, line: l}
	l.cables[c] = struct{}{}
	return c, nil
}

func (l *Line) isDown() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.down
}

// Down says whether no connection can be made. Those that there are stay.
func (l *Line) Down(down bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.down = down
}

// Cut breaks all connections, and lets none be made until Down(false).
func (l *Line) Cut() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.down = true
	for c := range l.cables {
		_ = c.Conn.Close()
	}
	clear(l.cables)
}

// Lose has the next n replies not come through, whatever they are of.
func (l *Line) Lose(n int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.any = n
}

// LoseBatches has n more replies not come through, of script calls that were carried out:
// not of one that opened a ledger, or failed.
func (l *Line) LoseBatches(n int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.batch += n
}

// LoseEvery has the reply to every n-th script call from now on not come through; 0 loses
// none.
func (l *Line) LoseEvery(n int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.every, l.passed = n, 0
}

// Lost is how many replies were lost.
func (l *Line) Lost() int64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.lost
}

// Scripts is how many script calls were written.
func (l *Line) Scripts() int64 { return l.scripts.Load() }

// written counts script calls that are being written, and says whether the reply to the
// last is to be lost.
func (l *Line) written(scripts int64) (lose bool) {
	l.scripts.Add(scripts)
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.every == 0 || scripts == 0 {
		return false
	}
	l.passed++ // those of a pipeline break together
	return l.passed%l.every == 0
}

// loses reports whether a reply is to be lost, and counts it.
func (l *Line) loses(batch bool) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case l.any > 0:
		l.any--
	case batch && l.batch > 0:
		l.batch--
	default:
		return false
	}
	l.lost++
	return true
}

// cable is a connection by a line.
type cable struct {
	net.Conn
	line   *Line
	script atomic.Bool // a script call was written whose reply has not been read
	lose   atomic.Bool // that reply is to be lost
}

func (c *cable) Write(b []byte) (int, error) {
	if scripts := int64(bytes.Count(b, []byte("\r\neval"))); scripts > 0 {
		c.script.Store(true)
		c.lose.Store(c.line.written(scripts))
	}
	return c.Conn.Write(b)
}

func (c *cable) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	if n > 0 && c.loses(b[:n]) {
		_ = c.Close()
		return 0, io.EOF
	}
	return n, err
}

func (c *cable) loses(reply []byte) bool {
	script := c.script.Swap(false)
	if c.lose.Swap(false) {
		c.line.mu.Lock()
		defer c.line.mu.Unlock()
		c.line.lost++
		return true
	}
	return c.line.loses(script && applied(reply))
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
