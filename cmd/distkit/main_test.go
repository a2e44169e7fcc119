package main

import (
	"bytes"
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/alicebob/miniredis/v2"
	"github.com/distkit/distkit-go"
	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"
)

func TestReshard(t *testing.T) {
	t.Parallel()
	server := miniredis.RunT(t)
	client := redis.NewClient(&redis.Options{Addr: server.Addr()})
	t.Cleanup(func() { _ = client.Close() })
	ctx := context.Background()
	count := func(shards int, want int64) {
		t.Helper()
		system, err := distkit.NewSystem(client, distkit.WithPrefix(distkit.MustKey("app")), distkit.WithShards(shards))
		require.NoError(t, err)
		for i := range 20 {
			n, err := system.Strict().Inc(ctx, distkit.MustKey(fmt.Sprint(i)), 1)
			require.NoError(t, err)
			require.Equal(t, want, n)
		}
		require.NoError(t, system.Shutdown(ctx))
	}
	run := func(args ...string) (string, error) {
		var out bytes.Buffer
		cmd := root()
		cmd.SetOut(&out)
		cmd.SetErr(&out)
		cmd.SetArgs(append([]string{"reshard", "--url", "redis://" + server.Addr(), "--prefix", "app"}, args...))
		err := cmd.ExecuteContext(ctx)
		return strings.TrimSpace(out.String()), err
	}

	count(1, 1)
	out, err := run("--shards", "4")
	require.NoError(t, err)
	require.Equal(t, "moved from 1 to 4 shards: copied 20 counters, deleted 20 where they were, copied 0 outcomes of transactions", out)
	count(4, 2)
	out, err = run("--shards", "4")
	require.NoError(t, err)
	require.Equal(t, "there are 4 shards already", out)

	require.NoError(t, client.Set(ctx, "app:layout", "moving 4 8 by somebody", 0).Err())
	out, err = run("--shards", "2")
	require.NoError(t, err)
	require.Contains(t, out, "went on from 4 to 2 shards")
	count(2, 3)

	for _, wrong := range []struct {
		args []string
		says string
	}{
		{nil, `required flag(s) "shards" not set`},
		{[]string{"--shards", "0"}, "0 shards are not 1 to 16384"},
		{[]string{"--shards", "2", "--prefix", ""}, "--prefix: "},
		{[]string{"--shards", "2", "--url", "nowhere"}, "--url: "},
		{[]string{"--shards", "2", "--url", "nowhere", "--cluster"}, "--url: "},
		{[]string{"--shards", "2", "more"}, "unknown command"},
	} {
		_, err := run(wrong.args...)
		require.ErrorContains(t, err, wrong.says)
	}
}
