// A process killed at any moment: what it had acknowledged is in Redis, and of
// what it had only accepted no more is missing than the README says.
package faults_test

import (
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/distkit/distkit-go/internal/chaos"
	"github.com/distkit/distkit-go/internal/redistest"
	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"
)

// TestProcessKilled starts children that count, kills each at a random time,
// and compares Redis with what the child had reported until then.
func TestProcessKilled(t *testing.T) {
	run := chaos.Begin(t, "ProcessKilled") // not parallel: it prints times
	killProcesses(t, run, run.Scale(10, 200), 0)
}

// TestProcessKilled_farRedis: the same, where a call to Redis takes longer than
// AllowedLag, so that there is no time between two flushes.
func TestProcessKilled_farRedis(t *testing.T) {
	run := chaos.Begin(t, "ProcessKilledFar")
	killProcesses(t, run, run.Scale(4, 30), 40*time.Millisecond)
}

func killProcesses(t *testing.T, run *chaos.Run, children int, far time.Duration) {
	client := redistest.Client(t)
	prefix := redistest.Prefix(t, client)
	rng := run.Rand(0)
	var losses []killLoss
	for i := range children {
		child := startKillChild(t, client, fmt.Sprintf("%s-%d", prefix, i), rng, far)
		// One in eight is killed while it starts.
		if wait := time.Duration(rng.Int64N(int64(120*time.Millisecond + 5*far))); rng.IntN(8) == 0 {
			child.kill(t, wait)
		} else {
			child.awaitCounting(t)
			child.kill(t, wait)
		}
		run.Faults(1)
		losses = append(losses, child.check(t, run))
	}
	killReport(t, run, losses)
}

// killReport prints how much lax counters lost, and how long it had been
// accepted when the process died. In the long form, the README's bound has to
// have held nearly always: what it does not allow for is the machine's doing. In virtual
// time TestFar of actors holds it exactly.
func killReport(t *testing.T, run *chaos.Run, losses []killLoss) {
	slices.SortFunc(losses, func(a, b killLoss) int { return int(a.age - b.age) })
	most, rounds, over := int64(0), 0, 0
	for _, l := range losses {
		most, rounds = max(most, l.count), max(rounds, l.rounds)
		if l.over() {
			over++
			t.Logf("over what is allowed: %v", l)
		}
	}
	median, worst := losses[len(losses)/2], losses[len(losses)-1]
	t.Logf("lax loss at %d kills: median %.1f ms; the oldest: %v; at most %d increments and %d flushes; %d over what is allowed",
		len(losses), killMS(median.age), worst, most, rounds, over)
	if run.Long() && over > len(losses)/20 {
		run.Violation("%d of %d kills lost more of a lax counter than is allowed", over, len(losses))
	}
}

// killChild is a child and what it has reported.
type killChild struct {
	prefix   string
	client   *redis.Client
	cmd      *exec.Cmd
	output   *strings.Builder
	counting chan struct{} // closed when both kinds count
	read     chan error    // the pipe has ended
	records  []killRecord
	far      time.Duration // how far away its Redis is
}

func startKillChild(t *testing.T, client *redis.Client, prefix string, rng *rand.Rand, far time.Duration) *killChild {
	t.Helper()
	from, to, err := os.Pipe()
	require.NoError(t, err)
	c := &killChild{
		far:    far,
		prefix: prefix, client: client, output: &strings.Builder{},
		counting: make(chan struct{}), read: make(chan error, 1),
	}
	c.cmd = exec.Command(os.Args[0], "-test.run=^TestChildKilled$", "-test.count=1")
	c.cmd.Env = append(os.Environ(), killEnv+"="+prefix, fmt.Sprint(killSeedEnv, "=", rng.Uint64()),
		fmt.Sprint(killFarEnv, "=", far), "REDIS_URL="+redistest.URL(t))
	c.cmd.Stdout, c.cmd.Stderr = c.output, c.output
	c.cmd.ExtraFiles = []*os.File{to}
	require.NoError(t, c.cmd.Start())
	_ = to.Close()
	go func() {
		strict, lax := false, false
		err := readKillRecords(from, func(r killRecord) {
			c.records = append(c.records, r)
			was := strict && lax
			strict = strict || r.kind == killStrictEnd
			lax = lax || r.kind == killLaxEnd
			if strict && lax && !was {
				close(c.counting)
			}
		})
		_ = from.Close()
		c.read <- err
	}()
	return c
}

func (c *killChild) awaitCounting(t *testing.T) {
	t.Helper()
	select {
	case <-c.counting:
	case err := <-c.read:
		_ = c.cmd.Wait()
		require.FailNow(t, "the child ended by itself", "%v %s", err, c.output)
	case <-time.After(serverPatience):
		_ = c.cmd.Process.Kill()
		_ = c.cmd.Wait()
		require.FailNow(t, "the child does not count", "%s", c.output)
	}
}

// kill ends the process and waits until nothing of it is on its way any more.
func (c *killChild) kill(t *testing.T, after time.Duration) {
	t.Helper()
	time.Sleep(after)
	require.NoError(t, c.cmd.Process.Kill())
	err := c.cmd.Wait()
	require.ErrorContains(t, err, "killed", "%s", c.output)
	require.NoError(t, <-c.read)
	serverDeserted(t, c.client, c.prefix)
}

// check compares the report with Redis.
func (c *killChild) check(t *testing.T, run *chaos.Run) killLoss {
	t.Helper()
	started, ended := map[killKind]int64{}, map[killKind]int64{}
	seen := map[int64]bool{}
	for _, r := range c.records {
		switch r.kind {
		case killStrictStart, killPairStart:
			started[r.kind]++
			run.Cases(1)
		case killStrictEnd:
			ended[killStrictStart]++
			if seen[r.n] {
				run.Violation("two callers were answered %d", r.n)
			}
			seen[r.n] = true
		case killPairEnd:
			ended[killPairStart]++
		}
	}
	strict := serverStored(t, c.client, c.prefix, "strict_counter")
	for key, kind := range map[string]killKind{"single": killStrictStart, "left": killPairStart} {
		if n := strict[key]; n < ended[kind] || n > started[kind] {
			run.Violation("%s: Redis holds %d; %d were acknowledged, %d begun", key, n, ended[kind], started[kind])
		}
	}
	for reply := range seen {
		if reply > strict["single"] {
			run.Violation("single: %d was answered, Redis holds %d", reply, strict["single"])
		}
	}
	c.checkTxs(t, run)
	if strict["left"] != strict["right"] {
		run.Violation("a batch call was torn: %d and %d", strict["left"], strict["right"])
	}
	return c.checkLax(t, run)
}
