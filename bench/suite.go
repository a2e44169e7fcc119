package bench

import (
	"fmt"
	"runtime"
	"slices"
	"time"

	"github.com/distkit/distkit-go/bench/report"
)

// Case is a contestant at a workload.
type Case struct {
	Name  string // GROUP/…/CONTESTANT
	Lacks string // what the contestant does not do that distkit does
	Short bool   // part of the short form that make bench-check runs
	// Measure does it once and returns a value for each metric.
	Measure func(env *Env, d time.Duration) (map[string]float64, error)
}

// Group is cases that take turns.
type Group struct {
	Name  string
	Cases []Case
}

// The strict workloads.
var (
	strictCallers = []int{1, 64, 256, 1024}
	keyCounts     = []int{1, 1000}
)

func strictName(callers, keys int, name string) string {
	return fmt.Sprintf("strict/callers=%d/keys=%d/%s", callers, keys, name)
}

// laxName names a lax case; callers is 1 or "all", one for each core.
func laxName(callers string, keys int, name string) string {
	return fmt.Sprintf("lax/keys=%d/callers=%s/%s", keys, callers, name)
}

func flushName(name string) string { return fmt.Sprintf("flush/keys=%d/%s", dirtyKeys, name) }
func tailName(name string) string  { return fmt.Sprintf("tail/dirty=%d/%s", dirtyKeys, name) }

// redis-benchmark over one connection, as a flush goes, and over its default of
// 50.
const (
	serverOne  = "redis-benchmark-1"
	serverMany = "redis-benchmark-50"
)

// GrowthName names what [MeasureGrowth] measures.
func GrowthName(keys int) string { return fmt.Sprintf("growth/keys=%d/distkit", keys) }

// Groups are all workloads but growth, which needs processes of its own.
func Groups() []Group {
	return slices.Concat(strictGroups(), fewGroups(), laxGroups(), []Group{flushGroup(), tailGroup()}, outlivesGroups(), shardsGroups())
}

func loadCase(name string, c Contestant, l load, short bool) Case {
	return Case{Name: name, Lacks: c.Lacks(), Short: short, Measure: func(env *Env, d time.Duration) (map[string]float64, error) {
		return l.measure(c, env, d)
	}}
}

func strictGroups() []Group {
	short := map[string]bool{"distkit": true, "goredis-script": true, "rueidis": true}
	var out []Group
	for _, callers := range strictCallers {
		for _, keys := range keyCounts {
			g := Group{Name: fmt.Sprintf("strict/callers=%d/keys=%d", callers, keys)}
			for _, c := range StrictContestants() {
				l := load{callers: callers, keys: keys, sampled: true}
				g.Cases = append(g.Cases, loadCase(strictName(callers, keys, c.Name()), c, l, keys > 1 && short[c.Name()]))
			}
			out = append(out, g)
		}
	}
	return out
}

// laxGroups have one caller and all in one group, for they are compared too.
func laxGroups() []Group {
	short := map[string]bool{"distkit-add": true, "distkit-send": true, "distkit-inc": true, "protoactor-send": true, "protoactor-request": true}
	var out []Group
	for _, keys := range keyCounts {
		g := Group{Name: fmt.Sprintf("lax/keys=%d", keys)}
		for _, c := range LaxContestants() {
			one := load{callers: 1, keys: keys, settling: keys > 1}
			all := one
			all.callers = runtime.GOMAXPROCS(0)
			g.Cases = append(g.Cases,
				loadCase(laxName("1", keys, c.Name()), c, one, keys == 1 && short[c.Name()]),
				loadCase(laxName("all", keys, c.Name()), c, all, false))
		}
		out = append(out, g)
	}
	return out
}

func flushGroup() Group {
	g := Group{Name: fmt.Sprintf("flush/keys=%d", dirtyKeys)}
	for _, c := range FlushContestants() {
		g.Cases = append(g.Cases, Case{
			Name: flushName(c.Name()), Lacks: c.Lacks(), Short: c.Name() != "handwritten",
			Measure: func(env *Env, d time.Duration) (map[string]float64, error) {
				return measureFlush(c, env, dirtyKeys, d)
			},
		})
	}
	for _, connections := range []int{1, 50} {
		name := serverOne
		if connections > 1 {
			name = serverMany
		}
		g.Cases = append(g.Cases, Case{
			Name: flushName(name), Lacks: "the server's limit: folds nothing, does not look at replies", Short: name == serverOne,
			Measure: func(env *Env, d time.Duration) (map[string]float64, error) {
				return measureServer(env, connections, dirtyKeys, d)
			},
		})
	}
	return g
}

func tailGroup() Group {
	g := Group{Name: fmt.Sprintf("tail/dirty=%d", dirtyKeys)}
	for _, c := range tailContestants() {
		g.Cases = append(g.Cases, Case{
			Name: tailName(c.Name()), Lacks: c.Lacks(),
			Measure: func(env *Env, d time.Duration) (map[string]float64, error) { return measureTail(c, env, d) },
		})
	}
	return g
}

// Comparisons are the ratios of a run: distkit against every rival at the same
// work.
func Comparisons() []report.Comparison {
	var out []report.Comparison
	for _, callers := range strictCallers {
		for _, keys := range keyCounts {
			ours := strictName(callers, keys, "distkit")
			for _, c := range StrictContestants()[1:] {
				out = append(out, report.Comparison{Case: ours, Rival: strictName(callers, keys, c.Name()), Metric: report.Throughput})
			}
		}
	}
	out = append(out, fewComparisons()...)
	for _, keys := range keyCounts {
		for _, callers := range []string{"1", "all"} {
			for _, pair := range [][2]string{
				{"distkit-add", "handwritten"}, {"distkit-add", "protoactor-send"}, {"distkit-send", "protoactor-send"},
				{"distkit-inc", "protoactor-request"}, {"distkit-inc", "handwritten"}, {"distkit-get", "handwritten"},
			} {
				out = append(out, report.Comparison{
					Case: laxName(callers, keys, pair[0]), Rival: laxName(callers, keys, pair[1]), Metric: report.Time,
				})
			}
		}
		for _, name := range []string{"distkit-add", "distkit-send", "distkit-inc", "distkit-get"} {
			out = append(out, report.Comparison{Case: laxName("all", keys, name), Rival: laxName("1", keys, name), Metric: report.Time})
		}
	}
	for _, rival := range []string{"evalsha-a-key", "handwritten", serverOne, serverMany} {
		out = append(out, report.Comparison{Case: flushName("distkit-add"), Rival: flushName(rival), Metric: report.Throughput})
	}
	out = slices.Concat(out, outlivesComparisons(), shardsComparisons())
	return append(out, report.Comparison{Case: tailName("distkit-inc"), Rival: tailName("handwritten"), Metric: report.P999})
}
