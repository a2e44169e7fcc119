package fakeredis_test

import (
	"context"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/distkit/distkit-go/internal/fakeredis"
	"github.com/distkit/distkit-go/internal/redisio"
	"github.com/distkit/distkit-go/internal/verb"
	"github.com/stretchr/testify/require"
)

// What becomes of attempts; what the script does is held against a real Redis in
// redisio.

var at = redisio.NewContainer("p", "strict_counter")

func bare() *redisio.Call {
	return &redisio.Call{Task: redisio.Bare, At: at, Ops: []verb.Keyed{{Key: "a", Op: verb.Op{Kind: verb.Inc, N: 1}}}}
}

func TestFate_saysHowAnAttemptEnds_andWhatComesOfIt(t *testing.T) {
	t.Parallel()
	for fate, want := range map[fakeredis.Fate]struct {
		class   redisio.Class
		left    bool
		applied int64
	}{
		fakeredis.Deliver:     {redisio.Answered, true, 1},
		fakeredis.LoseReply:   {redisio.Unknown, true, 1},
		fakeredis.LoseRequest: {redisio.Unknown, true, 0},
		fakeredis.Delay:       {redisio.Unknown, true, 0},
		fakeredis.Unreachable: {redisio.NotYet, false, 0},
		fakeredis.Busy:        {redisio.NotYet, true, 0},
		fakeredis.Refuse:      {redisio.Refused, true, 0},
		fakeredis.NoMemory:    {redisio.Full, true, 0},
		fakeredis.Migrate:     {redisio.Moving, true, 0},
		fakeredis.Forget:      {redisio.NoScript, true, 0},
	} {
		r, c := fakeredis.New(), bare()
		r.Fate = func(*redisio.Call) fakeredis.Fate { return fate }
		r.Send(context.Background(), []*redisio.Call{c})
		require.Equal(t, want.class, c.Class, fate)
		require.Equal(t, want.class != redisio.Answered, c.Err != nil, fate)
		require.Equal(t, want.left, c.HasLeft(), fate)
		n, found := r.Get(at.Name, "a")
		require.Equal(t, want.applied, n, fate)
		require.Equal(t, want.applied > 0, found, fate)
		late := r.Arrive()
		require.Equal(t, fate == fakeredis.Delay, late == 1, fate)
		n, _ = r.Get(at.Name, "a")
		require.Equal(t, want.applied+int64(late), n, fate)
	}
}

func TestSend_gathersAndClaims(t *testing.T) {
	t.Parallel()
	r, c, claim := fakeredis.New(), bare(), false
	c.Gather, c.Claim = func() []verb.Keyed { return bare().Ops }, func() bool { return claim }
	r.Send(context.Background(), []*redisio.Call{c})
	require.Equal(t, redisio.NotYet, c.Class)
	require.False(t, c.HasLeft())
	claim = true
	r.Send(context.Background(), []*redisio.Call{c})
	require.Equal(t, redisio.Done, c.Status)
	revoked := bare()
	require.True(t, revoked.Revoke())
	r.Send(context.Background(), []*redisio.Call{revoked})
	require.Equal(t, redisio.NotYet, revoked.Class)
	n, _ := r.Get(at.Name, "a")
	require.EqualValues(t, 1, n)
}

func TestLatency_isOfTheWholeTrip_andTripsGoTogether(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r, start := fakeredis.New(), time.Now()
		r.Latency = 3 * time.Millisecond
		var all sync.WaitGroup
		for range 10 {
			all.Go(func() { r.Send(context.Background(), []*redisio.Call{bare(), bare()}) })
		}
		all.Wait()
		require.Equal(t, 3*time.Millisecond, time.Since(start))
		n, _ := r.Get(at.Name, "a")
		require.EqualValues(t, 20, n)
	})
}

func TestLedgers_liveAsLongAsTheyAreToldTo(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := fakeredis.New()
		open := &redisio.Call{Task: redisio.Open, At: at, Writer: "w", Previous: 1, Lifetime: time.Hour}
		r.Send(context.Background(), []*redisio.Call{open})
		time.Sleep(time.Hour - 1)
		c := &redisio.Call{Task: redisio.Apply, At: at, Writer: "w", Seq: 1, Nonce: 2, Previous: 1, Lifetime: time.Hour, Ops: bare().Ops}
		r.Send(context.Background(), []*redisio.Call{c})
		require.Equal(t, redisio.Done, c.Status)
		time.Sleep(time.Hour)
		r.Send(context.Background(), []*redisio.Call{c})
		require.Equal(t, redisio.Gap, c.Status)
		require.EqualValues(t, redisio.NoLedger, c.Last)
	})
}

func TestSnapshot_isNotChangedByWhatComes(t *testing.T) {
	t.Parallel()
	r := fakeredis.New()
	r.Set(at.Name, "a", 5)
	before := r.Snapshot()
	r.Set(at.Name, "a", 6)
	r.Restore(before)
	r.Set(at.Name, "b", 7)
	require.Len(t, before.Containers[at.Name].Fields, 1)
	n, _ := r.Get(at.Name, "a")
	require.EqualValues(t, 5, n)
	r.DropContainer(at.Name)
	_, found := r.Get(at.Name, "a")
	require.False(t, found)
}
