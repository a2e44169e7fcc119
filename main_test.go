package distkit_test

import (
	"context"
	"log/slog"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/distkit/distkit-go"
	"github.com/distkit/distkit-go/internal/redistest"
	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	redistest.Main(m, func() error { return goleak.Find() })
}

// fixture is a System on a prefix of its own, and how Redis looks from outside.
type fixture struct {
	*distkit.System
	client *redis.Client
	prefix string
	ctx    context.Context
}

// newFixture starts a System on the shared Redis.
func newFixture(t testing.TB, opts ...distkit.Option) *fixture {
	t.Helper()
	return fixtureOn(t, redistest.Client(t), opts...)
}

func fixtureOn(t testing.TB, client *redis.Client, opts ...distkit.Option) *fixture {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 60*time.Second)
	t.Cleanup(cancel)
	f := &fixture{client: client, prefix: redistest.Prefix(t, client), ctx: ctx}
	f.System = f.another(t, opts...)
	return f
}

// another starts a further System on the fixture's prefix, as another process
// would.
func (f *fixture) another(t testing.TB, opts ...distkit.Option) *distkit.System {
	t.Helper()
	opts = append([]distkit.Option{
		distkit.WithPrefix(distkit.MustKey(f.prefix)),
		distkit.WithLogger(slog.New(slog.DiscardHandler)),
	}, opts...)
	system, err := distkit.NewSystem(f.client, opts...)
	require.NoError(t, err)
	events := recordEvents(t, system)
	t.Cleanup(func() {
		if t.Failed() {
			events.mu.Lock()
			t.Logf("events: %v", events.events)
			events.mu.Unlock()
		}
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		_ = system.Shutdown(ctx) // tests that care look at its error themselves
	})
	return system
}

// counters are both kinds, by the names of their containers.
func (f *fixture) counters() map[string]distkit.Counter {
	return map[string]distkit.Counter{"strict_counter": f.Strict(), "lax_counter": f.Lax()}
}

// stored is a counter's field as it stands in Redis, "" if it has none.
func (f *fixture) stored(t testing.TB, kind string, key distkit.Key) string {
	t.Helper()
	text, err := f.client.HGet(f.ctx, f.prefix+":"+kind, key.String()).Result()
	if err != redis.Nil {
		require.NoError(t, err)
	}
	return text
}

func (f *fixture) flush(t testing.TB) {
	t.Helper()
	require.NoError(t, f.Flush(f.ctx))
}

// record keeps a System's events.
type record struct {
	mu     sync.Mutex
	events []distkit.Event
	more   chan struct{}
}

func recordEvents(t testing.TB, system *distkit.System) *record {
	r := &record{more: make(chan struct{}, 1)}
	t.Cleanup(system.Subscribe(func(e distkit.Event) {
		r.mu.Lock()
		r.events = append(r.events, e)
		r.mu.Unlock()
		select {
		case r.more <- struct{}{}:
		default:
		}
	}))
	return r
}

// await returns the first event of type E, waiting for it.
func await[E distkit.Event](t testing.TB, r *record) E {
	t.Helper()
	limit := time.After(30 * time.Second)
	for {
		r.mu.Lock()
		for _, e := range r.events {
			if found, ok := e.(E); ok {
				r.mu.Unlock()
				return found
			}
		}
		r.mu.Unlock()
		select {
		case <-r.more:
		case <-limit:
			var none E
			require.Failf(t, "event missing", "no %T came; came %v", none, r.events)
		}
	}
}

// all are the events so far.
func (r *record) all() []distkit.Event {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.events)
}

// clear forgets the events so far.
func (r *record) clear() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.events = nil
}

// both runs a test for each kind.
func both(t *testing.T, test func(t *testing.T, f *fixture, c distkit.Counter, kind string), opts ...distkit.Option) {
	t.Helper()
	for _, kind := range []string{"strict_counter", "lax_counter"} {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			f := newFixture(t, opts...)
			test(t, f, f.counters()[kind], kind)
		})
	}
}

var (
	keyA = distkit.MustKey("a")
	keyB = distkit.MustKey("b")
	keyC = distkit.MustKey("c")
)
