package redisio

import (
	"strings"
	"testing"

	"github.com/distkit/distkit-go/internal/redistest"
	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"
)

func TestNames_areThoseOfTheDesign(t *testing.T) {
	t.Parallel()
	for prefix, want := range map[string][2]string{
		"my_app":  {"my_app:writer:{my_app:strict_counter}:w", "my_app:cleared:{my_app:strict_counter}"},
		"{t}app":  {"{t}app:writer:{{t}app:strict_counter}:w", "{t}app:cleared:{{t}app:strict_counter}"},
		"a{t}":    {"a{t}:writer:{a{t}:strict_counter}:w", "a{t}:cleared:{a{t}:strict_counter}"},
		"with sp": {"with sp:writer:{with sp:strict_counter}:w", "with sp:cleared:{with sp:strict_counter}"},
		"{{t}}":   {"{{t}}:writer:{{{t}}:strict_counter}:w", "{{t}}:cleared:{{{t}}:strict_counter}"},
		"open{":   {"{open{:strict_counter}:writer:w", "{open{:strict_counter}:cleared"},
		"a{b":     {"{a{b:strict_counter}:writer:w", "{a{b:strict_counter}:cleared"},
	} {
		require.NoError(t, CheckPrefix(prefix))
		c := NewContainer(prefix, "strict_counter")
		require.Equal(t, prefix+":strict_counter", c.Name, "as the Rust crate names it")
		require.Equal(t, want, [2]string{c.Ledger("w"), c.mark})
		for _, name := range []string{c.Ledger("w"), c.mark} {
			require.Equal(t, hashed(c.Name), hashed(name), "what Redis hashes of both")
			if tagged(prefix) || !strings.Contains(prefix, "{") {
				require.True(t, strings.HasPrefix(name, prefix+":"), "%s is not of an ACL of ~%s:*", name, prefix)
			}
		}
		require.NotEqual(t, c.Ledger("w"), NewContainer(prefix, "lax_counter").Ledger("w"))
	}
	for _, prefix := range []string{"}", "a}b", "{}a", "a{}b}"} {
		require.ErrorContains(t, CheckPrefix(prefix), "no hash tag", prefix)
	}
}

// The same, by the slots that a cluster gives.
func TestNames_hashToTheSlotOfTheirContainer(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t, "--cluster-enabled", "yes")
	node := redistest.NewClient(t, &redis.Options{Addr: server.Addr})
	for _, prefix := range []string{"p", "{t}p", "p{t}", "a{b", "{", "{{t}}", "{t}{u}", "x:y", "with sp"} {
		for _, kind := range []string{"strict_counter", "lax_counter"} {
			c := NewContainer(prefix, kind)
			want := node.ClusterKeySlot(t.Context(), c.Name).Val()
			for _, name := range []string{c.Ledger("w"), c.Ledger("0123456789abcdef"), c.mark} {
				got, err := node.ClusterKeySlot(t.Context(), name).Result()
				require.NoError(t, err)
				require.Equal(t, want, got, "%s and %s", c.Name, name)
			}
		}
	}
}

// hashed is the part of a key that decides its slot, written from the cluster
// specification.
func hashed(key string) string {
	for s := 0; s < len(key); s++ {
		if key[s] != '{' {
			continue
		}
		for e := s + 1; e < len(key); e++ {
			if key[e] == '}' {
				if e == s+1 {
					return key
				}
				return key[s+1 : e]
			}
		}
		return key
	}
	return key
}
