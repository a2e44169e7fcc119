// Package store is the one gateway to Redis: it sends frozen batches and
// reads, reads the replies, and says of each failure what it means.
//
// A batch is sent as one call of apply.lua, which applies it once however
// often it is sent under its number. Several calls share one pipeline, one round
// trip. No command of ours is ever sent again by the client library (see
// command): sending again is the writers' decision.
package store

import (
	"context"
	"crypto/sha1"
	"encoding/hex"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/distkit/distkit-go/internal/op"
	"github.com/distkit/distkit-go/lua"
	"github.com/redis/go-redis/v9"
)

// LedgerTTL is how long a ledger lives after its writer's last batch. A late
// copy of a batch is harmless while the ledger lives.
const LedgerTTL = 7 * 24 * time.Hour

// retiredTTL is what a clean shutdown shortens that to. Not zero: a copy of
// batch 1 still on its way would find no ledger and be applied again.
const retiredTTL = time.Minute

// maxFields bounds the fields of one HMGET.
const maxFields = 1000

var (
	applySHA = func() string {
		sum := sha1.Sum([]byte(lua.Apply))
		return hex.EncodeToString(sum[:])
	}()
	ledgerTTL = strconv.FormatInt(LedgerTTL.Milliseconds(), 10)
)

// Store speaks to one container. It is safe for concurrent use.
type Store struct {
	client    redis.UniversalClient
	container string
}

// New returns the store of the container of one kind under a prefix.
func New(client redis.UniversalClient, prefix, kind string) *Store {
	return &Store{client: client, container: Container(prefix, kind)}
}

// Call is a frozen batch and, after Send, how the last attempt ended.
type Call struct {
	Writer string // the writer's id, which names its ledger
	Seq    int64  // the batch's number
	Text   bool   // send the script's text, not its hash: after NoScript
	Fence  bool   // do not apply it any more, but see to it that no late copy is, and ask whether one was

	// Ops are the operations; they must not change once the call has left.
	// Where Freeze is set it gives them, once, when the first attempt is about
	// to be written to a socket.
	Ops    []KeyOp
	Freeze func() []KeyOp
	fate   atomic.Int32

	Class   Class
	Results []op.Result // one an operation, where Class is Applied and Gap is not set; before, room for them
	Gap     bool        // the ledger stands at Last, neither Seq nor Seq-1: nothing was, or after Fence will be, applied
	Last    int64
	Err     error // the cause, where Class is not Applied
}

// A call's fate: at first it is here.
const (
	here    int32 = iota
	left          // an attempt came as far as being written
	revoked       // none ever will
)

// Left reports whether any attempt came as far as being written. Until then
// the call surely was not applied.
func (c *Call) Left() bool { return c.fate.Load() == left }

// Revoke keeps a call that has not left from ever leaving, even if an attempt
// is waiting for a connection; false if it has left.
func (c *Call) Revoke() bool { return c.fate.CompareAndSwap(here, revoked) }

// freeze is called when an attempt is about to be written; false if it must not be.
func (c *Call) freeze() bool {
	if c.fate.CompareAndSwap(here, left) && c.Freeze != nil {
		c.Ops = c.Freeze()
	}
	return c.Left()
}

// Read is a set of keys to read and, after [Store.Read], their values.
type Read struct {
	Keys []string

	Values []Value
	Class  Class
	Err    error // the cause, where Class is not Applied
}

// Value is one counter as read: its value, or why it has none.
type Value struct {
	N   int64
	Err error
}

// command is a command that the client library never sends a second time:
// MaxRetries -1 does not stop a ClusterClient, nor a pipeline whose first
// reply is LOADING or READONLY (go-redis v9.23, error.go shouldRetry).
//
// Its last arguments, a call's operations, are made when the client asks for
// them, which it does when it has a connection and writes. (A ClusterClient, or
// a hook that looks at arguments, asks sooner: the call then counts as having
// left sooner than need be.)
type command struct {
	*redis.Cmd
	call *Call // nil for a command that is whole
	args []any
}

// NoRetry implements redis.Cmder.
func (*command) NoRetry() bool { return true }

// Args implements redis.Cmder.
func (c *command) Args() []any {
	if c.args == nil {
		c.args = c.Cmd.Args()
		switch {
		case c.call == nil || c.call.Fence:
		case c.call.freeze():
			c.args = appendOps(c.args, c.call.Ops)
		default: // something has to be written; nobody waits for the reply
			c.args = []any{"ping"}
		}
	}
	return c.args
}

// Send makes one attempt at all calls, in one round trip, and fills in how each
// ended. The context bounds the wait only as far as the client honours it.
func (s *Store) Send(ctx context.Context, calls []*Call) {
	defer guard(func(err error) {
		for _, call := range calls {
			call.Class, call.Err, call.Gap = Unknown, err, false
		}
	})
	cmds := make([]redis.Cmder, len(calls))
	for i, call := range calls {
		cmds[i] = s.applyCmd(ctx, call)
	}
	s.exec(ctx, cmds)
	for i, call := range calls {
		call.finish(cmds[i].(*command).Result())
	}
}

