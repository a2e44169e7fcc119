package distkittest_test

import (
	"context"
	"fmt"
	"math"
	"testing"
	"time"

	"github.com/distkit/distkit-go"
	"github.com/distkit/distkit-go/distkittest"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var (
	keyA = distkit.MustKey("a")
	keyB = distkit.MustKey("b")
)

func TestNew_leavesNothingBehind(t *testing.T) {
	before := goleak.IgnoreCurrent()
	t.Run("counting", func(t *testing.T) {
		system := distkittest.New(t)
		_, err := system.Strict().Inc(t.Context(), keyA, 1)
		require.NoError(t, err)
		require.NoError(t, system.Lax().Add(keyA, 1))
		system.Outage() // and it is not resumed
	})
	goleak.VerifyNone(t, before)
}

func TestLoseReply_isAppliedOnce(t *testing.T) {
	t.Parallel()
	for name, opts := range map[string][]distkit.Option{"one": nil, "of shards": {distkit.WithShards(4)}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			system := distkittest.New(t, opts...)
			system.LoseReply() // of the first batch, before which its ledger is opened
			n, err := system.Strict().Inc(t.Context(), keyA, 5)
			require.NoError(t, err)
			require.Equal(t, int64(5), n)
			require.Equal(t, 1, system.Lost())
			system.LoseReply()
			system.LoseReply()
			n, err = system.Strict().Inc(t.Context(), keyA, 5)
			require.NoError(t, err)
			require.Equal(t, int64(10), n)
			require.Equal(t, 3, system.Lost())

			require.NoError(t, system.Lax().Add(keyB, 7))
			system.Flushed()
			system.LoseReply()
			require.NoError(t, system.Lax().Add(keyB, 7))
			system.Flushed()
			require.Equal(t, 4, system.Lost())
			stored, ok := system.StoredLax(keyB)
			require.True(t, ok)
			require.Equal(t, int64(14), stored)
			stored, _ = system.StoredStrict(keyA)
			require.Equal(t, int64(10), stored)
		})
	}
}

func TestOutage(t *testing.T) {
	t.Parallel()
	system := distkittest.New(t)
	_, err := system.Strict().Inc(t.Context(), keyA, 1)
	require.NoError(t, err)
	_, err = system.Lax().Inc(t.Context(), keyB, 1)
	require.NoError(t, err)
	system.Flushed()

	system.Outage()
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	_, err = system.Strict().Inc(ctx, keyA, 1)
	require.ErrorIs(t, err, context.DeadlineExceeded)
	require.ErrorIs(t, err, distkit.ErrNotApplied, "no connection was to be had")
	n, err := system.Lax().Inc(t.Context(), keyB, 1)
	require.NoError(t, err)
	require.Equal(t, int64(2), n)
	require.Error(t, distkittest.Await[distkit.WriterFailed](system).Err)
	stored, _ := system.StoredLax(keyB)
	require.Equal(t, int64(1), stored)

	waiting := make(chan error)
	go func() {
		_, err := system.Strict().Inc(context.Background(), keyA, 1)
		waiting <- err
	}()
	system.Resume()
	require.NoError(t, <-waiting)
	distkittest.Await[distkit.WriterRecovered](system)
	system.Flushed()
	stored, _ = system.StoredLax(keyB)
	require.Equal(t, int64(2), stored)
	stored, _ = system.StoredStrict(keyA)
	require.Equal(t, int64(2), stored)
}

func TestAdvance_expires(t *testing.T) {
	t.Parallel()
	system := distkittest.New(t)
	daily, err := system.Strict().Per(distkit.Daily(time.UTC), time.Hour)
	require.NoError(t, err)
	_, err = daily.Inc(t.Context(), keyA, 1)
	require.NoError(t, err)
	tx := distkit.Tx{ID: "one", Keep: time.Hour, Steps: []distkit.Step{{Key: keyA, Do: distkit.Inc{N: 1}}, {Key: keyB, Do: distkit.Inc{N: 1}}}}
	for range 2 {
		out, err := system.Strict().Apply(t.Context(), tx)
		require.NoError(t, err)
		require.True(t, out.Applied)
	}
	stored, _ := system.StoredStrict(keyA)
	require.Equal(t, int64(1), stored, "it is applied once")

	system.Advance(30 * time.Minute)
	_, ok, err := system.Strict().Outcome(t.Context(), "one")
	require.NoError(t, err)
	require.True(t, ok)
	system.Advance(26 * time.Hour)
	_, ok, err = system.Strict().Outcome(t.Context(), "one")
	require.NoError(t, err)
	require.False(t, ok)
	n, err := daily.Get(t.Context(), keyA)
	require.NoError(t, err)
	require.Zero(t, n, "the window is gone")
	stored, _ = system.StoredStrict(keyA)
	require.Equal(t, int64(1), stored, "and the counter is not")
}

