package faults_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/distkit/distkit-go"
	"github.com/distkit/distkit-go/internal/chaos"
	"github.com/distkit/distkit-go/internal/redisio"
	"github.com/distkit/distkit-go/internal/redistest"
	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"
)

// The load of TestProxy: operations of both kinds on a few counters, each with
// a wait of its own, and every outcome noted.

// readTimeout is the clients': short, so that a black hole costs little.
const readTimeout = 200 * time.Millisecond

const (
	loadKeys    = 16
	loadCallers = 8
	patience    = 30 * time.Second // longer than any fault lasts
)

var kinds = [...]string{redisio.StrictKind, redisio.LaxKind}

// load is a System under callers of both kinds, another that repeats its transactions, and
// what callers were told.
type load struct {
	run    *chaos.Run
	system *distkit.System
	direct *redis.Client // to Redis itself
	prefix string
	shards int
	keys   [loadKeys]distkit.Key
	told   [len(kinds)][loadKeys]told

	systems           [2]*distkit.System // which carry out transactions; the first is system
	txs               proxyTxs
	settled, recalled atomic.Int64 // transactions whose outcome was unknown; those that had been applied, or tried

	mu     sync.Mutex
	events []distkit.Event // those that nothing here may cause
}

// newLoad starts the Systems, whose client dials by dial as the user with the rights, and
// would retry.
func newLoad(t testing.TB, run *chaos.Run, direct *redis.Client, prefix string, shards int, rights *rights, dial func() string) (l *load, closeClient func()) {
	t.Helper()
	l = &load{run: run, direct: direct, prefix: prefix, shards: shards}
	for i := range l.keys {
		name := "k" + strconv.Itoa(i)
		if inTxs(i) {
			name = proxyTag + name
		}
		l.keys[i] = distkit.MustKey(name)
	}
	options := retrying(direct, dial)
	options.Username, options.Password = rights.user, rights.password
	client := redis.NewClient(options)
	for i := range l.systems {
		system, err := distkit.NewSystem(client,
			distkit.WithPrefix(distkit.MustKey(prefix)), distkit.WithShards(shards), distkit.WithLogger(slog.New(slog.DiscardHandler)),
			distkit.WithBackoff(time.Millisecond, 4*time.Millisecond),
			distkit.WithAllowedLag(2*time.Millisecond), distkit.WithRefreshWait(10*time.Millisecond))
		require.NoError(t, err)
		l.systems[i] = system
		system.Subscribe(func(e distkit.Event) {
			switch e.(type) {
			case distkit.WriterFailed, distkit.WriterRecovered, distkit.EventsDropped:
			default:
				l.mu.Lock()
				l.events = append(l.events, e)
				l.mu.Unlock()
			}
		})
	}
	l.system = l.systems[0]
	return l, func() { _ = client.Close() }
}

// retrying are options of a client that would repeat any command it may, and
// soon notices a connection that is lost; dial says where each goes.
func retrying(direct *redis.Client, dial func() string) *redis.Options {
	options := *direct.Options()
	options.Dialer = func(ctx context.Context, network, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, network, dial())
	}
	options.ReadTimeout, options.WriteTimeout, options.DialTimeout = readTimeout, readTimeout, time.Second
	options.DialerRetries = 1
	// It does repeat its own handshake, on the connection that has just broken.
	options.MaxRetries, options.MinRetryBackoff, options.MaxRetryBackoff = 5, time.Millisecond, 2*time.Millisecond
	return &options
}

// callers run until stop is set.
func (l *load) callers(epoch uint64, stop *atomic.Bool) {
	var callers sync.WaitGroup
	for g := range loadCallers {
		callers.Go(func() {
			rng := l.run.Rand(epoch<<8 | uint64(g))
			for !stop.Load() {
				l.strict(rng)
				l.lax(rng)
				l.lax(rng)
				if rng.IntN(200) == 0 {
					l.flush(rng)
				}
			}
		})
	}
	callers.Wait()
}

// strict carries out one operation and notes what it was told.
func (l *load) strict(rng *rand.Rand) {
	if rng.IntN(6) == 0 {
		l.transact(rng)
		return
	}
	c, told := l.system.Strict(), &l.told[0]
	k := rng.IntN(loadKeys)
	n := step(rng, k)
	ctx, cancel := wait(rng, told[k].impatient())
	defer cancel()
	switch p := rng.IntN(100); {
	case p < 60:
		l.common(ctx, rng, c, told, k, n)
	case p < 75:
		change, err := c.IncIf(ctx, l.keys[k], distkit.Ge(0), n)
		l.note("strict IncIf", told[k].of(change.New, n, err))
		if err == nil && (!change.Applied || change.Old+n != change.New) {
			l.run.Violation("strict IncIf by %d answered %+v", n, change)
		}
	default:
		l.all(rng, c, told)
	}
}

// lax does the same for the other kind.
func (l *load) lax(rng *rand.Rand) {
	c, told := l.system.Lax(), &l.told[1]
	k := rng.IntN(loadKeys)
	n := step(rng, k)
	ctx, cancel := wait(rng, told[k].impatient())
	defer cancel()
	switch p := rng.IntN(100); {
	case p < 50:
		l.common(ctx, rng, c, told, k, n)
	case p < 75:
		if err := c.Add(l.keys[k], n); err != nil {
			l.run.Violation("lax Add: %v", err)
			return
		}
		told[k].silently(n)
	case p < 90:
		c.PID(l.keys[k]).Send(distkit.Dec{N: -n})
		told[k].silently(n)
	default:
		l.all(rng, c, told)
	}
}

