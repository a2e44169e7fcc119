package redisio

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"syscall"
	"testing"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"
)

// errorReply is an error reply of Redis, as go-redis gives it.
type errorReply string

func (r errorReply) Error() string { return string(r) }
func (errorReply) RedisError()     {}

func TestClassify_everyRowOfTheDesign(t *testing.T) {
	t.Parallel()
	for _, row := range []struct {
		name string
		err  error
		want Class
	}{
		{"a reply", nil, Answered},
		{"dial refused", &net.OpError{Op: "dial", Err: syscall.ECONNREFUSED}, NotYet},
		{"dial timed out", &net.OpError{Op: "dial", Err: context.DeadlineExceeded}, NotYet},
		{"dial error inside another", fmt.Errorf("pool: %w", &net.OpError{Op: "dial", Err: io.EOF}), NotYet},
		{"pool timeout", redis.ErrPoolTimeout, NotYet},
		{"pool exhausted", redis.ErrPoolExhausted, NotYet},
		{"client closed", redis.ErrClosed, NotYet},
		{"kept from leaving", fmt.Errorf("write: %w", errKept), NotYet},

		{"NOSCRIPT", errorReply("NOSCRIPT No matching script. Please use EVAL."), NoScript},
		{"BUSY", errorReply("BUSY Redis is busy running a script."), NotYet},
		{"CROSSSLOT", errorReply("CROSSSLOT Keys in request don't hash to the same slot"), Refused},
		{"MOVED", errorReply("MOVED 3999 127.0.0.1:6381"), NotYet},
		{"ASK", errorReply("ASK 3999 127.0.0.1:6381"), NotYet},
		{"TRYAGAIN", errorReply("TRYAGAIN Multiple keys request during rehashing of slot"), Moving},
		{"LOADING", errorReply("LOADING Redis is loading the dataset in memory"), NotYet},
		{"CLUSTERDOWN", errorReply("CLUSTERDOWN The cluster is down"), NotYet},
		{"MASTERDOWN", errorReply("MASTERDOWN Link with MASTER is down"), NotYet},
		{"NOAUTH", errorReply("NOAUTH Authentication required."), Refused},
		{"NOAUTH of many", errorReply("ERR Protocol error: unauthenticated multibulk length"), Refused},
		{"NOAUTH of much", errorReply("ERR Protocol error: unauthenticated bulk length"), Refused},
		{"AUTH without a password", errorReply("ERR AUTH <password> called without any password configured"), Refused},
		{"WRONGPASS", errorReply("WRONGPASS invalid username-password pair or user is disabled."), Refused},
		{"WRONGPASS of Redis 5", errorReply("ERR invalid password"), Refused},
		{"NOPERM", errorReply("NOPERM this user has no permissions to run the 'evalsha' command"), Refused},
		{"OOM", errorReply("OOM command not allowed when used memory > 'maxmemory'."), Full},
		{"READONLY", errorReply("READONLY You can't write against a read only replica."), NotYet},
		{"NOREPLICAS", errorReply("NOREPLICAS Not enough good replicas to write."), NotYet},
		{"MISCONF", errorReply("MISCONF Redis is configured to save RDB snapshots, but …"), Refused},
		{"max clients", errorReply("ERR max number of clients reached"), NotYet},
		{"unknown command", errorReply("ERR unknown command 'EVALSHA', with args beginning with: "), Refused},
		{"unknown command of Redis 6", errorReply("ERR unknown command `EVALSHA`, with args beginning with: "), Refused},
		{"a script that asks for what Redis 6 has not", errorReply("ERR Error compiling script (new function): user_script:1: …"), Refused},
		{"inside another", fmt.Errorf("hook: %w", errorReply("LOADING Redis is loading")), NotYet},

		{"raised inside the script", errorReply("ERR Error running script (call to f_1): @user_script:1: boom"), Unknown},
		{"a prefix inside the text", errorReply("ERR Error running script: OOM command not allowed"), Unknown},
		{"a word of a script's own", errorReply("-OOM command not allowed"), Unknown},
		{"a longer word", errorReply("BUSYGROUP Consumer Group name already exists"), Unknown},
		{"a reply nobody knows", errorReply("STRANGE"), Unknown},

		{"EOF", io.EOF, Unknown},
		{"unexpected EOF", io.ErrUnexpectedEOF, Unknown},
		{"reset", &net.OpError{Op: "read", Err: syscall.ECONNRESET}, Unknown},
		{"broken pipe", &net.OpError{Op: "write", Err: syscall.EPIPE}, Unknown},
		{"i/o timeout", &net.OpError{Op: "read", Err: context.DeadlineExceeded}, Unknown},
		{"closed mid-flight", net.ErrClosed, Unknown},
		{"context ended, nobody knows when", context.DeadlineExceeded, Unknown},
		{"unparsable reply", errors.New("redis: can't parse \"?\""), Unknown},
		{"no reply of Redis, in its words", errors.New("NOTWRITTEN OOM"), Unknown},
	} {
		require.Equal(t, row.want, Classify(row.err), row.name)
		require.Equal(t, row.want != Answered && row.want != Unknown, Classify(row.err).NotApplied(), row.name)
	}
}

// What the script met before its first write. Redis before 7.0 decorates what a
// command of a script answers.
func TestClassify_whatTheScriptMetBeforeItsFirstWrite(t *testing.T) {
	t.Parallel()
	const old = " script: 8aa8bd4bbe9ec09cd1bc8c5d6fd8a4a12a3a6b6e, on @user_script:68."
	for text, want := range map[string]Class{
		"OOM command not allowed when used memory > 'maxmemory'.":                              Full,
		"-OOM command not allowed when used memory > 'maxmemory'.":                             Full,
		"@user_script: 68: -OOM command not allowed when used memory > 'maxmemory'.":           Full,
		"-OOM command not allowed when used memory > 'maxmemory'." + old:                       Full,
		"READONLY You can't write against a read only replica.":                                NotYet,
		"@user_script: 68: -READONLY You can't write against a read only replica.":             NotYet,
		"NOREPLICAS Not enough good replicas to write.":                                        NotYet,
		"@user_script: 68: -NOREPLICAS Not enough good replicas to write.":                     NotYet,
		"MISCONF Redis is configured to save RDB snapshots":                                    Refused,
		"@user_script: 68: -MISCONF Redis is configured to save RDB snapshots":                 Refused,
		"NOPERM this user has no permissions to run the 'set' command":                         Refused,
		"ERR ACL failure in script: User u has no permissions to run the 'set' command":        Refused,
		"@user_script: 68: The user executing the script can't run this command or subcommand": Refused,
		"The user executing the script can't run this command or subcommand":                   Refused,
		"ERR The user executing the script can't access at least one of the keys":              Refused,
		"WRONGTYPE Operation against a key holding the wrong kind of value":                    Refused,
		"ERR unknown verb x":                    Refused,
		"no batch number, or no ledger: LOADIN": Refused,
		"a text that has BUSYGROUP in it":       Refused,
		"xOOM":                                  Refused,
		"BUSYGROUP, and then BUSY":              NotYet,
		"":                                      Refused,
	} {
		require.Equal(t, want, Classify(errorReply("NOTWRITTEN "+text)), text)
	}
	require.Equal(t, Unknown, Classify(errorReply("NOTWRITTENOOM x")))
}
