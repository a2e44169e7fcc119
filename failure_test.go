package distkit_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/distkit/distkit-go"
	"github.com/distkit/distkit-go/internal/line"
	"github.com/distkit/distkit-go/internal/redistest"
	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"
)

// patient are client options under which a lost server is noticed soon, and
// under which go-redis, were it asked, would retry.
func patient(addr string) *redis.Options {
	return &redis.Options{Addr: addr, MaxRetries: 5, ReadTimeout: time.Second, DialTimeout: time.Second}
}

func TestReplyLost_appliesOnce(t *testing.T) {
	t.Parallel()
	both(t, func(t *testing.T, f *fixture, _ distkit.Counter, kind string) {
		line := &line.Line{}
		options := line.Lead(*redistest.Options(t))
		options.MaxRetries = 5
		direct := f.client
		f.client = redistest.NewClient(t, options)
		system := f.another(t, distkit.WithBackoff(time.Millisecond, 2*time.Millisecond), distkit.WithAllowedLag(time.Millisecond))
		f.client = direct
		c := distkit.Counter(system.Strict())
		if kind == "lax_counter" {
			c = system.Lax()
		}
		_, err := c.Inc(f.ctx, keyA, 0) // a connection that works
		require.NoError(t, err)
		line.LoseEvery(2)
		for i := range 1000 {
			got, err := c.Inc(f.ctx, keyA, 1)
			require.NoError(t, err)
			require.EqualValues(t, i+1, got)
			if kind == "lax_counter" {
				require.NoError(t, system.Flush(f.ctx))
			}
		}
		require.Equal(t, "1000", f.stored(t, kind, keyA))
		require.Greater(t, line.Lost(), int64(300))
		line.LoseEvery(0)
		require.NoError(t, system.Shutdown(f.ctx))
	})
}

// A batch whose reply was lost goes again as it was: an operation that comes
// meanwhile must not join it.
func TestReplyLost_laterOperationsWaitBehindTheBatch(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	options := redistest.Options(t)
	line := &line.Line{}
	options = line.Lead(*options)
	system := f.on(t, redistest.NewClient(t, options), distkit.WithBackoff(500*time.Millisecond, time.Second))
	events := recordEvents(t, system)
	_, err := system.Strict().Inc(f.ctx, keyC, 1) // opens the lane
	require.NoError(t, err)
	line.LoseEvery(1)
	first := make(chan int64, 1)
	go func() {
		got, err := system.Strict().Inc(f.ctx, keyA, 1)
		if err != nil {
			t.Error(err)
		}
		first <- got
	}()
	await[distkit.WriterFailed](t, events)
	line.LoseEvery(0)
	got, err := system.Strict().Inc(f.ctx, keyB, 10)
	require.NoError(t, err)
	require.EqualValues(t, 10, got)
	require.EqualValues(t, 1, <-first)
	require.Equal(t, "1", f.stored(t, "strict_counter", keyA))
}

// A total that Redis gave to a copy whose reply was lost is as old as that copy.
func TestReplyLost_viewIsAsOldAsTheTotal(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	options := redistest.Options(t)
	line := &line.Line{}
	options = line.Lead(*options)
	system := f.on(t, redistest.NewClient(t, options), distkit.WithBackoff(100*time.Millisecond, time.Second))
	events := recordEvents(t, system)
	require.NoError(t, system.Lax().Add(keyB, 1)) // opens the lane
	require.NoError(t, system.Flush(f.ctx))
	line.LoseEvery(1)
	require.NoError(t, system.Lax().Add(keyA, 1))
	await[distkit.WriterFailed](t, events)
	applied := time.Now()
	line.LoseEvery(0)
	require.NoError(t, system.Flush(f.ctx))
	least := time.Since(applied)
	view, err := system.Lax().View(f.ctx, keyA)
	require.NoError(t, err)
	require.EqualValues(t, 1, view.N)
	require.GreaterOrEqual(t, view.Age, least)
}

