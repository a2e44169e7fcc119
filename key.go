package distkit

import (
	"fmt"
	"strings"
)

// MaxKeyLen is the greatest length of a Key, in bytes.
const MaxKeyLen = 255

// Key names one counter. A Key made by ParseKey, MustKey or SanitizeKey is
// valid; the zero Key is not, and every operation on it fails with
// ErrInvalidKey. Keys are comparable and usable as map keys.
type Key struct{ name string }

// ParseKey returns the key named s, or an error that matches ErrInvalidKey and
// says which rule s breaks: a key is not empty, at most MaxKeyLen bytes long,
// and holds no ':', which separates the parts of the names in Redis. Any other
// byte is allowed.
func ParseKey(s string) (Key, error) {
	switch {
	case s == "":
		return Key{}, fmt.Errorf("%w: it is empty; a key has 1 to %d bytes", ErrInvalidKey, MaxKeyLen)
	case len(s) > MaxKeyLen:
		return Key{}, fmt.Errorf("%w: %.32q… has %d bytes; a key has 1 to %d", ErrInvalidKey, s, len(s), MaxKeyLen)
	}
	if at := strings.IndexByte(s, ':'); at >= 0 {
		return Key{}, fmt.Errorf("%w: %q has a ':' at byte %d; a key has none (SanitizeKey removes them)", ErrInvalidKey, s, at)
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

// SanitizeKey removes every ':' from s and returns the key of what remains, or
// ParseKey's error. Distinct names can become one key.
func SanitizeKey(s string) (Key, error) {
	return ParseKey(strings.ReplaceAll(s, ":", ""))
}

// String returns the key's name; it is empty for the zero Key.
func (k Key) String() string { return k.name }

// check refuses the zero Key.
func (k Key) check() error {
	if k.name == "" {
		return notApplied(fmt.Errorf("%w: the zero Key names no counter; use ParseKey, MustKey or SanitizeKey", ErrInvalidKey))
	}
	return nil
}
