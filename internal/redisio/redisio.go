// Package redisio is the one gateway to Redis: it writes calls, reads the
// replies, and says of each attempt what it leaves open. What to do next is the
// ledger's decision.
//
// A batch goes as one call of lua/apply.lua, which applies it once however often
// it is sent; a batch of reads as a plain HMGET, a step of a listing as a plain
// HSCAN. Several calls share one pipeline,
// one round trip. No command of ours is ever sent again by the client library
// (see command).
package redisio

import (
	"context"
	"crypto/sha1"
	"encoding/hex"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/distkit/distkit-go/lua"
	"github.com/redis/go-redis/v9"
)

// Sender makes one attempt at each of the calls, in one round trip, and fills in
// how each ended. It is the seam by which writers are tested without a server.
type Sender interface {
	// Send returns when all attempts have ended. The context bounds the wait only
	// as far as the client honours it.
	Send(ctx context.Context, calls []*Call)
}

// MaxReads bounds the reads of one call: one HMGET.
const MaxReads = 1000

// scanCount is how many fields a Scan asks for: Redis serves nobody else while it
// looks for them, some 0.1 ms. A container of few fields comes whole.
const scanCount = 250

// retiredLifetime is what a ledger has left that is needed no more.
const retiredLifetime = time.Minute

// markLifetime is how long the mark of an emptied container lives; the script has
// it too. Writers that were idle for longer take the container for lost.
const markLifetime = 7 * 24 * time.Hour

// script is a text that Redis runs, and its hash, by which Redis knows it.
type script struct{ text, sha string }

func newScript(text string) script {
	sum := sha1.Sum([]byte(text))
	return script{text, hex.EncodeToString(sum[:])}
}

var (
	apply = newScript(lua.Apply)
	// applyOverFull is the same, but Redis 7.0 and later run it when memory is full
	// (https://redis.io/docs/latest/develop/programmability/eval-intro/#script-flags).
	applyOverFull = newScript("#!lua flags=allow-oom\n" + lua.Apply)
)

// client is a Sender over a go-redis client.
type client struct {
	redis.UniversalClient
	cluster *redis.ClusterClient // nil if it is none
	layout  *layoutGuard         // nil: none
	lines   *lines               // nil: a wait for them cannot be ended
	shut    shutCount
	toFind  atomic.Bool // it is yet to be seen that what a Sentinel leads to is a master
}

// New returns the Sender of a client. It is safe for concurrent use.
func New(c redis.UniversalClient) Sender { return newClient(c) }

// NewGuarded is New for counters of a layout: nothing is sent where Redis has another.
func NewGuarded(c redis.UniversalClient, layout Layout) Sender {
	out := newClient(c)
	out.layout = &layoutGuard{Layout: layout}
	return out
}

func newClient(c redis.UniversalClient) *client {
	out := &client{UniversalClient: c}
	switch c := c.(type) {
	case *redis.ClusterClient:
		out.cluster = c
	case *redis.Client:
		out.toFind.Store(c.Options().Addr == failoverAddr)
		out.lines = linesOf(c)
	}
	return out
}

// Send implements Sender.
func (c *client) Send(ctx context.Context, calls []*Call) {
	if len(calls) == 0 {
		return
	}
	cmds := make([]*command, len(calls))
	for i, call := range calls {
		cmds[i] = newCommand(ctx, call)
	}
	c.attempt(ctx, calls, cmds)
	c.forgetLayout(calls)
	c.awaitReplicas(ctx, calls)
	ctx = context.WithoutCancel(ctx) // a caller that has left leaves the question whether it was meant
	var vanished []*Call
	var marks []*command
	for _, call := range calls {
		if call.Vanished() {
			vanished = append(vanished, call)
			marks = append(marks, &command{Cmd: redis.NewCmd(ctx, "pttl", call.At.mark)})
		}
	}
	c.exec(ctx, marks)
	for i, call := range vanished {
		if left, err := marks[i].Int64(); err == nil && left >= 0 {
			call.Emptied = true
			call.EmptiedAgo = markLifetime - time.Duration(left)*time.Millisecond
		}
	}
}

