package refresh

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

// look has the Refresher look at its watched keys.
func (b *bench) look() []*testKey {
	b.watch.due = true
	return b.watchedNow()
}

func TestWatch_keyNotUsed_isLetGo(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		used, unused := b.key("used"), b.key("unused")
		b.watchKey(used)
		b.watchKey(unused)
		b.watchKey(used)
		require.False(t, b.Quiet())
		require.Empty(t, b.watchedNow(), "it is not time")
		for range watchFor / b.period() {
			used.used = true
			require.ElementsMatch(t, []*testKey{used, unused}, b.look())
		}
		used.used = true
		require.Equal(t, []*testKey{used}, b.look())
		for range watchFor / b.period() {
			require.Len(t, b.look(), 1)
		}
		require.Empty(t, b.look())
		require.True(t, b.Quiet())
		b.watch.stop()
		b.look()
		require.Nil(t, b.watch.timer, "no timer without a key")
		b.watchKey(unused)
		require.Len(t, b.look(), 1, "watched anew")
	})
}

func TestWatch_isBounded_andRestsWhileRedisIsAway(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		for range maxWatched + 1 {
			b.watchKey(b.key("a"))
		}
		require.Len(t, b.look(), maxWatched)
		b.Lost()
		require.Empty(t, b.look())
		b.Found()
		require.Len(t, b.look(), maxWatched)
	})
}

func TestWatch_lagThatReadsCannotKeepUpWith_noKeyIsWatched(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		for lag, want := range map[time.Duration]int{
			2*minWatch - 1: 0, 2 * minWatch: 1, 2 * watchFor: 1, 3 * watchFor: 0,
		} {
			b := newBench(t)
			b.Lag = lag
			b.watchKey(b.key("a"))
			require.Len(t, b.look(), want, "%v", lag)
		}
	})
}

// Only a key that asked again is watched: one that is seen once need not be used
// again. Watched keys travel with those that ask.
func TestWatch_begins_whenAKeyAsksAgain(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		once, again, other := b.key("once"), b.key("again"), b.key("other")
		trip := func() {
			b.next(t, Returned{})
			require.NoError(t, b.Return())
			b.Answer()
		}
		b.Ask(once, false)
		b.ask(again, true)
		trip()
		b.next(t, WatchDue{})
		b.OnWatchDue()
		require.Equal(t, testLatency+testLag/2, b.Clock.Now())
		b.ask(other, false)
		trip()
		require.Len(t, other.answers, 1)
		require.Len(t, again.answers, 1)
		require.Len(t, again.ahead, 1)
		require.Empty(t, once.ahead)
	})
}
