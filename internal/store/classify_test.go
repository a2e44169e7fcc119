package store

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

// reply is an error reply of Redis, as go-redis gives it.
type reply string

func (r reply) Error() string { return string(r) }
func (reply) RedisError()     {}

func TestClassify_everyRowOfTheDesign(t *testing.T) {
	t.Parallel()
	ended, cancel := context.WithCancel(context.Background())
	cancel()
	for _, row := range []struct {
		name string
		err  error
		want Class
	}{
		{"a reply", nil, Applied},
		{"dial refused", &net.OpError{Op: "dial", Err: syscall.ECONNREFUSED}, NotYet},
		{"dial timed out", &net.OpError{Op: "dial", Err: context.DeadlineExceeded}, NotYet},
		{"dial error inside another", fmt.Errorf("pool: %w", &net.OpError{Op: "dial", Err: io.EOF}), NotYet},
		{"pool timeout", redis.ErrPoolTimeout, NotYet},
		{"pool exhausted", redis.ErrPoolExhausted, NotYet},
		{"client closed", redis.ErrClosed, NotYet},
		{"context ended before the write", alive(ended), NotYet},

		{"NOSCRIPT", reply("NOSCRIPT No matching script. Please use EVAL."), NoScript},
		{"BUSY", reply("BUSY Redis is busy running a script."), NotYet},
		{"CROSSSLOT", reply("CROSSSLOT Keys in request don't hash to the same slot"), Refused},
		{"MOVED", reply("MOVED 3999 127.0.0.1:6381"), NotYet},
		{"ASK", reply("ASK 3999 127.0.0.1:6381"), NotYet},
		{"TRYAGAIN", reply("TRYAGAIN Multiple keys request during rehashing of slot"), NotYet},
		{"LOADING", reply("LOADING Redis is loading the dataset in memory"), NotYet},
		{"CLUSTERDOWN", reply("CLUSTERDOWN The cluster is down"), NotYet},
		{"MASTERDOWN", reply("MASTERDOWN Link with MASTER is down"), NotYet},
		{"NOAUTH", reply("NOAUTH Authentication required."), Refused},
		{"NOAUTH of many", reply("ERR Protocol error: unauthenticated multibulk length"), Refused},
		{"NOAUTH of much", reply("ERR Protocol error: unauthenticated bulk length"), Refused},
		{"WRONGPASS", reply("WRONGPASS invalid username-password pair or user is disabled."), Refused},
		{"NOPERM", reply("NOPERM this user has no permissions to run the 'evalsha' command"), Refused},
		{"OOM", reply("OOM command not allowed when used memory > 'maxmemory'."), Refused},
		{"OOM through a script of Redis 6", reply("-OOM command not allowed when used memory > 'maxmemory'."), Refused},
		{"READONLY", reply("READONLY You can't write against a read only replica."), NotYet},
		{"NOREPLICAS", reply("NOREPLICAS Not enough good replicas to write."), NotYet},
		{"MISCONF", reply("MISCONF Redis is configured to save RDB snapshots, but …"), Refused},
		{"max clients", reply("ERR max number of clients reached"), NotYet},
		{"unknown command", reply("ERR unknown command 'EVALSHA', with args beginning with: "), Refused},
		{"inside another", fmt.Errorf("hook: %w", reply("LOADING Redis is loading")), NotYet},

		{"raised inside the script", reply("ERR Error running script (call to f_1): @user_script:1: boom"), Unknown},
		{"a prefix inside the text", reply("ERR Error running script: OOM command not allowed"), Unknown},
		{"a longer word", reply("BUSYGROUP Consumer Group name already exists"), Unknown},
		{"a reply nobody knows", reply("STRANGE"), Unknown},

		{"EOF", io.EOF, Unknown},
		{"unexpected EOF", io.ErrUnexpectedEOF, Unknown},
		{"reset", &net.OpError{Op: "read", Err: syscall.ECONNRESET}, Unknown},
		{"broken pipe", &net.OpError{Op: "write", Err: syscall.EPIPE}, Unknown},
		{"i/o timeout", &net.OpError{Op: "read", Err: context.DeadlineExceeded}, Unknown},
		{"closed mid-flight", net.ErrClosed, Unknown},
		{"context ended, nobody knows when", context.DeadlineExceeded, Unknown},
		{"unparsable reply", errors.New("redis: can't parse \"?\""), Unknown},
	} {
		require.Equal(t, row.want, Classify(row.err), row.name)
	}
}

func TestLedgerName_sharesTheContainersSlot(t *testing.T) {
	t.Parallel()
	for prefix, want := range map[string]string{
		"my_app":  "{my_app:strict_counter}:writer:w",
		"{t}app":  "{t}app:strict_counter:writer:w",
		"a{t}":    "a{t}:strict_counter:writer:w",
		"open{":   "{open{:strict_counter}:writer:w",
		"{{t}}":   "{{t}}:strict_counter:writer:w",
		"with sp": "{with sp:strict_counter}:writer:w",
	} {
		require.NoError(t, CheckPrefix(prefix))
		container := Container(prefix, "strict_counter")
		ledger := LedgerName(container, "w")
		require.Equal(t, want, ledger)
		require.Equal(t, hashed(container), hashed(ledger), "what Redis hashes of both")
	}
	for _, prefix := range []string{"}", "a}b", "{}a", "a{}b}"} {
		require.ErrorContains(t, CheckPrefix(prefix), "no hash tag", prefix)
	}
}

// hashed is the part of a key that decides its slot, written from the cluster
// specification.
func hashed(key string) string {
	for s := 0; s < len(key); s++ {
		if key[s] != '{' {
			continue
		}
		for e := s + 1; e < len(key); e++ {
			if key[e] == '}' {
				if e == s+1 {
					return key
				}
				return key[s+1 : e]
			}
		}
		return key
	}
	return key
}
