package redisio_test

import (
	"context"
	"fmt"
	"net"
	"testing"
	"time"

	"github.com/distkit/distkit-go/internal/line"
	"github.com/distkit/distkit-go/internal/redisio"
	"github.com/distkit/distkit-go/internal/redistest"
	"github.com/distkit/distkit-go/internal/verb"
	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"
)

// How calls are sent: what makes one leave, and what keeps it from that.

func TestSend_pipelinesCallsOfAllTasks(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	require.NoError(t, f.admin.HSet(f.ctx, f.at.Name, "text", "x", "c", 3).Err())
	keys := make([]verb.Keyed, redisio.MaxReads)
	keys[0], keys[500], keys[999] = op(verb.Get, "c", 0), op(verb.Get, "text", 0), op(verb.Get, "b", 0)
	calls := []*redisio.Call{
		f.call(redisio.Open), f.batch(1, inc("a", 1)), f.batch(2, inc("b", 2)), f.batch(4, inc("b", 2)),
		f.call(redisio.Read, keys...), f.call(redisio.Retire), f.batch(2), f.call(redisio.Bare, inc("b", 1)),
	}
	calls[0].Previous, calls[6].Task = 1, redisio.Fence
	f.send(calls...)
	var statuses []redisio.Status
	for _, c := range calls {
		require.Equal(t, redisio.Answered, c.Class, "%v", c.Err)
		statuses = append(statuses, c.Status)
	}
	require.Equal(t, []redisio.Status{
		redisio.Opened, redisio.Done, redisio.Done, redisio.Gap, redisio.Done, redisio.None, redisio.Fenced, redisio.Done,
	}, statuses)
	read := calls[4].Results
	require.Len(t, read, redisio.MaxReads)
	require.Equal(t, verb.Result{N: 3}, read[0])
	require.Equal(t, verb.Result{Absent: true}, read[1])
	require.Equal(t, verb.Result{Err: verb.NotInteger}, read[500])
	require.Equal(t, verb.Result{N: 2}, read[999])
	require.Equal(t, []verb.Result{{N: 3}}, calls[7].Results)
}

func TestSend_ofNothing_isNothing(t *testing.T) {
	t.Parallel()
	newFixture(t).send()
}

func TestRead_ofAnotherType_isWrongTypeOfEachKey(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	require.NoError(t, f.admin.Set(f.ctx, f.at.Name, "text", 0).Err())
	read := f.done(t, f.call(redisio.Read, op(verb.Get, "a", 0), op(verb.Get, "b", 0)))
	require.Equal(t, []verb.Result{{Err: verb.WrongType}, {Err: verb.WrongType}}, read.Results)
	require.False(t, read.HasLeft(), "a read may be withdrawn from to the end")
}

// A call is gathered for each attempt, until one is written.
func TestSend_gathersUntilItIsWritten(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	gathered, claimed := int64(0), 0
	c := f.batch(1)
	c.Gather = func() []verb.Keyed { gathered++; return []verb.Keyed{inc("a", gathered)} }
	c.Claim = func() bool { claimed++; return true }

	nowhere := redistest.NewClient(t, &redis.Options{Addr: "127.0.0.1:1", DialerRetries: 1})
	for range 2 {
		redisio.New(nowhere).Send(f.ctx, []*redisio.Call{c})
		require.Equal(t, redisio.NotYet, c.Class)
		require.False(t, c.HasLeft())
	}
	require.Zero(t, claimed)
	before := gathered

	f.send(c) // to a lane that is not open: it has left all the same
	require.Equal(t, redisio.Gap, c.Status)
	require.True(t, c.HasLeft())
	require.Greater(t, gathered, before)
	before = gathered
	f.open(t)
	f.done(t, c)
	require.Equal(t, before, gathered)
	require.Equal(t, 1, claimed)
	require.Equal(t, before, c.Results[0].N)

	read := f.call(redisio.Read)
	read.Gather = func() []verb.Keyed { gathered++; return []verb.Keyed{op(verb.Get, "a", 0)} }
	for range 2 {
		before = gathered
		require.Equal(t, []verb.Result{{N: c.Results[0].N}}, f.done(t, read).Results)
		require.Greater(t, gathered, before, "a read never becomes final")
	}
}

// Between the look at the arguments and the write a caller may withdraw: Claim
// says so, and nothing is written.
func TestSend_thatIsNotClaimed_writesNothing(t *testing.T) {
	t.Parallel()
	l := &line.Line{}
	f := fixtureOn(t, connected(t, l, *redistest.Options(t)), redistest.Client(t))
	f.open(t)
	before, claim := l.Scripts(), false
	for _, task := range []redisio.Task{redisio.Apply, redisio.Bare} {
		c := f.batch(1, inc("a", 5))
		c.Task, c.Claim = task, func() bool { return claim }
		for range 2 {
			f.send(c)
			require.Equal(t, redisio.NotYet, c.Class, "%v", c.Err)
			require.False(t, c.HasLeft())
		}
		require.Equal(t, before, l.Scripts(), "no byte of it")
	}
	claim = true
	require.Empty(t, f.stored())
	c := f.batch(1, inc("a", 5))
	c.Claim = func() bool { return claim }
	f.done(t, c)
	require.Equal(t, "5", f.stored()["a"], "the client is as good as before")
}

