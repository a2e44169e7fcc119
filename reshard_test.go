package distkit_test

import (
	"context"
	"errors"
	"fmt"
	"math"
	"net"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/distkit/distkit-go"
	"github.com/distkit/distkit-go/internal/redisio"
	"github.com/distkit/distkit-go/internal/redistest"
	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"
)

// movable is what there is to move, and what has to be there afterwards.
type movable struct {
	*fixture
	keys   []distkit.Key
	start  time.Time // of a window
	shards int
}

// newMovable counts under a prefix on so many shards, by a System that is gone then.
func newMovable(t *testing.T, f *fixture, shards, keys int) *movable {
	t.Helper()
	m := &movable{f, append(manyKeys(keys), oddKeys()[:10]...), time.Now().Truncate(time.Hour), shards}
	s := f.another(t, distkit.WithShards(shards))
	for kind, c := range map[int64]distkit.Counter{1: s.Strict(), -1: s.Lax()} {
		updates := make([]distkit.Update, len(m.keys))
		for i, key := range m.keys {
			updates[i] = distkit.Update{Key: key, N: kind * m.value(i)}
		}
		_, err := c.SetAll(f.ctx, updates...)
		require.NoError(t, err)
	}
	w, err := s.Lax().Per(distkit.Every(time.Hour), time.Hour)
	require.NoError(t, err)
	updates := make([]distkit.Update, len(m.keys))
	for i, key := range m.keys {
		updates[i] = distkit.Update{Key: key, N: int64(i)}
	}
	_, err = w.At(m.start).SetAll(f.ctx, updates...)
	require.NoError(t, err)
	for i := range 3 {
		_, err := s.Strict().Apply(f.ctx, m.tx(i))
		require.NoError(t, err)
	}
	require.NoError(t, s.Shutdown(f.ctx))
	return m
}

// value is that of a counter: some are at the ends of the range.
func (m *movable) value(i int) int64 {
	if i == 3 {
		return math.MaxInt64
	}
	return int64(i) + 1<<53
}

func (m *movable) tx(i int) distkit.Tx {
	return distkit.Tx{ID: fmt.Sprint("id:}:", i), Keep: time.Hour, Steps: []distkit.Step{on(distkit.MustKey(fmt.Sprint("tx", i)), distkit.Inc{N: 7})}}
}

// check looks at everything, by a System of the new number.
func (m *movable) check(t *testing.T, shards int) {
	t.Helper()
	s := m.another(t, distkit.WithShards(shards))
	for i := range 3 {
		out, err := s.Strict().Apply(m.ctx, m.tx(i))
		require.NoError(t, err)
		require.Equal(t, distkit.Outcome{Applied: true, Replayed: true, Replies: []distkit.Reply{distkit.Value{N: 7}}}, out, "applied twice")
	}
	w, err := s.Lax().Per(distkit.Every(time.Hour), time.Hour)
	require.NoError(t, err)
	for kind, c := range map[int64]distkit.Counter{1: s.Strict(), -1: s.Lax()} {
		values, err := c.GetAll(m.ctx, m.keys...)
		require.NoError(t, err)
		for i, n := range values {
			require.Equal(t, kind*m.value(i), n, "%q", m.keys[i])
		}
		met := 0
		for _, err := range c.All(m.ctx) {
			require.NoError(t, err)
			met++
		}
		require.Equal(t, len(m.keys)+map[int64]int{1: 3}[kind], met, "counters lie on two shards")
	}
	for i, key := range m.keys[:min(40, len(m.keys))] {
		points, err := w.Series(m.ctx, key, m.start, m.start.Add(time.Minute))
		require.NoError(t, err)
		require.EqualValues(t, i, points[0].N, "%q", key)
	}
	require.NoError(t, s.Shutdown(m.ctx))

	// Nothing is left elsewhere, and windows expire when they did.
	layout := map[string]bool{m.prefix + ":layout": true}
	for shard := range shards {
		for _, kind := range []string{"strict_counter", "lax_counter"} {
			name := m.prefix + ":" + redisio.ShardName(kind, shard, shards)
			layout[name] = true
			window := fmt.Sprint(name, "@3600s@", m.start.Unix())
			if layout[window] = true; m.client.Exists(m.ctx, window).Val() == 1 {
				require.WithinDuration(t, m.start.Add(2*time.Hour), time.Now().Add(m.client.PTTL(m.ctx, window).Val()), time.Second)
			}
			for i := range 3 {
				layout[redisio.NewContainer(m.prefix, redisio.ShardName(kind, shard, shards)).Once(m.tx(i).ID)] = true
			}
		}
	}
	for _, name := range m.client.Keys(m.ctx, m.prefix+":*").Val() {
		if kind := m.client.Type(m.ctx, name).Val(); kind == "hash" || len(name) > len(m.prefix)+5 && name[len(m.prefix):len(m.prefix)+6] == ":once:" {
			require.True(t, layout[name], "%s is left", name)
		}
	}
	require.Equal(t, strconv.Itoa(shards), m.client.Get(m.ctx, m.prefix+":layout").Val())
}

