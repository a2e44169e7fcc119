package faults_test

import (
	"context"
	"fmt"
	"net"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/distkit/distkit-go"
	"github.com/distkit/distkit-go/internal/redisio"
	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"
)

// shardsLoad counts on every shard of a System, one strict caller and one lax one each.
type shardsLoad struct {
	t      *testing.T
	ctx    context.Context
	system *distkit.System
	keys   []distkit.Key     // by shard
	told   []atomic.Int64    // strict increments that were acknowledged, by shard
	added  []atomic.Int64    // lax ones that were accepted
	took   [][]time.Duration // how long the strict ones took, by shard, the last time
}

func newShardsLoad(ctx context.Context, t *testing.T, system *distkit.System, shards int) *shardsLoad {
	l := &shardsLoad{t, ctx, system, make([]distkit.Key, shards), make([]atomic.Int64, shards), make([]atomic.Int64, shards), make([][]time.Duration, shards)}
	for i, found := 0, 0; found < shards; i++ {
		key := distkit.MustKey(fmt.Sprint("k", i))
		if at := redisio.ShardOf(key.String(), shards); l.keys[at] == (distkit.Key{}) {
			l.keys[at], found = key, found+1
		}
	}
	return l
}

// during counts on all shards until what happens is over.
func (l *shardsLoad) during(happens func()) {
	var callers sync.WaitGroup
	over := make(chan struct{})
	for shard, key := range l.keys {
		l.took[shard] = nil
		callers.Go(func() {
			for {
				select {
				case <-over:
					return
				default:
				}
				began := time.Now()
				if _, err := l.system.Strict().Inc(l.ctx, key, 1); err != nil {
					l.t.Errorf("shard %d: %v", shard, err)
					return
				}
				l.took[shard] = append(l.took[shard], time.Since(began))
				l.told[shard].Add(1)
			}
		})
		callers.Go(func() {
			for {
				select {
				case <-over:
					return
				default:
				}
				if _, err := l.system.Lax().Inc(l.ctx, key, 1); err != nil {
					l.t.Errorf("shard %d: %v", shard, err)
					return
				}
				l.added[shard].Add(1)
				time.Sleep(time.Millisecond) // it need not be fast
			}
		})
	}
	happens()
	close(over)
	callers.Wait()
}

// p99 is how long strict increments of the shards took at most the last time, but for one
// in a hundred.
func (l *shardsLoad) p99(shards []int) time.Duration {
	var took []time.Duration
	for _, shard := range shards {
		took = append(took, l.took[shard]...)
	}
	slices.Sort(took)
	return took[len(took)*99/100]
}

// further waits until the shards have had so many strict increments more.
func (l *shardsLoad) further(n int64, shards []int) {
	l.t.Helper()
	until := make([]int64, len(l.keys))
	for _, shard := range shards {
		until[shard] = l.told[shard].Load() + n
	}
	require.Eventually(l.t, func() bool {
		for _, shard := range shards {
			if l.told[shard].Load() < until[shard] {
				return false
			}
		}
		return true
	}, serverPatience, time.Millisecond)
}

// check compares the sums with what was told, past the library.
func (l *shardsLoad) check(client redis.UniversalClient, prefix string) {
	l.t.Helper()
	require.NoError(l.t, l.system.Flush(l.ctx))
	for shard, key := range l.keys {
		for kind, want := range map[string]int64{redisio.StrictKind: l.told[shard].Load(), redisio.LaxKind: l.added[shard].Load()} {
			name := prefix + ":" + redisio.ShardName(kind, shard, len(l.keys))
			n, err := client.HGet(l.ctx, name, key.String()).Int64()
			require.NoError(l.t, err)
			require.Equal(l.t, want, n, name)
		}
	}
}

