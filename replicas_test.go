package distkit_test

import (
	"context"
	"net"
	"runtime"
	"testing"
	"time"

	"github.com/distkit/distkit-go"
	"github.com/distkit/distkit-go/internal/line"
	"github.com/distkit/distkit-go/internal/redistest"
	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"
)

// A change is answered when enough replicas have it, or says that they have not.
func TestReplicas_areWaitedFor(t *testing.T) {
	t.Parallel()
	master := redistest.Start(t)
	host, port, err := net.SplitHostPort(master.Addr)
	require.NoError(t, err)
	replica := redistest.Start(t)
	admin := redistest.NewClient(t, &redis.Options{Addr: master.Addr})
	require.NoError(t, redistest.NewClient(t, &redis.Options{Addr: replica.Addr}).ReplicaOf(t.Context(), host, port).Err())
	follower := redistest.NewClient(t, &redis.Options{Addr: replica.Addr, ReadTimeout: time.Minute})
	f := fixtureOn(t, redistest.NewClient(t, &redis.Options{Addr: master.Addr, MaxRetries: -1}), distkit.WithReplicas(1, 300*time.Millisecond))
	require.Eventually(t, func() bool { return admin.Wait(f.ctx, 1, time.Second).Val() == 1 }, 20*time.Second, time.Millisecond)
	seen := func() string { return follower.HGet(context.Background(), f.prefix+":strict_counter", "a").Val() }

	n, err := f.Strict().Inc(f.ctx, keyA, 1)
	require.NoError(t, err)
	require.EqualValues(t, 1, n)
	require.Equal(t, "1", seen())

	replica.Pause(t)
	n, err = f.Strict().Inc(f.ctx, keyA, 1)
	requireNotReplicated(t, err)
	require.EqualValues(t, 2, n, "the value it has")
	_, err = f.Strict().IncAll(f.ctx, distkit.Update{Key: keyA, N: 1}, distkit.Update{Key: keyB, N: 1})
	requireNotReplicated(t, err)
	require.NotErrorIs(t, err, distkit.ErrPartlyApplied)
	change, err := f.Strict().IncIf(f.ctx, keyA, distkit.Lt(0), 1)
	require.NoError(t, err, "nothing was changed")
	require.False(t, change.Applied)
	reply, err := f.Strict().PID(keyB).Request(f.ctx, distkit.Inc{N: 1})
	requireNotReplicated(t, err)
	require.Equal(t, distkit.Value{N: 2}, reply)
	_, err = f.Strict().Get(f.ctx, keyA)
	require.NoError(t, err)
	replica.Resume(t)

	n, err = f.Strict().Inc(f.ctx, keyA, 1)
	require.NoError(t, err)
	require.EqualValues(t, 4, n)
	require.Equal(t, "4", seen())
}

func requireNotReplicated(t testing.TB, err error) {
	t.Helper()
	require.ErrorIs(t, err, distkit.ErrNotReplicated)
	require.NotErrorIs(t, err, distkit.ErrNotApplied)
	require.NotErrorIs(t, err, distkit.ErrOutcomeUnknown)
}

// A batch that is answered from its ledger, after a lost reply, waits for replicas too.
func TestReplicas_areWaitedForAfterALostReply(t *testing.T) {
	t.Parallel()
	line := &line.Line{}
	client := redistest.NewClient(t, line.Lead(*redistest.Options(t)))
	f := fixtureOn(t, client, distkit.WithReplicas(1, 5*time.Millisecond), distkit.WithBackoff(time.Millisecond, time.Millisecond))
	_, err := f.Strict().Inc(f.ctx, keyA, 1)
	requireNotReplicated(t, err)
	line.Lose(1)
	n, err := f.Strict().Inc(f.ctx, keyA, 1)
	requireNotReplicated(t, err)
	require.EqualValues(t, 2, n)
	require.Equal(t, "2", f.stored(t, "strict_counter", keyA))
}

// A hook that panics, or ends its goroutine, while replicas are waited for costs the
// knowledge of them, and nothing else.
func TestReplicas_hookThatFailsWhileTheyAreWaitedFor(t *testing.T) {
	t.Parallel()
	for name, fail := range map[string]func(){
		"panics":             func() { panic("a bug of the hook's") },
		"ends its goroutine": runtime.Goexit,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			client := redistest.NewClient(t, redistest.Options(t))
			client.AddHook(waitHook(fail))
			f := fixtureOn(t, client, distkit.WithReplicas(1, 5*time.Millisecond))
			for i := range 3 {
				n, err := f.Strict().Inc(f.ctx, keyA, 1)
				requireNotReplicated(t, err)
				require.EqualValues(t, i+1, n)
			}
		})
	}
}

// waitHook fails pipelines that wait for replicas.
type waitHook func()

func (waitHook) DialHook(next redis.DialHook) redis.DialHook          { return next }
func (waitHook) ProcessHook(next redis.ProcessHook) redis.ProcessHook { return next }

func (h waitHook) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		if cmds[len(cmds)-1].Name() == "wait" {
			h()
		}
		return next(ctx, cmds)
	}
}
