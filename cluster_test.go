package distkit_test

import (
	"context"
	"log/slog"
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
	require.NoError(t, node.ClusterAddSlotsRange(ctx, 0, 16383).Err())
	require.Eventually(t, func() bool {
		return node.Set(ctx, "probe", 1, 0).Err() == nil
	}, 20*time.Second, 10*time.Millisecond, "the cluster takes a moment to be whole")

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
		require.NoError(t, system.Shutdown(ctx))
	}
}
