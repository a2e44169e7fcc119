// Two Redis servers of which one copies the other, and a client that can be
// switched between them, as a failover does it.
package faults_test

import (
	"context"
	"errors"
	"net"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/distkit/distkit-go/internal/redistest"
	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"
)

// serverSwitch dials whichever server is the master now.
type serverSwitch struct {
	mu    sync.Mutex
	addr  string
	conns []net.Conn // to addr
}

// dial is the client's Dialer; the address that the client knows means nothing.
func (s *serverSwitch) dial(ctx context.Context, network, _ string) (net.Conn, error) {
	s.mu.Lock()
	addr := s.addr
	s.mu.Unlock()
	conn, err := (&net.Dialer{Timeout: time.Second}).DialContext(ctx, network, addr)
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.addr != addr {
		_ = conn.Close()
		return nil, errors.New("switched while dialing")
	}
	s.conns = append(s.conns, conn)
	return conn, nil
}

// to switches to another master; with cut, connections to the old one close.
func (s *serverSwitch) to(addr string, cut bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.addr = addr
	for _, conn := range s.conns {
		if cut {
			_ = conn.Close()
		}
	}
	s.conns = nil
}

// serverPair is a master and its replica.
type serverPair struct {
	t               testing.TB
	ctx             context.Context
	master, replica *serverNode
}

// serverNode is one of them.
type serverNode struct {
	*redistest.Server
	admin *redis.Client
}

func startServerPair(ctx context.Context, t testing.TB) *serverPair {
	t.Helper()
	start := func() *serverNode {
		server := redistest.Start(t, "--repl-diskless-sync", "yes", "--repl-diskless-sync-delay", "0")
		return &serverNode{server, serverAdmin(t, server.Addr)}
	}
	return &serverPair{t: t, ctx: ctx, master: start(), replica: start()}
}

// join makes the replica one, and waits until it follows.
func (p *serverPair) join() {
	p.t.Helper()
	host, port, err := net.SplitHostPort(p.master.Addr)
	require.NoError(p.t, err)
	require.NoError(p.t, p.replica.admin.Do(p.ctx, "REPLICAOF", host, port).Err())
	p.eventually(func() bool { return p.replica.replication("master_link_status") == "up" })
}

// caughtUp waits until the replica has what the master has now.
func (p *serverPair) caughtUp() {
	p.t.Helper()
	offset, err := strconv.ParseInt(p.master.replication("master_repl_offset"), 10, 64)
	require.NoError(p.t, err)
	p.eventually(func() bool {
		got, err := strconv.ParseInt(p.replica.replication("slave_repl_offset"), 10, 64)
		return err == nil && got >= offset
	})
}

// part promotes the replica, which from then on misses what the master takes.
func (p *serverPair) part() {
	p.t.Helper()
	require.NoError(p.t, p.replica.admin.Do(p.ctx, "REPLICAOF", "NO", "ONE").Err())
}

// swap makes the promoted replica the master of the next case.
func (p *serverPair) swap() { p.master, p.replica = p.replica, p.master }

func (p *serverPair) eventually(is func() bool) {
	p.t.Helper()
	require.Eventually(p.t, is, serverPatience, time.Millisecond)
}

// replication is one field of INFO replication, "" if it cannot be had.
func (n *serverNode) replication(field string) string {
	info, _ := n.admin.Info(context.Background(), "replication").Result()
	_, rest, _ := strings.Cut(info, "\r\n"+field+":")
	value, _, _ := strings.Cut(rest, "\r\n")
	return value
}

// ledgers are the numbers at which the ledgers of a container stand.
func (n *serverNode) ledgers(t testing.TB, container string) []int64 {
	t.Helper()
	ctx := context.Background()
	prefix := container[:strings.LastIndexByte(container, ':')]
	names, err := n.admin.Keys(ctx, prefix+":writer:{"+container+"}:*").Result()
	require.NoError(t, err)
	at := make([]int64, len(names))
	for i, name := range names {
		text, err := n.admin.Get(ctx, name).Result()
		require.NoError(t, err)
		text, _, _ = strings.Cut(text, " ")
		at[i], err = strconv.ParseInt(text, 10, 64)
		require.NoError(t, err)
	}
	return at
}
