package actors

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/asynkron/protoactor-go/actor"
	"github.com/distkit/distkit-go/internal/chaos"
	"github.com/distkit/distkit-go/internal/op"
	"github.com/distkit/distkit-go/internal/redistest"
	"github.com/distkit/distkit-go/internal/store"
	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"
)

// A panic at every step of every actor: whatever step it hits, each caller gets
// exactly one outcome, what was told applied is in Redis once, what was told
// not applied is not, and a batch that goes again is the same under its number.

// steps counts how often each step is passed, and panics at one pass of one.
type steps struct {
	mu     sync.Mutex
	passes map[string]int
	at     string
	pass   int
	fired  bool
}

func (s *steps) failPoint(step string) {
	s.mu.Lock()
	s.passes[step]++
	fire := step == s.at && s.passes[step] == s.pass
	s.fired = s.fired || fire
	s.mu.Unlock()
	if fire {
		panic("at " + step)
	}
}

// numbers is a go-redis hook that checks that a batch number is always sent
// with the same operations.
type numbers struct {
	mu      sync.Mutex
	content map[string]string
	resent  atomic.Int64
	broken  atomic.Int64
}

func (n *numbers) see(cmd redis.Cmder) {
	args := cmd.Args()
	if cmd.Name() != "evalsha" && cmd.Name() != "eval" {
		return
	}
	number, content := fmt.Sprint(args[4:6]...), ""
	for _, arg := range args[7:] {
		switch arg := arg.(type) {
		case *string:
			content += *arg + " "
		case *int64:
			content += strconv.FormatInt(*arg, 10) + " "
		default:
			content += fmt.Sprint(arg) + " "
		}
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if before, ok := n.content[number]; ok {
		n.resent.Add(1)
		if before != content {
			n.broken.Add(1)
		}
	}
	n.content[number] = content
}

func (n *numbers) DialHook(next redis.DialHook) redis.DialHook {
	return func(ctx context.Context, network, addr string) (net.Conn, error) { return next(ctx, network, addr) }
}

func (n *numbers) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error { n.see(cmd); return next(ctx, cmd) }
}

func (n *numbers) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		for _, cmd := range cmds {
			n.see(cmd)
		}
		return next(ctx, cmds)
	}
}

func TestPanicAtEveryStep(t *testing.T) {
	t.Parallel()
	run := chaos.Begin(t, "panic at every step")
	seen := &steps{passes: map[string]int{}}
	panicWorkload(t, run, seen)
	require.Greater(t, len(seen.passes), 20, "steps that the workload reaches: %v", slices.Sorted(maps.Keys(seen.passes)))
	resent := int64(0)
	for _, step := range slices.Sorted(maps.Keys(seen.passes)) {
		for pass := 1; pass <= min(seen.passes[step], run.Scale(2, 40)); pass++ {
			s := &steps{passes: map[string]int{}, at: step, pass: pass}
			resent += panicWorkload(t, run, s)
			run.Cases(1)
			if s.fired {
				run.Faults(1)
			}
			if t.Failed() {
				t.Fatalf("panic at %q, pass %d", step, pass)
			}
		}
	}
	require.Positive(t, resent, "batches that were sent again under their number")
}

// panicWorkload uses every kind of operation from several callers, and checks
// every outcome. It returns how many batches were sent again.
func panicWorkload(t *testing.T, run *chaos.Run, s *steps) int64 {
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	client := redistest.Client(t)
	defer func() { _ = client.Close() }()
	prefix := redistest.Prefix(t, redistest.Client(t))
	numbers := &numbers{content: map[string]string{}}
	client.AddHook(numbers)
	e, err := New(Config{
		Client: client, Prefix: prefix, Observer: silent{}, failAt: s.failPoint,
		ActorSystem: actor.NewActorSystem(actor.WithLoggerFactory(QuietLogger(slog.New(slog.DiscardHandler)))),
		AllowedLag:  time.Millisecond, RefreshWait: time.Second,
		Backoff: Backoff{time.Millisecond, 2 * time.Millisecond},
		Decode:  func(any) (op.Op, error) { return op.Op{}, errors.New("no messages here") },
		Encode:  func(op.Op, op.Result) any { return nil },
	})
	require.NoError(t, err)

	told := map[Kind]*[3]atomic.Int64{Strict: {}, Lax: {}}
	outcome := func(kind Kind, key int, n int64, err error) {
		switch {
		case err == nil:
			told[kind][key].Add(n)
		case !errors.Is(err, errPanicked) || !errors.Is(err, op.ErrNotApplied):
			run.Violation("%v %d: %v", kind, key, err)
		}
	}
	var callers sync.WaitGroup
	for kind := range told {
		for c := range 3 {
			callers.Go(func() {
				name := strconv.Itoa(c)
				for i := int64(1); i <= 4; i++ {
					outcome(kind, c, i, e.Do(ctx, kind, name, op.Op{Kind: op.Inc, N: i}).Err)
					always := op.Cond{Cmp: op.Always}
					outcome(kind, c, -1, e.Do(ctx, kind, name, op.Op{Kind: op.IncIf, N: -1, If: always}).Err)
					all := e.DoAll(ctx, kind, []store.KeyOp{{Key: name, Op: op.Op{Kind: op.Inc, N: 5}}, {Key: "shared", Op: op.Op{Kind: op.Inc, N: 1}}})
					outcome(kind, c, 5, all[0].Err)
					if kind == Lax { // nobody is told, but no panic loses it
						e.Add(name, 7)
						e.Add(name, -3)
						outcome(kind, c, 4, nil)
					}
					own := "own" + name
					set := e.Do(ctx, kind, own, op.Op{Kind: op.Set, N: i})
					del := e.Do(ctx, kind, own, op.Op{Kind: op.Del})
					if set.Err == nil && del.Err == nil && del.N != i {
						run.Violation("%v: Del answered %d after Set of %d", kind, del.N, i)
					}
					for _, r := range []op.Result{set, del} {
						if r.Err != nil {
							outcome(kind, c, 0, r.Err)
						}
					}
				}
			})
		}
	}
	callers.Wait()
	left, err := e.Shutdown(ctx)
	if err != nil || len(left) > 0 {
		run.Violation("shutdown: %v, left %v", err, left)
	}
	for kind := range told {
		for c := range 3 {
			stored, err := client.HGet(ctx, prefix+":"+kind.String(), strconv.Itoa(c)).Int64()
			if err != nil && err != redis.Nil {
				run.Violation("%v", err)
			}
			if want := told[kind][c].Load(); stored != want {
				run.Violation("%v %d: told %d, Redis holds %d", kind, c, want, stored)
			}
		}
	}
	if n := numbers.broken.Load(); n > 0 {
		run.Violation("%d batches were sent again with other operations", n)
	}
	return numbers.resent.Load()
}
