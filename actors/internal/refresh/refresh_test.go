package refresh

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/distkit/distkit-go/internal/fakeredis"
	"github.com/distkit/distkit-go/internal/redisio"
	"github.com/distkit/distkit-go/internal/verb"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// testKey is a Key that keeps what it is told.
type testKey struct {
	name      string
	answers   []Answer // that it asked for
	ahead     []Answer // that nobody asked for
	proceeded []time.Duration
	used      bool
	clock     Clock
}

func (k *testKey) ID() string { return k.name }

func (k *testKey) Seen(a *Answer, asked bool) {
	if asked {
		k.answers = append(k.answers, *a)
	} else {
		k.ahead = append(k.ahead, *a)
	}
}

func (k *testKey) Proceed() { k.proceeded = append(k.proceeded, k.clock.Now()) }

func (k *testKey) UsedSinceLastAsked() bool {
	used := k.used
	k.used = false
	return used
}

const (
	testLag     = 20 * time.Millisecond
	testWait    = 100 * time.Millisecond
	testLatency = time.Millisecond
)

// bench is a Refresher whose messages the test hands on.
type bench struct {
	*Refresher[*testKey]
	redis    *fakeredis.Redis
	messages chan any
}

func newBench(t *testing.T) *bench {
	t.Helper()
	b := &bench{redis: fakeredis.New(), messages: make(chan any, 100)}
	b.redis.Latency = testLatency
	b.Refresher = &Refresher[*testKey]{
		At: redisio.NewContainer("p", "lax_counter"), Redis: b.redis, Clock: NewClock(), Lag: testLag, Wait: testWait,
		Post: func(message any) { b.messages <- message },
	}
	t.Cleanup(func() {
		b.Stop()
		if b.trip != nil && b.trip.inFlight {
			<-b.messages
		}
	})
	return b
}

func (b *bench) key(name string) *testKey { return &testKey{name: name, clock: b.Clock} }

// ask has a key ask, and the Refresher look.
func (b *bench) ask(key *testKey, again bool) {
	b.Ask(key, again)
	b.Start(false)
}

// next is the message that comes next.
func (b *bench) next(t *testing.T, want any) any {
	t.Helper()
	message := <-b.messages
	require.IsType(t, want, message)
	return message
}

func TestTrip_answersWhoAsked_withWhenAndWhat(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		b.redis.Set("p:lax_counter", "a", 7)
		b.redis.Edit(func(s *fakeredis.State) { s.Containers["p:lax_counter"].Fields["text"] = "x" })
		a, text, late := b.key("a"), b.key("text"), b.key("late")
		time.Sleep(time.Second)
		before := b.NextStep()
		b.Ask(a, false)
		b.Ask(text, false)
		require.False(t, b.Idle())
		b.Start(true)
		require.Nil(t, b.trip, "it was held")
		b.Start(false)
		b.ask(late, false)
		require.Len(t, b.trip.asked, 2, "what is asked for meanwhile is for the next")
		b.next(t, Returned{})
		after := b.NextStep()
		require.NoError(t, b.Return())
		b.Answer()
		require.False(t, b.Idle())
		require.Len(t, a.answers, 1)
		answer := a.answers[0]
		require.Equal(t, verb.Result{N: 7}, answer.Result)
		require.Equal(t, time.Second, answer.Sent)
		require.Greater(t, answer.Step, before)
		require.Less(t, answer.Step, after)
		require.ErrorIs(t, text.answers[0].Result.Err, verb.ErrNotInteger)
		b.Start(false)
		b.next(t, Returned{})
		require.NoError(t, b.Return())
		b.Answer()
		require.Equal(t, time.Second+testLatency, late.answers[0].Sent)
		require.True(t, b.Idle())
		require.True(t, b.Quiet())
		time.Sleep(time.Hour)
		require.Empty(t, b.messages)
		require.Empty(t, a.proceeded)
	})
}

// A read that Redis refuses as such is an answer too. Any other end is none: the
// trip goes again.
func TestTrip_failed_goesAgain_refused_isAnswered(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		fates := make(chan fakeredis.Fate, 10)
		b.redis.Fate = func(*redisio.Call) fakeredis.Fate { return <-fates }
		a := b.key("a")
		b.ask(a, false)
		fates <- fakeredis.LoseReply
		for _, fate := range []fakeredis.Fate{fakeredis.LoseRequest, fakeredis.Unreachable, fakeredis.Busy, fakeredis.Refuse} {
			fates <- fate
			b.next(t, Returned{})
			require.Error(t, b.Return())
			require.Empty(t, a.answers)
			b.Start(false)
			require.False(t, b.trip.inFlight, "it goes with the next incarnation")
			b.Resume()
			b.Resume() // its return is on the way
		}
		b.next(t, Returned{})
		require.NoError(t, b.Return())
		b.Answer()
		require.Len(t, a.answers, 1)
		require.ErrorContains(t, a.answers[0].Refused, "NOPERM")
		require.Nil(t, b.trip)
		require.Empty(t, b.messages)
		b.Resume()
	})
}

