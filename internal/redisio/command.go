package redisio

import (
	"context"
	"errors"
	"fmt"

	"github.com/distkit/distkit-go/internal/verb"
	"github.com/redis/go-redis/v9"
)

// command is an attempt at a call, as go-redis sends it. The client library never
// sends it a second time: MaxRetries -1 does not stop a ClusterClient, nor a
// pipeline whose first reply is LOADING or READONLY (go-redis v9.23, error.go
// shouldRetry), but NoRetry does.
//
// It still may be sent more than once: a ClusterClient follows redirections, and a
// hook of the user's may repeat what it likes. So the command counts for itself
// what was written and what of it got an answer that rules out that it was
// applied. That it is being written it learns from an argument of its own (wire),
// which go-redis marshals when it has a connection, and which nobody else does: a
// hook that looks at arguments does not make a call leave.
type command struct {
	*redis.Cmd
	call   *Call // nil for a command that is whole
	args   []any // as last asked for
	frozen bool  // they have been written, and stay

	written    bool // by now, in any copy
	waiting    bool // the last copy written has no answer yet
	unanswered int  // copies before that one which may have been applied
}

// errKept is why a call was not written: its callers have withdrawn meanwhile, or
// it was revoked.
var errKept = errors.New("the call was kept from leaving")

// errNeverWritten is what a hook leaves that answers by itself.
var errNeverWritten = errors.New("the call was never written: a hook of the client answered it")

func newCommand(ctx context.Context, call *Call) *command {
	c := &command{call: call}
	switch call.Task {
	case Apply, Bare:
		name, text := call.script()
		c.Cmd = redis.NewCmd(ctx, name, text, 1, call.At.Name) // Args completes it
	case Open, Fence:
		name, text := call.script()
		c.Cmd = redis.NewCmd(ctx, name, text, 1, call.At.Ledger(call.Writer))
	case Read:
		c.Cmd = redis.NewCmd(ctx, "hmget", call.At.Name)
	case Scan:
		c.Cmd = redis.NewCmd(ctx, "hscan", call.At.Name)
	case Recall:
		c.Cmd = redis.NewCmd(ctx, "mget", call.At.Once(""))
	case Retire:
		c.Cmd = redis.NewCmd(ctx, "pexpire", call.At.Ledger(call.Writer))
	}
	return c
}

// script is how the script is called: by its hash, or with its text.
func (c *Call) script() (name, text string) {
	s := &apply
	if c.OverFull {
		s = &applyOverFull
	}
	if c.Text {
		return "eval", s.text
	}
	return "evalsha", s.sha
}

// NoRetry implements redis.Cmder.
func (*command) NoRetry() bool { return true }

// Args implements redis.Cmder. Until the command is written the operations are
// gathered each time, so that who has withdrawn by then is not among them.
func (c *command) Args() []any {
	if c.call == nil {
		return c.Cmd.Args()
	}
	if c.frozen {
		return c.args
	}
	call, head := c.call, c.Cmd.Args()
	if call.Gather != nil && !call.HasLeft() && (call.batch() || call.Task == Read || call.Task == Recall) {
		call.Ops = call.Gather()
	}
	args := append(make([]any, 0, 11+3*len(call.Ops)), head[:2]...)
	switch call.Task {
	case Apply:
		mark := ""
		if call.empties() && !call.Unmarked {
			mark = call.At.mark
		}
		args = call.appendKeys(args, call.At.Ledger(call.Writer), mark)
		args = append(args, wire{c, fmt.Append(nil, call.Seq)}, &call.Nonce, &call.Previous, call.lives())
		args = verb.Append(args, call.Ops, call.merge(), onceKeys)
	case Bare:
		args = append(call.appendKeys(args, "", ""), wire{c, []byte("bare")}, 0, 0, call.lives())
		args = verb.Append(args, call.Ops, call.merge(), onceKeys)
	case Open:
		args = append(args, head[2:]...)
		args = append(args, wire{c, []byte("open")}, &call.Previous, 0, call.Lifetime.Milliseconds())
	case Fence:
		args = append(args, head[2:]...)
		args = append(args, wire{c, []byte("fence")}, 0, 0, call.Lifetime.Milliseconds())
	case Read:
		args[1] = wire{c, []byte(call.At.Name)}
		if call.passage != nil {
			args = append(args, call.passage.mark) // the first field
		}
		for i := range call.Ops {
			args = append(args, &call.Ops[i].Key)
		}
		if len(call.Ops) == 0 { // everybody has withdrawn, and it does not matter what is read
			args = append(args, "")
		}
	case Scan:
		args[1] = wire{c, []byte(call.At.Name)}
		args = append(args, call.Cursor, "count", scanCount)
	case Recall:
		first := call.At.Once("")
		onces := call.onces()
		if len(onces) > 0 { // else everybody has withdrawn, and it does not matter what is read
			first, onces = onces[0], onces[1:]
		}
		args[1] = wire{c, []byte(first)}
		for _, once := range onces {
			args = append(args, once)
		}
	case Retire:
		args = append(args, wire{c, fmt.Append(nil, retiredLifetime.Milliseconds())})
	}
	c.args = args
	return args
}

