package distkit

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strings"
	"unicode/utf8"

	"github.com/distkit/distkit-go/internal/redisio"
)

// JoinKey joins parts to a key: JoinKey("tenant", "42", "calls") is the key
// "tenant:42:calls". Parts may be empty and hold any bytes. Other parts, or parts in
// another order, give another key, whoever chose them:
//
//   - A ':' in a part becomes "%3A" and a '%' becomes "%25". So a ':' in the key
//     always separates two parts.
//   - A single part that is empty becomes "%".
//   - A text that is then longer than MaxKeyLen is cut. It ends in "%#" and the
//     SHA-256 of the whole text, in hexadecimal. No text that was not cut holds "%#",
//     and nobody is known to be able to find two texts with one SHA-256.
//
// This holds among keys made by JoinKey. ParseKey can name the same counters: it is
// not for texts that others choose, beside JoinKey and under the same prefix.
//
// Braces stay as they are. The first pair with something in between is the key's hash
// tag, as in Redis Cluster, and a cut keeps it: it moves to the front if it would be
// lost, as its SHA-256 if it is too long. Put your own tag before parts that others
// choose.
//
// The error, when there are no parts, matches ErrInvalidKey.
func JoinKey(parts ...string) (Key, error) {
	if len(parts) == 0 {
		return Key{}, fmt.Errorf("%w: JoinKey has no parts; it takes 1 or more, which may be empty", ErrInvalidKey)
	}
	escaped := make([]string, len(parts))
	for i, part := range parts {
		escaped[i] = escapePart.Replace(part)
	}
	text := strings.Join(escaped, ":")
	if text == "" {
		text = "%" // of one empty part: two make ":"
	}
	return ParseKey(shorten(text))
}

var escapePart = strings.NewReplacer("%", "%25", ":", "%3A")

// shortened stands in front of a hash: a '%' that escapes nothing.
const shortened = "%#"

// shorten cuts a text that is too long for a key. Equal results are of equal texts:
// their last bytes are the hash.
func shorten(text string) string {
	if len(text) <= MaxKeyLen {
		return text
	}
	end := shortened + hash(text)
	room := MaxKeyLen - len(end)
	from, to := redisio.HashTag(text)
	if to <= room-utf8.UTFMax { // it stays where it is, or there is none
		return cut(text, room) + end
	}
	tag := text[from:to]
	if len(tag) > room {
		tag = "{" + hash(tag) + "}"
	}
	return tag + cut(text, room-len(tag)) + end
}

// cut is the first n bytes of a text, or up to 3 fewer, to leave no character in two.
func cut(text string, n int) string {
	at := n
	for at > 0 && at > n-utf8.UTFMax+1 && !utf8.RuneStart(text[at]) {
		at--
	}
	return text[:at]
}

func hash(text string) string {
	sum := sha256.Sum256([]byte(text))
	return hex.EncodeToString(sum[:])
}