// attempt runs the calls' commands, and fills in how each ended, also where a hook of
// the client ends the goroutine.
func (c *client) attempt(ctx context.Context, calls []*Call, cmds []*command) {
	defer func() {
		lost, shut := false, false
		for i, call := range calls {
			call.Reply = cmds[i].reply()
			lost = lost || call.Class == Unknown || call.Class == NotYet
			shut = shut || call.Class == NotYet && errors.Is(call.Err, redis.ErrClosed)
		}
		if at := calls[0].At.Name; !shut {
			c.shut.reset(at)
		} else if c.cluster == nil || c.shut.count(at) >= closedInARow {
			for _, call := range calls {
				if call.Class == NotYet {
					call.Class = Closed
				}
			}
		}
		if lost && c.cluster != nil {
			c.cluster.ReloadState(ctx) // or go-redis asks for a dead master for up to a minute
		}
	}()
	err := c.seeMaster(ctx)
	if err == nil {
		err = c.seeLayout(ctx, calls)
	}
	if err != nil {
		for _, cmd := range cmds {
			cmd.SetErr(err)
		}
		return
	}
	c.exec(ctx, cmds)
}

// failoverAddr is how go-redis marks the client of a Sentinel (v9.23, sentinel.go).
const failoverAddr = "FailoverClient"

// errReplica is what a client of replicas is told. NewSystem cannot see that it is one.
var errReplica = errors.New("the Sentinel client leads to a replica, which is behind; set ReplicaOnly to false")

// seeMaster makes sure, once, that a Sentinel's client leads to a master.
func (c *client) seeMaster(ctx context.Context) error {
	if !c.toFind.Load() {
		return nil
	}
	var role []any
	err := guard(func() (err error) {
		role, err = c.Do(ctx, "role").Slice()
		return err
	})
	switch {
	case neverTells(err):
		c.toFind.Store(false)
	case err != nil || len(role) == 0: // the calls will tell
	case role[0] == "slave":
		return errReplica
	default:
		c.toFind.Store(false)
	}
	return nil
}

// neverTells reports whether the server answers that it will not say what it is.
func neverTells(err error) bool {
	text, ok := replyOf(err)
	return ok && (startsWith(text, "NOPERM") || startsWith(text, "ERR unknown command"))
}

// closedInARow is how many attempts in a row of a ClusterClient have to end so that it
// counts as closed: it also says that it is closed of a node that it has just let go,
// until it has asked for the cluster's state again, which each attempt has it do.
const closedInARow = 5

// shutCount counts, for each container, the attempts in a row of which a ClusterClient
// said that it is closed: those for several containers may all have met one node that it
// has let go.
type shutCount struct {
	any atomic.Bool // there is something to forget
	mu  sync.Mutex
	by  map[string]int
}

func (s *shutCount) count(container string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.by == nil {
		s.by = map[string]int{}
	}
	s.any.Store(true)
	s.by[container]++
	return s.by[container]
}

func (s *shutCount) reset(container string) {
	if !s.any.Load() {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.by, container)
	s.any.Store(len(s.by) > 0)
}

// exec runs the commands; each then holds its own reply or error. A hook of the
// client that panics, or ends the goroutine, is an error: the fate of what was sent is
// open.
func (c *client) exec(ctx context.Context, cmds []*command) {
	if len(cmds) == 0 {
		return
	}
	err := errEnded
	defer func() {
		for _, cmd := range cmds { // an error that go-redis does not give to each command
			switch {
			case err == nil || cmd.Err() != nil || cmd.Val() != nil:
			case cmd.written:
				cmd.SetErr(fmt.Errorf("no answer: %v", err)) // not %w: it may be Redis's answer to another
			default:
				cmd.SetErr(err)
			}
		}
	}()
	err = guard(func() error {
		if len(cmds) == 1 {
			return c.Process(ctx, cmds[0])
		}
		pipe := c.Pipeline()
		for _, cmd := range cmds {
			_ = pipe.Process(ctx, cmd) // only queues
		}
		_, err := pipe.Exec(ctx)
		return err
	})
}

// guard calls the client: a hook of its user's that panics is an error.
func guard(call func() error) (err error) {
	defer func() {
		if reason := recover(); reason != nil {
			err = fmt.Errorf("panic while calling redis: %v", reason)
		}
	}()
	return call()
}

var errEnded = errors.New("a hook of the client ended the goroutine that called redis")