// One of a trip's calls fails: the whole trip goes again.
func TestTrip_ofSeveralCalls_isAnsweredAsOne(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		calls, fail := 0, true // looked at while the Refresher waits
		b.redis.Fate = func(c *redisio.Call) fakeredis.Fate {
			calls++
			require.LessOrEqual(t, len(c.Ops), redisio.MaxReads)
			if fail && calls == 2 {
				return fakeredis.LoseReply
			}
			return fakeredis.Deliver
		}
		keys := make([]*testKey, maxTrip+1)
		for i := range keys {
			keys[i] = b.key(fmt.Sprint(i))
			b.Ask(keys[i], false)
		}
		b.Start(false)
		require.Len(t, b.trip.asked, maxTrip)
		b.next(t, Returned{})
		require.Error(t, b.Return())
		require.Equal(t, 3, calls)
		fail = false
		b.Resume()
		b.next(t, Returned{})
		require.NoError(t, b.Return())
		b.Answer()
		for _, key := range keys[:maxTrip] {
			require.Len(t, key.answers, 1)
		}
		require.Empty(t, keys[maxTrip].answers)
		b.Start(false)
		b.next(t, Returned{})
		require.NoError(t, b.Return())
		b.Answer()
		require.Len(t, keys[maxTrip].answers, 1)
	})
}

// The wait is counted from the first of those who wait, and ends for all of them.
func TestWait_endsForAllWhoWait_afterTheFirstsTime(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		goOn := make(chan struct{})
		b.redis.Fate = func(*redisio.Call) fakeredis.Fate { <-goOn; return fakeredis.Deliver }
		one, two := b.key("one"), b.key("two")
		b.ask(one, false)
		time.Sleep(testWait / 2)
		b.ask(two, false)
		require.False(t, b.Away())
		b.OnWaitOver(b.next(t, WaitOver{}).(WaitOver))
		require.Equal(t, []time.Duration{testWait}, one.proceeded)
		require.Equal(t, []time.Duration{testWait}, two.proceeded)
		require.True(t, b.Away())
		time.Sleep(testWait)
		require.Empty(t, b.messages, "nobody waits while Redis is away")
		require.False(t, b.Idle(), "it is asked for all the same")

		close(goOn)
		b.next(t, Returned{})
		require.NoError(t, b.Return())
		b.Found()
		require.False(t, b.Away())
		b.Answer()
		require.Len(t, one.answers, 1)
		require.NotNil(t, b.bound, "two waits from now on")
		b.Start(false)
		b.next(t, Returned{})
		require.NoError(t, b.Return())
		b.Found()
		b.Answer()
		require.Len(t, two.answers, 1)
		require.Nil(t, b.bound)
		time.Sleep(time.Hour)
		require.Empty(t, b.messages)
	})
}

// The wait for one trip ends as the trip returns: what that says is not of those
// who wait for the next.
func TestWait_over_isOfTheWaitThatItEnds(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		b.redis.Latency = testWait
		one, two := b.key("one"), b.key("two")
		b.ask(one, false)
		time.Sleep(testWait - 2*testLatency)
		b.ask(two, false)
		synctest.Wait()
		time.Sleep(2 * testLatency)
		synctest.Wait()
		stale := WaitOver{}
		for range 2 { // in either order
			switch message := (<-b.messages).(type) {
			case WaitOver:
				stale = message
			case Returned:
			}
		}
		require.NoError(t, b.Return())
		b.Found()
		b.Answer()
		b.Start(false)
		b.OnWaitOver(stale)
		require.False(t, b.Away())
		require.Empty(t, two.proceeded)
		b.OnWaitOver(b.next(t, WaitOver{}).(WaitOver))
		require.True(t, b.Away())
		require.Equal(t, []time.Duration{2*testWait - 2*testLatency}, two.proceeded)
		b.next(t, Returned{})
		require.NoError(t, b.Return())
		b.Answer()
	})
}

// Redis is lost: nobody waits, and what is asked for stays so.
func TestLost_releasesAll_found_boundsTheirNextWait(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		goOn := make(chan struct{})
		b.redis.Fate = func(*redisio.Call) fakeredis.Fate { <-goOn; return fakeredis.Deliver }
		one, two := b.key("one"), b.key("two")
		b.ask(one, false)
		b.ask(two, false)
		b.Lost()
		require.True(t, b.Away())
		require.Len(t, one.proceeded, 1)
		require.Len(t, two.proceeded, 1)
		require.Nil(t, b.bound)
		time.Sleep(time.Second)
		b.Found() // by a write
		b.OnWaitOver(b.next(t, WaitOver{}).(WaitOver))
		require.Equal(t, time.Second+testWait, one.proceeded[1])
		require.True(t, b.Away())
		close(goOn)
		b.next(t, Returned{})
		require.NoError(t, b.Return())
		b.Answer()
	})
}

func TestLost_withNobodyWaiting_isAwayAllTheSame(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		b.Lost()
		require.True(t, b.Away())
		b.Found()
		require.False(t, b.Away())
		require.Nil(t, b.bound)
	})
}

func TestPatience_over_isAway_unlessRedisHasAnsweredMeanwhile(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		over := make(chan *Patience, 10)
		begin := func() *Patience { return b.Patience(func(p *Patience) { over <- p }) }
		one := begin()
		time.Sleep(testWait / 2)
		two := begin()
		require.Same(t, one, <-over)
		require.Equal(t, testWait, b.Clock.Now())
		b.GiveUp(one)
		require.True(t, b.Away())
		b.Found()
		require.Same(t, two, <-over)
		b.GiveUp(two)
		require.False(t, b.Away())
		begin().End()
		time.Sleep(time.Hour)
		require.Empty(t, over)
	})
}

func TestClock_ages(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := NewClock()
		time.Sleep(time.Second)
		then := time.Now()
		require.Equal(t, time.Second, c.At(then))
		time.Sleep(time.Minute)
		require.Equal(t, time.Minute+time.Second, c.Now())
		require.Equal(t, time.Minute, c.Age(c.At(then)))
	})
}