func (m *movable) to(shards int, client redis.UniversalClient) (distkit.ReshardReport, error) {
	return distkit.Reshard(m.ctx, client, distkit.ReshardConfig{Prefix: distkit.MustKey(m.prefix), Shards: shards})
}

func TestReshard_isExact(t *testing.T) {
	t.Parallel()
	for _, test := range []struct{ from, to int }{{1, 4}, {4, 1}, {4, 6}, {6, 4}, {2, 2}, {1, 1}, {3, 64}} {
		t.Run(fmt.Sprint(test.from, " to ", test.to), func(t *testing.T) {
			t.Parallel()
			m := newMovable(t, newFixture(t), test.from, 700)
			var progress []distkit.ReshardReport
			report, err := distkit.Reshard(m.ctx, m.client, distkit.ReshardConfig{
				Prefix: distkit.MustKey(m.prefix), Shards: test.to,
				Progress: func(r distkit.ReshardReport) { progress = append(progress, r) },
			})
			require.NoError(t, err)
			require.Equal(t, test.from, report.From)
			require.Equal(t, test.to, report.To)
			require.False(t, report.Resumed)
			require.Equal(t, report.Copied, report.Moved)
			if test.from == test.to {
				require.Zero(t, report.Moved)
				require.Empty(t, progress)
			} else {
				require.Equal(t, report, progress[len(progress)-1])
				require.Greater(t, report.Moved, int64(len(m.keys)/2))
			}
			m.check(t, test.to)
			if test.from != test.to {
				old := m.another(t, distkit.WithShards(test.from))
				_, err = old.Strict().Inc(m.ctx, m.keys[0], 1)
				requireNotApplied(t, err, distkit.ErrLayout)
			}
		})
	}
}

// Counters of the crate, or of before there were layouts.
func TestReshard_fromTheCrate(t *testing.T) {
	t.Parallel()
	m := newMovable(t, newFixture(t), 1, 50)
	require.NoError(t, m.client.Del(m.ctx, m.prefix+":layout").Err())
	early := m.another(t, distkit.WithShards(4))
	_, err := early.Strict().Inc(m.ctx, m.keys[0], 1)
	requireNotApplied(t, err, distkit.ErrLayout)
	report, err := m.to(4, m.client)
	require.NoError(t, err)
	require.Equal(t, 1, report.From)
	_, err = early.Strict().Get(m.ctx, m.keys[0])
	require.NoError(t, err, "it looks again")
	m.check(t, 4)
}

// breaks has a client's calls fail from the n-th on, before or after Redis has them: the
// process is killed.
type breaks struct {
	at    int32
	after bool // Redis has the n-th
	calls atomic.Int32
}

var errKilled = errors.New("killed")

func (b *breaks) DialHook(next redis.DialHook) redis.DialHook {
	return func(ctx context.Context, network, addr string) (net.Conn, error) { return next(ctx, network, addr) }
}

func (b *breaks) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		return b.pass(func() error { return next(ctx, cmd) }, cmd)
	}
}

func (b *breaks) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		return b.pass(func() error {
			if b.after && b.calls.Load() == b.at { // half of it goes through
				return next(ctx, cmds[:(len(cmds)+1)/2])
			}
			return next(ctx, cmds)
		}, cmds...)
	}
}

func (b *breaks) pass(call func() error, cmds ...redis.Cmder) error {
	n := b.calls.Add(1)
	if n < b.at || n == b.at && b.after {
		if err := call(); n < b.at {
			return err
		}
	}
	for _, cmd := range cmds {
		cmd.SetErr(errKilled)
	}
	return errKilled
}

// It is killed at each step, once before and once while Redis carries that out; whoever
// calls it again comes to the same end, also to another number.
func TestReshard_killedAtAnyStep_goesOn(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("takes half a minute")
	}
	for after, tests := range map[bool][]struct{ from, to, then int }{
		false: {{2, 3, 3}, {1, 2, 2}, {2, 3, 2}},
		true:  {{2, 3, 3}, {2, 1, 1}, {2, 3, 5}},
	} {
		for _, test := range tests {
			t.Run(fmt.Sprint(test, after), func(t *testing.T) {
				t.Parallel()
				f := newFixture(t)
				for step := int32(1); ; step++ {
					f.prefix = redistest.Prefix(t, f.client)
					m := newMovable(t, f, test.from, 12)
					b := &breaks{at: step, after: after}
					options := redistest.Options(t)
					options.MaxRetries = -1
					client := redistest.NewClient(t, options)
					client.AddHook(b)
					_, err := m.to(test.to, client)
					if b.calls.Load() < step {
						require.NoError(t, err)
						require.Greater(t, step, int32(12), "it has had hardly a step")
						return
					}
					require.ErrorIs(t, err, errKilled)
					report, err := m.to(test.then, m.client)
					require.NoError(t, err, "step %d", step)
					require.Equal(t, test.then, report.To)
					m.check(t, test.then)
				}
			})
		}
	}
}

