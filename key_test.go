package distkit_test

import (
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"math/rand"
	"reflect"
	"slices"
	"strings"
	"testing"
	"testing/quick"

	"github.com/distkit/distkit-go"
	"github.com/stretchr/testify/require"
)

func TestParseKey_rules(t *testing.T) {
	t.Parallel()
	for _, good := range []string{"a", "a b", "seats/17", "é\x00\n", strings.Repeat("k", 255), "{tag}x", ":", "a:b", "2001:db8::1", "https://example.org/a?b=c", "\xff"} {
		key, err := distkit.ParseKey(good)
		require.NoError(t, err, "%q", good)
		require.Equal(t, good, key.String())
	}
	for bad, says := range map[string]string{
		"":                       "it is empty; a key has 1 to 255 bytes",
		strings.Repeat("k", 256): "has 256 bytes; a key has 1 to 255 (JoinKey",
	} {
		_, err := distkit.ParseKey(bad)
		require.ErrorIs(t, err, distkit.ErrInvalidKey)
		require.ErrorContains(t, err, says)
		require.Panics(t, func() { distkit.MustKey(bad) })
	}
}

func TestJoinKey_readsNaturally(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("x", 300)
	hash := func(s string) string { return fmt.Sprintf("%x", sha256.Sum256([]byte(s))) }
	for _, c := range []struct {
		parts []string
		want  string
	}{
		{[]string{"tenant", "42", "calls"}, "tenant:42:calls"},
		{[]string{"calls"}, "calls"},
		{[]string{"ip", "2001:db8::1"}, "ip:2001%3Adb8%3A%3A1"},
		{[]string{"discount", "10%"}, "discount:10%25"},
		{[]string{"{42}", "calls"}, "{42}:calls"},
		{[]string{""}, "%"},
		{[]string{"", ""}, ":"},
		{[]string{"a", "", "b"}, "a::b"},
		{[]string{"日本", "\x00\xff"}, "日本:\x00\xff"},
		{[]string{"url", long}, "url:" + long[:185] + "%#" + hash("url:"+long)},
		{[]string{long, "{42}"}, "{42}" + long[:185] + "%#" + hash(long+":{42}")},
		{[]string{"{" + long + "}"}, "{" + hash("{"+long+"}") + "}{" + long[:122] + "%#" + hash("{"+long+"}")},
	} {
		key, err := distkit.JoinKey(c.parts...)
		require.NoError(t, err)
		require.Equal(t, c.want, key.String())
	}
	key, err := distkit.JoinKey()
	require.ErrorIs(t, err, distkit.ErrInvalidKey)
	require.ErrorContains(t, err, "no parts; it takes 1 or more")
	require.Equal(t, distkit.Key{}, key)
}

// Every list of up to three parts of up to two of these characters has a key of its
// own: those that the scheme uses, and one beside.
func TestJoinKey_smallParts_haveKeysOfTheirOwn(t *testing.T) {
	t.Parallel()
	var words []string
	for _, a := range []string{"", "a", ":", "%", "%3A", "%25", "%#", "2"} {
		for _, b := range []string{"", ":", "%", "5", "#", "3A", "\\"} {
			words = append(words, a+b)
		}
	}
	slices.Sort(words)
	words = slices.Compact(words)
	seen := map[string][]string{}
	add := func(parts ...string) {
		key := checkJoined(t, parts)
		if before, found := seen[key]; found && !slices.Equal(before, parts) {
			require.Failf(t, "two lists, one key", "%q of %q and %q", key, before, parts)
		}
		seen[key] = parts
	}
	for _, a := range words {
		add(a)
		for _, b := range words {
			add(a, b)
			if len(a)+len(b) < 4 {
				add(a, b, "%")
				add(a, "", b)
			}
		}
	}
}

// partList is a list of parts whose text is around the length where it is cut.
type partList []string

func (partList) Generate(r *rand.Rand, _ int) reflect.Value {
	pieces := []string{":", "%", "%3A", "%25", "%#", "a", "{", "}", "{t}", "é", "日", "\xff", "\x80", "\x00"}
	parts := make(partList, 1+r.Intn(4))
	for room := 230 + r.Intn(60); room > 0; room-- {
		at := r.Intn(len(parts))
		if r.Intn(8) == 0 {
			n := r.Intn(200)
			parts[at] += strings.Repeat(pieces[r.Intn(len(pieces))], n)
			room -= n
		}
		parts[at] += pieces[r.Intn(len(pieces))]
	}
	return reflect.ValueOf(parts)
}

