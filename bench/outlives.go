package bench

import (
	"errors"
	"fmt"
	"runtime"
	"slices"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/distkit/distkit-go"
	"github.com/distkit/distkit-go/bench/report"
)

// What transactions, windows and lists cost, beside the plain operations.

// strictIf is a conditional increment, alone.
type strictIf struct{ strictInc }

func (c *strictIf) Count(key int) error {
	change, err := c.counter.IncIf(background, c.keys[key], distkit.Ge(0), 1)
	return asApplied(change.Applied, err)
}

// strictTx is one as the only step of a transaction.
type strictTx struct {
	strictInc
	ids    string // their beginning; "": they have none
	number atomic.Int64
}

func (c *strictTx) Count(key int) error {
	tx := distkit.Tx{Steps: []distkit.Step{{Key: c.keys[key], Do: distkit.IncIf{If: distkit.Ge(0), N: 1}}}}
	if c.ids != "" {
		tx.ID, tx.Keep = c.ids+strconv.FormatInt(c.number.Add(1), 10), time.Second
	}
	out, err := c.counter.Apply(background, tx)
	return asApplied(out.Applied, err)
}

var errNotApplied = errors.New("it was not applied")

func asApplied(applied bool, err error) error {
	if err == nil && !applied {
		return errNotApplied
	}
	return err
}

// The contestants of the workload "tx".
const (
	plainIf = "distkit-incif"
	oneStep = "distkit-tx"
	withID  = "distkit-tx-id"
)

func txContestants() []Contestant {
	strict := func(name string, of func(strictInc) Counter) Contestant {
		return contestant{name, "", func(env *Env, n int) (Counter, error) {
			base, err := startDistkit(env, "strict", n)
			if err != nil {
				return nil, err
			}
			return of(strictInc{base, base.system.Strict()}), nil
		}}
	}
	return []Contestant{
		strict(plainIf, func(c strictInc) Counter { return &strictIf{c} }),
		strict(oneStep, func(c strictInc) Counter { return &strictTx{strictInc: c} }),
		strict(withID, func(c strictInc) Counter { return &strictTx{strictInc: c, ids: "request-"} }),
	}
}

// laxWindow adds to a window that lasts a year.
type laxWindow struct {
	distkitBase
	windows *distkit.Windows
}

func (c *laxWindow) Count(key int) error { return c.windows.Add(c.keys[key], 1) }

const year = 365 * 24 * time.Hour

func windowContestants() []Contestant {
	return []Contestant{distkitAdd(lag), contestant{"distkit-window", "", func(env *Env, n int) (Counter, error) {
		base, err := startDistkit(env, "lax", n)
		if err != nil {
			return nil, err
		}
		windows, err := base.system.Lax().Per(distkit.Every(year), 0)
		if err != nil {
			return nil, errors.Join(err, base.Close())
		}
		seconds := int64(year / time.Second)
		base.container += fmt.Sprintf("@%ds@%d", seconds, time.Now().Unix()/seconds*seconds)
		return &laxWindow{base, windows}, nil
	}}}
}

var txCallers = []int{1, 64, 1024}

func txName(callers int, name string) string { return fmt.Sprintf("tx/callers=%d/%s", callers, name) }
func windowName(callers string, name string) string {
	return fmt.Sprintf("window/callers=%s/%s", callers, name)
}
func listName(name string) string { return fmt.Sprintf("list/keys=%d/%s", listKeys, name) }

// listKeys is how many counters are listed.
const listKeys = 1_000_000

// outlivesGroups are the workloads of this file.
func outlivesGroups() []Group {
	var out []Group
	for _, callers := range txCallers {
		g := Group{Name: fmt.Sprintf("tx/callers=%d", callers)}
		for _, c := range txContestants() {
			g.Cases = append(g.Cases, loadCase(txName(callers, c.Name()), c, load{callers: callers, keys: 1000, sampled: true}, false))
		}
		out = append(out, g)
	}
	w := Group{Name: "window"}
	for _, c := range windowContestants() {
		w.Cases = append(w.Cases,
			loadCase(windowName("1", c.Name()), c, load{callers: 1, keys: 1000}, false),
			loadCase(windowName("all", c.Name()), c, load{callers: runtime.GOMAXPROCS(0), keys: 1000}, false))
	}
	l := Group{Name: fmt.Sprintf("list/keys=%d", listKeys)}
	for _, listed := range []bool{false, true} {
		name := map[bool]string{false: "none", true: "distkit-all"}[listed]
		l.Cases = append(l.Cases, Case{Name: listName(name), Measure: func(env *Env, d time.Duration) (map[string]float64, error) {
			return measureList(env, listed, d)
		}})
	}
	return append(out, w, l)
}

