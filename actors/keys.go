package actors

import (
	"fmt"
	"strings"
	"sync"

	"github.com/asynkron/protoactor-go/actor"
	"github.com/puzpuzpuz/xsync/v4"
)

// cell is what every key has: its name and its actor's mailbox.
type cell struct {
	key string
	box mailbox
}

func (c *cell) mailbox() *mailbox { return &c.box }

// keyCell is *strictCell or *laxCell.
type keyCell interface {
	mailbox() *mailbox
	quiet() bool // the actor holds nothing; not to be asked while it runs
}

// keyspace is where the keys of one kind live: it finds the cell of a key,
// brings it and its actor to life on the first touch, and puts them to sleep.
//
// All actors of a kind share one Props, which saves memory, but Proto.Actor
// asks Props for an actor and a mailbox without saying for whom. The mailbox
// is handed over in born, under its lock; the actor finds its cell by its own
// name when it is started.
type keyspace[C keyCell] struct {
	fresh func(key string) C // makes a cell
	spawn func(name string) error
	under string // what the names of the kind's actors start with

	cells *xsync.Map[string, C]

	mu     sync.RWMutex // held for reading while a cell is made, held while one is put to sleep
	closed bool         // no cell is made any more

	birth sync.Mutex
	born  *mailbox // of the actor being spawned; guarded by birth
}

// get returns the cell of a key, new or not; false if the keyspace is closed
// and has none.
func (k *keyspace[C]) get(key string) (C, bool) {
	if found, ok := k.cells.Load(key); ok {
		return found, true
	}
	c, fresh, ok := k.make(key)
	if fresh {
		c.mailbox().open() // not under a lock: what others have sent by now is handled here
	}
	return c, ok
}

// make returns the cell of a key, and whether it is a fresh one, whose mailbox
// is still to be opened; false if the keyspace is closed.
func (k *keyspace[C]) make(key string) (c C, fresh, ok bool) {
	k.mu.RLock()
	defer k.mu.RUnlock()
	if k.closed {
		return c, false, false
	}
	c, found := k.cells.LoadOrStore(key, k.fresh(key))
	if found {
		return c, false, true
	}
	box := c.mailbox()
	box.gone.Add(1)
	k.birth.Lock()
	k.born = box
	err := k.spawn(k.under + key)
	k.birth.Unlock()
	if err != nil {
		panic(fmt.Sprintf("distkit: start actor %s%s: %v", k.under, key, err)) // the supervisor's name is ours alone, and a key has one cell
	}
	return c, true, true
}

// named returns the cell of the actor with that name.
func (k *keyspace[C]) named(pid *actor.PID) C {
	c, _ := k.cells.Load(strings.TrimPrefix(pid.Id, k.under))
	return c
}

// sleep makes a cell leave memory, if it holds nothing.
func (k *keyspace[C]) sleep(key string, c C) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if !k.closed && c.mailbox().sleep(c.quiet) {
		c.mailbox().PostSystemMessage(&actor.Stop{}) // runs here, to its end
		k.cells.Delete(key)
	}
}

// awaitSleep waits until a cell that was found asleep has gone.
func (k *keyspace[C]) awaitSleep() {
	k.mu.RLock()
	defer k.mu.RUnlock()
}

// all returns every live cell.
func (k *keyspace[C]) all() []C {
	cells := make([]C, 0, k.cells.Size())
	k.cells.Range(func(_ string, c C) bool {
		cells = append(cells, c)
		return true
	})
	return cells
}

// close makes no cell from now on, and returns those that there are.
func (k *keyspace[C]) close() []C {
	k.mu.Lock()
	k.closed = true
	k.mu.Unlock()
	return k.all()
}
