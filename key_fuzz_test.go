package distkit_test

import (
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/distkit/distkit-go"
	"github.com/stretchr/testify/require"
)

// Keys against restatements of their rules: which texts are names, how they are
// written as text, and how parts are joined.

var keySeeds = []string{
	"", "a", ":", "::", "a:b", ":a", "a:", "a b", "é", "日本", "：", "\x00", "\xff", "a\nb", "{a}", "%d%s", "…", "\u0085", "\ufffd", "\u2028",
	`"`, `"a"`, `a"`, `\`, `"\xff"`, "\"\n", "%", "%3A", "%25", "%%", "%#", "<&>", "2001:db8::1", "https://example.org/a?b=c%20d",
	strings.Repeat("k", 254), strings.Repeat("k", 255), strings.Repeat("k", 256), strings.Repeat("é", 127), strings.Repeat("é", 128),
	strings.Repeat(":", 300), strings.Repeat("k:", 255), strings.Repeat("k:", 256), strings.Repeat("k", 255) + ":", strings.Repeat("k", 4096),
	strings.Repeat("\xff", 255), strings.Repeat("\x80", 400), strings.Repeat("日", 100), strings.Repeat("x", 180) + "{tenant}" + strings.Repeat("y", 100),
}

func FuzzParseKey(f *testing.F) {
	for _, seed := range keySeeds {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, s string) {
		key, err := distkit.ParseKey(s)
		if len(s) < 1 || len(s) > 255 {
			require.ErrorIs(t, err, distkit.ErrInvalidKey)
			require.ErrorContains(t, err, map[bool]string{true: "empty", false: "bytes"}[s == ""])
			require.ErrorContains(t, err, "a key has 1 to 255")
			require.Less(t, len(err.Error()), 1200, "a key of any length makes an error of this")
			require.Equal(t, distkit.Key{}, key)
			require.Panics(t, func() { distkit.MustKey(s) })
			return
		}
		require.NoError(t, err)
		require.Equal(t, s, key.String())
		require.Equal(t, key, distkit.MustKey(s))
	})
}

// control reports whether Unicode calls it a control character.
func control(r rune) bool { return r < 0x20 || r >= 0x7f && r < 0xa0 }

func FuzzKey_text(f *testing.F) {
	for _, seed := range keySeeds {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, s string) {
		key, err := distkit.ParseKey(s)
		if err != nil {
			return
		}
		text, err := key.MarshalText()
		require.NoError(t, err)
		require.True(t, utf8.Valid(text), "%q", text)
		require.False(t, strings.ContainsFunc(string(text), control), "%q", text)
		if plain := utf8.ValidString(s) && !strings.ContainsFunc(s, control) && s[0] != '"'; plain {
			require.Equal(t, s, string(text))
		} else {
			require.Equal(t, fmt.Sprintf("%+q", s), string(text))
		}
		var back distkit.Key
		require.NoError(t, back.UnmarshalText(text))
		require.Equal(t, key, back)

		type document struct {
			Key  distkit.Key
			Keys map[distkit.Key]int
		}
		want, got := document{key, map[distkit.Key]int{key: 1}}, document{}
		written, err := json.Marshal(want)
		require.NoError(t, err)
		require.NoError(t, json.Unmarshal(written, &got))
		require.Equal(t, want, got)
	})
}

// Whatever text comes from outside, it is a key or an error, and the key is written
// as a text that is read as the same key.
func FuzzKey_anyText(f *testing.F) {
	for _, seed := range keySeeds {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, s string) {
		before := distkit.MustKey("before")
		key := before
		if err := key.UnmarshalText([]byte(s)); err != nil {
			require.ErrorIs(t, err, distkit.ErrInvalidKey)
			require.Less(t, len(err.Error()), 1200)
			require.Equal(t, before, key, "an error leaves it alone")
			return
		}
		if s == "" || s[0] != '"' {
			require.Equal(t, s, key.String())
		}
		text, err := key.MarshalText()
		require.NoError(t, err)
		var again distkit.Key
		require.NoError(t, again.UnmarshalText(text))
		require.Equal(t, key, again)
	})
}

// escaped is the text of joined parts before it is cut.
func escaped(parts []string) string {
	var b strings.Builder
	for i, part := range parts {
		if i > 0 {
			b.WriteByte(':')
		}
		for _, c := range []byte(part) {
			if c == ':' || c == '%' {
				fmt.Fprintf(&b, "%%%02X", c)
			} else {
				b.WriteByte(c)
			}
		}
	}
	if b.Len() == 0 {
		return "%"
	}
	return b.String()
}

// tagOf is the hash tag of a Redis key, as the cluster specification has it.
func tagOf(key string) string {
	_, after, opened := strings.Cut(key, "{")
	tag, _, closed := strings.Cut(after, "}")
	if !opened || !closed {
		return ""
	}
	return tag
}

// checkJoined holds a joined key to what makes it the key of these parts alone: a
// short one can be taken apart again, a long one ends in the hash of all of it, and
// is told from a short one by what stands before that.
func checkJoined(t *testing.T, parts []string) string {
	t.Helper()
	key, err := distkit.JoinKey(parts...)
	require.NoError(t, err)
	got, text := key.String(), escaped(parts)
	require.NotEmpty(t, got)
	require.LessOrEqual(t, len(got), 255)
	if len(text) <= 255 {
		require.Equal(t, text, got)
		require.NotContains(t, got, "%#")
		if got == "%" {
			got = ""
		}
		apart := strings.Split(got, ":")
		for i := range apart {
			apart[i], err = url.PathUnescape(apart[i])
			require.NoError(t, err)
		}
		require.Equal(t, parts, apart)
		return key.String()
	}
	end := fmt.Sprintf("%%#%x", sha256.Sum256([]byte(text)))
	require.True(t, strings.HasSuffix(got, end), "%q ends in the hash of %q", got, text)
	require.GreaterOrEqual(t, len(got), 252, "no more is cut than has to be")
	if utf8.ValidString(text) {
		require.True(t, utf8.ValidString(got), "%q: a character was cut in two", got)
	}
	front, tag := strings.TrimSuffix(got, end), tagOf(text)
	switch {
	case len(tag) > 187:
		hashed := fmt.Sprintf("{%x}", sha256.Sum256([]byte("{"+tag+"}")))
		require.True(t, strings.HasPrefix(front, hashed))
		front = front[len(hashed):]
	case tag != "" && !strings.HasPrefix(text, front):
		require.Equal(t, tag, tagOf(got))
		require.True(t, strings.HasPrefix(front, "{"+tag+"}"))
		front = front[len(tag)+2:]
	default:
		require.Equal(t, tag, tagOf(got))
	}
	require.True(t, strings.HasPrefix(text, front), "%q begins as %q does", got, text)
	return got
}

func FuzzJoinKey(f *testing.F) {
	for _, seed := range keySeeds {
		f.Add(seed, ":", uint8(3))
		f.Add(seed+"|"+seed, "|", uint8(0))
		f.Add("tenant|{"+seed+"}|calls", "|", uint8(1))
	}
	f.Fuzz(func(t *testing.T, s, separator string, more uint8) {
		parts := strings.Split(s, separator)
		parts = append(parts, slices.Repeat([]string{"x"}, int(more))...)
		if len(parts) == 0 {
			return
		}
		checkJoined(t, parts)
	})
}
