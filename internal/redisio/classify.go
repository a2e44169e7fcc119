package redisio

import (
	"errors"
	"net"
	"strings"

	"github.com/distkit/distkit-go/internal/verb"
	"github.com/redis/go-redis/v9"
)

// Class is what an attempt leaves open.
type Class uint8

// The classes of an attempt's end.
const (
	// Answered: Redis has done what was asked, or the script says why not.
	Answered Class = iota
	// Unknown: it may have been done, now or later.
	Unknown
	// NotYet: nothing was done, and trying again later may succeed: Redis
	// could not be reached, is starting, failing over, or busy.
	NotYet
	// Refused: nothing was done, and only a change to Redis or to the
	// client's settings will help: credentials, permissions, memory, disk.
	Refused
	// Full: it was refused, for want of memory.
	Full
	// Moving: nothing was done, since the keys are being moved to another node of
	// the cluster, and are not all at one.
	Moving
	// Closed: nothing was done, and never will be: the client has been closed, or the
	// counters in Redis are laid out otherwise.
	Closed
	// NoScript: nothing was done; the script's text has to be sent along.
	NoScript
)

// NotApplied reports whether the class rules out that anything was done.
func (c Class) NotApplied() bool { return c != Answered && c != Unknown }

// notWritten is the script's word for a failure before its first write.
const notWritten = "NOTWRITTEN "

// replies are the words with which Redis says that it did not run a command.
// Anything else that Redis may answer counts as Unknown, unless the script says
// that it was met before its first write: then as Refused.
var replies = []struct {
	prefix string
	class  Class
	advice string // what is to be done, for whoever reads the error
}{
	{"NOSCRIPT", NoScript, ""},
	{"BUSY", NotYet, ""},
	{"MOVED", NotYet, ""},
	{"ASK", NotYet, ""},
	{"TRYAGAIN", Moving, ""},
	{"LOADING", NotYet, ""},
	{"CLUSTERDOWN", NotYet, ""},
	{"MASTERDOWN", NotYet, ""},
	{"READONLY", NotYet, ""},
	{"NOREPLICAS", NotYet, ""},
	{"ERR max number of clients reached", NotYet, ""},
	{"CROSSSLOT", Refused, ""},
	{"NOAUTH", Refused, noPassword},
	{"WRONGPASS", Refused, wrongPassword},
	{"NOPERM", Refused, noPermission},
	{"The user executing the script", Refused, noPermission},
	{"ACL failure in script", Refused, noPermission}, // Redis 8
	{"OOM", Full, "Redis is full: raise its maxmemory, or delete something"},
	{"MISCONF", Refused, "Redis cannot write to its disk: see its log"},
	{"ERR unknown command", Refused, "this server cannot run Lua scripts"},
	{"ERR Error compiling script", Refused, ""},
	{"ERR AUTH", Refused, wrongPassword},
	{"ERR invalid password", Refused, wrongPassword},
	// NOAUTH of a request of more than ten arguments, or of a long one.
	{"ERR Protocol error: unauthenticated multibulk length", Refused, noPassword},
	{"ERR Protocol error: unauthenticated bulk length", Refused, noPassword},
}

const (
	noPermission  = "the Redis user may not do this: see the README for what a user needs"
	noPassword    = "Redis wants a password: set Username and Password in the options of the client"
	wrongPassword = "Redis does not know this user or password: see the options of the client"
)

// advised is an error, and what is to be done about it.
type advised struct {
	error
	advice string
}

func (e *advised) Error() string { return e.error.Error() + " (" + e.advice + ")" }
func (e *advised) Unwrap() error { return e.error }

// advise adds to an answer of Redis's what is to be done about it, where we know.
func advise(err error) error {
	if err == nil {
		return nil
	}
	text, ok := replyOf(err)
	if !ok {
		return err
	}
	if row := rowOf(text); row >= 0 && replies[row].advice != "" {
		return &advised{err, replies[row].advice}
	}
	return err
}

// Classify says what the error of one attempt means. It is the only place that
// reads Redis errors.
func Classify(err error) Class {
	if err == nil {
		return Answered
	}
	if errors.Is(err, verb.ErrLayout) {
		if errors.As(err, new(unsettled)) {
			return Refused
		}
		return Closed
	}
	if text, ok := replyOf(err); ok {
		return classifyReply(text)
	}
	var network *net.OpError
	switch {
	case errors.Is(err, errReplica):
		return Refused
	case errors.Is(err, errKept),
		errors.Is(err, redis.ErrPoolTimeout),
		errors.Is(err, redis.ErrPoolExhausted),
		errors.Is(err, redis.ErrClosed), // which is Closed if it is final: see client.closed
		errors.As(err, &network) && network.Op == "dial":
		return NotYet
	}
	return Unknown
}

func classifyReply(text string) Class {
	if row := rowOf(text); row >= 0 {
		return replies[row].class
	}
	if strings.HasPrefix(text, notWritten) {
		return Refused
	}
	return Unknown
}

// rowOf is the index of an answer among the replies; -1 if it is none of them.
func rowOf(text string) int {
	why, before := strings.CutPrefix(text, notWritten)
	for i, r := range replies {
		if before && holdsWord(why, r.prefix) || startsWith(text, r.prefix) {
			return i
		}
	}
	return -1
}

// replyOf is what Redis has answered, if it has. A hook may have wrapped it. Of
// several errors in one nobody says which ended the attempt: go-redis joins those
// of a broken connection so.
func replyOf(err error) (text string, ok bool) {
	for ; err != nil; err = errors.Unwrap(err) {
		if reply, is := err.(redis.Error); is {
			return reply.Error(), true
		}
	}
	return "", false
}

// holdsWord reports whether text has the word anywhere: Redis before 7.0
// decorates what a command of a script answers ("@user_script: 68: -OOM …").
func holdsWord(text, word string) bool {
	for {
		at := strings.Index(text, word)
		if at < 0 {
			return false
		}
		if startsWith(text[at:], word) && (at == 0 || text[at-1] == ' ' || text[at-1] == '-') {
			return true
		}
		text = text[at+len(word):]
	}
}

// startsWith reports whether text is prefix, or starts with prefix and a
// character that ends a word, so that BUSYGROUP is not BUSY.
func startsWith(text, prefix string) bool {
	rest, found := strings.CutPrefix(text, prefix)
	return found && (rest == "" || rest[0] == ' ' || rest[0] == ':' || rest[0] == ',')
}

func wrongType(err error) bool {
	text, ok := replyOf(err)
	return ok && startsWith(text, "WRONGTYPE")
}
