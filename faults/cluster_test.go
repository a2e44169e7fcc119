package faults_test

import (
	"context"
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/distkit/distkit-go"
	"github.com/distkit/distkit-go/internal/redistest"
	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"
)

// clusterNodes are the masters of a cluster of 3 + 3 nodes, each before its replica.
type clusterNodes struct {
	servers [6]*redistest.Server
	clients [6]*redis.Client
}

// startCluster starts a cluster of three masters, each with a replica, and waits until
// it is whole.
func startCluster(t *testing.T) *clusterNodes {
	t.Helper()
	c := &clusterNodes{}
	ctx, cancel := context.WithTimeout(t.Context(), serverPatience)
	defer cancel()
	for i := range c.servers {
		c.servers[i] = redistest.Start(t, "--cluster-enabled", "yes", "--cluster-node-timeout", "1000", "--repl-diskless-sync-delay", "0")
		c.clients[i] = serverAdmin(t, c.servers[i].Addr)
		// Else all have the same epoch, and sort that out for a while.
		require.NoError(t, c.clients[i].Do(ctx, "cluster", "set-config-epoch", i+1).Err())
	}
	host, port, err := net.SplitHostPort(c.servers[0].Addr)
	require.NoError(t, err)
	for _, node := range c.clients[1:] {
		require.NoError(t, node.ClusterMeet(ctx, host, port).Err())
	}
	for i, from := range []int{0, 5461, 10923} {
		require.NoError(t, c.clients[2*i].ClusterAddSlotsRange(ctx, from, []int{5460, 10922, 16383}[i]).Err())
	}
	everywhere(t, c.clients[:], func(node *redis.Client) bool {
		return strings.Contains(node.ClusterInfo(ctx).Val(), "cluster_known_nodes:6")
	})
	for i := range 3 {
		id := c.clients[2*i].Do(ctx, "cluster", "myid").Val().(string)
		require.NoError(t, c.clients[2*i+1].ClusterReplicate(ctx, id).Err())
	}
	everywhere(t, c.clients[:], func(node *redis.Client) bool {
		return strings.Contains(node.ClusterInfo(ctx).Val(), "cluster_state:ok") &&
			strings.Count(node.ClusterNodes(ctx).Val(), "slave") == 3
	})
	for i := range 3 {
		everywhere(t, c.clients[2*i+1:2*i+2], func(node *redis.Client) bool {
			return strings.Contains(node.Info(ctx, "replication").Val(), "master_link_status:up")
		})
	}
	return c
}

// everywhere waits until all nodes are so.
func everywhere(t *testing.T, nodes []*redis.Client, are func(*redis.Client) bool) {
	t.Helper()
	require.Eventually(t, func() bool {
		for _, node := range nodes {
			if !are(node) {
				return false
			}
		}
		return true
	}, serverPatience, 20*time.Millisecond)
}

// client returns a cluster client of the library's user.
func (c *clusterNodes) client(t *testing.T) *redis.ClusterClient {
	t.Helper()
	client := redis.NewClusterClient(&redis.ClusterOptions{
		Addrs: []string{c.servers[0].Addr, c.servers[2].Addr, c.servers[4].Addr}, DialTimeout: time.Second, ReadTimeout: time.Second,
	})
	t.Cleanup(func() { _ = client.Close() })
	return client
}

// masterOf is the index of the master that has a key.
func (c *clusterNodes) masterOf(ctx context.Context, key string) int {
	switch slot := c.clients[0].ClusterKeySlot(ctx, key).Val(); {
	case slot <= 5460:
		return 0
	case slot <= 10922:
		return 2
	default:
		return 4
	}
}

// replicated waits until a master's replica has all that the master has by now. WAIT is of
// the last write of its own connection, so there is one.
func (c *clusterNodes) replicated(ctx context.Context, t *testing.T, master int) {
	t.Helper()
	key, n := "written", 0
	for c.masterOf(ctx, key) != master {
		n++
		key = fmt.Sprint("written", n)
	}
	pipe := c.clients[master].Pipeline() // one connection
	pipe.Set(ctx, key, 1, 0)
	replicas := pipe.Do(ctx, "wait", 1, 10_000)
	_, err := pipe.Exec(ctx)
	require.NoError(t, err)
	require.EqualValues(t, 1, replicas.Val())
}

// A master that dies and stays dead is followed by its replica within seconds, though
// go-redis by itself looks for it for up to a minute.
func TestCluster_deadMasterStaysDead(t *testing.T) {
	t.Parallel()
	c := startCluster(t)
	client := c.client(t)
	system, _ := serverSystem(t, client, "{dead}")
	ctx, cancel := context.WithTimeout(t.Context(), serverPatience)
	defer cancel()
	key := distkit.MustKey("k")
	counters := []distkit.Counter{system.Strict(), system.Lax()}
	for range 100 {
		for _, counter := range counters {
			_, err := counter.Inc(ctx, key, 1)
			require.NoError(t, err)
		}
	}
	require.NoError(t, system.Flush(ctx))
	at := c.masterOf(ctx, "{dead}:strict_counter")
	c.replicated(ctx, t, at)
	c.servers[at].Kill(t)

	short, stop := context.WithTimeout(ctx, 15*time.Second)
	defer stop()
	_, err := system.Strict().Inc(short, key, 1)
	require.NoError(t, err, "the dead master is asked for ever")
	n, err := system.Lax().Inc(ctx, key, 1)
	require.NoError(t, err)
	require.EqualValues(t, 101, n)
	require.NoError(t, system.Flush(ctx))
	for _, counter := range counters {
		n, err := counter.Get(ctx, key)
		require.NoError(t, err)
		require.EqualValues(t, 101, n)
	}
	require.NoError(t, system.Shutdown(ctx))
}
