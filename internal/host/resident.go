package host

import (
	"fmt"
	"sync"

	"github.com/asynkron/protoactor-go/actor"
)

// Resident is an actor of ours that is no key. It comes to life when it is first
// sent something, is put to sleep when it is idle, and comes to life again. What
// it must not lose its receiver keeps.
type Resident struct {
	host  *Host
	name  string
	props *actor.Props
	box   Mailbox
	group Group

	mu     sync.Mutex // held while it is born or put to sleep
	closed bool
}

// NewResident returns a resident that sleeps. With inline, whoever sends to it
// runs it.
func NewResident(h *Host, name string, inline bool, to Receiver) *Resident {
	r := &Resident{host: h, name: h.name + "/" + name, group: Group{Inline: inline}}
	r.box = Mailbox{Group: &r.group, asleep: true}
	r.props = h.props(func() actor.Actor { return residentActor{to} }, func() actor.Mailbox { return &r.box })
	return r
}

// residentActor is every incarnation of a resident's actor.
type residentActor struct{ to Receiver }

// Receive implements actor.Actor.
func (a residentActor) Receive(ctx actor.Context) { receive(a.to, ctx.Message()) }

// Post sends it a message, which is dropped if it has been stopped for good.
func (r *Resident) Post(message any) {
	for !r.box.Post(message) {
		if !r.wake() {
			return
		}
	}
}

// wake brings it to life; false if it has been stopped for good.
func (r *Resident) wake() bool {
	woken, ok := r.birth()
	if woken {
		r.box.open() // not under a lock: what has been sent by now is handled here
	}
	return ok
}

// birth brings it to life, but for its mailbox, unless somebody else has; ok is
// false if it has been stopped for good.
func (r *Resident) birth() (woken, ok bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed {
		return false, false
	}
	if !r.box.awaken() {
		return false, true
	}
	r.group.gone.Add(1)
	if _, err := r.host.parent.SpawnNamed(r.props, r.name); err != nil {
		panic(fmt.Sprintf("distkit: start actor %s: %v", r.name, err)) // the supervisor's name is ours alone
	}
	return true, true
}

// Sweep puts it to sleep if three sweeps in a row found it without a message, and
// quiet says that it holds nothing.
func (r *Resident) Sweep(quiet func() bool) {
	if r.box.doze(sweeps) {
		r.sleep(quiet)
	}
}

// Rest puts it to sleep if it has no message, and quiet says that it holds nothing. It
// reports whether it sleeps.
func (r *Resident) Rest(quiet func() bool) bool {
	if r.box.doze(1) {
		r.sleep(quiet)
	}
	return !r.box.awake()
}

// WhileAsleep calls f while it sleeps and nobody can wake it; false if it is awake, or f
// says so.
func (r *Resident) WhileAsleep(f func() bool) bool {
	r.box.lock()
	defer r.box.mu.Unlock()
	return r.box.asleep && f()
}

func (r *Resident) sleep(quiet func() bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.box.sleep(quiet) {
		r.box.PostSystemMessage(&actor.Stop{})
		r.group.gone.Wait()
	}
}

// Awake reports whether it is in memory.
func (r *Resident) Awake() bool { return r.box.awake() }

// Stop ends it for good and waits for it.
func (r *Resident) Stop() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed = true; r.box.awake() {
		r.box.PostSystemMessage(&actor.Stop{})
		r.group.gone.Wait()
	}
}
