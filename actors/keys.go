package actors

import "sync"

// cell is what every key has: its name and its actor's mailbox.
type cell struct {
	key string
	box mailbox
}

// keyspace finds the cell of a key, and brings it and its actor to life on the
// first touch. C is *strictCell or *laxCell.
type keyspace[C any] struct {
	fresh func(key string) C // makes a cell
	born  func(C)            // starts its actor

	cells sync.Map // key -> C

	mu     sync.RWMutex // held for reading while a cell is made
	closed bool         // no cell is made any more
}

// get returns the cell of a key, new or not; false if the keyspace is closed
// and has none.
func (k *keyspace[C]) get(key string) (C, bool) {
	if found, ok := k.cells.Load(key); ok {
		return found.(C), true
	}
	k.mu.RLock()
	defer k.mu.RUnlock()
	if k.closed {
		var none C
		return none, false
	}
	found, loaded := k.cells.LoadOrStore(key, k.fresh(key))
	if !loaded {
		k.born(found.(C))
	}
	return found.(C), true
}

// all returns every live cell.
func (k *keyspace[C]) all() []C {
	var cells []C
	k.cells.Range(func(_, c any) bool {
		cells = append(cells, c.(C))
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
