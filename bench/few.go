package bench

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/distkit/distkit-go"
	"github.com/distkit/distkit-go/bench/report"
)

// The workloads that most services have, and the extremes: few callers, reads, skewed
// keys, and far too many callers.

var (
	fewCallers   = []int{1, 2, 4, 8, 16}
	readCallers  = []int{1, 4}
	zipfCallers  = []int{256, 1024}
	crowdCallers = []int{50_000, 100_000}
)

// pause is what a paced caller waits between two calls, so that the cores fall asleep:
// they then take longer to answer anybody.
const pause = time.Millisecond

func fewName(callers int, name string) string {
	return fmt.Sprintf("few/callers=%d/keys=1000/%s", callers, name)
}
func pacedName(name string) string { return "paced/callers=1/keys=1000/" + name }
func readName(callers int, name string) string {
	return fmt.Sprintf("read/callers=%d/keys=1000/%s", callers, name)
}

func zipfName(callers int, name string) string {
	return fmt.Sprintf("zipf/callers=%d/keys=1000/%s", callers, name)
}

func crowdName(callers int) string {
	return fmt.Sprintf("crowd/callers=%d/keys=1000/distkit", callers)
}

// fewGroups are compared within themselves, but for the crowds.
func fewGroups() []Group {
	var out []Group
	group := func(name string, l load, short bool, as func(string) string, contestants ...Contestant) {
		g := Group{Name: name}
		for _, c := range contestants {
			g.Cases = append(g.Cases, loadCase(as(c.Name()), c, l, short))
		}
		out = append(out, g)
	}
	for _, n := range fewCallers {
		group(fmt.Sprintf("few/callers=%d", n), load{callers: n, keys: 1000, sampled: true}, n == 1 || n == 8,
			func(name string) string { return fewName(n, name) }, distkitStrict(), distkitEnding(), goredisScript(), rueidisScript("rueidis", 0))
	}
	group("paced/callers=1", load{callers: 1, keys: 1000, sampled: true, pause: pause}, false,
		pacedName, distkitStrict(), distkitEnding(), goredisScript(), rueidisScript("rueidis", 0))
	for _, n := range readCallers {
		group(fmt.Sprintf("read/callers=%d", n), load{callers: n, keys: 1000, sampled: true}, n == 1,
			func(name string) string { return readName(n, name) }, distkitStrictGet(), goredisHget())
	}
	for _, n := range zipfCallers {
		group(fmt.Sprintf("zipf/callers=%d", n), load{callers: n, keys: 1000, sampled: true, zipf: true}, false,
			func(name string) string { return zipfName(n, name) }, distkitStrict(), rueidisScript("rueidis", 0))
	}
	for _, n := range crowdCallers {
		group(fmt.Sprintf("crowd/callers=%d", n), load{callers: n, keys: 1000, sampled: true, settling: true}, false,
			func(string) string { return crowdName(n) }, distkitStrict())
	}
	return out
}

func fewComparisons() []report.Comparison {
	var out []report.Comparison
	compare := func(metric, ours string, rivals ...string) {
		for _, rival := range rivals {
			out = append(out, report.Comparison{Case: ours, Rival: rival, Metric: metric})
		}
	}
	for _, n := range fewCallers {
		rivals := []string{fewName(n, "goredis-script"), fewName(n, "rueidis")}
		compare(report.Time, fewName(n, "distkit"), rivals...)
		compare(report.Time, fewName(n, "distkit-ending"), rivals...)
	}
	for _, ours := range []string{"distkit", "distkit-ending"} {
		compare(report.P50, pacedName(ours), pacedName("goredis-script"), pacedName("rueidis"))
	}
	for _, n := range readCallers {
		compare(report.Time, readName(n, "distkit-get"), readName(n, "goredis-hget"))
	}
	for _, n := range zipfCallers {
		compare(report.Throughput, zipfName(n, "distkit"), zipfName(n, "rueidis"))
	}
	for _, n := range crowdCallers {
		compare(report.Throughput, crowdName(n), strictName(1024, 1000, "distkit"))
	}
	return out
}

