package host

import (
	"fmt"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/asynkron/protoactor-go/actor"
	"github.com/puzpuzpuz/xsync/v4"
)

// Cell is a key at work: everything that its actor must not lose when it is
// restarted, and what the actor does with a message. Only the actor touches it,
// but for the mailbox.
type Cell interface {
	Receiver
	Mailbox() *Mailbox
	Quiet() bool                     // the actor holds nothing; not to be asked while it runs
	Become(key string, group *Group) // is called once, before anything else
}

// Key is what the cell of every key embeds: its name and its actor's mailbox.
type Key struct {
	Name string
	Box  Mailbox
}

// Mailbox implements Cell.
func (k *Key) Mailbox() *Mailbox { return &k.Box }

// Become implements Cell.
func (k *Key) Become(key string, group *Group) { k.Name, k.Box.Group = key, group }

// Keyspace is where keys live: it finds the cell of a key, brings it and its actor
// to life on the first touch, and puts them to sleep.
//
// All actors of a keyspace share one Props, which saves memory, but Proto.Actor
// asks Props for an actor and a mailbox without saying for whom. The mailbox
// is handed over in born, under its lock; the actor finds its cell by its own
// name when it is started.
type Keyspace[C Cell] struct {
	cells *xsync.Map[string, C]

	host  *Host
	group *Group
	fresh func() C // makes a cell
	props *actor.Props
	under string // what the names of the actors start with
	woken func() // told of each key that comes to life

	mu     sync.RWMutex // held for reading while a cell is made, held while one is put to sleep
	closed bool         // no cell is made any more

	awoken, slept atomic.Int64 // how often a key came to life, and was put to sleep

	birth sync.Mutex
	born  *Mailbox // of the actor being spawned; guarded by birth
}

// Init makes an empty keyspace, whose actors have names under the given one. fresh
// makes a cell; woken is told of each key that comes to life.
func (k *Keyspace[C]) Init(h *Host, under string, fresh func() C, woken func()) {
	k.host, k.group, k.under = h, &Group{Inline: true}, h.name+"/"+under+"/"
	k.fresh, k.woken, k.cells = fresh, woken, xsync.NewMap[string, C]()
	k.props = h.props(func() actor.Actor { return &keyActor[C]{keys: k} },
		func() actor.Mailbox { return k.born }).Configure(actor.WithOnInit(unlist(h.system)))
}

// keyActor is the actor of a key. An incarnation knows its cell and nothing else.
type keyActor[C Cell] struct {
	keys *Keyspace[C]
	cell C // set when it is started
}

// Receive implements actor.Actor.
func (a *keyActor[C]) Receive(ctx actor.Context) {
	message := ctx.Message()
	if _, ok := message.(*actor.Started); ok {
		a.cell, _ = a.keys.cells.Load(strings.TrimPrefix(ctx.Self().Id, a.keys.under))
	}
	receive(a.cell, message)
}

// Reach hands something to a key's actor; false if the keyspace is closed. An
// actor that is leaving memory is let go, and the key's next one has it.
func (k *Keyspace[C]) Reach(key string, hand func(*Mailbox) Offered) bool {
	for {
		c, open := k.get(key)
		if !open {
			return false
		}
		switch hand(c.Mailbox()) {
		case Taken:
			return true
		case Refused:
			return false
		case Sleeping:
			k.awaitSleep()
		}
	}
}

// Offer hands a message to a key's actor; false if the keyspace is closed.
func (k *Keyspace[C]) Offer(key string, message any) bool {
	return k.Reach(key, func(box *Mailbox) Offered { return box.Offer(message) })
}

// Find returns the cell of a key that is in memory.
func (k *Keyspace[C]) Find(key string) (C, bool) { return k.cells.Load(key) }

