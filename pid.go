package distkit

import (
	"context"
	"errors"

	"github.com/asynkron/protoactor-go/actor"
	"github.com/distkit/distkit-go/actors"
	"github.com/distkit/distkit-go/internal/verb"
)

// PID addresses one counter's actor. It stays valid for the life of the
// System, through restarts and passivation, costs nothing to make and needs no
// Redis. The zero PID reaches nothing. A PID is safe for concurrent use.
type PID struct {
	counter *counter
	key     Key
}

// Send hands a message to the counter and does not wait for anything; nobody
// learns the outcome. A message that cannot be taken (an invalid key or
// condition, a closed System) or fails is reported as an event and logged.
func (p PID) Send(m Message) {
	if p.counter == nil {
		return
	}
	if err := p.send(m); err != nil {
		p.counter.system.observe(MessageRefused{Key: p.key, Window: p.counter.window(), Err: err})
	}
}

// window names the window of the counters; "" if they are of none, or of a zero value.
func (c *counter) window() string {
	if c.space == nil {
		return ""
	}
	return c.space.Window()
}

func (p PID) send(m Message) error {
	if err := p.check(); err != nil {
		return err
	}
	if inc, ok := m.(Inc); ok { // what there is most of
		return p.counter.space.Add(p.key.name, inc.N)
	}
	o, err := decode(m)
	if err != nil {
		return err
	}
	return p.counter.space.Send(p.key.name, o)
}

// Request sends a message and waits for its reply within ctx. A Failure is
// returned as the error.
func (p PID) Request(ctx context.Context, m Message) (Reply, error) {
	o, err := decode(m)
	if err != nil {
		return nil, err
	}
	if err := p.check(); err != nil {
		return nil, err
	}
	result, err := p.counter.do(ctx, p.key, o)
	if err != nil && !errors.Is(err, ErrNotReplicated) {
		return nil, err
	}
	result.Err = nil
	return encode(p.key.name, o, result), err
}

// Actor returns the PID for Proto.Actor code, as in
// ctx.Send(pid.Actor(), distkit.Inc{N: 1}) or a RequestFuture, which gets the
// same replies, a Failure included. The first call for a key registers its
// address with the actor system, where it stays until Shutdown (about 300
// bytes); after Shutdown, messages to it are dead letters. For a PID that
// reaches nothing, it returns one whose messages are dead letters.
func (p PID) Actor() *actor.PID {
	if p.check() != nil {
		return actor.NewPID("nonhost", "distkit/nothing")
	}
	return p.counter.space.PID(p.key.name)
}

func (p PID) check() error {
	if p.counter == nil || p.counter.space == nil {
		return notApplied(ErrClosed)
	}
	return p.key.check()
}

// counter is what both kinds of counters are.
type counter struct {
	system *System
	space  space // nil for a System that NewSystem did not make
	kind   string
}

// The kinds of counters.
const strictKind, laxKind = "strict", "lax"

// space is where counters are: a container, or the window of now.
type space interface {
	Do(ctx context.Context, key string, o verb.Op) verb.Result
	DoAll(ctx context.Context, ops []verb.Keyed) []verb.Result
	Send(key string, o verb.Op) error
	Add(key string, n int64) error
	Clear(ctx context.Context) error
	List(ctx context.Context, take func(name string, r verb.Result) bool) error
	PID(key string) *actor.PID
	Window() string // in events
}

var _ space = (*actors.Shards)(nil)