// moveSlot moves a slot from one master to another, as redis-cli does.
func (c *clusterNodes) moveSlot(ctx context.Context, t *testing.T, slot int64, from, to int) {
	t.Helper()
	id := func(node int) string { return c.clients[node].Do(ctx, "cluster", "myid").Val().(string) }
	host, port, err := net.SplitHostPort(c.servers[to].Addr)
	require.NoError(t, err)
	require.NoError(t, c.clients[to].Do(ctx, "cluster", "setslot", slot, "importing", id(from)).Err())
	require.NoError(t, c.clients[from].Do(ctx, "cluster", "setslot", slot, "migrating", id(to)).Err())
	for {
		keys, err := c.clients[from].ClusterGetKeysInSlot(ctx, int(slot), 10).Result()
		require.NoError(t, err)
		if len(keys) == 0 {
			break
		}
		args := []any{"migrate", host, port, "", 0, 5000, "keys"}
		for _, key := range keys {
			args = append(args, key)
		}
		require.NoError(t, c.clients[from].Do(ctx, args...).Err())
	}
	for _, node := range []int{to, from, 0, 2, 4} {
		require.NoError(t, c.clients[node].Do(ctx, "cluster", "setslot", slot, "node", id(to)).Err())
	}
}

// failOver has a replica take the place of its master at an operator's word, which loses
// nothing.
func (c *clusterNodes) failOver(ctx context.Context, t *testing.T, replica int) {
	t.Helper()
	require.NoError(t, c.clients[replica].Do(ctx, "cluster", "failover").Err())
	everywhere(t, c.clients[replica:replica+1], func(node *redis.Client) bool {
		return strings.Contains(node.Info(ctx, "replication").Val(), "role:master")
	})
}

// Half of the shards move under load, then a replica takes its master's place as planned,
// and every sum is exact. Then a master dies and stays dead: the shards of the others do
// not notice, and its own go on where its replica is. What that does to the others' p99 is
// logged, for docs/SCALING.md.
func TestCluster_shards(t *testing.T) {
	t.Parallel()
	const shards, prefix = 16, "spread"
	c := startCluster(t)
	for _, node := range c.clients {
		// Else the nodes that are left serve nobody until the dead one has been replaced.
		require.NoError(t, node.ConfigSet(t.Context(), "cluster-require-full-coverage", "no").Err())
	}
	client := c.client(t)
	system, events := serverSystem(t, client, prefix, distkit.WithShards(shards))
	ctx, cancel := context.WithTimeout(t.Context(), 4*serverPatience)
	defer cancel()
	l := newShardsLoad(ctx, t, system, shards)

	at := make([]int, shards) // the master of each strict container
	whose := func(is func(shard int) bool) (of []int) {
		for shard := range shards {
			if is(shard) {
				of = append(of, shard)
			}
		}
		return of
	}
	everyShard := whose(func(int) bool { return true })
	moved, still := whose(func(shard int) bool { return shard%2 == 0 }), whose(func(shard int) bool { return shard%2 == 1 })
	l.during(func() { l.further(1000, everyShard) })
	quiet := l.p99(everyShard)

	l.during(func() {
		l.further(20, everyShard)
		for shard := range shards {
			for _, kind := range []string{redisio.StrictKind, redisio.LaxKind} {
				name := prefix + ":" + redisio.ShardName(kind, shard, shards)
				from := c.masterOf(ctx, name)
				to := from
				if slices.Contains(moved, shard) {
					to = (from + 2) % 6
					c.moveSlot(ctx, t, c.clients[0].ClusterKeySlot(ctx, name).Val(), from, to)
				}
				if kind == redisio.StrictKind {
					at[shard] = to
				}
			}
		}
		l.further(20, everyShard)
	})
	t.Logf("p99 of strict increments: quiet %v; while slots of half of the shards move %v, on the others %v", quiet, l.p99(moved), l.p99(still))
	l.check(client, prefix)

	const planned, dead = 4, 0 // masters, each before its replica
	require.Contains(t, at, planned)
	require.Contains(t, at, dead)
	its, others := whose(func(shard int) bool { return at[shard] == planned }), whose(func(shard int) bool { return at[shard] != planned })
	c.replicated(ctx, t, planned)
	l.during(func() {
		l.further(20, everyShard)
		c.failOver(ctx, t, planned+1)
		l.further(20, everyShard)
	})
	t.Logf("while a replica takes its master's place %v, on the others %v", l.p99(its), l.p99(others))
	l.check(client, prefix)

	c.replicated(ctx, t, dead)
	its, others = whose(func(shard int) bool { return at[shard] == dead }), whose(func(shard int) bool { return at[shard] != dead })
	c.servers[dead].Kill(t)
	l.during(func() {
		before := make([]int64, shards)
		for _, shard := range its {
			before[shard] = l.told[shard].Load()
		}
		l.further(100, others)
		for _, shard := range its {
			require.Equal(t, before[shard], l.told[shard].Load(), "the others have waited until shard %d went on", shard)
		}
		l.further(20, everyShard)
	})
	t.Logf("while a master is dead, on the others %v", l.p99(others))
	for _, node := range []int{dead + 1, 2, planned + 1} {
		require.NoError(t, c.clients[node].Ping(ctx).Err())
	}
	l.check(client, prefix)
	require.Empty(t, serverEventsOf[distkit.DataLost](events))
	require.NoError(t, system.Shutdown(ctx))
}