func TestRedisKilledAndRestarted_totalsAreExact(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t, redistest.Durable...)
	f := fixtureOn(t, redistest.NewClient(t, patient(server.Addr)))
	events := recordEvents(t, f.System)
	keys := []distkit.Key{keyA, keyB, keyC}

	// Workers count until told to stop; their calls wait for Redis.
	var strict, lax atomic.Int64
	stop := make(chan struct{})
	var workers sync.WaitGroup
	for range 8 {
		workers.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				key := keys[rand.IntN(len(keys))]
				if _, err := f.Strict().Inc(f.ctx, key, 1); err != nil {
					t.Errorf("strict: %v", err)
					return
				}
				strict.Add(1)
				if _, err := f.Lax().Inc(f.ctx, key, 1); err != nil {
					t.Errorf("lax: %v", err)
					return
				}
				lax.Add(1)
			}
		})
	}
	reach := func(n int64) {
		require.Eventually(t, func() bool { return strict.Load() >= n }, 30*time.Second, time.Millisecond)
	}
	reach(500)
	server.Kill(t)
	failed := await[distkit.WriterFailed](t, events)
	require.Positive(t, failed.Attempt)
	server.Restart(t)
	await[distkit.WriterRecovered](t, events)
	reach(strict.Load() + 500)
	close(stop)
	workers.Wait()

	require.NoError(t, f.Shutdown(f.ctx))
	for kind, want := range map[string]int64{"strict_counter": strict.Load(), "lax_counter": lax.Load()} {
		sum := int64(0)
		for _, key := range keys {
			n, err := strconv.ParseInt(f.stored(t, kind, key), 10, 64)
			require.NoError(t, err)
			sum += n
		}
		require.Equal(t, want, sum, kind)
	}
}

func TestRedisHangs_laxAnswersAndStrictWaits(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	f := fixtureOn(t, redistest.NewClient(t, patient(server.Addr)))
	for _, c := range f.counters() {
		_, err := c.Inc(f.ctx, keyA, 1)
		require.NoError(t, err)
	}
	f.flush(t)
	server.Pause(t)

	impatient, cancel := context.WithTimeout(f.ctx, 100*time.Millisecond)
	defer cancel()
	_, err := f.Strict().Inc(impatient, keyB, 1)
	require.ErrorIs(t, err, distkit.ErrOutcomeUnknown)
	require.NotErrorIs(t, err, distkit.ErrNotApplied)
	require.ErrorIs(t, err, context.DeadlineExceeded)

	strict := make(chan error, 1)
	go func() {
		_, err := f.Strict().Inc(f.ctx, keyA, 1)
		strict <- err
	}()
	outage := time.NewTimer(5 * time.Second)
	defer outage.Stop()
	want := int64(1)
	for hanging := true; hanging; {
		select {
		case <-outage.C:
			hanging = false
		case err := <-strict:
			require.FailNow(t, "a strict call ended while Redis hung", "%v", err)
		default:
			want++
			got, err := f.Lax().Inc(f.ctx, keyA, 1)
			require.NoError(t, err)
			require.Equal(t, want, got)
		}
	}
	server.Resume(t)
	require.NoError(t, <-strict)
	f.flush(t)
	require.Equal(t, "2", f.stored(t, "strict_counter", keyA))
	require.Equal(t, "1", f.stored(t, "strict_counter", keyB), "the unknown one was applied once")
	require.Equal(t, strconv.FormatInt(want, 10), f.stored(t, "lax_counter", keyA))
}

func TestRedisUnreachable_isNotAppliedWithinTheContext(t *testing.T) {
	t.Parallel()
	both(t, func(t *testing.T, f *fixture, _ distkit.Counter, kind string) {
		f.client = redistest.NewClient(t, patient("127.0.0.1:1"))
		system := f.another(t)
		c := distkit.Counter(system.Strict())
		if kind == "lax_counter" {
			c = system.Lax()
		}
		ctx, cancel := context.WithTimeout(f.ctx, 2*time.Second) // go-redis dials five times, 100 ms apart
		defer cancel()
		_, err := c.Inc(ctx, keyA, 1)
		requireNotApplied(t, err, context.DeadlineExceeded)
		require.ErrorContains(t, err, "connection refused", "the reader learns why")
	})
}

func TestRedisReturns_afterCallersGaveUp_appliesNothingOfTheirs(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t, redistest.Durable...)
	f := fixtureOn(t, redistest.NewClient(t, patient(server.Addr)))
	_, err := f.Strict().Inc(f.ctx, keyA, 1)
	require.NoError(t, err)
	server.Kill(t)
	// The first call may meet the dead connection, which leaves it unknown.
	unknown := int64(0)
	for range 10 {
		ctx, cancel := context.WithTimeout(f.ctx, 50*time.Millisecond)
		_, err := f.Strict().Inc(ctx, keyA, 1)
		cancel()
		require.Error(t, err)
		if errors.Is(err, distkit.ErrOutcomeUnknown) {
			unknown++
		}
	}
	server.Restart(t)
	got, err := f.Strict().Inc(f.ctx, keyA, 1)
	require.NoError(t, err)
	require.GreaterOrEqual(t, got, int64(2))
	require.LessOrEqual(t, got, 2+unknown)
}

