package store

import (
	"context"
	"errors"
	"net"
	"strings"

	"github.com/redis/go-redis/v9"
)

// Class is what a failed call means for the batch it carried.
type Class uint8

// The classes of a call's end.
const (
	// Applied: an answer came.
	Applied Class = iota
	// Unknown: the call may have been applied; the same number must go again.
	Unknown
	// NotYet: nothing was applied, and trying again later may succeed: Redis
	// could not be reached, is starting, failing over, or busy.
	NotYet
	// Refused: nothing was applied, and only a change to Redis or to the
	// client's settings will help: credentials, permissions, memory, disk.
	Refused
	// NoScript: nothing was applied; the script's text has to be sent along.
	NoScript
)

// NotApplied reports whether the class rules out that the call was applied.
func (c Class) NotApplied() bool { return c == NotYet || c == Refused || c == NoScript }

// errNotSent marks a cause that came before anything was written to a socket.
type errNotSent struct{ error }

func (e errNotSent) Unwrap() error { return e.error }

// replies are the prefixes of error replies with which Redis says that it did
// not run the call. Anything else that Redis may say of a script, an error
// raised inside it included, counts as Unknown.
var replies = []struct {
	prefix string
	class  Class
}{
	{"NOSCRIPT", NoScript},
	{"BUSY", NotYet},
	{"MOVED", NotYet},
	{"ASK", NotYet},
	{"TRYAGAIN", NotYet},
	{"LOADING", NotYet},
	{"CLUSTERDOWN", NotYet},
	{"MASTERDOWN", NotYet},
	{"READONLY", NotYet},
	{"NOREPLICAS", NotYet},
	{"ERR max number of clients reached", NotYet},
	{"CROSSSLOT", Refused},
	{"NOAUTH", Refused},
	{"WRONGPASS", Refused},
	{"NOPERM", Refused},
	{"OOM", Refused},
	{"MISCONF", Refused},
	{"ERR unknown command", Refused},
	{"ERR AUTH", Refused},
	{"ERR invalid password", Refused},
	// NOAUTH of a request of more than ten arguments, or of a long one.
	{"ERR Protocol error: unauthenticated multibulk length", Refused},
	{"ERR Protocol error: unauthenticated bulk length", Refused},
}

// Classify says what the error of one call means. It is the only place that
// reads Redis errors.
func Classify(err error) Class {
	if err == nil {
		return Applied
	}
	var reply redis.Error
	if errors.As(err, &reply) {
		// Up to Redis 6 an error passed on by a script keeps its own dash: "-OOM …".
		text := strings.TrimPrefix(reply.Error(), "-")
		for _, r := range replies {
			if startsWith(text, r.prefix) {
				return r.class
			}
		}
		return Unknown
	}
	var notSent errNotSent
	var network *net.OpError
	switch {
	case errors.As(err, &notSent),
		errors.Is(err, redis.ErrPoolTimeout),
		errors.Is(err, redis.ErrPoolExhausted),
		errors.Is(err, redis.ErrClosed),
		errors.As(err, &network) && network.Op == "dial":
		return NotYet
	}
	return Unknown
}

// startsWith reports whether text is prefix, or starts with prefix and a
// character that ends a word, so that BUSYGROUP is not BUSY.
func startsWith(text, prefix string) bool {
	rest, found := strings.CutPrefix(text, prefix)
	return found && (rest == "" || rest[0] == ' ' || rest[0] == ':' || rest[0] == ',')
}

// alive returns the context's error, marked as having come before the write.
func alive(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return errNotSent{err}
	}
	return nil
}