// fewGoals are the goals of these workloads. A throughput of k M/s is 1/k µs an operation.
func fewGoals() []report.Goal {
	var goals []report.Goal
	atMost := func(what, metric, ours, rival string, limit float64) {
		goals = append(goals, report.Goal{What: what, Case: ours, Rival: rival, Metric: metric, AtMost: true, Limit: limit})
	}
	atLeast := func(what, ours, rival string, limit float64, remark string) {
		goals = append(goals, report.Goal{What: what, Case: ours, Rival: rival, Metric: report.Throughput, Limit: limit, Remark: remark})
	}
	atMost("strict, 1 caller, against goredis-script: time", report.Time, fewName(1, "distkit"), fewName(1, "goredis-script"), 1.25)
	atMost("the same, with a context that can end", report.Time, fewName(1, "distkit-ending"), fewName(1, "goredis-script"), 1.35)
	atMost("strict, 1 caller with pauses, cores asleep: p50", report.P50, pacedName("distkit"), pacedName("goredis-script"), 1.25)
	for i, n := range fewCallers[1:] {
		for _, rival := range []string{"goredis-script", "rueidis"} {
			atMost(fmt.Sprintf("strict, %d callers, against %s: time", n, rival), report.Time,
				fewName(n, "distkit"), fewName(n, rival), []float64{1.2, 1, 0.8, 0.65}[i])
		}
	}
	for i, n := range readCallers {
		atMost(fmt.Sprintf("strict `Get`, %s, against HGET: time", plural(n, "caller")), report.Time,
			readName(n, "distkit-get"), readName(n, "goredis-hget"), []float64{1.1, 0.6}[i])
	}
	for i, n := range []int{256, 1024} {
		microseconds := []float64{1.1, 0.7}[i]
		atLeast(fmt.Sprintf("strict, one hot key, %s: operations a second", plural(n, "caller")), strictName(n, 1, "distkit"), "",
			1e6/microseconds, fmt.Sprintf("%.1f µs an operation", microseconds))
	}
	for i, n := range zipfCallers {
		microseconds := []float64{1.9, 1.3}[i]
		atLeast(fmt.Sprintf("strict, keys by Zipf's law with 1.1, %s: operations a second", plural(n, "caller")), zipfName(n, "distkit"), "",
			1e6/microseconds, fmt.Sprintf("%.1f µs an operation", microseconds))
	}
	for _, n := range crowdCallers {
		atLeast(fmt.Sprintf("strict, %s, against 1,024: throughput", plural(n, "caller")), crowdName(n), strictName(1024, 1000, "distkit"),
			1/1.2, "")
	}
	return goals
}

// strictEnding counts with a context that can end.
type strictEnding struct{ *strictInc }

func (c strictEnding) Count(key int) error {
	ctx, cancel := context.WithCancel(background)
	defer cancel()
	_, err := c.counter.Inc(ctx, c.keys[key], 1)
	return err
}

func distkitEnding() Contestant {
	return contestant{"distkit-ending", "", func(env *Env, n int) (Counter, error) {
		base, err := startDistkit(env, "strict", n)
		if err != nil {
			return nil, err
		}
		return strictEnding{&strictInc{base, base.system.Strict()}}, nil
	}}
}

// reading is a counter at which Count reads, and is itself counted.
type reading struct {
	Counter
	read  func(key int) error
	reads atomic.Int64
}

func (c *reading) Count(key int) error {
	c.reads.Add(1)
	return c.read(key)
}

func (c *reading) Total() (int64, error) { return c.reads.Load(), nil }

// filled has each key counted once, so that there is something to read.
func filled(c Counter, n int) error {
	for key := range n {
		if err := c.Count(key); err != nil {
			return errors.Join(err, c.Close())
		}
	}
	return c.Settle()
}

// distkitGet reads what a counter of distkit's holds.
func distkitGet(name, kind string, of func(*distkit.System) distkit.Counter) Contestant {
	return contestant{name, "", func(env *Env, n int) (Counter, error) {
		base, err := startDistkit(env, kind, n)
		if err != nil {
			return nil, err
		}
		counter := of(base.system)
		if kind == "lax" {
			err = filled(&laxInc{base, base.system.Lax()}, n)
		} else {
			err = filled(&strictInc{base, base.system.Strict()}, n)
		}
		if err != nil {
			return nil, err
		}
		return &reading{Counter: &strictInc{distkitBase: base}, read: func(key int) error {
			_, err := counter.Get(background, base.keys[key])
			return err
		}}, nil
	}}
}

func distkitStrictGet() Contestant {
	return distkitGet("distkit-get", "strict", func(s *distkit.System) distkit.Counter { return s.Strict() })
}

func distkitLaxGet() Contestant {
	return distkitGet("distkit-get", "lax", func(s *distkit.System) distkit.Counter { return s.Lax() })
}

func goredisHget() Contestant {
	return contestant{"goredis-hget", "", func(env *Env, n int) (Counter, error) {
		c := startGoredis(env, n, func(c *goredis, field string) error { return c.client.HIncrBy(background, c.container, field, 1).Err() })
		if err := filled(c, n); err != nil {
			return nil, err
		}
		return &reading{Counter: c, read: func(key int) error {
			return c.client.HGet(background, c.container, c.names[key]).Err()
		}}, nil
	}}
}
