package redisio

import (
	"bytes"
	"context"
	"math/rand/v2"
	"net"
	"runtime"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
	"weak"

	"github.com/redis/go-redis/v9"
)

// A caller may send its batch itself if what it waits for on the socket can be ended when
// its context ends. go-redis does not do that, so a dial hook wraps the connections of a
// client: a read is ended by a deadline in the past, after which go-redis throws the
// connection away. Which connection a call is on shows when it is written: the call's own
// text goes by.
//
// It takes a connection that is at rest, since nobody can end the handshake of a new one,
// and connections that were all made after the hook was added, and can be ended. Where a
// call's was not seen, no other is sent so.

// Interrupter is a Sender whose attempts can be ended.
type Interrupter interface {
	Sender
	// Interrupts reports whether an attempt at the call would be ended by its context.
	Interrupts(call *Call) bool
	// SendWithin is Send of one call, on the caller's goroutine, that ends when ctx does.
	SendWithin(ctx context.Context, call *Call)
}

// lines are the connections of a client.
type lines struct {
	armed atomic.Pointer[passage] // the first of those that are about to be written, or nil
	mu    sync.Mutex              // held while armed is changed
	blind atomic.Bool             // a call was written to a connection that is none of these
	open  atomic.Int64            // how many there are
}

// passage is one call's way over a connection.
type passage struct {
	of   *lines
	text []byte   // which is in what is written, and in nothing else; nil: it never was
	mark string   // of a read: a field of its own, which is read too
	next *passage // of those armed

	mu    sync.Mutex
	on    *line // nil: not yet
	ended bool
}

// linesBy are those of each client, which may be shared by many Systems.
var linesBy sync.Map // weak.Pointer[redis.Client] to *lines

// linesOf are the lines of a client; nil if it has connections already.
func linesOf(c *redis.Client) *lines {
	key := weak.Make(c)
	if known, ok := linesBy.Load(key); ok {
		return known.(*lines)
	}
	l := &lines{}
	if c.PoolStats().TotalConns > 0 {
		return nil
	}
	if known, loaded := linesBy.LoadOrStore(key, l); loaded {
		return known.(*lines)
	}
	runtime.AddCleanup(c, func(key weak.Pointer[redis.Client]) { linesBy.Delete(key) }, key)
	c.AddHook(lineHook{l})
	return l
}

// lineHook wraps connections.
type lineHook struct{ *lines }

// DialHook implements redis.Hook.
func (h lineHook) DialHook(next redis.DialHook) redis.DialHook {
	return func(ctx context.Context, network, addr string) (net.Conn, error) {
		conn, err := next(ctx, network, addr)
		if err != nil {
			return nil, err
		}
		if conn.SetReadDeadline(time.Time{}) != nil {
			return conn, nil // nobody can end its reads, as through an SSH tunnel
		}
		h.open.Add(1)
		l := &line{Conn: conn, of: h.lines}
		if socket, ok := conn.(syscall.Conn); ok {
			return socketLine{l, socket}, nil
		}
		return l, nil
	}
}

// socketLine is a line over a socket, where go-redis looks whether it is still connected.
type socketLine struct {
	*line
	syscall.Conn
}

// ProcessHook implements redis.Hook.
func (lineHook) ProcessHook(next redis.ProcessHook) redis.ProcessHook { return next }

// ProcessPipelineHook implements redis.Hook.
func (lineHook) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return next
}

// line is a connection, on which the wait for the call last written can be ended.
type line struct {
	net.Conn
	of   *lines
	gone atomic.Bool // it has been closed

	mu   sync.Mutex
	call *passage // last written, if it may be ended
	cut  bool     // it has been
}

// NetConn has go-redis see through to the connection.
func (l *line) NetConn() net.Conn { return l.Conn }

// Close implements net.Conn.
func (l *line) Close() error {
	if !l.gone.Swap(true) {
		l.of.open.Add(-1)
	}
	return l.Conn.Close()
}

