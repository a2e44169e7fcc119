// A fake Redis behind net.Pipe, for go-redis's Options.Dialer: all its
// goroutines and timers are those of the synctest bubble that makes it. What
// goes wrong is a plan's decision: the server asks it for the fate of each dial
// and of each request, and tells it what it does.
package faults_test

import (
	"bufio"
	"context"
	"net"
	"sync"
	"syscall"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"
)

// fakePlan decides and watches. Its methods are called one at a time.
type fakePlan interface {
	// dial says what becomes of a dial: how long it takes, how many bytes the
	// server will read of the connection before it stops reading (-1: all), and
	// whether it is refused.
	dial(addr string) (takes time.Duration, hears int, refused error)
	// arrived sees each request when its last byte has come.
	arrived(c *fakeConn, r fakeRequest) (ticket any)
	// fate says what becomes of a request whose turn it is.
	fate(c *fakeConn, r fakeRequest, ticket any) fakeFate
	// executed sees a request's true reply.
	executed(r fakeRequest, ticket any, reply string)
	// answering sees a reply that is about to be written whole, and failed
	// that it could not be.
	answering(r fakeRequest, ticket any, reply string)
	failed(r fakeRequest, ticket any)
}

// fakeFate is what becomes of a request, in this order; the zero fate is that
// which a good server gives it.
type fakeFate struct {
	name     string        // for the trace, "" for the good fate
	hangUp   bool          // the connection closes at once; what follows happens without it
	before   time.Duration // it waits so long to be executed, whether its client waits or not
	never    bool          // it is not executed
	instead  string        // this is the reply, encoded, whatever the true one is
	after    time.Duration // the reply waits so long
	mute     bool          // no reply; the connection stays open until the client closes it
	cut      bool          // the connection closes when part of the reply is out
	part     float64       // how much of it, from 0 to 1
	finishes bool          // once its connection is gone, the server executes what else had come over it
}

// fakeServer is the server, of one node or of several that share their data.
type fakeServer struct {
	plan  fakePlan
	nodes []string // host:port, the host an IP address: go-redis would look a name up

	mu    sync.Mutex
	data  *fakeData
	conns map[*fakeConn]struct{}
}

func newFakeServer(plan fakePlan, nodes ...string) *fakeServer {
	return &fakeServer{plan: plan, nodes: nodes, data: newFakeData(), conns: map[*fakeConn]struct{}{}}
}

// fakeConn is a connection, as the server has it.
type fakeConn struct {
	addr     string // the node's
	server   *fakeServer
	conn     net.Conn
	requests chan fakeTicket
	hears    int           // bytes that it will still read; -1: all
	gone     chan struct{} // closed when either side has closed it
	leave    sync.Once
}

type fakeTicket struct {
	request fakeRequest
	ticket  any
}

// fakeClientConn is the client's end: the server learns at once of its Close.
type fakeClientConn struct {
	net.Conn
	at *fakeConn
}

func (c fakeClientConn) Close() error {
	c.at.leave.Do(func() { close(c.at.gone) })
	return c.Conn.Close()
}

// Dial is the clients' dialer.
func (s *fakeServer) Dial(ctx context.Context, _, addr string) (net.Conn, error) {
	s.mu.Lock()
	takes, hears, refused := s.plan.dial(addr)
	s.mu.Unlock()
	if takes > 0 {
		select {
		case <-time.After(takes):
		case <-ctx.Done():
			refused = ctx.Err()
		}
	}
	if refused != nil {
		return nil, &net.OpError{Op: "dial", Net: "tcp", Err: refused}
	}
	client, server := net.Pipe()
	c := &fakeConn{
		addr: addr, server: s, conn: server, hears: hears,
		requests: make(chan fakeTicket, 1024), gone: make(chan struct{}),
	}
	s.mu.Lock()
	s.conns[c] = struct{}{}
	s.mu.Unlock()
	go c.read()
	go c.serve()
	return fakeClientConn{client, c}, nil
}

// clientOptions are options for a client of the server. What they turn off
// would only add requests to each connection's beginning.
func (s *fakeServer) clientOptions(timeout time.Duration) *redis.Options {
	return &redis.Options{
		Addr: s.nodes[0], Dialer: s.Dial, Protocol: 2, DisableIdentity: true,
		MaintNotificationsConfig: &maintnotifications.Config{Mode: maintnotifications.ModeDisabled},
		DialTimeout:              time.Second, ReadTimeout: timeout, WriteTimeout: timeout,
		ReadBufferSize: 4096, WriteBufferSize: 4096,
	}
}

