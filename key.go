package distkit

import (
	"fmt"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// MaxKeyLen is the greatest length of a Key, in bytes.
const MaxKeyLen = 255

// Key names one counter. A Key made by ParseKey, MustKey or JoinKey is valid; the
// zero Key is not, and every operation on it fails with ErrInvalidKey. Keys are
// comparable and usable as map keys, in JSON too.
type Key struct{ name string }

// ParseKey returns the key named s: 1 to MaxKeyLen bytes, whatever they are. The
// error matches ErrInvalidKey and says what is wrong and what is allowed.
//
// To make a key of several texts, or of one that is too long, use JoinKey. The Rust
// crate distkit cannot address a key that holds a ':'.
func ParseKey(s string) (Key, error) {
	switch {
	case s == "":
		return Key{}, fmt.Errorf("%w: it is empty; a key has 1 to %d bytes", ErrInvalidKey, MaxKeyLen)
	case len(s) > MaxKeyLen:
		return Key{}, fmt.Errorf("%w: %.32q… has %d bytes; a key has 1 to %d (JoinKey shortens a longer text)", ErrInvalidKey, s, len(s), MaxKeyLen)
	}
	return Key{s}, nil
}

// MustKey is ParseKey for constants: it panics where ParseKey gives an error.
func MustKey(s string) Key {
	key, err := ParseKey(s)
	if err != nil {
		panic(err)
	}
	return key
}

// String returns the key's name; it is empty for the zero Key.
func (k Key) String() string { return k.name }

// MarshalText returns the key as text that survives encoding/json, for values and
// map keys, and other formats for text. It is the name itself, if that is valid
// UTF-8, holds no control character and does not begin with '"'. Any other name
// becomes a Go string literal in double quotes and ASCII: the byte 0xFF is "\xff".
//
// The text of the zero Key is empty, so that a struct with a Key that is not set can
// be written and read back. The error is always nil.
func (k Key) MarshalText() ([]byte, error) {
	if utf8.ValidString(k.name) && !strings.ContainsFunc(k.name, unicode.IsControl) && !strings.HasPrefix(k.name, `"`) {
		return []byte(k.name), nil
	}
	return strconv.AppendQuoteToASCII(nil, k.name), nil
}

// UnmarshalText reads what MarshalText writes. A text that does not begin with '"'
// is taken as the name, control characters included. The empty text gives the zero
// Key, as a field left out of JSON does: no operation takes it. The error matches
// ErrInvalidKey and leaves the key as it was.
func (k *Key) UnmarshalText(text []byte) error {
	name := string(text)
	if name == "" {
		*k = Key{}
		return nil
	}
	if name[0] == '"' {
		literal, err := strconv.Unquote(name)
		if err != nil {
			return fmt.Errorf("%w: the text %.64q begins with a double quote and is no Go string literal; write a name that begins with one as a literal", ErrInvalidKey, name)
		}
		name = literal
	}
	key, err := ParseKey(name)
	if err != nil {
		return err
	}
	*k = key
	return nil
}

// check refuses the zero Key.
func (k Key) check() error {
	if k.name == "" {
		return notApplied(fmt.Errorf("%w: the zero Key names no counter; use ParseKey, MustKey or JoinKey", ErrInvalidKey))
	}
	return nil
}
