package redisio

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/distkit/distkit-go/internal/verb"
	"github.com/redis/go-redis/v9"
)

// The guard of the layout: nothing is sent to the counters of a prefix before Redis has
// said over how many shards they are spread, and that is as many as the sender has been
// given. The number is a key beside the containers; whoever changes the first counter
// writes it.
//
//	unseen ─► looked      there is none, nor anything laid out otherwise: reads may go,
//	     │      │         for a second
//	     └──────┴─► kept  it is ours: everything may go
//
// It is asked for until Redis has answered, as calls are, and then no more: a node that
// goes away later holds up its own shards only. Redis may lose the key with other data; a
// ledger that is missing tells so, and the guard begins anew.
//
// A sender of one shard counts as the Rust crate and earlier versions do, which write no
// such key. So it goes on where it is permitted to count but not to ask or write it.

// Layout is how the counters of a prefix are laid out.
type Layout struct {
	Prefix string
	Shards int
}

// LayoutKey is the name of what holds the number of shards of a prefix.
func LayoutKey(prefix string) string { return prefix + ":layout" }

// Resharding is how the text begins that is there instead while counters are moved.
const Resharding = "moving "

// layoutGuard is what a client knows of the layout in Redis. It is safe for concurrent use.
type layoutGuard struct {
	Layout
	stage  atomic.Int32
	looked atomic.Int64 // when there was none, in Unix nanoseconds
}

// lookAgain is for how long reads go where there is no layout: somebody may write another.
const lookAgain = time.Second

// lets reports whether what needs a stage may go.
func (g *layoutGuard) lets(needed int32) bool {
	stage := g.stage.Load()
	return stage == kept || stage >= needed && time.Now().UnixNano()-g.looked.Load() < int64(lookAgain)
}

// The stages.
const (
	unseen int32 = iota
	looked
	kept
)

// errLayout says that the counters are laid out otherwise than the sender was given.
func (g *layoutGuard) errLayout(format string, args ...any) error {
	return fmt.Errorf("%w: WithShards(%d) was given, but %s", verb.ErrLayout, g.Shards, fmt.Sprintf(format, args...))
}

// unsettled is an ErrLayout that may pass by.
type unsettled struct{ error }

func (u unsettled) Unwrap() error { return u.error }

// seeLayout returns nil if the calls may go.
func (c *client) seeLayout(ctx context.Context, calls []*Call) error {
	if c.layout == nil {
		return nil
	}
	needed := looked
	for _, call := range calls {
		if call.creates() {
			needed = kept
		}
	}
	if c.layout.lets(needed) {
		return nil
	}
	return c.look(ctx, needed)
}

// creates reports whether the call may bring a container into being.
func (c *Call) creates() bool {
	return c.Task == Open || c.Task == Apply || c.Task == Bare && (c.Gather != nil || len(c.Ops) > 0)
}

// forgetLayout begins anew where Redis has lost a ledger.
func (c *client) forgetLayout(calls []*Call) {
	for _, call := range calls {
		if c.layout != nil && call.Status == Gap {
			c.layout.stage.Store(unseen)
		}
	}
}

// look asks Redis for the layout, and writes it where there is none and it is needed.
func (c *client) look(ctx context.Context, needed int32) error {
	g := c.layout
	for {
		held, err := c.one(ctx, "get", LayoutKey(g.Prefix))
		switch {
		case g.passes(err):
			return nil
		case err == nil:
			if err := g.compare(held); err != nil {
				return err
			}
			g.stage.Store(kept)
			return nil
		case !errors.Is(err, redis.Nil):
			return err
		}
		if err := c.lookForUnsharded(ctx); err != nil {
			return err
		}
		if needed < kept {
			g.looked.Store(time.Now().UnixNano())
			g.stage.CompareAndSwap(unseen, looked)
			return nil
		}
		switch _, err := c.one(ctx, "set", LayoutKey(g.Prefix), g.Shards, "nx"); {
		case err == nil:
			g.stage.Store(kept)
			return nil
		case g.passes(err):
			return nil
		case !errors.Is(err, redis.Nil): // else somebody was faster, and what they wrote counts
			return err
		}
	}
}

// passes reports whether a sender of one shard goes on in spite of an answer. One that
// lacks the permission is not asked again.
func (g *layoutGuard) passes(err error) bool {
	if err == nil || g.Shards > 1 {
		return false
	}
	text, ok := replyOf(err)
	if ok && startsWith(text, "NOPERM") {
		g.stage.Store(kept)
	}
	class := classifyReply(text)
	return ok && (class == Refused || class == Full)
}

// compare says why what Redis holds is not our layout.
func (g *layoutGuard) compare(held any) error {
	text, ok := held.(string)
	if !ok {
		return fmt.Errorf("%w: reply to GET", verb.ErrMalformed)
	}
	switch n, err := strconv.Atoi(text); {
	case strings.HasPrefix(text, Resharding):
		return unsettled{g.errLayout("the counters of prefix %q are being moved by a Reshard; if it has ended too soon, call it again", g.Prefix)}
	case err != nil || n < 1:
		return unsettled{g.errLayout("%q holds %.40q, which is no number of shards", LayoutKey(g.Prefix), text)}
	case n != g.Shards:
		return g.errLayout("the counters of prefix %q are on %d; give that number, or move them by Reshard", g.Prefix, n)
	}
	return nil
}

// lookForUnsharded refuses several shards where there are counters on none, of before
// the layout was written.
func (c *client) lookForUnsharded(ctx context.Context) error {
	if c.layout.Shards == 1 {
		return nil
	}
	for _, kind := range []string{StrictKind, LaxKind} {
		name := NewContainer(c.layout.Prefix, kind).Name
		there, err := c.one(ctx, "exists", name)
		if err != nil {
			return err
		}
		switch there {
		case int64(0):
		case int64(1):
			return c.layout.errLayout("%q holds counters without shards; move them by Reshard", name)
		default: // no answer of Redis's
			return fmt.Errorf("%w: reply to EXISTS", verb.ErrMalformed)
		}
	}
	return nil
}

// one runs a command of one key, which may be run twice, and returns its reply.
func (c *client) one(ctx context.Context, args ...any) (any, error) {
	cmd := &command{Cmd: redis.NewCmd(ctx, args...)}
	c.exec(ctx, []*command{cmd})
	if err := cmd.Err(); err != nil {
		if wrongType(err) {
			return nil, unsettled{c.layout.errLayout("%q is no number of shards: %v", args[1], err)}
		}
		return nil, advise(err)
	}
	return cmd.Val(), nil
}