// clusterOptions are the same for a cluster client.
func (s *fakeServer) clusterOptions(timeout time.Duration) *redis.ClusterOptions {
	o := s.clientOptions(timeout)
	return &redis.ClusterOptions{
		Addrs: []string{s.nodes[0]}, Dialer: o.Dialer, Protocol: o.Protocol, DisableIdentity: o.DisableIdentity,
		MaintNotificationsConfig: o.MaintNotificationsConfig,
		DialTimeout:              o.DialTimeout, ReadTimeout: o.ReadTimeout, WriteTimeout: o.WriteTimeout,
		ReadBufferSize: o.ReadBufferSize, WriteBufferSize: o.WriteBufferSize,
	}
}

// errFakeRefused is what a dial to a server that is down gets.
var errFakeRefused error = syscall.ECONNREFUSED

// hangUpAll closes every connection, as a crash does.
func (s *fakeServer) hangUpAll() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for c := range s.conns {
		c.close()
	}
}

func (c *fakeConn) close() {
	c.leave.Do(func() { close(c.gone) })
	_ = c.conn.Close()
}

// slots is the reply to CLUSTER SLOTS: the first node has them all.
func (s *fakeServer) slots() string {
	host, port, _ := net.SplitHostPort(s.nodes[0])
	return fakeArray(fakeArray(":0\r\n", ":16383\r\n", fakeArray(fakeBulk(host), ":"+port+"\r\n", fakeBulk("id"))))
}

// Read makes a fakeConn the reader that its requests are read from. A client
// that writes to a deaf server waits until its own timeout.
func (c *fakeConn) Read(b []byte) (int, error) {
	if c.hears == 0 {
		<-c.gone
		return 0, net.ErrClosed
	}
	if c.hears > 0 {
		b = b[:min(len(b), c.hears)]
	}
	n, err := c.conn.Read(b)
	if c.hears > 0 {
		c.hears -= n
	}
	return n, err
}

// read takes requests off the pipe as soon as they come: a client writes a
// pipeline to its end before it reads the first reply.
func (c *fakeConn) read() {
	defer close(c.requests)
	in := bufio.NewReader(c)
	for {
		r, err := fakeReadRequest(in)
		if err != nil {
			return
		}
		c.server.mu.Lock()
		ticket := c.server.plan.arrived(c, r)
		c.server.mu.Unlock()
		c.requests <- fakeTicket{r, ticket}
	}
}

// serve handles a connection's requests in their order.
func (c *fakeConn) serve() {
	for t := range c.requests {
		c.server.mu.Lock()
		fate := c.server.plan.fate(c, t.request, t.ticket)
		c.server.mu.Unlock()
		if !c.handle(t, fate) {
			c.close()
			if fate.finishes {
				for t := range c.requests {
					c.execute(t)
				}
			}
			break
		}
	}
	c.close()
	c.server.mu.Lock()
	delete(c.server.conns, c)
	c.server.mu.Unlock()
}

// handle gives a request its fate; false if the connection has ended with it.
func (c *fakeConn) handle(t fakeTicket, f fakeFate) bool {
	if f.hangUp {
		c.close()
	}
	time.Sleep(f.before)
	reply := f.instead
	if !f.never {
		if real := c.execute(t); reply == "" {
			reply = real
		}
	}
	time.Sleep(f.after)
	switch {
	case f.hangUp:
		return false
	case f.mute:
		<-c.gone
		return false
	case f.cut:
		_, _ = c.conn.Write([]byte(reply[:int(f.part*float64(len(reply)))]))
		return false
	}
	c.server.mu.Lock()
	c.server.plan.answering(t.request, t.ticket, reply)
	c.server.mu.Unlock()
	if _, err := c.conn.Write([]byte(reply)); err != nil {
		c.server.mu.Lock()
		c.server.plan.failed(t.request, t.ticket)
		c.server.mu.Unlock()
		return false
	}
	return true
}

func (c *fakeConn) execute(t fakeTicket) string {
	c.server.mu.Lock()
	defer c.server.mu.Unlock()
	var reply string
	if t.request.name() == "cluster" {
		reply = c.server.slots()
	} else {
		reply = c.server.data.do(t.request)
	}
	c.server.plan.executed(t.request, t.ticket, reply)
	return reply
}
