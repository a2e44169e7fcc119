package redisio

import (
	"fmt"
	"strings"
	"time"
)

// Container is where counters live in Redis: a hash, and beside it, in its slot,
// the ledgers of those who write to it and the mark of who emptied it.
type Container struct {
	Name    string    // of the hash, field -> decimal int64
	Expires time.Time // when Redis lets it go; zero: never
	ledgers string    // what the names of its ledgers start with
	onces   string    // and those of the outcomes of transactions
	mark    string
}

// NewContainer names the container of one kind of counters ("strict_counter" or
// "lax_counter") under a prefix, as the Rust crate distkit does, so that both
// count on the same keys. All other names start with the prefix too, so that an
// ACL of ~<prefix>:* suffices, and hash to the container's slot: its whole name is
// their hash tag, unless the prefix has one, which decides for all of them.
//
// A prefix may hold ':', and "a:writer" may be one beside "a": two containers never
// share a name. The end of a name, where no part of the prefix is, tells what it is: a
// kind, "}" or "cleared" of a mark, or else a writer's id, which is hexadecimal. The
// rest then names one prefix only. The outcome of a transaction ends in its ID, which
// may be anything: it is known by its beginning, so CheckPrefix refuses the few
// prefixes that have such a beginning.
func NewContainer(prefix, kind string) *Container {
	name := prefix + ":" + kind
	of, tag := prefix+":", ":{"+name+"}"
	if strings.Contains(prefix, "{") && !tagged(prefix) {
		// It would open the tag too soon: the tag comes first, at the price of the prefix.
		of, tag = "{"+name+"}:", ""
	}
	return &Container{Name: name, ledgers: of + "writer" + tag + ":", onces: of + "once" + tag + ":", mark: of + "cleared" + tag}
}

// Once is the name of what keeps the outcome of the transaction with an ID.
func (c *Container) Once(id string) string { return c.onces + id }

// Ledger is the name of a writer's ledger.
func (c *Container) Ledger(writer string) string { return c.ledgers + writer }

// CheckPrefix refuses a prefix whose ledgers could not share its containers'
// slot: one that holds a '}' which closes no hash tag. And one whose names could be
// those of transactions under another prefix.
func CheckPrefix(prefix string) error {
	if strings.Contains(prefix, "}") && !tagged(prefix) {
		return fmt.Errorf("prefix %q holds a '}' that closes no hash tag: use no braces, or a pair around the part that decides the cluster slot, as in {tag}", prefix)
	}
	if strings.Contains(prefix, ":once:{") || startsAsOnce(prefix+":") {
		return fmt.Errorf("prefix %q could be taken for the outcomes of transactions under a shorter one: leave out \":once:{\"", prefix)
	}
	return nil
}

// startsAsOnce reports whether a name starts as what Once makes of some prefix, or,
// of the beginning of a name, whether it can go on so.
func startsAsOnce(text string) bool {
	const role = ":once:{"
	for from := 0; ; from++ {
		at := strings.Index(text[from:], role)
		if at < 0 {
			break
		}
		from += at
		if strings.HasPrefix(text[from+len(role):], text[:from]+":") {
			return true
		}
	}
	from, to := HashTag(text)
	if to == 0 || from > 0 || !strings.Contains(text[1:to], "{") || !strings.Contains(text[1:to], ":strict_counter") {
		return false
	}
	return text[to:] == ":" || strings.HasPrefix(text[to:], ":once:")
}

// tagged reports whether a key has a hash tag.
func tagged(key string) bool {
	_, to := HashTag(key)
	return to > 0
}

// HashTag is where the hash tag of a key lies, braces included; 0, 0 if it has none.
// Redis hashes only what is between the first '{' and the first '}' after it, unless
// that is empty
// (https://redis.io/docs/latest/operate/oss_and_stack/reference/cluster-spec/#hash-tags).
func HashTag(key string) (from, to int) {
	from = strings.IndexByte(key, '{')
	if from < 0 {
		return 0, 0
	}
	length := strings.IndexByte(key[from+1:], '}')
	if length <= 0 {
		return 0, 0
	}
	return from, from + length + 2
}
