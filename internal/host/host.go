// Package host is where the engine's actors live: everything that knows
// Proto.Actor. Above it there are receivers, which get messages one at a time, and
// are started, restarted after a panic, and stopped.
//
//	Host       the supervisor above all, and the names below it
//	Keyspace   an actor for each key in use, found by the key
//	Resident   an actor that is no key
//	Mailbox    the queue of either
//	Addresses  PIDs by which Proto.Actor code reaches keys, and replies to it
//
// Lock order: Keyspace.mu or Resident.mu, then birth, then a mailbox's mu. None is
// held while a message is handled, but for the Stop of an actor put to sleep.
package host

import (
	"context"
	"log/slog"

	"github.com/asynkron/protoactor-go/actor"
	"github.com/distkit/distkit-go/internal/foreign"
)

// Receiver is what an actor does with its messages. Besides its own it gets
// Started, Restarting and Stopped. It never blocks and never runs user code.
type Receiver interface{ Receive(message any) }

type (
	// Started is an actor's first message, also after a restart.
	Started struct{}
	// Restarting is its last one before a restart, after a panic.
	Restarting struct{}
	// Stopped is its last one of all.
	Stopped struct{}
)

// receive hands on what a receiver is to know of.
func receive(to Receiver, message any) {
	switch message.(type) {
	case *actor.Started:
		to.Receive(Started{})
	case *actor.Restarting:
		to.Receive(Restarting{})
	case *actor.Stopped:
		to.Receive(Stopped{})
	case *actor.Stopping, unlisted:
	default:
		to.Receive(message)
	}
}

// Host is the supervisor of an engine's actors, in an actor system.
type Host struct {
	system     *actor.ActorSystem
	name       string // the supervisor's, and first part of all names
	supervisor *supervisor
	parent     parentContext
	replies    replies
}

// New starts a supervisor.
func New(system *actor.ActorSystem, backoff Backoff, observer Observer) *Host {
	h := &Host{system: system, supervisor: newSupervisor(backoff, observer)}
	h.replies = replies{host: h, to: map[recipient]*outbox{}}
	pid := system.Root.SpawnPrefix(actor.PropsFromProducer(func() actor.Actor { return h.supervisor },
		actor.WithSupervisor(h.supervisor)), "distkit")
	h.name, h.parent = pid.Id, parentContext{system.Root, pid}
	return h
}

// props are those of children of the supervisor.
func (h *Host) props(newActor actor.Producer, box actor.MailboxProducer) *actor.Props {
	return actor.PropsFromProducer(newActor, actor.WithMailbox(box),
		actor.WithSpawnFunc(func(system *actor.ActorSystem, id string, props *actor.Props, _ actor.SpawnerContext) (*actor.PID, error) {
			return actor.DefaultSpawner(system, id, props, h.parent)
		}))
}

// EndRestarts drops the restarts that wait for their time; none starts after it.
func (h *Host) EndRestarts() { h.supervisor.cancel() }

// Stop ends the supervisor, when all its children have stopped.
func (h *Host) Stop() {
	h.system.Root.Stop(h.parent.parent)
	<-h.supervisor.stopped
}

// AwaitReplies returns when the senders of messages have their replies, or ctx ends.
func (h *Host) AwaitReplies(ctx context.Context) { h.replies.wait(ctx) }

// parentContext makes actors children of the supervisor though any goroutine
// may spawn them: Proto.Actor takes from it who the parent is.
type parentContext struct {
	*actor.RootContext
	parent *actor.PID
}

// Self implements actor.SpawnerContext.
func (p parentContext) Self() *actor.PID { return p.parent }

// unlisted makes an actor's PID remember its process; it is no message.
type unlisted struct{}

// unlist takes a key's actor out of the process registry, whose maps would take
// some 50 bytes a key and keep most of that when keys sleep. Nobody looks such an
// actor up: messages come through its cell, and what Proto.Actor sends to it goes
// to the PID that the actor has of itself, which remembers the process from the
// first message on. That is sent past any middleware that the system's root has.
func unlist(system *actor.ActorSystem) func(actor.Context) {
	root := actor.NewRootContext(system, nil)
	return func(ctx actor.Context) {
		self := ctx.Self()
		root.Send(self, unlisted{})
		system.ProcessRegistry.LocalPIDs.GetBucket(self.Id).Remove(self.Id)
	}
}

// maxWarnings bounds what waits for a slow logger.
const maxWarnings = 1024

// QuietLogger passes on what Proto.Actor warns of, and drops its reports of
// restarts, which are our events. The logger is not run on Proto.Actor's goroutines.
func QuietLogger(to *slog.Logger) func(*actor.ActorSystem) *slog.Logger {
	queue := foreign.NewQueue(func(log func()) { log() }, maxWarnings, func(n int) func() {
		return func() { to.Warn("distkit: warnings of the actor system were not logged", "dropped", n) }
	})
	return func(*actor.ActorSystem) *slog.Logger { return slog.New(&warnings{to.Handler(), queue}) }
}

// warnings is a slog.Handler that hands on warnings by a queue.
type warnings struct {
	to    slog.Handler
	queue *foreign.Queue[func()]
}

func (h *warnings) Enabled(_ context.Context, level slog.Level) bool { return level >= slog.LevelWarn }

func (h *warnings) Handle(ctx context.Context, record slog.Record) error {
	h.queue.Put(func() {
		if h.to.Enabled(ctx, record.Level) {
			_ = h.to.Handle(ctx, record) // there is nobody to tell
		}
	})
	return nil
}

func (h *warnings) WithAttrs(attrs []slog.Attr) slog.Handler {
	return &warnings{h.to.WithAttrs(attrs), h.queue}
}

func (h *warnings) WithGroup(name string) slog.Handler {
	return &warnings{h.to.WithGroup(name), h.queue}
}