func outlivesComparisons() []report.Comparison {
	var out []report.Comparison
	for _, callers := range txCallers {
		for _, name := range []string{oneStep, withID} {
			out = append(out, report.Comparison{Case: txName(callers, name), Rival: txName(callers, plainIf), Metric: report.Time})
		}
	}
	for _, callers := range []string{"1", "all"} {
		out = append(out, report.Comparison{Case: windowName(callers, "distkit-window"), Rival: windowName(callers, "distkit-add"), Metric: report.Time})
	}
	return append(out, report.Comparison{Case: listName("distkit-all"), Rival: listName("none"), Metric: report.P99})
}

func outlivesGoals() []report.Goal {
	var goals []report.Goal
	for _, callers := range txCallers {
		goals = append(goals, report.Goal{
			What: fmt.Sprintf("a transaction of one step, %s, against a conditional `Inc`: time", plural(callers, "caller")),
			Case: txName(callers, oneStep), Rival: txName(callers, plainIf), Metric: report.Time, AtMost: true, Limit: 1.3,
		})
	}
	return append(goals,
		report.Goal{What: "lax `Add` to a window, one caller, against a plain one: time", Case: windowName("1", "distkit-window"),
			Rival: windowName("1", "distkit-add"), Metric: report.Time, AtMost: true, Limit: 1.2},
		report.Goal{What: "the longest step of `All` of 1,000,000 counters, by Redis's own clock", Case: listName("distkit-all"), Metric: report.Step,
			AtMost: true, Limit: 5000, Remark: "nobody else waits longer for it"},
	)
}

// measureList lists a million strict counters, as often as the time allows, while one
// caller counts on others; or has that one alone.
func measureList(env *Env, listed bool, d time.Duration) (figures map[string]float64, err error) {
	base, err := startDistkit(env, "strict", 0)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, base.Close()) }()
	for part := range slices.Chunk(names(listKeys), 10_000) {
		fields := make([]any, 0, 2*len(part))
		for _, name := range part {
			fields = append(fields, name, 1)
		}
		if err := env.admin.HSet(background, base.container, fields...).Err(); err != nil {
			return nil, err
		}
	}
	other, err := distkitStrict().Start(env, hotKeys)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, other.Close()) }()
	if err := env.admin.ConfigResetStat(background).Err(); err != nil {
		return nil, err
	}
	runtime.GC()

	var stop atomic.Bool
	latencies, ended := []time.Duration(nil), make(chan error, 1)
	go func() {
		var err error
		for key := 0; err == nil && !stop.Load(); key = (key + 1) % hotKeys {
			begin := time.Now()
			err = other.Count(key)
			latencies = append(latencies, time.Since(begin))
		}
		ended <- err
	}()
	begin, entries := time.Now(), 0
	for listed && (entries == 0 || time.Since(begin) < d) && err == nil {
		for _, err = range base.system.Strict().All(background) {
			if err != nil {
				break
			}
			entries++
		}
	}
	elapsed := time.Since(begin)
	if !listed {
		time.Sleep(d)
	}
	stop.Store(true)
	if err := errors.Join(err, <-ended); err != nil {
		return nil, err
	}
	slices.Sort(latencies)
	figures = map[string]float64{report.Worst: microseconds(latencies[len(latencies)-1])}
	addPercentiles(figures, latencies)
	if listed {
		if entries%listKeys != 0 {
			return nil, fmt.Errorf("%d entries of %d counters were listed", entries, listKeys)
		}
		figures[report.Throughput] = float64(entries) / elapsed.Seconds()
		figures[report.Step], err = longestStep(env)
	}
	return figures, err
}

// longestStep is how long the longest HSCAN took, by Redis's own histogram, whose steps
// are powers of two: in microseconds, rounded up.
func longestStep(env *Env) (float64, error) {
	told, err := env.admin.Do(background, "latency", "histogram", "hscan").Result()
	if err != nil {
		return 0, err // Redis before 7.0
	}
	longest := int64(-1)
	if commands, ok := told.(map[any]any); ok {
		if of, ok := commands["hscan"].(map[any]any); ok {
			if buckets, ok := of["histogram_usec"].(map[any]any); ok {
				for bound := range buckets {
					if n, ok := bound.(int64); ok {
						longest = max(longest, n)
					}
				}
			}
		}
	}
	if longest < 0 {
		return 0, fmt.Errorf("no histogram of HSCAN: %v", told)
	}
	return float64(longest), nil
}