func TestAnother_countsOnTheSameCounters(t *testing.T) {
	t.Parallel()
	system := distkittest.New(t, distkit.WithPrefix(distkit.MustKey("app")))
	other, apart := system.Another(), system.Another(distkit.WithPrefix(distkit.MustKey("other")))
	for _, s := range []*distkit.System{system.System, other} {
		_, err := s.Strict().Inc(t.Context(), keyA, 2)
		require.NoError(t, err)
	}
	stored, _ := system.StoredStrict(keyA)
	require.Equal(t, int64(4), stored)
	n, err := apart.Strict().Get(t.Context(), keyA)
	require.NoError(t, err)
	require.Zero(t, n)
}

// What miniredis does otherwise than Redis, and the library's script would notice.
func TestMended(t *testing.T) {
	t.Parallel()
	system := distkittest.New(t)
	ctx, strict := t.Context(), system.Strict()
	for _, end := range []struct{ at, by int64 }{
		{math.MaxInt64, 1}, {math.MinInt64, -1}, {1, math.MaxInt64}, {-2, math.MinInt64 + 1},
	} {
		_, err := strict.Set(ctx, keyA, end.at)
		require.NoError(t, err)
		_, err = strict.Inc(ctx, keyA, end.by)
		require.ErrorIs(t, err, distkit.ErrOverflow)
		n, err := strict.Get(ctx, keyA)
		require.NoError(t, err)
		require.Equal(t, end.at, n)
	}
	_, err := strict.Set(ctx, keyA, -1)
	require.NoError(t, err)
	n, err := strict.Dec(ctx, keyA, math.MinInt64)
	require.NoError(t, err)
	require.Equal(t, int64(math.MaxInt64), n)

	for _, text := range []string{"007", "+7", "seven", "1.5"} {
		require.NoError(t, system.Client.HSet(ctx, "distkit:strict_counter", "a", text).Err())
		_, err = strict.Inc(ctx, keyA, 1)
		require.ErrorIs(t, err, distkit.ErrNotInteger, text)
	}
	// Outside a script too.
	require.NoError(t, system.Client.HSet(ctx, "h", "f", math.MaxInt64).Err())
	require.ErrorContains(t, system.Client.HIncrBy(ctx, "h", "f", 1).Err(), "overflow")
	require.NoError(t, system.Client.SetRange(ctx, "nothing", 0, "").Err())
	require.Zero(t, system.Client.Exists(ctx, "nothing").Val())
	require.Error(t, system.Client.SetRange(ctx, "h", 0, "").Err())
}

// What the documentation says is different is.
func TestDifferences(t *testing.T) {
	t.Parallel()
	system := distkittest.New(t, distkit.WithReplicas(1, time.Millisecond))
	n, err := system.Strict().Inc(t.Context(), keyA, 1)
	require.ErrorIs(t, err, distkit.ErrNotReplicated)
	require.Equal(t, int64(1), n)
	for i := range 600 {
		require.NoError(t, system.Lax().Add(distkit.MustKey(fmt.Sprint("k", i)), int64(i)))
	}
	system.Flushed()
	top, err := system.Lax().Top(t.Context(), 2)
	require.NoError(t, err)
	require.Equal(t, []int64{599, 598}, []int64{top[0].N, top[1].N})
	total := 0
	for _, err := range system.Lax().All(t.Context()) {
		require.NoError(t, err)
		total++
	}
	require.Equal(t, 600, total)
}
