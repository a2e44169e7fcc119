package host

import (
	"sync"

	"github.com/asynkron/protoactor-go/actor"
)

// Addresses hands out the PIDs by which Proto.Actor code reaches counters. Such
// a PID belongs to an address, not to a key's actor: the address looks the
// actor up for every message, so the PID outlives restarts and passivation. It
// is registered on the first request for it, because the registry has no way
// to make one when a message comes, and leaves with the engine. (A resolver
// for a host of our own would need no entry, but the registry's list of
// resolvers is not safe to extend while messages flow, cannot be shortened,
// and such a host is out of reach for remote actor systems.)
type Addresses struct {
	host   *Host
	mu     sync.Mutex
	pids   map[string]*actor.PID
	closed bool
}

// NewAddresses returns none yet.
func NewAddresses(h *Host) *Addresses { return &Addresses{host: h, pids: map[string]*actor.PID{}} }

// Target takes a message that came to an address. Its sender, if it has one, gets
// what is handed to reply.
type Target func(message any, reply func(message any))

// PID returns the PID of a name, no part of which is that of an actor of ours.
// What is sent to it comes to the target.
func (a *Addresses) PID(name string, to Target) *actor.PID {
	name = a.host.name + "/" + name
	registry := a.host.system.ProcessRegistry
	a.mu.Lock()
	defer a.mu.Unlock()
	if pid, ok := a.pids[name]; ok {
		return pid
	}
	if a.closed {
		return actor.NewPID(registry.Address, name)
	}
	pid, absent := registry.Add(address{a.host, to}, name)
	if !absent {
		panic("distkit: address taken: " + name) // the supervisor's name is ours alone
	}
	a.pids[name] = pid
	return pid
}

// Release takes the addresses out of the registry.
func (a *Addresses) Release() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.closed = true
	for _, pid := range a.pids {
		a.host.system.ProcessRegistry.Remove(pid)
	}
	a.pids = nil
}

// address is the Process behind such a PID.
type address struct {
	host *Host
	to   Target
}

var _ actor.Process = address{}

// SendUserMessage implements actor.Process.
func (a address) SendUserMessage(_ *actor.PID, envelope any) {
	_, message, sender := actor.UnwrapEnvelope(envelope)
	if sender == nil {
		a.to(message, nil)
		return
	}
	a.to(message, func(reply any) { a.host.replies.send(sender, reply) })
}

// SendSystemMessage implements actor.Process. An address has no life cycle:
// whoever watches it hears nothing, for it does not end before the system.
func (a address) SendSystemMessage(*actor.PID, any) {}

// Stop implements actor.Process: a counter is not stopped by its users.
func (a address) Stop(*actor.PID) {}