// barrier holds up each container that a client goes through, at the second step, until
// it is open.
type barrier struct {
	breaks
	mu      sync.Mutex
	steps   map[string]int
	running atomic.Int32 // calls that are not held up
	held    atomic.Int32
	open    chan struct{}
}

func (g *barrier) second(cmd redis.Cmder) bool {
	if cmd.Name() != "hscan" {
		return false
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	container := fmt.Sprint(cmd.Args()[1])
	g.steps[container]++
	return g.steps[container] == 2
}

func (g *barrier) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		if g.second(cmd) {
			g.held.Add(1)
			<-g.open
		}
		g.running.Add(1)
		defer g.running.Add(-1)
		return next(ctx, cmd)
	}
}

// Of two at the same time the one that began first stops at its next step.
func TestReshard_twoAtATime(t *testing.T) {
	t.Parallel()
	m := newMovable(t, newFixture(t), 1, 3000)
	client := redistest.NewClient(t, redistest.Options(t))
	g := &barrier{steps: map[string]int{}, open: make(chan struct{})}
	g.at = math.MaxInt32
	client.AddHook(g)
	first := make(chan error, 1)
	go func() {
		_, err := m.to(4, client)
		first <- err
	}()
	// One for each container that is gone through at the same time: strict, lax, a window.
	require.Eventually(t, func() bool { return g.held.Load() == 3 && g.running.Load() == 0 }, 30*time.Second, time.Millisecond)
	report, err := m.to(2, m.client)
	require.NoError(t, err)
	require.True(t, report.Resumed)
	close(g.open)
	require.ErrorContains(t, <-first, "another Reshard has begun since")
	m.check(t, 2)
}

// What two layouts have left that counted at the same time nobody can put together.
func TestReshard_refusesTwoValues(t *testing.T) {
	t.Parallel()
	m := newMovable(t, newFixture(t), 1, 20)
	key := m.keys[5]
	require.NoError(t, m.client.HSet(m.ctx, m.container("strict_counter", key, 4), key.String(), "5").Err())
	_, err := m.to(4, m.client)
	require.ErrorContains(t, err, fmt.Sprintf("%q is 9007199254740997 there and 5 in", key))
	require.NoError(t, m.client.HDel(m.ctx, m.container("strict_counter", key, 4), key.String()).Err())
	report, err := m.to(4, m.client)
	require.NoError(t, err)
	require.True(t, report.Resumed)
	m.check(t, 4)
}

func TestReshard_refusesBadInput(t *testing.T) {
	t.Parallel()
	client := redistest.Client(t)
	for _, test := range []struct {
		client redis.UniversalClient
		prefix string
		shards int
		says   string
	}{
		{nil, "p", 4, "client is nil"},
		{client, "p", 0, "0 shards are not 1 to 16384"},
		{client, "p", 20_000, "20000 shards are not 1 to 16384"},
		{client, "p}", 4, "closes no hash tag"},
	} {
		_, err := distkit.Reshard(t.Context(), test.client, distkit.ReshardConfig{Prefix: distkit.MustKey(test.prefix), Shards: test.shards})
		require.ErrorContains(t, err, test.says)
	}
	m := newMovable(t, newFixture(t), 1, 5)
	require.NoError(t, m.client.Set(m.ctx, m.prefix+":layout", "what?", 0).Err())
	_, err := m.to(4, m.client)
	require.ErrorContains(t, err, "which no System has written")
}

// A node that has copies loses them before what they are of is deleted.
func TestReshard_lostCopies(t *testing.T) {
	t.Parallel()
	m := newMovable(t, newFixture(t), 1, 20)
	all, lost := int64(3*len(m.keys)+3), false
	_, err := distkit.Reshard(m.ctx, m.client, distkit.ReshardConfig{
		Prefix: distkit.MustKey(m.prefix), Shards: 2,
		Progress: func(r distkit.ReshardReport) {
			if r.Copied == all && !lost {
				lost = true
				for _, kind := range []string{"strict_counter", "lax_counter"} {
					m.client.Del(m.ctx, m.prefix+":"+kind+"#0", m.prefix+":"+kind+"#1")
				}
			}
		},
	})
	require.NoError(t, err)
	require.True(t, lost)
	m.check(t, 2)
}
