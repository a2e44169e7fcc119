package actors

import (
	"fmt"
	"sync"

	"github.com/asynkron/protoactor-go/actor"
	"github.com/distkit/distkit-go/internal/op"
)

// addresses hands out the PIDs by which Proto.Actor code reaches counters. Such
// a PID belongs to an address, not to a key's actor: the address looks the
// actor up for every message, so the PID outlives restarts and passivation. It
// is registered on the first request for it, because the registry has no way
// to make one when a message comes, and leaves with the engine. (A resolver
// for a host of our own would need no entry, but the registry's list of
// resolvers is not safe to extend while messages flow, cannot be shortened,
// and such a host is out of reach for remote actor systems.)
type addresses struct {
	engine *Engine
	mu     sync.Mutex
	pids   map[address]*actor.PID
	closed bool
}

// address is the Process behind such a PID.
type address struct {
	engine *Engine
	kind   Kind
	key    string
}

var _ actor.Process = address{}

// PID returns the address of a counter for Proto.Actor code.
func (e *Engine) PID(kind Kind, key string) *actor.PID {
	a := address{e, kind, key}
	name := e.name + "/" + kind.String() + ":" + key // no key holds a ':', so no actor is named so
	registry := e.cfg.ActorSystem.ProcessRegistry

	e.addresses.mu.Lock()
	defer e.addresses.mu.Unlock()
	if pid, ok := e.addresses.pids[a]; ok {
		return pid
	}
	if e.addresses.closed {
		return actor.NewPID(registry.Address, name)
	}
	if e.addresses.pids == nil {
		e.addresses.pids = map[address]*actor.PID{}
	}
	pid, absent := registry.Add(a, name)
	if !absent {
		panic("distkit: address taken: " + name) // the supervisor's name is ours alone
	}
	e.addresses.pids[a] = pid
	return pid
}

// release takes the addresses out of the registry.
func (s *addresses) release(registry *actor.ProcessRegistryValue) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	for _, pid := range s.pids {
		registry.Remove(pid)
	}
	s.pids = nil
}

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

// SendUserMessage implements actor.Process: it takes an operation, and answers
// the sender if there is one.
func (a address) SendUserMessage(_ *actor.PID, envelope any) {
	_, message, sender := actor.UnwrapEnvelope(envelope)
	o, err := a.engine.cfg.Decode(message)
	if err == nil {
		if a.take(o, sender) {
			return
		}
		err = op.NotApplied(op.ErrClosed)
	}
	if sender != nil {
		a.engine.respond(sender, o, op.Result{Err: err})
	} else {
		a.engine.cfg.Observer.MessageRefused(a.key, err)
	}
}

// take hands an operation to the counter; false if the engine is closed.
func (a address) take(o op.Op, sender *actor.PID) bool {
	if sender == nil {
		return a.engine.Send(a.kind, a.key, o)
	}
	return a.engine.offer(a.kind, a.key, &request{key: a.key, op: o, sender: sender, respond: a.engine.respond})
}

// SendSystemMessage implements actor.Process. An address has no life cycle:
// whoever watches it hears nothing, for it does not end before the system.
func (a address) SendSystemMessage(*actor.PID, any) {}

// Stop implements actor.Process: a counter is not stopped by its users.
func (a address) Stop(*actor.PID) {}

// respond answers a Proto.Actor sender. A sender that panics on receiving is
// its own affair: it must not take the counter's actor with it.
func (e *Engine) respond(sender *actor.PID, o op.Op, result op.Result) {
	defer func() {
		if reason := recover(); reason != nil {
			e.cfg.Observer.ActorPanicked(sender.Id, fmt.Errorf("panic on receiving a reply: %v", reason))
		}
	}()
	e.cfg.ActorSystem.Root.Send(sender, e.cfg.Encode(o, result))
}
