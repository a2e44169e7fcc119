package redisio

import (
	"strconv"

	"github.com/cespare/xxhash/v2"
)

// Counters of one kind may be spread over several containers, the shards, each with a
// slot of its own in Redis Cluster.

// The kinds of counters, as their containers are named.
const (
	StrictKind = "strict_counter"
	LaxKind    = "lax_counter"
)

// MaxShards bounds the shards: a Redis Cluster has so many slots.
const MaxShards = 16384

// ShardName is the name of a shard of so many, after the prefix. One alone has the name
// of its kind, as in the Rust crate.
func ShardName(kind string, shard, of int) string {
	if of == 1 {
		return kind
	}
	return kind + "#" + strconv.Itoa(shard)
}

// ShardOf is the shard of a key, of so many: XXH64 with seed 0
// (https://github.com/Cyan4973/xxHash/blob/dev/doc/xxhash_spec.md) of the key, or of what
// its hash tag holds if it has one, modulo the number of shards. It lies in Redis, where
// programs of other languages compute it too: it must never change. A test pins it.
func ShardOf(key string, of int) int {
	if of == 1 {
		return 0
	}
	if from, to := HashTag(key); to > 0 {
		key = key[from+1 : to-1]
	}
	return int(xxhash.Sum64String(key) % uint64(of))
}