func TestRedisRefuses_failsAtOnce_andLaxKeepsItsChanges(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	admin := redistest.NewClient(t, patient(server.Addr))
	ctx := context.Background()

	for _, refusal := range []struct {
		name, says   string
		refuse, lift func() error
	}{
		{"out of memory", "OOM",
			func() error { return admin.ConfigSet(ctx, "maxmemory", "1").Err() },
			func() error { return admin.ConfigSet(ctx, "maxmemory", "0").Err() }},
		{"no permission", "NOPERM",
			func() error { return admin.Do(ctx, "ACL", "SETUSER", "default", "-evalsha", "-eval").Err() },
			func() error { return admin.Do(ctx, "ACL", "SETUSER", "default", "+evalsha", "+eval").Err() }},
	} {
		t.Run(refusal.name, func(t *testing.T) {
			f := fixtureOn(t, redistest.NewClient(t, patient(server.Addr)))
			_, err := f.Lax().Inc(f.ctx, keyA, 1)
			require.NoError(t, err)
			require.NoError(t, refusal.refuse())
			_, err = f.Strict().Inc(f.ctx, keyA, 1)
			requireNotApplied(t, err, distkit.ErrNotApplied)
			require.ErrorContains(t, err, refusal.says)
			_, err = f.Lax().Inc(f.ctx, keyA, 1)
			require.NoError(t, err)
			short, cancel := context.WithTimeout(f.ctx, 100*time.Millisecond)
			defer cancel()
			require.ErrorIs(t, f.Flush(short), context.DeadlineExceeded)
			require.NoError(t, refusal.lift())
			f.flush(t)
			require.Equal(t, "2", f.stored(t, "lax_counter", keyA))
			require.Empty(t, f.stored(t, "strict_counter", keyA))
		})
	}
}

func TestScriptFlushed_goesOn(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	f := fixtureOn(t, redistest.NewClient(t, patient(server.Addr)))
	for i := range 20 {
		require.NoError(t, f.client.ScriptFlush(f.ctx).Err())
		for _, c := range f.counters() {
			got, err := c.Inc(f.ctx, keyA, 1)
			require.NoError(t, err)
			require.EqualValues(t, i+1, got)
		}
		f.flush(t)
	}
	require.Equal(t, "20", f.stored(t, "strict_counter", keyA))
	require.Equal(t, "20", f.stored(t, "lax_counter", keyA))
}

func TestMaxStaleness_refusesOldViews(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	f := fixtureOn(t, redistest.NewClient(t, patient(server.Addr)), distkit.WithMaxStaleness(50*time.Millisecond))
	_, err := f.Lax().View(f.ctx, keyA)
	require.NoError(t, err)
	server.Kill(t)
	require.Eventually(t, func() bool {
		_, err = f.Lax().Inc(f.ctx, keyA, 1)
		return err != nil
	}, 10*time.Second, time.Millisecond)
	requireNotApplied(t, err, distkit.ErrStale)
	require.NoError(t, f.Lax().Add(keyA, 1), "Add answers nothing, so nothing is stale")
	_, err = f.Lax().View(f.ctx, keyA)
	require.NoError(t, err, "a View tells its age")
	server.Restart(t)
}

// TestTwoProcesses counts from two processes at once; the second is this test
// binary again.
func TestTwoProcesses_countTogether(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	child := exec.CommandContext(f.ctx, os.Args[0], "-test.run=^TestHelperProcess$", "-test.count=1")
	child.Env = append(os.Environ(), "DISTKIT_TEST_COUNT_UNDER="+f.prefix, "REDIS_URL="+redistest.URL(t))
	output := &strings.Builder{}
	child.Stdout, child.Stderr = output, output
	require.NoError(t, child.Start())
	countUnder(f.ctx, t, f.System)
	require.NoError(t, child.Wait(), output)
	for kind := range f.counters() {
		require.Equal(t, "2000", f.stored(t, kind, keyA), "a %s", kind)
		require.Equal(t, "-2000", f.stored(t, kind, keyB), "b %s", kind)
	}
}

func TestHelperProcess(t *testing.T) {
	prefix := os.Getenv("DISTKIT_TEST_COUNT_UNDER")
	if prefix == "" {
		return // only as the child of TestTwoProcesses_countTogether
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	system, err := distkit.NewSystem(redistest.Client(t), distkit.WithPrefix(distkit.MustKey(prefix)))
	require.NoError(t, err)
	countUnder(ctx, t, system)
	require.NoError(t, system.Shutdown(ctx))
}

// countUnder adds 1,000 to a and takes 1,000 from b, of both kinds.
func countUnder(ctx context.Context, t *testing.T, system *distkit.System) {
	for _, c := range []distkit.Counter{system.Strict(), system.Lax()} {
		var callers sync.WaitGroup
		for range 10 {
			callers.Go(func() {
				for range 100 {
					_, err := c.Inc(ctx, keyA, 1)
					_, err2 := c.IncIf(ctx, keyB, distkit.Always(), -1)
					if err = errors.Join(err, err2); err != nil {
						t.Error(fmt.Errorf("count: %w", err))
					}
				}
			})
		}
		callers.Wait()
	}
	require.NoError(t, system.Flush(ctx))
}