// get returns the cell of a key, new or not; false if the keyspace is closed
// and has none.
func (k *Keyspace[C]) get(key string) (C, bool) {
	if found, ok := k.cells.Load(key); ok {
		return found, true
	}
	c, fresh, ok := k.make(key)
	if fresh {
		k.awoken.Add(1)
		c.Mailbox().open() // not under a lock: what others have sent by now is handled here
		k.woken()
	}
	return c, ok
}

// make returns the cell of a key, and whether it is a fresh one, whose mailbox
// is still to be opened; false if the keyspace is closed.
func (k *Keyspace[C]) make(key string) (c C, fresh, ok bool) {
	k.mu.RLock()
	defer k.mu.RUnlock()
	if k.closed {
		return c, false, false
	}
	c = k.fresh()
	c.Become(key, k.group)
	c, found := k.cells.LoadOrStore(key, c)
	if found {
		return c, false, true
	}
	k.group.gone.Add(1)
	k.birth.Lock()
	k.born = c.Mailbox()
	_, err := k.host.parent.SpawnNamed(k.props, k.under+key)
	k.birth.Unlock()
	if err != nil {
		panic(fmt.Sprintf("distkit: start actor %s%s: %v", k.under, key, err)) // the supervisor's name is ours alone, and a key has one cell
	}
	return c, true, true
}

// sweeps is how many looks in a row have to find a key without a message.
const sweeps = 3

// Sweep looks at every key once, and makes those leave memory that three looks in
// a row found without a message, and that hold nothing.
func (k *Keyspace[C]) Sweep() {
	k.cells.Range(func(key string, c C) bool {
		if c.Mailbox().doze(sweeps) {
			k.sleep(key, c)
		}
		return true
	})
}

// Rest makes every key leave memory that has no message and holds nothing, and reports
// whether none is left.
func (k *Keyspace[C]) Rest() bool {
	k.cells.Range(func(key string, c C) bool {
		if c.Mailbox().doze(1) {
			k.sleep(key, c)
		}
		return true
	})
	return k.Size() == 0
}

// sleep makes a cell leave memory, if it holds nothing.
func (k *Keyspace[C]) sleep(key string, c C) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if !k.closed && c.Mailbox().sleep(c.Quiet) {
		c.Mailbox().PostSystemMessage(&actor.Stop{}) // runs here, to its end
		k.cells.Delete(key)
		k.slept.Add(1)
	}
}

// awaitSleep waits until a cell that was found asleep has gone.
func (k *Keyspace[C]) awaitSleep() {
	k.mu.RLock()
	defer k.mu.RUnlock()
}

// Size is how many keys are in memory.
func (k *Keyspace[C]) Size() int { return k.cells.Size() }

// Moves is how often a key has come to life, and how often one was put to sleep.
func (k *Keyspace[C]) Moves() (woken, slept int64) { return k.awoken.Load(), k.slept.Load() }

// All returns every cell in memory.
func (k *Keyspace[C]) All() []C {
	cells := make([]C, 0, k.cells.Size())
	k.cells.Range(func(_ string, c C) bool {
		cells = append(cells, c)
		return true
	})
	return cells
}

// Close makes no cell from now on, has those that there are refuse operations,
// and returns them.
func (k *Keyspace[C]) Close() []C {
	k.mu.Lock()
	k.closed = true
	k.mu.Unlock()
	cells := k.All()
	for _, c := range cells {
		c.Mailbox().Close()
	}
	return cells
}

// CloseEmpty makes no cell from now on, if there is none, and reports whether that is so.
func (k *Keyspace[C]) CloseEmpty() bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.cells.Size() == 0 {
		k.closed = true
	}
	return k.closed
}

// Stop ends the actors of a closed keyspace and waits for it. That takes no time
// worth a context: no handler of ours blocks.
func (k *Keyspace[C]) Stop() {
	k.cells.Range(func(_ string, c C) bool {
		c.Mailbox().PostSystemMessage(&actor.Stop{})
		return true
	})
	k.group.gone.Wait()
}