// Read makes one attempt at a read, in one round trip, and fills in how it ended.
func (s *Store) Read(ctx context.Context, read *Read) {
	defer guard(func(err error) { read.Class, read.Err = Unknown, err })
	var cmds []redis.Cmder
	for at := 0; at < len(read.Keys); at += maxFields {
		cmds = append(cmds, s.readCmd(ctx, read.Keys[at:min(at+maxFields, len(read.Keys))]))
	}
	s.exec(ctx, cmds)
	read.finish(cmds)
}

// guard, deferred, gives a panic of a hook of the client as an error: the fate of
// what was sent is open.
func guard(failed func(error)) {
	if reason := recover(); reason != nil {
		failed(fmt.Errorf("panic while calling redis: %v", reason))
	}
}

// exec runs the commands; each then holds its own reply or error.
func (s *Store) exec(ctx context.Context, cmds []redis.Cmder) {
	err := alive(ctx)
	switch {
	case err != nil:
	case len(cmds) == 0:
		return
	case len(cmds) == 1:
		_ = s.client.Process(ctx, cmds[0]) // the command holds its error
		return
	default:
		pipe := s.client.Pipeline()
		for _, cmd := range cmds {
			_ = pipe.Process(ctx, cmd) // only queues
		}
		_, err = pipe.Exec(ctx)
	}
	for _, cmd := range cmds { // an error of the pipeline itself, which go-redis does not give to each command
		if err != nil && cmd.Err() == nil && cmd.(*command).Val() == nil {
			cmd.SetErr(err)
		}
	}
}

func (s *Store) applyCmd(ctx context.Context, call *Call) *command {
	name, script := "evalsha", applySHA
	if call.Text {
		name, script = "eval", lua.Apply
	}
	var number any = call.Seq
	if call.Fence {
		number = "fence"
	}
	args := append(make([]any, 0, 7+3*len(call.Ops)),
		name, script, 2, s.container, LedgerName(s.container, call.Writer), number, ledgerTTL)
	return &command{Cmd: redis.NewCmd(ctx, args...), call: call}
}

func (s *Store) readCmd(ctx context.Context, keys []string) *command {
	args := make([]any, 0, 2+len(keys))
	args = append(args, "hmget", s.container)
	for i := range keys {
		args = append(args, &keys[i])
	}
	return &command{Cmd: redis.NewCmd(ctx, args...)}
}

// finish reads the reply of apply.lua.
func (c *Call) finish(reply any, err error) {
	c.Class, c.Err, c.Results, c.Gap = Classify(err), err, c.Results[:0], false
	if err != nil {
		return
	}
	text, _ := reply.(string)
	status, payload, found := strings.Cut(text, " ")
	switch {
	case found && status == "G" && !c.Fence:
		c.Gap = true
		c.Last, err = strconv.ParseInt(payload, 10, 64)
	case found && status == "F" && c.Fence:
		last, stored, _ := strings.Cut(payload, " ")
		c.Last, err = strconv.ParseInt(last, 10, 64)
		if c.Gap = c.Last != c.Seq; !c.Gap {
			c.Results = results(stored, c.Ops, c.Results)
		}
	case found && !c.Fence && (status == "A" || status == "R"):
		c.Results = results(payload, c.Ops, c.Results[:0])
	default:
		err = fmt.Errorf("%w: %.40q", errMalformed, text)
	}
	if err != nil {
		c.Class, c.Err, c.Gap = Unknown, err, false
	}
}

// results reads the payload of a batch that is in. Where it cannot be read (a
// script that Redis broke off after its first write), sending the batch again
// would answer the same for ever: the outcome of its operations stays unknown.
func results(payload string, ops []KeyOp, room []op.Result) []op.Result {
	parsed, err := parseResults(payload, ops, room)
	if err != nil {
		parsed = room
		for range ops {
			parsed = append(parsed, op.Result{Err: op.Unknown(err)})
		}
	}
	return parsed
}

func (r *Read) finish(cmds []redis.Cmder) {
	r.Values, r.Class, r.Err = make([]Value, 0, len(r.Keys)), Applied, nil
	for _, cmd := range cmds {
		reply, err := cmd.(*command).Result()
		fields, ok := reply.([]any)
		size := min(maxFields, len(r.Keys)-len(r.Values))
		switch {
		case err != nil && wrongType(err):
			for range size {
				r.Values = append(r.Values, Value{Err: errWrongType})
			}
		case err != nil:
			r.Class, r.Err = Classify(err), err
			return
		case !ok || len(fields) != size:
			r.Class, r.Err = Unknown, fmt.Errorf("malformed reply to HMGET: %d fields asked", size)
			return
		default:
			for _, field := range fields {
				n, err := parseField(field)
				r.Values = append(r.Values, Value{N: n, Err: err})
			}
		}
	}
}

func wrongType(err error) bool {
	var reply redis.Error
	return errors.As(err, &reply) && startsWith(reply.Error(), "WRONGTYPE")
}

// Retire shortens the lives of the ledgers of writers that will send no more.
func (s *Store) Retire(ctx context.Context, writers []string) (err error) {
	defer guard(func(failed error) { err = failed })
	cmds := make([]redis.Cmder, 0, len(writers))
	for _, writer := range writers {
		ledger := LedgerName(s.container, writer)
		cmds = append(cmds, &command{Cmd: redis.NewCmd(ctx, "pexpire", ledger, retiredTTL.Milliseconds())})
	}
	s.exec(ctx, cmds)
	for _, cmd := range cmds {
		if err := cmd.Err(); err != nil {
			return err
		}
	}
	return nil
}
