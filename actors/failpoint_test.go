package actors

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/distkit/distkit-go/internal/chaos"
	"github.com/distkit/distkit-go/internal/line"
	"github.com/distkit/distkit-go/internal/redistest"
	"github.com/distkit/distkit-go/internal/request"
	"github.com/distkit/distkit-go/internal/verb"
	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"
)

// A panic at every step of every actor: whatever step it hits, each caller gets
// exactly one outcome, what was told applied is in Redis once, what was told
// not applied is not, and a batch that goes again is the same under its number.
// Every other time replies are lost besides, so that batches do go again.

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

// namedSteps are the steps that the sources name.
func namedSteps(t *testing.T) []string {
	t.Helper()
	files, err := filepath.Glob("internal/*/*.go")
	require.NoError(t, err)
	var named []string
	for _, file := range files {
		text, err := os.ReadFile(file)
		require.NoError(t, err)
		for _, match := range regexp.MustCompile(`failAt\.At\("([^"]+)"\)`).FindAllSubmatch(text, -1) {
			named = append(named, string(match[1]))
		}
	}
	slices.Sort(named)
	require.Equal(t, slices.Compact(slices.Clone(named)), named, "a name is for one step")
	return named
}

// numbers is a go-redis hook that checks that a batch number of a lane is always
// sent with the same operations, as long as it has the same nonce.
type numbers struct {
	mu      sync.Mutex
	content map[string]string
	resent  atomic.Int64
	broken  atomic.Int64
}

