package distkit_test

import (
	"strings"
	"testing"

	"github.com/distkit/distkit-go"
	"github.com/stretchr/testify/require"
)

// The rules for keys against a restatement of them: 1 to 255 bytes, none of
// which is a colon.

var keySeeds = []string{
	"", "a", ":", "::", "a:b", ":a", "a:", "a b", "é", "日本", "：", "\x00", "\xff", "a\nb", "{a}", "%d%s", "…",
	strings.Repeat("k", 254), strings.Repeat("k", 255), strings.Repeat("k", 256), strings.Repeat("é", 127), strings.Repeat("é", 128),
	strings.Repeat(":", 300), strings.Repeat("k:", 255), strings.Repeat("k:", 256), strings.Repeat("k", 255) + ":", strings.Repeat("k", 4096),
}

// brokenRule is what the error must name, "" for a key. A key that is too long
// is not searched.
func brokenRule(s string) string {
	length, colons := 0, 0
	for _, b := range []byte(s) {
		if length++; b == ':' {
			colons++
		}
	}
	switch {
	case length == 0:
		return "empty"
	case length >= 256:
		return "bytes"
	case colons > 0:
		return "':'"
	}
	return ""
}

func FuzzParseKey(f *testing.F) {
	for _, seed := range keySeeds {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, s string) {
		key, err := distkit.ParseKey(s)
		if rule := brokenRule(s); rule != "" {
			require.ErrorIs(t, err, distkit.ErrInvalidKey)
			require.ErrorContains(t, err, rule)
			require.Less(t, len(err.Error()), 1200, "a key of any length makes an error of this")
			require.Equal(t, distkit.Key{}, key)
			require.Panics(t, func() { distkit.MustKey(s) })
			return
		}
		require.NoError(t, err)
		require.Equal(t, s, key.String())
		require.Equal(t, key, distkit.MustKey(s))
		sanitized, err := distkit.SanitizeKey(s)
		require.NoError(t, err)
		require.Equal(t, key, sanitized, "nothing to remove")
	})
}

func FuzzSanitizeKey(f *testing.F) {
	for _, seed := range keySeeds {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, s string) {
		var kept []byte
		for _, b := range []byte(s) {
			if b != ':' {
				kept = append(kept, b)
			}
		}
		key, err := distkit.SanitizeKey(s)
		if len(kept) == 0 || len(kept) > 255 {
			require.ErrorIs(t, err, distkit.ErrInvalidKey)
			require.Equal(t, distkit.Key{}, key)
			return
		}
		require.NoError(t, err)
		require.Equal(t, string(kept), key.String())
		again, err := distkit.SanitizeKey(key.String())
		require.NoError(t, err)
		require.Equal(t, key, again)
	})
}
