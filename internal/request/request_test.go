package request

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/distkit/distkit-go/internal/limit"
	"github.com/distkit/distkit-go/internal/verb"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var (
	errRedis = errors.New("EOF")
	five     = verb.Result{N: 5}
)

func noTrouble() error { return nil }
func trouble() error   { return errRedis }

// waiting returns a request that somebody waits for, in a state of its own.
func waiting() *Request { return &Request{Op: verb.Op{Kind: verb.Get}, done: make(chan struct{}, 1)} }

func ended() context.Context {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	return ctx
}

func TestAwait_settled_givesTheOutcome(t *testing.T) {
	t.Parallel()
	for name, ctx := range map[string]context.Context{"for ever": context.Background(), "ended": ended()} {
		before := waiting()
		require.True(t, before.Claim())
		before.Settle(five)
		result, kept := before.Await(ctx, trouble)
		require.Equal(t, five, result, name)
		require.False(t, kept, name)
	}
	synctest.Test(t, func(t *testing.T) {
		within, cancel := context.WithTimeout(t.Context(), time.Hour)
		defer cancel()
		for _, ctx := range []context.Context{context.Background(), within} {
			r := waiting()
			require.True(t, r.Claim())
			go func() {
				time.Sleep(time.Minute) // virtual
				r.Settle(five)
			}()
			result, kept := r.Await(ctx, trouble)
			require.Equal(t, five, result)
			require.False(t, kept)
		}
	})
}

// A request that the engine may look at later is told to be kept.
func TestAwait_held_isKept(t *testing.T) {
	t.Parallel()
	r := waiting()
	r.Held = true
	r.Fail(errRedis)
	result, kept := r.Await(context.Background(), noTrouble)
	require.Equal(t, errRedis, result.Err)
	require.True(t, kept)
}

func TestAwait_ended_withdrawsWhatIsQueued(t *testing.T) {
	t.Parallel()
	r := waiting()
	result, kept := r.Await(ended(), trouble)
	require.ErrorIs(t, result.Err, verb.ErrNotApplied)
	require.ErrorIs(t, result.Err, context.Canceled)
	require.ErrorContains(t, result.Err, "EOF")
	require.NotErrorIs(t, result.Err, errRedis, "a hint is not why")
	require.True(t, kept, "its queue has it")
	require.True(t, r.Withdrawn())
	require.False(t, r.Claim())
	r.Fail(errRedis)
	r.Settle(five)
	r.Thaw()
	require.True(t, r.Withdrawn(), "for good")
	require.False(t, r.Claimed())
}

func TestAwait_ended_isUnknownOnceClaimed(t *testing.T) {
	t.Parallel()
	r := waiting()
	require.True(t, r.Claim())
	result, kept := r.Await(ended(), noTrouble)
	require.ErrorIs(t, result.Err, verb.ErrOutcomeUnknown)
	require.ErrorIs(t, result.Err, context.Canceled)
	require.True(t, kept)
	require.True(t, r.Claimed())
	require.NotPanics(t, func() { r.Settle(five) }, "nobody takes it any more")
}

func TestAwait_ended_afterAThaw_withdraws(t *testing.T) {
	t.Parallel()
	r := waiting()
	require.True(t, r.Claim())
	r.Thaw()
	result, _ := r.Await(ended(), noTrouble)
	require.ErrorIs(t, result.Err, verb.ErrNotApplied)
}

// One that needs no Redis is decided when it is claimed: its caller waits for that,
// however long its context has ended.
func TestAwait_ended_waitsForALocalOneThatIsClaimed(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := waiting()
		r.Local = true
		require.True(t, r.Claim())
		go func() {
			time.Sleep(time.Minute) // virtual
			r.Settle(five)
		}()
		result, kept := r.Await(ended(), noTrouble)
		require.Equal(t, five, result)
		require.False(t, kept)
	})
}

// Claim, Withdraw and Settle meet at any moment: the caller and the engine agree,
// and each request is settled once.
func TestRequest_oneOutcome_whoeverComesFirst(t *testing.T) {
	t.Parallel()
	for range 2000 {
		r := waiting()
		ctx, cancel := context.WithCancel(context.Background())
		var both sync.WaitGroup
		claimed := false
		both.Go(func() {
			if claimed = r.Claim(); claimed {
				r.Settle(five)
			}
		})
		both.Go(cancel)
		result, kept := r.Await(ctx, noTrouble)
		both.Wait()
		switch {
		case result.Err == nil:
			require.True(t, claimed)
			require.Equal(t, five, result)
			require.False(t, kept)
			r.Recycle()
		case errors.Is(result.Err, verb.ErrNotApplied):
			require.False(t, claimed)
			require.True(t, kept)
		default:
			require.ErrorIs(t, result.Err, verb.ErrOutcomeUnknown)
			require.True(t, claimed)
			require.True(t, kept)
		}
	}
}

// A request given back has nothing of its former life, whatever that was, and its
// next caller waits for its own outcome.
func TestRecycle_leavesNothingBehind(t *testing.T) { // looks into the pool: not parallel
	for _, early := range []bool{true, false} {
		r := Call("a", verb.Op{Kind: verb.Inc, N: 1})
		r.View, r.Local = new(View), true
		if early {
			r.Fail(errRedis)
		} else {
			go r.Fail(errRedis)
		}
		result, kept := r.Await(context.Background(), noTrouble)
		require.Equal(t, errRedis, result.Err)
		require.False(t, kept)
		done := r.done
		r.Recycle()
		require.Equal(t, &Request{done: done}, r)
		require.Empty(t, done)
		next := Call("b", verb.Op{Kind: verb.Get}) // the same, or another
		require.True(t, next.Claim())
		go next.Settle(five)
		result, _ = next.Await(context.Background(), noTrouble)
		require.Equal(t, five, result)
	}
}

func TestSettle_answersTheSender_once(t *testing.T) {
	t.Parallel()
	var got []verb.Result
	pending := limit.New(1, nil)
	o := verb.Op{Kind: verb.Inc, N: 1}
	r := Asked("a", o, pending, func(of verb.Op, result verb.Result) {
		require.Equal(t, o, of)
		got = append(got, result)
	})
	require.True(t, r.Answered())
	r.Settle(five)
	require.Empty(t, got, "nobody has claimed it")
	require.True(t, r.Claim())
	r.Decide(five)
	require.Equal(t, five, r.Outcome())
	r.Answer()
	r.Answer()
	r.Fail(errRedis)
	require.Equal(t, []verb.Result{five}, got)
}

func TestMessage_hasNoOneToAnswer(t *testing.T) {
	t.Parallel()
	r := Message("a", verb.Op{Kind: verb.Inc}, limit.New(1<<40, nil))
	require.False(t, r.Answered())
	r.Fail(errRedis)
	require.Equal(t, errRedis, r.Outcome().Err)
	require.True(t, Clear().Answered())
	require.Equal(t, verb.Clear, Clear().Op.Kind)
}

// A batch call has arrived when it has passed all its keys, and its maker.
func TestBatch_arrivesWithTheLast(t *testing.T) {
	t.Parallel()
	parts := []verb.Keyed{{Key: "a"}, {Key: "b"}}
	r := Batch(parts, 2)
	require.Equal(t, 2, r.Size())
	require.False(t, r.Arrive())
	require.False(t, r.Arrive())
	require.True(t, r.Arrive())

	alone := waiting()
	require.Equal(t, 1, alone.Size())
	require.True(t, alone.Arrive())
	require.True(t, alone.Arrive(), "it counts none")
}
