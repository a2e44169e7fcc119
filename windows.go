package distkit

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/asynkron/protoactor-go/actor"
	"github.com/distkit/distkit-go/actors"
	"github.com/distkit/distkit-go/internal/verb"
)

// Windows are the counters of one kind by period: in each window they begin at 0, and
// Redis lets them go when they have been kept long enough. A *Windows is a Counter of the
// window of now, by this process's clock: an operation belongs to the window in which it
// was called, whenever it reaches Redis. It is safe for concurrent use.
//
// A lax window that begins while Redis is away counts from 0 at once.
type Windows struct {
	counter
	kind   func(actors.Window) *actors.Shards
	series func(ctx context.Context, windows []actors.Window, key string) ([]int64, error)
	period Period
	keep   time.Duration

	now  atomic.Pointer[window] // nil: to be found out
	mu   sync.Mutex             // held while it is
	used atomic.Bool            // since now began
}

// window is one of them.
type window struct {
	space *actors.Shards
	end   time.Time
}

// Point is the value of a counter in a window.
type Point struct {
	Start time.Time
	N     int64
}

var _ Counter = (*Windows)(nil)

// Per returns these counters by a period. Each window's are kept for so long after its
// end, and then expire in Redis. Their hash there is
// "<prefix>:strict_counter@<period>@<start in Unix seconds>". It costs nothing to call,
// but keep what it returns: that finds the window of now once, not for each operation.
func (c *StrictCounter) Per(p Period, keep time.Duration) (*Windows, error) {
	if c == nil || c.space == nil {
		return nil, notApplied(ErrClosed)
	}
	e := c.system.engine
	return newWindows(&c.counter, e.StrictWindow, e.StrictSeries, p, keep)
}

// Per is StrictCounter.Per for lax counters.
func (c *LaxCounter) Per(p Period, keep time.Duration) (*Windows, error) {
	if c == nil || c.space == nil {
		return nil, notApplied(ErrClosed)
	}
	e := c.system.engine
	return newWindows(&c.counter, e.LaxWindow, e.LaxSeries, p, keep)
}

func newWindows(of *counter, kind func(actors.Window) *actors.Shards,
	series func(context.Context, []actors.Window, string) ([]int64, error), p Period, keep time.Duration,
) (*Windows, error) {
	if err := p.check(); err != nil {
		return nil, notApplied(err)
	}
	if keep < 0 {
		return nil, notApplied(fmt.Errorf("distkit: windows cannot be kept for %v; 0 or more is allowed", keep))
	}
	w := &Windows{kind: kind, series: series, period: p, keep: keep}
	w.counter = counter{of.system, current{w}, of.kind}
	return w, nil
}

// of is the window that begins at a moment.
func (w *Windows) of(start time.Time) actors.Window {
	end := w.period.next(start)
	return actors.Window{Period: w.period.name, Start: start, End: end, Expires: end.Add(w.keep)}
}

// At returns the counters of the window that holds t, which may be over, or not have
// begun.
func (w *Windows) At(t time.Time) Counter {
	if w == nil || w.space == nil {
		return &counter{}
	}
	return &counter{w.system, w.kind(w.of(w.period.start(t))), w.counter.kind}
}

// Add adds n to the counter in the window of now and waits for nothing, as
// LaxCounter.Add does; a strict counter's change is sent at once.
func (w *Windows) Add(key Key, n int64) error {
	if w == nil || w.space == nil {
		return notApplied(ErrClosed)
	}
	if err := key.check(); err != nil {
		return err
	}
	return verb.Named(key.name, w.current().Add(key.name, n))
}

// maxPoints bounds a series: one round trip for each thousand.
const maxPoints = 100_000

// Series returns the values of a counter in the windows from the one that holds from on,
// up to the last that begins before to; 0 where there is none. Of lax counters it has
// what is in Redis, and what this process has pending.
func (w *Windows) Series(ctx context.Context, key Key, from, to time.Time) ([]Point, error) {
	if w == nil {
		return nil, notApplied(ErrClosed)
	}
	if err := w.ready(ctx, key); err != nil {
		return nil, err
	}
	if to.Before(from) {
		return nil, notApplied(fmt.Errorf("distkit: a series from %v to %v, which is before that", from, to))
	}
	points, windows := []Point{}, []actors.Window{}
	for start := w.period.start(from); start.Before(to); {
		if len(points) == maxPoints {
			return nil, notApplied(fmt.Errorf("distkit: a series of more than %d windows; ask for less at once", maxPoints))
		}
		at := w.of(start)
		points, windows = append(points, Point{Start: start}), append(windows, at)
		start = at.End
	}
	values, err := w.series(ctx, windows, key.name)
	if err != nil {
		return nil, verb.Named(key.name, err)
	}
	for i := range points {
		points[i].N = values[i]
	}
	return points, nil
}

// current is the window of now.
func (w *Windows) current() *actors.Shards {
	if now := w.now.Load(); now != nil {
		if !w.used.Load() {
			w.used.Store(true)
		}
		return now.space
	}
	return w.find()
}

// find is current where that is to be found out.
func (w *Windows) find() *actors.Shards {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.turn().space
}

// looks is how often a Windows that is used looks at the clock, besides the ends of its
// windows: the clock may have been set.
const looks = time.Minute

// turn finds the window of now; mu is held. A timer does it again when that is over, as
// asking the clock would take longer than an Add, until it has not been used in between.
func (w *Windows) turn() *window {
	at := time.Now()
	of := w.of(w.period.start(at))
	now := &window{w.kind(of), of.End}
	w.now.Store(now)
	w.used.Store(false)
	time.AfterFunc(min(of.End.Sub(at), looks), func() {
		w.mu.Lock()
		defer w.mu.Unlock()
		if w.used.Load() {
			w.turn()
		} else {
			w.now.Store(nil)
		}
	})
	return now
}

// current is the space of the window of now.
type current struct{ of *Windows }

// Do asks the clock besides the timer: the latter may be late, as where a machine was
// asleep.
func (c current) Do(ctx context.Context, key string, o verb.Op) verb.Result {
	return c.space().Do(ctx, key, o)
}

func (c current) space() *actors.Shards {
	w := c.of
	if now := w.now.Load(); now != nil && !time.Now().Before(now.end) {
		w.now.CompareAndSwap(now, nil)
	}
	return w.current()
}

func (c current) DoAll(ctx context.Context, ops []verb.Keyed) []verb.Result {
	return c.space().DoAll(ctx, ops)
}
func (c current) Send(key string, o verb.Op) error { return c.space().Send(key, o) }
func (c current) Add(key string, n int64) error    { return c.of.current().Add(key, n) }
func (c current) Clear(ctx context.Context) error  { return c.space().Clear(ctx) }
func (c current) List(ctx context.Context, take func(name string, r verb.Result) bool) error {
	return c.space().List(ctx, take)
}

// Window names the window of now.
func (c current) Window() string { return c.space().Window() }

// PID is of the window of now, for Proto.Actor: the actor's address keeps to it.
func (c current) PID(key string) *actor.PID { return c.space().PID(key) }