// merge says which of the operations travel together.
func (c *Call) merge() *verb.Merged {
	c.merged = verb.Merge(c.Ops)
	return c.merged
}

// onceKeys is how many KEYS stand before the first once-key.
const onceKeys = 3

// appendKeys appends the KEYS of a batch, and before them how many they are. A ledger
// or a mark that is none leaves its place to the container where once-keys follow.
func (c *Call) appendKeys(args []any, ledger, mark string) []any {
	keys, onces := []string{c.At.Name, ledger, mark}, c.onces()
	for last := onceKeys - 1; last > 0 && len(onces) == 0 && keys[last] == ""; last-- {
		keys = keys[:last]
	}
	args = append(args, len(keys)+len(onces))
	for _, key := range append(keys, onces...) {
		if key == "" {
			key = c.At.Name
		}
		args = append(args, key)
	}
	return args
}

// wire is an argument by which a command learns that it is being written.
type wire struct {
	c    *command
	text []byte
}

// MarshalBinary implements encoding.BinaryMarshaler.
func (w wire) MarshalBinary() ([]byte, error) {
	if w.c.call.Task == Bare && w.c.waiting || !w.c.call.Leave() {
		return nil, errKept
	}
	w.c.frozen, w.c.written = true, true
	if p := w.c.call.passage; p != nil {
		p.leaves(w.c.call)
	}
	if text, _ := w.c.Val().(string); w.c.waiting && text == "" { // else the copy before has been answered
		w.c.unanswered++
	}
	w.c.SetVal(nil)
	w.c.waiting = true
	return w.text, nil
}

// String shows the argument to hooks that print.
func (w wire) String() string { return string(w.text) }

// SetErr implements redis.Cmder: go-redis tells it how each copy ended.
func (c *command) SetErr(err error) {
	c.Cmd.SetErr(err)
	if err != nil && c.waiting {
		if _, ok := replyOf(err); ok && Classify(err).NotApplied() {
			c.waiting = false
		}
	}
}

// reply says how the attempt ended.
func (c *command) reply() Reply {
	value, err := c.Result()
	if err == nil && !c.written {
		err = errNeverWritten
	}
	if err != nil && c.call.Task == Read && wrongType(err) {
		r := Reply{Status: Done, Results: make([]verb.Result, len(c.call.Ops))}
		verb.Fail(r.Results, verb.WrongType)
		return r
	}
	if err != nil && c.call.Task == Scan && wrongType(err) {
		return Reply{Class: Refused, Err: verb.ErrWrongType}
	}
	if err != nil {
		r := Reply{Class: Classify(err), Err: advise(err)}
		if r.Class == NoScript {
			c.call.Text = true // even if an earlier copy has left it open
		}
		switch {
		case !c.written: // whatever it is, nothing has been done
			if r.Class == Unknown {
				r.Class = NotYet
			}
			r.Stayed = errors.Is(err, errKept)
		case c.waiting || c.unanswered > 0:
			r.Class = Unknown
		}
		return r
	}
	var r Reply
	switch c.call.Task {
	case Retire:
		return r
	case Read:
		r, err = c.call.readFields(value)
	case Scan:
		r, err = readScan(value)
	case Recall:
		r, err = c.call.readOnces(value)
	case Apply, Bare, Open, Fence:
		text, _ := value.(string)
		r, err = c.call.read(text, c.call.Results[:0])
	}
	if err != nil {
		return Reply{Class: Unknown, Err: err}
	}
	r.Repeated = c.unanswered > 0
	return r
}