// see looks at: evalsha sha numkeys keys… number nonce previous lifetime operations…
func (n *numbers) see(cmd redis.Cmder) {
	if cmd.Name() != "evalsha" && cmd.Name() != "eval" {
		return
	}
	args := make([]string, len(cmd.Args()))
	for i, arg := range cmd.Args() {
		args[i] = text(arg)
	}
	keys, err := strconv.Atoi(args[2])
	if err != nil {
		panic(err)
	}
	own := args[3+keys:]
	if _, err := strconv.Atoi(own[0]); err != nil { // open, fence, bare
		return
	}
	number, content := fmt.Sprint(args[4], own[:2]), fmt.Sprint(own[2], own[4:])
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

// text is an argument as it is sent.
func text(arg any) string {
	switch arg := arg.(type) {
	case *string:
		return *arg
	case *int64:
		return strconv.FormatInt(*arg, 10)
	case *uint64:
		return strconv.FormatUint(*arg, 10)
	default:
		return fmt.Sprint(arg)
	}
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
	options := redistest.Options(t)
	line := &line.Line{}
	options = line.Lead(*options)
	seen := &steps{passes: map[string]int{}}
	panicWorkload(t, run, options, seen)
	require.Equal(t, namedSteps(t), slices.Sorted(maps.Keys(seen.passes)), "steps that the workload reaches")
	resent := int64(0)
	for _, step := range slices.Sorted(maps.Keys(seen.passes)) {
		for pass := 1; pass <= min(seen.passes[step], run.Scale(2, 40)); pass++ {
			s := &steps{passes: map[string]int{}, at: step, pass: pass}
			line.LoseEvery(int64(7 * (1 - pass%2))) // every other time replies are lost besides
			resent += panicWorkload(t, run, options, s)
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
	require.Positive(t, line.Lost())
}

// panicked is an engine at work, one of whose actors panics once.
type panicked struct {
	*Engine
	run    *chaos.Run
	spaces map[string]*Shards
	told   map[string]*[3]atomic.Int64 // by space and caller, what was told applied
}

// panicWorkload uses every kind of operation from several callers, and checks
// every outcome. It returns how many batches were sent again.
func panicWorkload(t *testing.T, run *chaos.Run, through *redis.Options, s *steps) int64 {
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	client, direct := redistest.NewClient(t, through), redistest.Client(t)
	defer func() { _ = client.Close() }()
	prefix := redistest.Prefix(t, direct)
	numbers := &numbers{content: map[string]string{}}
	client.AddHook(numbers)
	cfg := testConfig(silent{})
	cfg.Client, cfg.Prefix, cfg.failAt = client, prefix, s.failPoint
	cfg.BackoffMax = 2 * time.Millisecond
	e := New(cfg)
	p := &panicked{e, run, map[string]*Shards{}, map[string]*[3]atomic.Int64{}}
	for _, space := range []*Shards{e.Strict(), &e.Lax().Shards} {
		p.spaces[space.kind.name], p.told[space.kind.name] = space, new([3]atomic.Int64)
	}

	var callers sync.WaitGroup
	for name := range p.spaces {
		for c := range 3 {
			callers.Go(func() { p.call(ctx, name, c) })
		}
	}
	callers.Wait()
	if _, err := e.Flush(ctx); err != nil {
		run.Violation("flush: %v", err)
	}
	p.compare(ctx, direct, prefix)
	for name := range p.spaces {
		p.clear(ctx, name)
	}
	left, err := e.Shutdown(ctx)
	if err != nil || len(left) > 0 {
		run.Violation("shutdown: %v, left %v", err, left)
	}
	p.compare(ctx, direct, prefix)
	if n := numbers.broken.Load(); n > 0 {
		run.Violation("%d batches were sent again with other operations", n)
	}
	return numbers.resent.Load()
}

// outcome counts what a caller was told of a change by n.
func (p *panicked) outcome(space string, key int, n int64, err error) {
	switch {
	case err == nil:
		p.told[space][key].Add(n)
	case !errors.Is(err, request.ErrPanicked) || !errors.Is(err, verb.ErrNotApplied):
		p.run.Violation("%v %d: %v", space, key, err)
	}
}

// call is one caller's work, on a key of its own, one beside it, and one of all.
func (p *panicked) call(ctx context.Context, space string, c int) {
	name, s := strconv.Itoa(c), p.spaces[space]
	for i := int64(1); i <= 4; i++ {
		p.outcome(space, c, i, s.Do(ctx, name, inc(i)).Err)
		p.outcome(space, c, -1, s.Do(ctx, name, incIf(-1, verb.Always, 0)).Err)
		all := s.DoAll(ctx, []verb.Keyed{{Key: name, Op: inc(5)}, {Key: "shared", Op: inc(1)}})
		p.outcome(space, c, 5, all[0].Err)
		p.outcome(space, c, 0, s.Do(ctx, name, get).Err)
		if s == &p.Lax().Shards { // nobody is told, but no panic loses it
			_ = p.Lax().Add(name, 7)
			_ = p.Lax().Add(name, -3)
			p.outcome(space, c, 4, nil)
			if i == 2 {
				_, err := p.Flush(ctx)
				p.outcome(space, c, 0, err)
			}
			_, err := p.Lax().View(ctx, name)
			p.outcome(space, c, 0, err)
		}
		own := "own" + name
		set := s.Do(ctx, own, verb.Op{Kind: verb.Set, N: i})
		gone := s.Do(ctx, own, del)
		if set.Err == nil && gone.Err == nil && gone.N != i {
			p.run.Violation("%v: Del answered %d after Set of %d", space, gone.N, i)
		}
		for _, r := range []verb.Result{set, gone} {
			p.outcome(space, c, 0, r.Err)
		}
	}
}

// clear has keys hold something when a Clear comes, and counts on after it.
func (p *panicked) clear(ctx context.Context, space string) {
	s := p.spaces[space]
	for i := int64(1); i <= 3; i++ {
		for c := range 3 {
			p.outcome(space, c, i, s.Do(ctx, strconv.Itoa(c), inc(i)).Err)
		}
		err := s.Clear(ctx)
		for c := range 3 {
			if err == nil {
				p.told[space][c].Store(0)
			}
			p.outcome(space, c, 10*i, s.Do(ctx, strconv.Itoa(c), inc(10*i)).Err)
		}
		p.outcome(space, 0, 0, err)
	}
}

// compare checks that Redis holds what was told.
func (p *panicked) compare(ctx context.Context, client *redis.Client, prefix string) {
	for space := range p.spaces {
		for c := range 3 {
			stored, err := client.HGet(ctx, prefix+":"+space, strconv.Itoa(c)).Int64()
			if err != nil && err != redis.Nil {
				p.run.Violation("%v", err)
			}
			if want := p.told[space][c].Load(); stored != want {
				p.run.Violation("%v %d: told %d, Redis holds %d", space, c, want, stored)
			}
		}
	}
}
