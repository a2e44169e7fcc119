package actors

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"time"

	"github.com/distkit/distkit-go/internal/redisio"
	"github.com/distkit/distkit-go/internal/request"
	"github.com/distkit/distkit-go/internal/verb"
	"golang.org/x/sync/errgroup"
)

// Windows are spaces with an end: their containers expire in Redis. Each is made when
// it is used, and lives in memory until its end and a while after.

// Window says which one.
type Window struct {
	Period  string    // names it, with Start
	Start   time.Time // to the second
	End     time.Time // the next one's start
	Expires time.Time // when Redis lets it go
}

// name is the name of the window's container, after the prefix, by that of its shard.
func (w *Window) name(shard string) string {
	return shard + "@" + w.Period + "@" + strconv.FormatInt(w.Start.Unix(), 10)
}

// lingers is how long a window stays in memory after its end, or after it was used when
// that was over, and how long after it could not leave.
const lingers = time.Minute

// StrictWindow and LaxWindow are windows of either kind.
func (e *Engine) StrictWindow(w Window) *Shards { return newShards(e, &e.kinds.strict, &w) }

// LaxWindow is a window of lax counters. In one that is not over nobody has counted much
// before: a key never seen counts from 0 while Redis is away.
func (e *Engine) LaxWindow(w Window) *Shards { return newShards(e, &e.kinds.laxWindow, &w) }

// begun notes that a window has come to life; e.mu is held.
func (e *Engine) begun(s *Space) {
	due := max(time.Until(s.window.End), 0) + lingers
	s.leave = time.AfterFunc(due, func() { e.retireWindow(s) })
}

// retireWindow takes a window out of memory when it holds nothing: else its successor
// would write beside it what was accepted later. What is sent to it later it is made
// again for.
func (e *Engine) retireWindow(s *Space) {
	e.mu.Lock()
	live := s.mode.Load()
	e.mu.Unlock()
	if live == nil {
		return
	}
	resting := (*live).Rest()
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.closed.Load() || s.mode.Load() != live {
		return
	}
	if resting {
		s.mode.Store(nil) // who finds that it is refused waits for mu
		resting = (*live).Leave()
	}
	if !resting {
		s.mode.Store(live)
		s.leave = time.AfterFunc(lingers, func() { e.retireWindow(s) })
		return
	}
	delete(e.made, s.name)
	m := *live
	m.StopWriter() // before there is another of its name
	m.StopKeys()
	e.leaves.Go(func() {
		ctx, cancel := context.WithTimeout(e.life, lingers)
		defer cancel()
		m.Retire(ctx)
	})
}

// left reports whether an operation was refused only since its window has left memory.
func (s *Space) left(m *mode, err error) bool {
	return s.window != nil && err != nil && errors.Is(err, verb.ErrClosed) && s.mode.Load() != m && !s.engine.closed.Load()
}

// StrictSeries is the value of a key in each of the windows.
func (e *Engine) StrictSeries(ctx context.Context, windows []Window, key string) ([]int64, error) {
	return e.series(ctx, redisio.StrictKind, windows, key)
}

// LaxSeries is the value of a key in each of the windows, with what is pending of it in
// those that are at work here.
func (e *Engine) LaxSeries(ctx context.Context, windows []Window, key string) ([]int64, error) {
	return e.series(ctx, redisio.LaxKind, windows, key)
}

// series reads windows that are not at work here past them, a thousand in a pipeline, so
// that none comes to life for it.
func (e *Engine) series(ctx context.Context, kind string, windows []Window, key string) ([]int64, error) {
	values, get := make([]int64, len(windows)), verb.Op{Kind: verb.Get}
	shard := redisio.ShardName(kind, redisio.ShardOf(key, e.cfg.Shards), e.cfg.Shards)
	var calls []*redisio.Call
	var asleep []int
	for i := range windows {
		name := windows[i].name(shard)
		e.mu.Lock()
		s := e.made[name]
		e.mu.Unlock()
		if s != nil && s.mode.Load() != nil {
			r := s.Do(ctx, key, get)
			if r.Err != nil {
				return nil, r.Err
			}
			values[i] = r.N
			continue
		}
		call := &redisio.Call{Task: redisio.Read, At: redisio.NewContainer(e.cfg.Prefix, name), Ops: []verb.Keyed{{Key: key, Op: get}}}
		calls, asleep = append(calls, call), append(asleep, i)
	}
	for len(calls) > 0 {
		part := calls[:min(len(calls), redisio.MaxReads)]
		if err := e.read(ctx, part, true); err != nil {
			return nil, verb.NotApplied(err)
		}
		for i, call := range part {
			if err := call.Results[0].Err; err != nil {
				return nil, err
			}
			values[asleep[i]] = call.Results[0].N
		}
		calls, asleep = calls[len(part):], asleep[len(part):]
	}
	return values, nil
}

// windowsInMemory are the windows that are at work, by name.
func (e *Engine) windowsInMemory() map[string]atWork {
	windows := map[string]atWork{}
	e.mu.Lock()
	defer e.mu.Unlock()
	for name, s := range e.made {
		if m := s.mode.Load(); m != nil && s.window != nil {
			windows[name] = atWork{*m, s.kind.name}
		}
	}
	return windows
}

// atWork is the mode of a window, and the name of its kind.
type atWork struct {
	mode
	kind string
}

// WindowsStats is what there is of all windows in memory, strict and lax.
func (e *Engine) WindowsStats() (strict, lax request.Stats) {
	for _, w := range e.windowsInMemory() {
		if w.kind == redisio.StrictKind {
			strict.Add(w.Stats())
		} else {
			lax.Add(w.Stats())
		}
	}
	return strict, lax
}

// WindowsHealth asks Redis of each window in memory by the way that batches go, and says
// what is wrong with how many, and with the first of them.
func (e *Engine) WindowsHealth(ctx context.Context) error {
	windows := e.windowsInMemory()
	names := slices.Sorted(maps.Keys(windows))
	errs := make([]error, len(names))
	var calls errgroup.Group
	calls.SetLimit(atOnce)
	for i, name := range names {
		calls.Go(func() error {
			errs[i] = windows[name].Health(ctx)
			return nil
		})
	}
	_ = calls.Wait() // none fails
	failed, first := 0, -1
	for i, err := range errs {
		if err == nil {
			continue
		}
		if failed++; first < 0 {
			first = i
		}
	}
	if failed == 0 {
		return nil
	}
	return fmt.Errorf("%d of %d windows fail, the first of them %s: %w", failed, len(names), names[first], errs[first])
}
