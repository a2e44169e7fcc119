package refresh

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

// watch are the watched keys.
type watch[K Key] struct {
	keys  map[K]time.Duration // how long each is unused, to a period
	due   bool                // it is time to read them
	timer *time.Timer
}

// period is how often watched keys are read.
func (r *Refresher[K]) period() time.Duration { return r.Lag / 2 }

// watchKey watches a key from now on.
func (r *Refresher[K]) watchKey(key K) {
	w := &r.watch
	if _, watched := w.keys[key]; watched || len(w.keys) == maxWatched || r.period() < minWatch || r.period() > watchFor {
		return
	}
	if w.keys == nil {
		w.keys = map[K]time.Duration{}
	}
	w.keys[key] = 0
	r.startWatch()
}

func (r *Refresher[K]) startWatch() {
	if r.watch.timer == nil && len(r.watch.keys) > 0 {
		r.watch.timer = time.AfterFunc(r.period(), func() { r.Post(WatchDue{}) })
	}
}

// OnWatchDue has the next trip read the watched keys along.
func (r *Refresher[K]) OnWatchDue() { r.watch.timer, r.watch.due = nil, true }

// watchedNow returns the watched keys if it is time to read them, and lets those
// go that are not used any more. While Redis is away there is nothing to read.
func (r *Refresher[K]) watchedNow() []K {
	w := &r.watch
	if !w.due {
		return nil
	}
	w.due = false
	keys := make([]K, 0, len(w.keys))
	for key, unused := range w.keys {
		if unused += r.period(); key.UsedSinceLastAsked() {
			unused = 0
		}
		if unused > watchFor {
			delete(w.keys, key)
			continue
		}
		w.keys[key] = unused
		keys = append(keys, key)
	}
	r.startWatch()
	if r.Away() {
		return nil
	}
	return keys
}

func (w *watch[K]) stop() {
	if w.timer != nil {
		w.timer.Stop()
		w.timer = nil
	}
}
