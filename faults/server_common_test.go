// What the tests that treat servers and processes badly share: an account of
// what callers were told about each counter, held against Redis; a client that
// notices a lost server soon; a System and its events.
package faults_test

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/distkit/distkit-go"
	"github.com/distkit/distkit-go/internal/chaos"
	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"
)

// serverPatience ends a wait that a working library would never reach.
const serverPatience = 30 * time.Second

// serverOptions are client options under which faults turn into failures of
// all classes soon: a Redis that hangs is given up after 250 ms, one that
// refuses connections at once. go-redis, were it asked, would retry.
func serverOptions(addr string) *redis.Options {
	return &redis.Options{
		Addr: addr, MaxRetries: 5, DialerRetries: 1,
		ReadTimeout: 250 * time.Millisecond, WriteTimeout: 250 * time.Millisecond, DialTimeout: time.Second,
	}
}

// serverAdmin returns a client that outlives what is done to the server and
// looks at Redis past the library.
func serverAdmin(t testing.TB, addr string) *redis.Client {
	t.Helper()
	client := redis.NewClient(&redis.Options{Addr: addr, MaxRetries: 20, ReadTimeout: 10 * time.Second})
	t.Cleanup(func() { _ = client.Close() })
	return client
}

// serverSystem starts a System whose end is the caller's; what it tells is kept.
func serverSystem(t testing.TB, client redis.UniversalClient, prefix string, opts ...distkit.Option) (*distkit.System, *serverEvents) {
	t.Helper()
	system, err := distkit.NewSystem(client, append([]distkit.Option{
		distkit.WithPrefix(distkit.MustKey(prefix)),
		distkit.WithLogger(slog.New(slog.DiscardHandler)),
		distkit.WithBackoff(5*time.Millisecond, 100*time.Millisecond),
	}, opts...)...)
	require.NoError(t, err)
	events := &serverEvents{more: make(chan struct{}, 1)}
	system.Subscribe(events.add)
	return system, events
}

// serverEvents keeps a System's events.
type serverEvents struct {
	mu   sync.Mutex
	all  []distkit.Event
	more chan struct{}
}

func (r *serverEvents) add(e distkit.Event) {
	r.mu.Lock()
	r.all = append(r.all, e)
	r.mu.Unlock()
	select {
	case r.more <- struct{}{}:
	default:
	}
}

// seen returns the events so far.
func (r *serverEvents) seen() []distkit.Event {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.all)
}

// serverEventsOf returns those of type E.
func serverEventsOf[E distkit.Event](r *serverEvents) []E {
	var found []E
	for _, e := range r.seen() {
		if e, ok := e.(E); ok {
			found = append(found, e)
		}
	}
	return found
}

// await waits until an event satisfies is, and reports whether one did.
func (r *serverEvents) await(is func(distkit.Event) bool) bool {
	limit := time.After(serverPatience)
	for seen := 0; ; {
		r.mu.Lock()
		for ; seen < len(r.all); seen++ {
			if is(r.all[seen]) {
				r.mu.Unlock()
				return true
			}
		}
		r.mu.Unlock()
		select {
		case <-r.more:
		case <-limit:
			return false
		}
	}
}

// serverAccount is what callers were told about one counter, in amounts that
// are all positive: applied is in Redis, unknown is there once or not at all.
type serverAccount struct{ applied, unknown atomic.Int64 }

// note books the outcome of an operation that adds n, and reports whether it
// was applied. An error of no class, or of both, is a violation.
func (a *serverAccount) note(run *chaos.Run, n int64, err error) bool {
	switch {
	case err == nil:
		a.applied.Add(n)
	case errors.Is(err, distkit.ErrOutcomeUnknown) == errors.Is(err, distkit.ErrNotApplied):
		run.Violation("an error is of exactly one class, not of both or none: %v", err)
	case errors.Is(err, distkit.ErrOutcomeUnknown):
		a.unknown.Add(n)
	}
	return err == nil
}

// check compares the account with the value in Redis.
func (a *serverAccount) check(run *chaos.Run, name string, stored int64) {
	applied, unknown := a.applied.Load(), a.unknown.Load()
	if stored < applied || stored > applied+unknown {
		run.Violation("%s: Redis holds %d; callers were told of %d applied and %d unknown", name, stored, applied, unknown)
	}
}

// serverStored reads all counters of a kind, past the library.
func serverStored(t testing.TB, client *redis.Client, prefix, kind string) map[string]int64 {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), serverPatience)
	defer cancel()
	fields, err := client.HGetAll(ctx, prefix+":"+kind).Result()
	require.NoError(t, err)
	values := make(map[string]int64, len(fields))
	for key, text := range fields {
		values[key], err = strconv.ParseInt(text, 10, 64)
		require.NoError(t, err, "%s %s", kind, key)
	}
	return values
}

// serverDeserted waits until no connection of the name is left: what was sent
// over them has then been carried out, or never will be.
func serverDeserted(t testing.TB, client *redis.Client, name string) {
	t.Helper()
	require.Eventually(t, func() bool {
		list, err := client.ClientList(context.Background()).Result()
		return err == nil && !strings.Contains(list, " name="+name+" ")
	}, serverPatience, time.Millisecond)
}
