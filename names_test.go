package distkit_test

import (
	"encoding/json"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/distkit/distkit-go"
	"github.com/stretchr/testify/require"
)

// oddNames hold what separates the parts of names in Redis, of actors and of
// addresses, what ends lines and texts, what Redis and Lua read as something else, and
// what is no text.
var oddNames = []string{
	":", "::", "a:b", ":a", "a:", "2001:db8::1", "strict_counter", "writer:{x}:0",
	"/", "a/b", "../a", "@lax_counter/a", "strict/a", "strict-writer", "distkit$1/strict/a", "a$1",
	"{", "}", "{}", "{a}", "}{", "{a:b}:c", "a{b", "a}b",
	"\x00", "a\x00b", "\n", "a\nb", "\r\n", "$3\r\nfoo\r\n", "\t",
	" ", " a", "a ", "a b", "'", `"`, `\`, `"a"`, "%", "%s", "%25", "%#",
	"\xff", "\xc3\x28", "\xed\xa0\x80", "a\xffb", "\ufffd", "日本", "…",
	"+", ".", "g", "i", "1", "-1", "!O", "7!O", "5:8", "open", "bare", "fence", "*", "?", "[a]",
	strings.Repeat(":", 255), strings.Repeat("\xff", 255), strings.Repeat("\x00", 255),
}

// oddKeys are the keys of those names.
func oddKeys() []distkit.Key {
	keys := make([]distkit.Key, len(oddNames))
	for i, name := range oddNames {
		keys[i] = distkit.MustKey(name)
	}
	return keys
}

// Counters with such names count, each for itself, whatever way an operation takes,
// and stand in Redis under just those names.
func TestOddKeys_countByEveryWay(t *testing.T) {
	t.Parallel()
	both(t, func(t *testing.T, f *fixture, c distkit.Counter, kind string) {
		keys := oddKeys()
		want := map[string]string{}
		all := make([]distkit.Update, len(keys))
		for i, key := range keys {
			all[i] = distkit.Update{Key: key, N: 1000}
			n := int64(100 * (i + 1)) // no two are the same
			got, err := c.Inc(f.ctx, key, n)
			require.NoError(t, err)
			require.Equal(t, n, got, "%q is new", key)

			change, err := c.IncIf(f.ctx, key, distkit.Eq(n), 1)
			require.NoError(t, err)
			require.Equal(t, distkit.Change{Old: n, New: n + 1, Applied: true}, change, "%q", key)
			change, err = c.IncIf(f.ctx, key, distkit.Eq(n), 1)
			require.NoError(t, err)
			require.Equal(t, distkit.Change{Old: n + 1, New: n + 1}, change, "%q", key)

			pid := c.PID(key)
			pid.Send(distkit.Inc{N: 1})
			reply, err := pid.Request(f.ctx, distkit.Inc{N: 1})
			require.NoError(t, err)
			require.Equal(t, distkit.Value{N: n + 3}, reply, "%q", key)
			root := f.ActorSystem().Root
			root.Send(pid.Actor(), distkit.Inc{N: 1})
			answer, err := root.RequestFuture(pid.Actor(), distkit.Inc{N: 1}, time.Minute).Result()
			require.NoError(t, err)
			require.Equal(t, distkit.Value{N: n + 5}, answer, "%q", key)
			want[key.String()] = strconv.FormatInt(n+1005, 10)
		}
		sums, err := c.IncAll(f.ctx, all...)
		require.NoError(t, err)
		values, err := c.GetAll(f.ctx, keys...)
		require.NoError(t, err)
		require.Equal(t, sums, values)
		f.flush(t)
		stored, err := f.client.HGetAll(f.ctx, f.prefix+":"+kind).Result()
		require.NoError(t, err)
		require.Equal(t, want, stored)

		fresh := f.another(t) // which knows nothing but what it reads
		other := map[string]distkit.Counter{"strict_counter": fresh.Strict(), "lax_counter": fresh.Lax()}[kind]
		values, err = other.GetAll(f.ctx, keys...)
		require.NoError(t, err)
		require.Equal(t, sums, values)

		for i, key := range keys {
			got, err := c.Del(f.ctx, key)
			require.NoError(t, err)
			require.Equal(t, sums[i], got, "%q", key)
			delete(want, key.String())
			if i%10 == 0 {
				f.flush(t)
				stored, err = f.client.HGetAll(f.ctx, f.prefix+":"+kind).Result()
				require.NoError(t, err)
				require.Equal(t, want, stored, "Del of %q took another with it", key)
			}
		}
		f.flush(t)
		require.Zero(t, f.client.Exists(f.ctx, f.prefix+":"+kind).Val())
	})
}

// Whatever a key is, what is logged of it stays one line of text.
func TestOddKeys_areQuotedInMessages(t *testing.T) {
	t.Parallel()
	for _, key := range oddKeys() {
		_, tooLong := distkit.ParseKey(strings.Repeat(key.String(), 256))
		written, err := json.Marshal(distkit.MessageRefused{Key: key})
		require.NoError(t, err)
		for _, text := range []string{
			distkit.ChangeRefused{Key: key, N: 1, Err: distkit.ErrOverflow}.String(),
			distkit.ChangeRefused{Key: key, N: 1, Assigned: true, Err: distkit.ErrOverflow}.String(),
			distkit.MessageRefused{Key: key, Err: distkit.ErrOverflow}.String(),
			distkit.ActorPanicked{Actor: "distkit$1/strict/" + key.String(), Err: distkit.ErrOverflow}.String(),
			(&distkit.UnflushedError{Changes: []distkit.Unflushed{{Key: key, N: 1, Err: distkit.ErrOverflow}}}).Error(),
			tooLong.Error(),
			string(written),
		} {
			require.True(t, utf8.ValidString(text), "%q", text)
			require.False(t, strings.ContainsFunc(text, unicode.IsControl), "%q", text)
		}
	}
}

// Prefixes that look like the names of another's containers, ledgers and marks count
// beside it and share nothing with it.
func TestPrefixes_withColons_shareNothing(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	base := f.prefix
	strict, lax := "{"+base+":strict_counter}", "{"+base+":lax_counter}"
	prefixes := []string{
		base, base + ":", base + "::", ":" + base, base + ":a", base + ":strict_counter", base + ":lax_counter",
		base + ":strict_counter:strict_counter", base + ":writer", base + ":cleared",
		base + ":writer:" + strict, base + ":writer:" + lax, base + ":cleared:" + strict, strict, strict + ":writer",
	}
	systems := make([]*distkit.System, len(prefixes))
	var names []string // all in Redis
	for i, prefix := range prefixes {
		f.prefix = prefix
		systems[i] = f.another(t)
		for _, c := range []distkit.Counter{systems[i].Strict(), systems[i].Lax()} {
			got, err := c.Inc(f.ctx, keyA, int64(i+1))
			require.NoError(t, err)
			require.EqualValues(t, i+1, got, "%q is nobody else's", prefix)
		}
		require.NoError(t, systems[i].Flush(f.ctx))
		now, err := f.client.Keys(f.ctx, "*"+base+"*").Result()
		require.NoError(t, err)
		fresh := slices.DeleteFunc(slices.Clone(now), func(name string) bool { return slices.Contains(names, name) })
		require.Len(t, fresh, 5, "two containers, two ledgers and the layout of %q", prefix)
		names = now
		for _, name := range fresh {
			require.True(t, strings.HasPrefix(name, prefix+":"), "%q is not in the ACL of %q", name, prefix)
		}
	}
	for i := range prefixes {
		for _, c := range []distkit.Counter{systems[i].Strict(), systems[i].Lax()} {
			require.NoError(t, c.Clear(f.ctx))
		}
		for j := range prefixes {
			want := strconv.Itoa(j + 1)
			if j <= i {
				want = ""
			}
			f.prefix = prefixes[j]
			for kind := range f.counters() {
				require.Equal(t, want, f.stored(t, kind, keyA), "%q after the Clears up to %q", prefixes[j], prefixes[i])
			}
		}
	}
}