// common is what both kinds do.
func (l *load) common(ctx context.Context, rng *rand.Rand, c distkit.Counter, told *[loadKeys]told, k int, n int64) {
	key := l.keys[k]
	switch p := rng.IntN(10); {
	case p < 5:
		value, err := c.Inc(ctx, key, n)
		l.note("Inc", told[k].of(value, n, err))
	case p < 7:
		value, err := c.Dec(ctx, key, -n)
		l.note("Dec", told[k].of(value, n, err))
	case p < 8:
		value, err := c.Get(ctx, key)
		l.note("Get", told[k].of(value, 0, err))
	case p < 9:
		reply, err := c.PID(key).Request(ctx, distkit.Inc{N: n})
		value, _ := reply.(distkit.Value)
		l.note("Request", told[k].of(value.N, n, err))
	default:
		l.ask(rng, c.PID(key).Actor(), &told[k], k)
	}
}

// all is a batch call on several keys, some of them twice.
func (l *load) all(rng *rand.Rand, c distkit.Counter, told *[loadKeys]told) {
	updates, keys := make([]distkit.Update, 2+rng.IntN(5)), make([]int, 0, 6)
	impatient := true
	for i := range updates {
		k := rng.IntN(loadKeys)
		keys = append(keys, k)
		updates[i] = distkit.Update{Key: l.keys[k], N: step(rng, k)}
		impatient = impatient && told[k].impatient()
	}
	ctx, cancel := wait(rng, impatient)
	defer cancel()
	values, err := c.IncAll(ctx, updates...)
	var failed *distkit.BatchError
	if err != nil && !errors.As(err, &failed) {
		l.run.Violation("IncAll: %v", err)
		return
	}
	for i, k := range keys {
		var err error
		if failed != nil {
			err = failed.Errs[i]
		}
		l.note("IncAll", told[k].of(values[i], updates[i].N, err))
	}
}

// flush checks a Flush's promise: what was accepted before it is in Redis.
func (l *load) flush(rng *rand.Rand) {
	k := rng.IntN(loadKeys)
	before := l.told[1][k].sum()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if err := l.system.Flush(ctx); err != nil {
		l.run.Violation("Flush: %v", err)
		return
	}
	if now, err := l.stored(ctx, 1, k); err != nil || now < before {
		l.run.Violation("Flush returned; %d had been accepted, Redis has %d (%v)", before, now, err)
	}
}

func (l *load) note(what string, broken error) {
	if broken != nil {
		l.run.Violation("%s: %v", what, broken)
	}
}

// container is where a counter is.
func (l *load) container(kind int, key distkit.Key) string {
	return l.prefix + ":" + redisio.ShardName(kinds[kind], redisio.ShardOf(key.String(), l.shards), l.shards)
}

// stored is a counter's value in Redis.
func (l *load) stored(ctx context.Context, kind, k int) (int64, error) {
	n, err := l.direct.HGet(ctx, l.container(kind, l.keys[k]), l.keys[k].String()).Int64()
	if errors.Is(err, redis.Nil) {
		err = nil
	}
	return n, err
}

// compare holds every counter against what its callers were told.
func (l *load) compare(ctx context.Context, when string) {
	for kind := range l.told {
		for k := range l.told[kind] {
			name := fmt.Sprintf("%s: %s %s %s", when, l.prefix, kinds[kind], l.keys[k])
			final, err := l.stored(ctx, kind, k)
			if err != nil {
				l.run.Violation("%s: %v", name, err)
			} else if err := l.told[kind][k].check(final); err != nil {
				l.run.Violation("%s: %v", name, err)
			}
		}
	}
	l.compareTxs(ctx, when)
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, e := range l.events {
		l.run.Violation("%s: %s: event: %v", when, l.prefix, e)
	}
	l.events = nil
}

// step is what to add to the k-th counter: 1 on a few, on the others a number
// that will not come again; the sums leave the range of doubles, not of int64.
func step(rng *rand.Rand, k int) int64 {
	if k%4 == 0 {
		return 1
	}
	return 1 + rng.Int64N(1<<44)
}

// wait is how long a caller waits: often long enough, else so short that its
// operation may be anywhere when it gives up.
func wait(rng *rand.Rand, impatient bool) (context.Context, context.CancelFunc) {
	d := patience
	if impatient {
		switch p := rng.IntN(100); {
		case p < 3:
			d = time.Duration(rng.IntN(1000)) * time.Microsecond
		case p < 10:
			d = time.Duration(1+rng.IntN(40)) * time.Millisecond
		}
	}
	return context.WithTimeout(context.Background(), d)
}

// gaveUp reports whether an operation failed because its caller's wait ended.
func gaveUp(err error) bool {
	return errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled)
}

// excused reports whether an operation failed as it may: its caller's wait ended, or the
// user was not permitted it, which is told at once.
func excused(err error) bool {
	return gaveUp(err) || errors.Is(err, distkit.ErrNotApplied) && deniedTo(err)
}

// sharedRedis is the address that a wire leads to.
func sharedRedis(t testing.TB) (*redis.Client, string) {
	t.Helper()
	client := redistest.Client(t)
	return client, client.Options().Addr
}
