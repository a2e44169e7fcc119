package lax

import (
	"context"
	"errors"
	"math"
	"testing"
	"time"

	"github.com/distkit/distkit-go/actors/internal/refresh"
	"github.com/distkit/distkit-go/internal/barrier"
	"github.com/distkit/distkit-go/internal/fold"
	"github.com/distkit/distkit-go/internal/host"
	"github.com/distkit/distkit-go/internal/limit"
	"github.com/distkit/distkit-go/internal/request"
	"github.com/distkit/distkit-go/internal/verb"
	"github.com/stretchr/testify/require"
)

func TestQuiet_onlyOfAKeyThatHoldsNothing(t *testing.T) {
	t.Parallel()
	require.True(t, (&key{}).Quiet())
	require.True(t, (&key{known: true, remote: 7}).Quiet())
	for name, hold := range map[string]func(*key){
		"open":    func(k *key) { k.open = fold.Change{Kind: fold.Add, N: 1} },
		"flight":  func(k *key) { k.flight = &mutation{} },
		"refused": func(k *key) { k.more().refused = verb.ErrOverflow },
		"dels":    func(k *key) { k.more().dels = []*mutation{{}} },
		"parked":  func(k *key) { k.more().parked.Push(&host.Increments{N: 1}) },
		"wiping":  func(k *key) { k.more().wiping = &mutation{} },
		"dirty":   func(k *key) { k.dirty = true },
		"asked":   func(k *key) { k.asked = true },
	} {
		k := &key{}
		hold(k)
		require.False(t, k.Quiet(), name)
	}
}

// oldView is a key with a view of 1 that is old, and a Get that waits.
func oldView(t *testing.T) *key {
	c, _ := alone(t)
	k := c.newKey("a")
	k.known, k.remote, k.seen = true, 1, -2*time.Hour
	k.more().parked.Push(request.Call("a", verb.Op{Kind: verb.Get}))
	return k
}

// A read that may not know of a change, which has landed without telling its total,
// is no reason to answer from the old view.
func TestOldView_aReadThatMissedAChange_isNoAnswer(t *testing.T) {
	t.Parallel()
	for _, asked := range []bool{false, true} {
		k := oldView(t)
		k.asked, k.landed = true, 5
		k.onSeen(&refresh.Answer{Step: 4, Result: verb.Result{N: 7}}, asked)
		require.Equal(t, 1, k.waiting())
		require.True(t, k.asked, "for another read")
		k.onSeen(&refresh.Answer{Step: 6, Result: verb.Result{N: 7}}, true)
		require.Zero(t, k.waiting())
		require.EqualValues(t, 7, k.remote)
	}
}

// Whoever waits for a change that lands without telling its total waits on, for a
// read, and in all for RefreshWait.
func TestRefreshWait_isOneOverASilentChangeAndARead(t *testing.T) {
	t.Parallel()
	k := oldView(t)
	r := newRound(nil, []*key{k})
	s := &r.slots[0]
	s.mutation.Change, s.mutation.silent = fold.Change{Kind: fold.Add, N: 1}, true
	k.takeOff(&s.mutation)
	k.serveParked(false)
	wait := k.queues.patience
	require.NotNil(t, wait)
	s.result = verb.Result{Silent: true}
	k.onLanding(s)
	require.Same(t, wait, k.queues.patience)
	require.True(t, k.asked)
	k.onImpatient(new(refresh.Patience))
	require.Equal(t, 1, k.waiting(), "another wait's")
	k.onImpatient(wait)
	require.Zero(t, k.waiting())
	wait.End()
}

var errRefused = verb.NotApplied(errors.New("NOPERM"))

// dropping is a key whose Del is in flight, and has dropped changes that are no
// int64 together, and a Flush that waits for it.
func dropping(t *testing.T) (*key, *told, *mutation, *barrier.Barrier) {
	c, o := alone(t)
	k, b := c.newKey("a"), barrier.New(0)
	most := fold.Change{Kind: fold.Add, N: math.MaxInt64}
	m := &mutation{Change: fold.Change{Kind: fold.Wipe}, dropped: fold.Changes{most, most}, barrier: b}
	m.unserved = []*request.Request{request.Message("a", verb.Op{Kind: verb.IncIf}, limit.New(1<<40, nil)), request.Message("a", verb.Op{Kind: verb.Del}, limit.New(1<<40, nil))}
	k.flight, k.open = m, fold.Change{Kind: fold.Add, N: 3}
	return k, o, m, b
}