// The number of shards of a cluster is changed, in two goes, and every counter has kept
// its value, with the windows and the outcomes of transactions.
func TestCluster_reshard(t *testing.T) {
	t.Parallel()
	const prefix = "reshard"
	c := startCluster(t)
	client := c.client(t)
	ctx, cancel := context.WithTimeout(t.Context(), 2*serverPatience)
	defer cancel()
	updates := make([]distkit.Update, 3000)
	keys := make([]distkit.Key, len(updates))
	for i := range updates {
		keys[i] = distkit.MustKey(fmt.Sprint("k", i))
		updates[i] = distkit.Update{Key: keys[i], N: int64(i) + 1<<53}
	}
	sale := distkit.Tx{ID: "sale", Keep: time.Hour, Steps: []distkit.Step{{Key: distkit.MustKey("stock"), Do: distkit.Dec{N: 3}}}}
	day := time.Now().Truncate(24 * time.Hour)
	counters := func(shards int) (*distkit.System, []distkit.Counter) {
		system, _ := serverSystem(t, client, prefix, distkit.WithShards(shards))
		days, err := system.Strict().Per(distkit.Every(24*time.Hour), time.Hour)
		require.NoError(t, err)
		return system, []distkit.Counter{system.Strict(), system.Lax(), days.At(day)}
	}
	system, all := counters(3)
	for _, counter := range all {
		_, err := counter.SetAll(ctx, updates...)
		require.NoError(t, err)
	}
	_, err := system.Strict().Apply(ctx, sale)
	require.NoError(t, err)
	require.NoError(t, system.Shutdown(ctx))

	broken, breakOff := context.WithCancel(ctx)
	_, err = distkit.Reshard(broken, client, distkit.ReshardConfig{
		Prefix: distkit.MustKey(prefix), Shards: 16, Progress: func(distkit.ReshardReport) { breakOff() },
	})
	require.ErrorIs(t, err, context.Canceled)
	report, err := distkit.Reshard(ctx, client, distkit.ReshardConfig{Prefix: distkit.MustKey(prefix), Shards: 16})
	require.NoError(t, err)
	require.True(t, report.Resumed)

	system, all = counters(16)
	masters := map[int]bool{}
	for shard := range 16 {
		masters[c.masterOf(ctx, prefix+":"+redisio.ShardName(redisio.StrictKind, shard, 16))] = true
	}
	require.Len(t, masters, 3)
	for _, counter := range all {
		values, err := counter.GetAll(ctx, keys...)
		require.NoError(t, err)
		for i, n := range values {
			require.Equal(t, updates[i].N, n)
		}
	}
	out, err := system.Strict().Apply(ctx, sale)
	require.NoError(t, err)
	require.True(t, out.Replayed, "sold twice")
	require.NoError(t, system.Shutdown(ctx))
}
