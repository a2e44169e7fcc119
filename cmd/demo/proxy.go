package main

import (
	"context"
	"fmt"
	"io"
	"net"
	"sync"
	"time"
)

// proxy stands between the library and Redis, so that Redis can be taken away
// from the library alone, in the same way for an embedded and a real server:
// cut closes the listener and every connection, restore listens on the same
// address again.
type proxy struct {
	addr string // where the library connects; the same before and after a cut
	dial func() (net.Conn, error)

	mu       sync.Mutex
	listener net.Listener          // nil while cut
	conns    map[net.Conn]struct{} // both sides of every connection
	running  sync.WaitGroup
}

// startProxy listens on a loopback port of its own and passes connections on
// to address.
func startProxy(network, address string) (*proxy, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("start the proxy: %w", err)
	}
	p := &proxy{
		addr:  listener.Addr().String(),
		dial:  func() (net.Conn, error) { return net.Dial(network, address) },
		conns: map[net.Conn]struct{}{},
	}
	p.serve(listener)
	return p, nil
}

// cut takes Redis away: what is under way is lost, new connections are refused.
func (p *proxy) cut() {
	p.mu.Lock()
	if p.listener != nil {
		_ = p.listener.Close()
		p.listener = nil
	}
	for conn := range p.conns {
		_ = conn.Close()
	}
	p.mu.Unlock()
	p.running.Wait()
}

// restore brings Redis back. It tries for some seconds: until now anyone could
// take the port.
func (p *proxy) restore() error {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	for {
		listener, err := net.Listen("tcp", p.addr)
		if err == nil {
			p.serve(listener)
			return nil
		}
		if !pause(ctx, 20*time.Millisecond) {
			return fmt.Errorf("bring Redis back: %w", err)
		}
	}
}

func (p *proxy) serve(listener net.Listener) {
	p.mu.Lock()
	p.listener = listener
	p.mu.Unlock()
	p.running.Go(func() {
		for {
			client, err := listener.Accept()
			if err != nil {
				return // cut closed it
			}
			p.running.Go(func() { p.relay(listener, client) })
		}
	})
}

// relay passes bytes both ways until either side ends.
func (p *proxy) relay(from net.Listener, client net.Conn) {
	if !p.hold(from, client) {
		return
	}
	defer p.drop(client)
	server, err := p.dial()
	if err != nil || !p.hold(from, server) {
		return
	}
	defer p.drop(server)
	var back sync.WaitGroup
	back.Go(func() {
		_, _ = io.Copy(client, server) // ends by an error as a matter of course
		_ = client.Close()
	})
	_, _ = io.Copy(server, client)
	_ = server.Close()
	back.Wait()
}

// hold makes the connection one that cut closes; after a cut it is too late.
func (p *proxy) hold(from net.Listener, conn net.Conn) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.listener != from {
		_ = conn.Close()
		return false
	}
	p.conns[conn] = struct{}{}
	return true
}

func (p *proxy) drop(conn net.Conn) {
	_ = conn.Close()
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.conns, conn)
}
