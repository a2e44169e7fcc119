package redisio_test

import (
	"context"
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/distkit/distkit-go/internal/ledger"
	"github.com/distkit/distkit-go/internal/redisio"
	"github.com/distkit/distkit-go/internal/redistest"
	"github.com/distkit/distkit-go/internal/verb"
	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"
)

// A cluster of two nodes, of which one hands the container's slot to the other.

type cluster struct {
	*fixture
	from, to     *redis.Client
	fromID, toID string
	slot         string
}

func newCluster(t *testing.T) *cluster {
	t.Helper()
	a, b := redistest.Start(t, "--cluster-enabled", "yes"), redistest.Start(t, "--cluster-enabled", "yes")
	c := &cluster{
		from: redistest.NewClient(t, &redis.Options{Addr: a.Addr}),
		to:   redistest.NewClient(t, &redis.Options{Addr: b.Addr}),
	}
	ctx := t.Context()
	host, port, err := net.SplitHostPort(b.Addr)
	require.NoError(t, err)
	require.NoError(t, c.from.ClusterAddSlotsRange(ctx, 0, 16383).Err())
	require.NoError(t, c.from.ClusterMeet(ctx, host, port).Err())
	require.Eventually(t, func() bool {
		for _, node := range []*redis.Client{c.from, c.to} {
			info, err := node.ClusterInfo(ctx).Result()
			if err != nil || !strings.Contains(info, "cluster_state:ok") || !strings.Contains(info, "cluster_known_nodes:2") {
				return false
			}
		}
		return true
	}, 20*time.Second, 10*time.Millisecond, "the nodes take a moment to meet")
	c.fromID, c.toID = c.from.Do(ctx, "cluster", "myid").Val().(string), c.to.Do(ctx, "cluster", "myid").Val().(string)
	client := redis.NewClusterClient(&redis.ClusterOptions{Addrs: []string{a.Addr, b.Addr}})
	t.Cleanup(func() { require.NoError(t, client.Close()) })
	c.fixture = fixtureOn(t, client, c.from)
	c.slot = fmt.Sprint(c.from.ClusterKeySlot(ctx, c.at.Name).Val())
	return c
}

func (c *cluster) book() *ledger.Book { return &ledger.Book{At: c.at, Lifetime: time.Hour} }

// begin begins the migration; no key has moved yet.
func (c *cluster) begin(t *testing.T) {
	t.Helper()
	require.NoError(t, c.to.Do(c.ctx, "cluster", "setslot", c.slot, "importing", c.fromID).Err())
	require.NoError(t, c.from.Do(c.ctx, "cluster", "setslot", c.slot, "migrating", c.toID).Err())
}

// end moves all keys, and ends the migration.
func (c *cluster) end(t *testing.T) {
	t.Helper()
	host, port, err := net.SplitHostPort(c.to.Options().Addr)
	require.NoError(t, err)
	keys, err := c.from.Keys(c.ctx, "*").Result()
	require.NoError(t, err)
	for _, key := range keys {
		require.NoError(t, c.from.Migrate(c.ctx, host, port, key, 0, 10*time.Second).Err())
	}
	for _, node := range []*redis.Client{c.to, c.from} {
		require.NoError(t, node.Do(c.ctx, "cluster", "setslot", c.slot, "node", c.toID).Err())
	}
}

func (c *cluster) do(t *testing.T, book *ledger.Book, ops ...verb.Keyed) *ledger.Batch {
	t.Helper()
	b := book.NewBatch(ops, nil, nil)
	require.Equal(t, ledger.Done, c.carryOut(t, b), "%v", b.Err)
	require.Nil(t, b.Loss)
	b.Release()
	return b
}

func TestMigration_eachBatchIsAppliedOnce(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	old, young := c.book(), c.book()
	require.EqualValues(t, 1, c.do(t, old, inc("a", 1)).Results[0].N)

	c.begin(t)
	b := c.do(t, old, inc("a", 1))
	require.Equal(t, redisio.Apply, b.Task, "its ledger is where the container is")
	require.EqualValues(t, 2, b.Results[0].N)
	b = c.do(t, old, inc("b", 1), op(verb.Del, "b", 0))
	require.True(t, b.Unmarked, "the mark is not there, so it is asked for at the other node")
	require.Equal(t, redisio.Apply, b.Task)
	for n := range int64(3) {
		b = c.do(t, young, inc("a", 1))
		require.Equal(t, redisio.Bare, b.Task, "its ledger was made at the other node")
		require.EqualValues(t, 3+n, b.Results[0].N)
	}

	c.end(t)
	for n := range int64(2) {
		for i, book := range []*ledger.Book{old, young} {
			b = c.do(t, book, inc("a", 1))
			require.Equal(t, redisio.Apply, b.Task)
			require.False(t, b.Unmarked)
			require.EqualValues(t, 6+2*n+int64(i), b.Results[0].N)
		}
	}
	read := c.done(t, c.call(redisio.Read, op(verb.Get, "a", 0)))
	require.Equal(t, []verb.Result{{N: 9}}, read.Results)
}

// The container has moved, the ledger has not: the batch waits.
func TestMigration_ofTheContainerBeforeTheLedger_waits(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	book := c.book()
	c.do(t, book, inc("a", 1))
	c.begin(t)
	host, port, err := net.SplitHostPort(c.to.Options().Addr)
	require.NoError(t, err)
	require.NoError(t, c.from.Migrate(c.ctx, host, port, c.at.Name, 0, 10*time.Second).Err())
	b := book.NewBatch([]verb.Keyed{inc("a", 1)}, nil, nil)
	require.Equal(t, ledger.Thaw, c.carryOut(t, b))
	require.Equal(t, redisio.Moving, b.Class)
	c.end(t)
	require.Equal(t, ledger.Done, c.carryOut(t, b), "%v", b.Err)
	require.EqualValues(t, 2, b.Results[0].N)
	require.Equal(t, "2", c.to.HGet(context.Background(), c.at.Name, "a").Val())
}
