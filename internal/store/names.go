package store

import (
	"fmt"
	"strings"
)

// Container is the name of the hash that holds the counters of one kind
// ("strict_counter" or "lax_counter") under a prefix. It is the layout of the
// Rust crate distkit, so that both count on the same keys.
func Container(prefix, kind string) string { return prefix + ":" + kind }

// LedgerName is the name of a writer's ledger: in Redis Cluster it must hash
// to its container's slot. A container without a hash tag becomes the tag
// itself; one that has a tag passes it on.
func LedgerName(container, writer string) string {
	if tagged(container) {
		return container + ":writer:" + writer
	}
	return "{" + container + "}:writer:" + writer
}

// CheckPrefix refuses a prefix whose ledgers could not share its containers'
// slot: one that holds a '}' which closes no hash tag.
func CheckPrefix(prefix string) error {
	if strings.Contains(prefix, "}") && !tagged(prefix) {
		return fmt.Errorf("prefix %q holds a '}' that closes no hash tag: use no braces, or a pair around the part that decides the cluster slot, as in {tag}", prefix)
	}
	return nil
}

// tagged reports whether Redis hashes a part of the key only: the part between
// the first '{' and the first '}' after it, unless that is empty
// (https://redis.io/docs/latest/operate/oss_and_stack/reference/cluster-spec/#hash-tags).
func tagged(key string) bool {
	open := strings.IndexByte(key, '{')
	return open >= 0 && strings.IndexByte(key[open+1:], '}') > 0
}
