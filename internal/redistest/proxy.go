package redistest

import (
	"bytes"
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
	swallow  atomic.Int64 // the reply to every n-th script call is lost; 0: none
	calls    atomic.Int64
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

// Swallow makes the proxy lose the reply to every n-th script call from now on;
// 0 loses none.
func (p *Proxy) Swallow(n int64) { p.swallow.Store(n) }

// Lost is how many replies were lost.
func (p *Proxy) Lost() int64 { return p.lost.Load() }

// Calls is how many script calls have passed since Swallow was first set.
func (p *Proxy) Calls() int64 { return p.calls.Load() }

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
		lose := new(atomic.Bool)
		go p.pass(server, client, func(request []byte) bool {
			if every := p.swallow.Load(); every > 0 && bytes.Contains(request, []byte("\r\neval")) {
				lose.Store(p.calls.Add(1)%every == 0)
			}
			return true
		})
		go p.pass(client, server, func([]byte) bool {
			if !lose.Load() {
				return true
			}
			p.lost.Add(1)
			return false
		})
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

// pass copies one direction until it ends or see refuses a chunk, then closes both.
func (p *Proxy) pass(to, from net.Conn, see func([]byte) bool) {
	defer p.done.Done()
	defer func() { _ = to.Close() }()
	defer func() { _ = from.Close() }()
	buffer := make([]byte, 64<<10)
	for {
		n, err := from.Read(buffer)
		if n > 0 {
			if !see(buffer[:n]) {
				return
			}
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
