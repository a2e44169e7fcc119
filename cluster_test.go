package distkit_test

import (
	"context"
	"log/slog"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/distkit/distkit-go"
	"github.com/distkit/distkit-go/internal/redistest"
	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"
)

func TestCluster_countersAndLedgersShareASlot(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t, "--cluster-enabled", "yes")
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	node := redistest.NewClient(t, &redis.Options{Addr: server.Addr})
	redistest.AwaitCluster(t, node)

	client := redis.NewClusterClient(&redis.ClusterOptions{Addrs: []string{server.Addr}})
	defer func() { require.NoError(t, client.Close()) }()
	for _, prefix := range []string{"shop", "{eu}shop", "sh{op}", "open{"} {
		system, err := distkit.NewSystem(client, distkit.WithPrefix(distkit.MustKey(prefix)),
			distkit.WithLogger(slog.New(slog.DiscardHandler)))
		require.NoError(t, err)
		for _, c := range []distkit.Counter{system.Strict(), system.Lax()} {
			got, err := c.IncAll(ctx, distkit.Update{Key: keyA, N: 5}, distkit.Update{Key: keyB, N: 1})
			require.NoError(t, err, prefix)
			require.Equal(t, []int64{5, 1}, got)
			require.NoError(t, system.Flush(ctx))
			got, err = c.GetAll(ctx, keyB, keyA)
			require.NoError(t, err, prefix)
			require.Equal(t, []int64{1, 5}, got)
			require.NoError(t, node.ScriptFlush(ctx).Err())
			deleted, err := c.Del(ctx, keyA)
			require.NoError(t, err)
			require.EqualValues(t, 5, deleted)
			require.NoError(t, c.Clear(ctx))
		}
		for n := range 2 { // the second time it is a replay
			tx := distkit.Tx{ID: "it", Steps: []distkit.Step{on(keyA, distkit.Inc{N: 2}), on(keyA, distkit.Del{}), on(keyB, distkit.Get{})}}
			out, err := system.Strict().Apply(ctx, tx)
			require.NoError(t, err, prefix)
			want := distkit.Outcome{Applied: true, Replayed: n > 0, Replies: []distkit.Reply{distkit.Value{N: 2}, distkit.Value{N: 2}, distkit.Value{N: 0}}}
			require.Equal(t, want, out)
			want.Replayed = true
			held, found, err := system.Strict().Outcome(ctx, "it")
			require.NoError(t, err, prefix)
			require.True(t, found)
			require.Equal(t, want, held)
		}
		require.NoError(t, system.Shutdown(ctx))
	}
}

// While the counters' slot is on its way to another node, a key that is not there
// yet can be made at neither: a System that is new has no ledger, and counts.
func TestCluster_slotOnItsWay_newSystemIsNotHeldUp(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithTimeout(context.Background(), 60*time.Second)
	defer cancel()
	from, to := redistest.Start(t, "--cluster-enabled", "yes"), redistest.Start(t, "--cluster-enabled", "yes")
	source := redistest.NewClient(t, &redis.Options{Addr: from.Addr})
	target := redistest.NewClient(t, &redis.Options{Addr: to.Addr})
	require.NoError(t, source.ClusterAddSlotsRange(ctx, 0, 16383).Err())
	host, port, err := net.SplitHostPort(to.Addr)
	require.NoError(t, err)
	require.NoError(t, source.ClusterMeet(ctx, host, port).Err())
	whole := func(node *redis.Client) bool {
		info := node.ClusterInfo(ctx).Val()
		return strings.Contains(info, "cluster_state:ok") && strings.Contains(info, "cluster_known_nodes:2")
	}
	require.Eventually(t, func() bool { return whole(source) && whole(target) }, 20*time.Second, 10*time.Millisecond)

	client := redis.NewClusterClient(&redis.ClusterOptions{Addrs: []string{from.Addr}})
	defer func() { require.NoError(t, client.Close()) }()
	system, err := distkit.NewSystem(client, distkit.WithPrefix(distkit.MustKey("{moved}")), distkit.WithLogger(slog.New(slog.DiscardHandler)))
	require.NoError(t, err)
	containers := []string{"{moved}:strict_counter", "{moved}:lax_counter"}
	for _, container := range containers {
		require.NoError(t, client.HSet(ctx, container, "a", 5, "b", 1).Err())
	}
	slot := int(source.ClusterKeySlot(ctx, containers[0]).Val())
	ids := map[*redis.Client]string{source: source.Do(ctx, "cluster", "myid").Val().(string), target: target.Do(ctx, "cluster", "myid").Val().(string)}
	require.NoError(t, target.Do(ctx, "cluster", "setslot", slot, "importing", ids[source]).Err())
	require.NoError(t, source.Do(ctx, "cluster", "setslot", slot, "migrating", ids[target]).Err())

	for i := range 3 {
		for _, c := range []distkit.Counter{system.Strict(), system.Lax()} {
			got, err := c.Inc(ctx, keyA, 1)
			require.NoError(t, err)
			require.EqualValues(t, 6+i, got)
			_, err = c.SetIf(ctx, keyB, distkit.Ge(0), 7)
			require.NoError(t, err)
			_, err = c.Del(ctx, keyB)
			require.NoError(t, err)
			require.NoError(t, system.Flush(ctx))
		}
		// What would be remembered has to be told to come again: it must not hold up others.
		tx := distkit.Tx{Steps: []distkit.Step{on(keyA, distkit.Get{})}}
		out, err := system.Strict().Apply(ctx, tx)
		require.NoError(t, err)
		require.True(t, out.Applied)
		tx.ID = "it"
		_, err = system.Strict().Apply(ctx, tx)
		requireNotApplied(t, err, distkit.ErrNotApplied)
		require.ErrorContains(t, err, "TRYAGAIN")
	}
	for _, container := range containers {
		require.Equal(t, map[string]string{"a": "8"}, source.HGetAll(ctx, container).Val())
		require.NoError(t, source.Migrate(ctx, host, port, container, 0, 10*time.Second).Err())
	}
	for _, node := range []*redis.Client{target, source} {
		require.NoError(t, node.Do(ctx, "cluster", "setslot", slot, "node", ids[target]).Err())
	}
	for _, c := range []distkit.Counter{system.Strict(), system.Lax()} {
		got, err := c.Inc(ctx, keyA, 1)
		require.NoError(t, err)
		require.EqualValues(t, 9, got)
	}
	out, err := system.Strict().Apply(ctx, distkit.Tx{ID: "it", Steps: []distkit.Step{on(keyA, distkit.Get{})}})
	require.NoError(t, err)
	require.True(t, out.Applied && !out.Replayed)
	require.NoError(t, system.Shutdown(ctx))
	for _, container := range containers {
		require.Equal(t, map[string]string{"a": "9"}, target.HGetAll(ctx, container).Val())
	}
}