// Write implements net.Conn.
func (l *line) Write(b []byte) (int, error) {
	p := l.of.passing(b)
	l.mu.Lock()
	if l.cut { // and yet its answer had come
		_ = l.Conn.SetReadDeadline(time.Time{}) // go-redis may be told to set none
	}
	l.call, l.cut = p, false
	l.mu.Unlock()
	if p != nil {
		p.goes(l)
	}
	return l.Conn.Write(b)
}

var past = time.Unix(1, 0)

// interrupt ends the wait for a call, if it is the last that was written.
func (l *line) interrupt(p *passage) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.call == p {
		l.cut = true
		_ = l.Conn.SetReadDeadline(past)
	}
}

// SetReadDeadline implements net.Conn.
func (l *line) SetReadDeadline(t time.Time) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.cut {
		t = past
	}
	return l.Conn.SetReadDeadline(t)
}

// SetDeadline implements net.Conn.
func (l *line) SetDeadline(t time.Time) error {
	if err := l.Conn.SetWriteDeadline(t); err != nil {
		return err
	}
	return l.SetReadDeadline(t)
}

// textWithin is how far into what is written a call's text has to be found.
const textWithin = 1024

// arm notes that a call is about to be written.
func (l *lines) arm(p *passage) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.disarm(p) // a hook may send it again
	p.next = l.armed.Load()
	l.armed.Store(p)
}

// passing is the call that is in what is about to be written; nil if there is none.
func (l *lines) passing(b []byte) *passage {
	if l.armed.Load() == nil {
		return nil
	}
	b = b[:min(len(b), textWithin)]
	l.mu.Lock()
	defer l.mu.Unlock()
	for p := l.armed.Load(); p != nil; p = p.next {
		if bytes.Contains(b, p.text) {
			l.disarm(p)
			return p
		}
	}
	return nil
}

// disarm takes out a passage; mu is held.
func (l *lines) disarm(p *passage) {
	first := l.armed.Load()
	if first == p {
		l.armed.Store(p.next)
		return
	}
	for ; first != nil; first = first.next {
		if first.next == p {
			first.next = p.next
			return
		}
	}
}

func (p *passage) goes(on *line) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.on = on
	if p.ended {
		on.interrupt(p)
	}
}

// end ends the wait for the call.
func (p *passage) end() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.ended = true
	if p.on != nil {
		p.on.interrupt(p)
	}
}

// Interrupts implements Interrupter.
func (c *client) Interrupts(call *Call) bool {
	if c.lines == nil || c.lines.blind.Load() || c.toFind.Load() || c.layout != nil && !c.layout.lets(kept) {
		return false
	}
	if call.Task != Apply && call.Task != Open && call.Task != Read || call.Text || call.Replicas.N > 0 || len(call.At.Name) >= textWithin/4 {
		return false
	}
	pool := c.UniversalClient.PoolStats()
	return pool.IdleConns > 0 && int64(pool.TotalConns) <= c.lines.open.Load()
}

// SendWithin implements Interrupter.
func (c *client) SendWithin(ctx context.Context, call *Call) {
	p := &passage{of: c.lines}
	if call.Task == Read {
		p.mark = strconv.FormatUint(rand.Uint64(), 10)
	}
	call.passage = p
	stop := context.AfterFunc(ctx, p.end)
	defer func() { // also where a hook ends the goroutine: the call may be sent again
		stop()
		call.passage = nil
		p.over()
	}()
	c.Send(ctx, []*Call{call})
}

// leaves notes that the call is about to be written.
func (p *passage) leaves(c *Call) {
	switch c.Task {
	case Apply:
		p.text = strconv.AppendUint(nil, c.Nonce, 10)
	case Open:
		p.text = []byte(c.At.Ledger(c.Writer))
	case Read:
		p.text = []byte(p.mark)
	case Bare, Fence, Scan, Recall, Retire:
		return // they are not sent so
	}
	p.of.arm(p)
}

// over ends the passage. A call that was written and not seen has gone by a connection
// that is not wrapped.
func (p *passage) over() {
	if p.text == nil {
		return
	}
	p.of.mu.Lock()
	p.of.disarm(p)
	p.of.mu.Unlock()
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.on == nil {
		p.of.blind.Store(true)
	}
}
