package redistest

import (
	"io"
	"net"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"
)

// Proxy passes connections on to a Redis and can lose replies: the request
// arrives and is carried out, the reply does not come back, the connection
// closes. That is the failure that makes clients count twice.
type Proxy struct {
	Addr string

	to       string
	listener net.Listener
	swallow  atomic.Int64 // every n-th reply chunk is lost; 0: none
	replies  atomic.Int64
	lost     atomic.Int64

	mu     sync.Mutex
	conns  map[net.Conn]struct{}
	closed bool
	done   sync.WaitGroup
}

// StartProxy starts a proxy to the server at the address to; it ends with the test.
func StartProxy(t testing.TB, to string) *Proxy {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	p := &Proxy{Addr: listener.Addr().String(), to: to, listener: listener, conns: map[net.Conn]struct{}{}}
	p.done.Add(1)
	go p.accept()
	t.Cleanup(p.close)
	return p
}

// Swallow makes the proxy lose every n-th reply from now on; 0 loses none.
func (p *Proxy) Swallow(n int64) { p.swallow.Store(n) }

// Lost is how many replies were lost.
func (p *Proxy) Lost() int64 { return p.lost.Load() }

func (p *Proxy) accept() {
	defer p.done.Done()
	for {
		client, err := p.listener.Accept()
		if err != nil {
			return
		}
		server, err := net.Dial("tcp", p.to)
		if err != nil {
			_ = client.Close()
			continue
		}
		if !p.keep(client, server) {
			return
		}
		p.done.Add(2)
		go p.pass(server, client, false)
		go p.pass(client, server, true)
	}
}

func (p *Proxy) keep(conns ...net.Conn) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, conn := range conns {
		if p.closed {
			_ = conn.Close()
		}
		p.conns[conn] = struct{}{}
	}
	return !p.closed
}

// pass copies one direction until it ends, then closes both.
func (p *Proxy) pass(to, from net.Conn, replies bool) {
	defer p.done.Done()
	defer func() { _ = to.Close() }()
	defer func() { _ = from.Close() }()
	if !replies {
		_, _ = io.Copy(to, from)
		return
	}
	buffer := make([]byte, 64<<10)
	for {
		n, err := from.Read(buffer)
		if every := p.swallow.Load(); n > 0 && every > 0 && p.replies.Add(1)%every == 0 {
			p.lost.Add(1)
			return
		}
		if n > 0 {
			if _, err := to.Write(buffer[:n]); err != nil {
				return
			}
		}
		if err != nil {
			return
		}
	}
}

func (p *Proxy) close() {
	_ = p.listener.Close()
	p.mu.Lock()
	p.closed = true
	for conn := range p.conns {
		_ = conn.Close()
	}
	p.mu.Unlock()
	p.done.Wait()
}
