package distkittest

import (
	"slices"
	"sync"

	"github.com/distkit/distkit-go"
)

// events are those of a System that nobody has taken yet.
type events struct {
	mu   sync.Mutex
	kept []distkit.Event
	more chan struct{} // closed when one is added
}

func newEvents() *events { return &events{more: make(chan struct{})} }

func (e *events) add(event distkit.Event) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.kept = append(e.kept, event)
	close(e.more)
	e.more = make(chan struct{})
}

func (e *events) all() []distkit.Event {
	e.mu.Lock()
	defer e.mu.Unlock()
	return slices.Clone(e.kept)
}

// take takes out the first event of type E; false if there is none, and more is then
// closed when another event comes.
func take[E distkit.Event](e *events) (found E, ok bool, more <-chan struct{}) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for i, event := range e.kept {
		if found, ok = event.(E); ok {
			e.kept = slices.Delete(e.kept, i, i+1)
			return found, true, nil
		}
	}
	return found, false, e.more
}