// Of a pipeline in which a call is kept from leaving nothing is written, though
// what comes before it may be in doubt.
func TestSend_ofAPipelineWithACallThatIsNotClaimed(t *testing.T) {
	t.Parallel()
	l := &line.Line{}
	f := fixtureOn(t, connected(t, l, *redistest.Options(t)), redistest.Client(t))
	f.open(t)
	first, kept, last := f.batch(1, inc("a", 5)), f.call(redisio.Bare, inc("a", 50)), f.batch(2, inc("a", 500))
	kept.Claim = func() bool { return false }
	f.send(first, kept, last)
	require.NotEqual(t, redisio.Answered, first.Class)
	require.Equal(t, redisio.NotYet, kept.Class)
	require.NotEqual(t, redisio.Answered, last.Class)
	require.False(t, kept.HasLeft())
	require.Empty(t, f.stored())
	f.done(t, first)
	f.done(t, last)
	require.Equal(t, "505", f.stored()["a"])
}

func TestRevoke_keepsACallFromLeaving_evenIfItWaitsForAConnection(t *testing.T) {
	t.Parallel()
	options, asked, release := redistest.Options(t), make(chan struct{}), make(chan struct{})
	options.Dialer = func(ctx context.Context, network, address string) (net.Conn, error) {
		asked <- struct{}{}
		<-release
		return new(net.Dialer).DialContext(ctx, network, address)
	}
	f := fixtureOn(t, redistest.NewClient(t, options), redistest.Client(t))
	c, sent := f.batch(1, inc("a", 5)), make(chan struct{})
	go func() {
		defer close(sent)
		f.send(c)
	}()
	<-asked
	require.True(t, c.Revoke())
	require.True(t, c.Revoke())
	close(release)
	<-sent
	require.Equal(t, redisio.NotYet, c.Class, "%v", c.Err)
	require.False(t, c.HasLeft())
	f.Sender = redisio.New(f.admin)
	f.open(t)
	f.send(c)
	require.Equal(t, redisio.NotYet, c.Class, "nor ever")
	require.Empty(t, f.stored())

	c = f.batch(1, inc("a", 5))
	f.done(t, c)
	require.False(t, c.Revoke(), "it has left")
}

func TestRevoke_whileItIsBeingClaimed_isTooLate(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.open(t)
	c := f.batch(1, inc("a", 5))
	c.Claim = func() bool { return !c.Revoke() }
	f.done(t, c)
	require.Equal(t, "5", f.stored()["a"])
}

func TestSend_isOneAttempt_whateverTheClientsRetries(t *testing.T) {
	t.Parallel()
	options := redistest.Options(t)
	line := &line.Line{}
	options = line.Lead(*options)
	options.MaxRetries = 5
	f := fixtureOn(t, redistest.NewClient(t, options), redistest.Client(t))
	f.open(t)
	line.LoseEvery(1)
	for calls := 1; calls <= 2; calls++ { // alone, and in a pipeline
		var batch []*redisio.Call
		for range calls {
			batch = append(batch, f.batch(1, inc("a", 1)))
		}
		before := line.Scripts()
		f.send(batch...)
		for _, c := range batch {
			require.Equal(t, redisio.Unknown, c.Class)
		}
		require.EqualValues(t, calls, line.Scripts()-before, "calls that were written")
	}
	require.Equal(t, "1", f.stored()["a"])
}

// A ClusterClient asks for the arguments to find the node, before it connects.
func TestSend_byACluster_isNotWritten_whereNoNodeAnswers(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t, "--cluster-enabled", "yes")
	node := redistest.NewClient(t, &redis.Options{Addr: server.Addr})
	require.NoError(t, node.ClusterAddSlotsRange(t.Context(), 0, 16383).Err())
	require.Eventually(t, func() bool {
		return node.Set(t.Context(), "probe", 1, 0).Err() == nil
	}, 20*time.Second, 10*time.Millisecond, "the cluster takes a moment to be whole")
	l := &line.Line{}
	client := redis.NewClusterClient(&redis.ClusterOptions{Addrs: []string{server.Addr}, Dialer: l.Dial, DialerRetries: 1})
	defer func() { require.NoError(t, client.Close()) }()
	f := fixtureOn(t, client, node)
	f.open(t)
	f.done(t, f.batch(1, inc("a", 1)))
	require.NoError(t, client.Close())

	l.Down(true)
	client = redis.NewClusterClient(&redis.ClusterOptions{
		Addrs: []string{server.Addr}, Dialer: l.Dial, DialerRetries: 1, MaxRedirects: 2,
		ClusterSlots: func(context.Context) ([]redis.ClusterSlot, error) {
			return []redis.ClusterSlot{{Start: 0, End: 16383, Nodes: []redis.ClusterNode{{Addr: server.Addr}}}}, nil
		},
	})
	f.Sender = redisio.New(client)
	gathered := int64(0)
	c := f.batch(2)
	c.Gather = func() []verb.Keyed { gathered++; return []verb.Keyed{inc("a", gathered)} }
	for _, calls := range [][]*redisio.Call{{c}, {c, f.call(redisio.Read, op(verb.Get, "a", 0))}} {
		before := gathered
		f.send(calls...)
		for _, c := range calls {
			require.Equal(t, redisio.NotYet, c.Class, "%v", c.Err)
			require.False(t, c.HasLeft())
		}
		require.Greater(t, gathered, before, "the arguments were asked for")
	}
	l.Down(false)
	f.done(t, c)
	require.Equal(t, fmt.Sprint(1+gathered), f.stored()["a"])
	require.Equal(t, []verb.Result{{N: 1 + gathered}}, f.done(t, f.call(redisio.Read, op(verb.Get, "a", 0))).Results)
}