// repeat lands a change until no bug of the Observer's stops that any more.
func repeat(k *key, s *slot) {
	again := true
	for again {
		func() {
			defer func() { again = recover() != nil }()
			k.onLanding(s)
		}()
	}
}

func land(k *key, m *mutation, err error) {
	r := newRound(nil, []*key{k})
	r.users.Add(1)
	s := &r.slots[0]
	s.del, s.result = m, verb.Result{Err: err}
	repeat(k, s)
}

// What a refused Clear had dropped comes back, as far as it is an int64; the rest is
// set aside and told to the Flush that waits. A bug strikes each time that anybody
// is told, and loses nothing.
func TestRestore_canBeRepeated(t *testing.T) {
	t.Parallel()
	for _, panics := range []bool{false, true} {
		k, o, m, b := dropping(t)
		o.panics = panics
		land(k, m, errRefused)
		require.Len(t, o.messages, 2)
		require.Equal(t, []int64{math.MaxInt64, math.MaxInt64}, o.changes)
		require.Equal(t, fold.Change{Kind: fold.Add, N: 3}, k.open)
		require.Same(t, b, k.behind)
		require.Len(t, b.Refused(), 2)
		require.True(t, k.dirty)
	}
}

// Of what an unknown Clear had dropped nobody will know whether it was carried out:
// all of it is told, and nothing comes back.
func TestForget_canBeRepeated(t *testing.T) {
	t.Parallel()
	for _, panics := range []bool{false, true} {
		k, o, m, b := dropping(t)
		o.panics = panics
		land(k, m, verb.Unknown(errors.New("gone")))
		require.Len(t, o.messages, 2)
		require.Equal(t, []int64{math.MaxInt64, math.MaxInt64}, o.changes)
		require.Equal(t, fold.Change{Kind: fold.Add, N: 3}, k.open)
		require.Nil(t, k.behind)
		b.Pass(nil) // its maker
		<-b.Done()
		refused := b.Refused()
		require.Len(t, refused, 2)
		for _, u := range refused {
			require.ErrorIs(t, u.Err, verb.ErrOutcomeUnknown)
		}
	}
}

// Calls given up behind one that goes on waiting leave nothing behind.
func TestKey_callsGivenUp_leaveNothingBehind(t *testing.T) {
	t.Parallel()
	c, _ := alone(t)
	k := c.newKey("a")
	k.Receive(request.Message("a", verb.Op{Kind: verb.IncIf, N: 1, If: verb.Cond{Cmp: verb.Ge}}, limit.New(1<<40, nil)))
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	most := 0
	for range 1000 {
		r := request.Call("a", verb.Op{Kind: verb.Inc, N: 1})
		k.Receive(r)
		_, _ = r.Await(ended, func() error { return nil })
		k.Receive(nudge{})
		most = max(most, k.waiting())
	}
	require.Equal(t, 1, k.waiting())
	require.LessOrEqual(t, most, 3)
}

// Messages that a Clear drops are pending no more.
func TestKey_droppedMessages_arePendingNoMore(t *testing.T) {
	t.Parallel()
	c, _ := alone(t)
	k, pending := c.newKey("a"), limit.New(1<<40, nil)
	for _, o := range []verb.Op{{Kind: verb.IncIf, N: 1, If: verb.Cond{Cmp: verb.Ge}}, {Kind: verb.Dec, N: 1}, {Kind: verb.Set, N: 7}} {
		k.Receive(request.Message("a", o, pending))
	}
	n, _ := pending.Count()
	require.Equal(t, 3, n)
	k.dropParked(&mutation{})
	n, _ = pending.Count()
	require.Zero(t, n)
}
