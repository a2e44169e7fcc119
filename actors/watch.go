package actors

import "time"

// Keys that calls go on using are watched. The first call that finds a view too
// old has to wait for a read; from then on, as long as there are calls, the view
// is read again when it is half as old as it may get, so that nobody waits for the
// next one (refresh-ahead, which caches do too). A key that no call has used for
// watchFor is let go: an idle system sends nothing.

const (
	// watchFor is how long after its last use a key is still watched.
	watchFor = time.Second
	// maxWatched bounds the keys watched, and so what reading them costs: other
	// keys are read when somebody waits. 2,000 take some 7 % of a core at the
	// default AllowedLag, and Redis 1 % (docs/PERFORMANCE.md).
	maxWatched = 2000
	// minWatch is the least time between two reads of a watched key: with an
	// AllowedLag under twice that, keys are not watched.
	minWatch = 5 * time.Millisecond
)

// watch are the watched keys. It belongs to the coordinator's actor.
type watch struct {
	keys  []watchedKey
	due   bool // it is time to read them
	timer *time.Timer
}

type watchedKey struct {
	cell   *laxCell
	unused time.Duration // how long, to a period
}

// watchPeriod is how often watched keys are read.
func (c *coordinatorCell) watchPeriod() time.Duration { return c.allowedLag / 2 }

// watchKey watches a key from now on.
func (a coordinator) watchKey(cell *laxCell) {
	if p := a.watchPeriod(); cell.watched || len(a.watch.keys) == maxWatched || p < minWatch || p > watchFor {
		return
	}
	cell.watched = true
	a.watch.keys = append(a.watch.keys, watchedKey{cell: cell})
	a.startWatch()
}

func (a coordinator) startWatch() {
	if a.watch.timer == nil && len(a.watch.keys) > 0 {
		a.watch.timer = time.AfterFunc(a.watchPeriod(), func() { a.box.PostUserMessage(watchDue{}) })
	}
}

func (a coordinator) onWatchDue() {
	a.watch.timer, a.watch.due = nil, true
	a.step()
}

// watchedNow returns the watched keys if it is time to read them, and lets those
// go that are not used any more. While Redis is away there is nothing to read.
func (a coordinator) watchedNow() []*laxCell {
	w := &a.watch
	if !w.due {
		return nil
	}
	w.due = false
	kept, cells := w.keys[:0], make([]*laxCell, 0, len(w.keys))
	for _, k := range w.keys {
		if k.unused += a.watchPeriod(); k.cell.used.Swap(false) {
			k.unused = 0
		}
		if k.unused > watchFor {
			k.cell.watched = false
			continue
		}
		kept, cells = append(kept, k), append(cells, k.cell)
	}
	clear(w.keys[len(kept):])
	w.keys = kept
	a.startWatch()
	if a.away.Load() {
		return nil
	}
	return cells
}

func (w *watch) stop() {
	if w.timer != nil {
		w.timer.Stop()
		w.timer = nil
	}
}
