package redisio_test

import (
	"fmt"
	"testing"

	"github.com/distkit/distkit-go/internal/redisio"
	"github.com/stretchr/testify/require"
)

// Where keys lie in Redis. It must never change: programs of other languages compute it
// too. The values are XXH64 with seed 0, as other implementations give it.
func TestShardOf_isPinned(t *testing.T) {
	t.Parallel()
	const whole = 1 << 32 // shows half of the hash
	for key, hash := range map[string]uint64{
		"a":          0xd24ec4f1a98c6e5b,
		"abc":        0x44bc2cf5ad770999,
		"\xff\x00":   0x232a32cfb42b2bf2,
		"page:/home": 0xd022ad0bce210e62,

		"tenant:0123456789:clicks:2026-11-28": 0x65f48c7d73429131,
	} {
		require.Equal(t, int(hash%whole), redisio.ShardOf(key, whole), "%q: %x", key, redisio.ShardOf(key, whole))
		require.Equal(t, int(hash%7), redisio.ShardOf(key, 7), key)
		require.Zero(t, redisio.ShardOf(key, 1), key)
	}
}

// The hash tag decides, by the rule of Redis Cluster.
func TestShardOf_goesByTheHashTag(t *testing.T) {
	t.Parallel()
	const n = 16384
	for _, key := range []string{"{abc}", "{abc}:paid", "sent:{abc}:x", "{abc}{other}", "{abc}}", "x{abc"} {
		want := redisio.ShardOf("abc", n)
		if key == "x{abc" {
			want = redisio.ShardOf(key, n)
			require.NotEqual(t, redisio.ShardOf("abc", n), want)
		}
		require.Equal(t, want, redisio.ShardOf(key, n), key)
	}
	require.NotEqual(t, redisio.ShardOf("abc", n), redisio.ShardOf("{}{abc}", n), "an empty tag is none")
	require.Equal(t, redisio.ShardOf("{abc", n), redisio.ShardOf("{{abc}", n))
}

// Keys are spread evenly.
func TestShardOf_spreadsEvenly(t *testing.T) {
	t.Parallel()
	const shards, keys = 64, 64_000
	var count [shards]int
	for i := range keys {
		count[redisio.ShardOf(fmt.Sprint("tenant:", i), shards)]++
	}
	for shard, n := range count {
		require.InDelta(t, keys/shards, n, 160, "shard %d", shard) // five standard deviations
	}
}

func TestShardName(t *testing.T) {
	t.Parallel()
	require.Equal(t, "strict_counter", redisio.ShardName(redisio.StrictKind, 0, 1))
	require.Equal(t, "lax_counter#0", redisio.ShardName(redisio.LaxKind, 0, 2))
	require.Equal(t, "lax_counter#13", redisio.ShardName(redisio.LaxKind, 13, 64))
}
