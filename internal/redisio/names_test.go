package redisio

import (
	"math/rand"
	"reflect"
	"strings"
	"testing"
	"testing/quick"

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
		once := strings.TrimSuffix(strings.Replace(want[0], "writer", "once", 1), "w") + "any {id}"
		require.Equal(t, once, c.Once("any {id}"))
		for _, name := range []string{c.Ledger("w"), c.mark, once} {
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

// A prefix that continues the name of an outcome would share names with the prefix that
// this is of, since an ID may be anything.
func TestCheckPrefix_refusesTheBeginningOfAnOutcome(t *testing.T) {
	t.Parallel()
	for _, prefix := range []string{
		"a:once:{a:strict_counter}", "a:once:{a:strict_counter}:x", "a:once:{a:strict_counter}:once", "{t}a:once:{{t}a:strict_counter}",
		"{a{b:strict_counter}", "{a{b:strict_counter}:once", "{a{b:strict_counter}:once:x",
		"a:once:{b:strict_counter}", "a:once:{b}", ":once:{{",
	} {
		require.ErrorContains(t, CheckPrefix(prefix), "outcomes of transactions", prefix)
	}
	for _, prefix := range []string{"a:once", "once", "a:once:b", "{a:strict_counter}", "{a:strict_counter}:once", "{a{b:strict_counter}:x"} {
		require.NoError(t, CheckPrefix(prefix))
	}
}

// anyPrefix is a prefix made of what could be mistaken for the rest of a name.
type anyPrefix string

func (anyPrefix) Generate(r *rand.Rand, _ int) reflect.Value {
	pieces := []string{":", ":", "a", "b", "{", "}", "writer", "cleared", "once", "strict_counter", "lax_counter", "0123456789abcdef01234567"}
	for {
		var b strings.Builder
		for range 1 + r.Intn(12) {
			b.WriteString(pieces[r.Intn(len(pieces))])
		}
		if CheckPrefix(b.String()) == nil {
			return reflect.ValueOf(anyPrefix(b.String()))
		}
	}
}

// What a name belongs to can be read from the name alone. So no two prefixes, kinds,
// writers or roles have a name in common.
func TestNames_belongToOneContainer(t *testing.T) {
	t.Parallel()
	const writer = "0123456789abcdef01234567"
	check := func(p anyPrefix) bool {
		once := NewContainer(string(p), "strict_counter").Once("")
		for _, kind := range []string{"strict_counter", "lax_counter"} {
			c := NewContainer(string(p), kind)
			for name, role := range map[string]string{c.Name: "container", c.mark: "mark", c.Ledger(writer): "ledger " + writer} {
				if startsAsOnce(name) {
					t.Logf("%q of %q starts as the name of an outcome", name, p)
					return false
				}
				gotPrefix, gotKind, gotRole := readName(name)
				if gotPrefix != string(p) || gotKind != kind || gotRole != role {
					t.Logf("%q of %q reads as the %s of %q, %s", name, p, gotRole, gotPrefix, gotKind)
					return false
				}
			}
		}
		if !startsAsOnce(once) {
			t.Logf("%q of %q does not start as the name of an outcome", once, p)
			return false
		}
		return true
	}
	require.NoError(t, quick.Check(check, &quick.Config{MaxCount: 20_000}))
	for _, prefix := range []anyPrefix{"a", "a:strict_counter", "a:lax_counter", "a:writer", "a:cleared", "a:writer:{a:strict_counter}", "a:writer:{a:strict_counter}:" + writer, ":", "a:", ":a", "{a:strict_counter}"} {
		require.True(t, check(prefix))
	}
}

// readName says what a name is of, from its end to its beginning.
func readName(name string) (prefix, kind, role string) {
	split := func(s string) (before, last string) {
		at := strings.LastIndexByte(s, ':')
		return s[:at], s[at+1:]
	}
	prefix, last := split(name)
	if last == "strict_counter" || last == "lax_counter" {
		return prefix, last, "container"
	}
	rest, role, word := name, "mark", ":cleared"
	if last != "cleared" && !strings.HasSuffix(name, "}") {
		rest, role, word = prefix, "ledger "+last, ":writer"
	}
	if container, first := strings.CutSuffix(rest, "}"+word); first { // {<prefix>:<kind>}:writer
		prefix, kind = split(container[1:])
		return prefix, kind, role
	}
	of, kind := split(strings.TrimSuffix(rest, "}")) // <prefix>:writer:{<prefix>:<kind>}
	return of[:(len(of)-len(word+":{"))/2], kind, role
}

// The same, by the slots that a cluster gives.
func TestNames_hashToTheSlotOfTheirContainer(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t, "--cluster-enabled", "yes")
	node := redistest.NewClient(t, &redis.Options{Addr: server.Addr})
	for _, prefix := range []string{"p", "{t}p", "p{t}", "a{b", "{", "{{t}}", "{t}{u}", "x:y", "x:{t}:y", "x:{y", "p:writer", "p:writer:{p:strict_counter}", "with sp"} {
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
