package distkit

import (
	"context"
	"time"

	"github.com/distkit/distkit-go/actors"
	"github.com/distkit/distkit-go/internal/verb"
)

// LaxCounter folds increments in memory and writes them to Redis every
// AllowedLag in one pipeline: for analytics and traffic counts. Within the
// process an operation sees every earlier one; of other processes it sees what
// was in Redis at most AllowedLag and one flush ago.
//
// While Redis is away, operations on known keys go on without waiting and
// without error, from the local view, and nothing is lost: changes are written
// once it is back. A key never seen before needs one read first, and waits for
// it within its context. A crash of the process loses what was not written: at
// most AllowedLag plus one flush of changes.
//
// Set is an assignment at flush time: the value in Redis becomes n, and this
// process's later changes are added to it. IncIf and SetIf compare with the
// local view. Del and Clear reach Redis at once and drop what was pending; Del
// returns the total including it. Each operation of a batch call is its key's
// own: they are not applied as one.
//
// A change that Redis refuses (overflow, a value that is not an integer) is
// set aside and reported: as an event, in the log, by the next reply on its
// key, which fails and is not applied, and by a Flush that waits for it.
type LaxCounter struct {
	counter
	lax *actors.LaxShards // the space once more
}

var _ Counter = (*LaxCounter)(nil)

// Add adds n to the counter and waits for nothing; nobody learns the new
// value. An error means that it was not applied: ErrInvalidKey, ErrClosed or
// ErrOverloaded.
// Should the sum leave the int64 range, the change is set aside and reported
// as an event.
func (c *LaxCounter) Add(key Key, n int64) error {
	if c == nil || c.lax == nil {
		return notApplied(ErrClosed)
	}
	if err := key.check(); err != nil {
		return err
	}
	return verb.Named(key.name, c.lax.Add(key.name, n))
}

// Inc implements Counter.
func (c *LaxCounter) Inc(ctx context.Context, key Key, n int64) (int64, error) {
	if after, ok := c.told(ctx, key, verb.Inc, n); ok {
		return after, nil
	}
	return c.counter.Inc(ctx, key, n)
}

// Dec implements Counter.
func (c *LaxCounter) Dec(ctx context.Context, key Key, n int64) (int64, error) {
	if after, ok := c.told(ctx, key, verb.Dec, n); ok {
		return after, nil
	}
	return c.counter.Dec(ctx, key, n)
}

// Get implements Counter.
func (c *LaxCounter) Get(ctx context.Context, key Key) (int64, error) {
	if n, ok := c.told(ctx, key, verb.Get, 0); ok {
		return n, nil
	}
	return c.counter.Get(ctx, key)
}

// told carries out an operation without a detour, if its answer is at hand.
func (c *LaxCounter) told(ctx context.Context, key Key, kind verb.Kind, n int64) (int64, bool) {
	if c == nil || c.lax == nil || ctx == nil || ctx.Err() != nil {
		return 0, false
	}
	return c.lax.Told(key.name, kind, n)
}

// View is what this process knows of a lax counter.
type View struct {
	// N is the value as the process sees it.
	N int64
	// Pending is the part of N that Redis is not known to have.
	Pending int64
	// Age is how old the rest is: what others have counted since is not in N.
	Age time.Duration
}

// View returns what this process knows of the counter. It waits, within ctx,
// only for the first read of a key never seen before.
func (c *LaxCounter) View(ctx context.Context, key Key) (View, error) {
	if err := c.ready(ctx, key); err != nil {
		return View{}, err
	}
	v, err := c.lax.View(ctx, key.name)
	return View(v), verb.Named(key.name, err)
}