// An attacker who knows the scheme sees a key and gives parts of his own that look
// like it, or like what it was made of.
func TestJoinKey_attacker_findsNoPartsForAKey(t *testing.T) {
	t.Parallel()
	attack := func(parts partList) bool {
		key := checkJoined(t, parts)
		text := escaped(parts)
		tries := [][]string{
			{key}, strings.Split(key, ":"), {text}, strings.Split(text, ":"), {strings.Join(parts, ":")},
			append(slices.Clone(parts), ""), append([]string{""}, parts...),
		}
		for at := range parts { // two parts as one, one part as two
			if at > 0 {
				for _, by := range []string{":", "%3A", ""} {
					tries = append(tries, slices.Concat(parts[:at-1], []string{parts[at-1] + by + parts[at]}, parts[at+1:]))
				}
			}
			if half := len(parts[at]) / 2; half > 0 {
				tries = append(tries, slices.Concat(parts[:at], []string{parts[at][:half], parts[at][half:]}, parts[at+1:]))
			}
		}
		if len(text) > 255 { // the part before the hash, and the hash
			front, hash, _ := strings.Cut(key, "%#"+key[len(key)-64:])
			tries = append(tries, []string{front, "#" + hash}, []string{front + "%", "#" + hash}, []string{front + "%#" + hash}, []string{text[:255]})
		}
		for _, other := range tries {
			if slices.Equal(other, parts) {
				continue
			}
			if checkJoined(t, other) == key {
				t.Logf("%q and %q are both %q", parts, other, key)
				return false
			}
		}
		return true
	}
	require.NoError(t, quick.Check(attack, &quick.Config{MaxCount: 3000}))
}

func TestKey_text(t *testing.T) {
	t.Parallel()
	for name, want := range map[string]string{
		"tenant:42:calls":         "tenant:42:calls",
		"https://a.org/?b=c%20&d": "https://a.org/?b=c%20&d",
		`say "hi"`:                `say "hi"`,
		"naïve-键":                 "naïve-键",
		`"hi"`:                    `"\"hi\""`,
		"a\nb":                    `"a\nb"`,
		"\xff\x00é":               `"\xff\x00\u00e9"`,
	} {
		text, err := distkit.MustKey(name).MarshalText()
		require.NoError(t, err)
		require.Equal(t, want, string(text))
	}
	for text, says := range map[string]string{
		`"`:                            "no Go string literal",
		`"a`:                           "no Go string literal",
		`"a"b`:                         "no Go string literal",
		`""`:                           "it is empty",
		strings.Repeat("k", 256):       "256 bytes",
		`"` + strings.Repeat("k", 999): "no Go string literal",
	} {
		var key distkit.Key
		err := key.UnmarshalText([]byte(text))
		require.ErrorIs(t, err, distkit.ErrInvalidKey, text)
		require.ErrorContains(t, err, says)
	}
}

// A document with a Key that is not set, is null, or is left out can be written and
// read, and no operation takes what was read.
func TestKey_inJSON_mayBeLeftOut(t *testing.T) {
	t.Parallel()
	type document struct {
		Key      distkit.Key `json:"key"`
		Optional distkit.Key `json:"optional,omitzero"`
	}
	written, err := json.Marshal(document{})
	require.NoError(t, err)
	require.JSONEq(t, `{"key":""}`, string(written))
	for _, text := range []string{string(written), `{}`, `{"key":null}`} {
		var got document
		require.NoError(t, json.Unmarshal([]byte(text), &got))
		require.Equal(t, document{}, got)
	}
	used := document{Key: distkit.MustKey("used")}
	require.NoError(t, json.Unmarshal(written, &used))
	require.Equal(t, document{}, used, "the empty text is the zero Key, not what was there before")
	require.ErrorIs(t, json.Unmarshal([]byte(`{"key":"\"a"}`), &used), distkit.ErrInvalidKey)
}
