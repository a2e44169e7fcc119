// Package report turns what was measured into what can be read and compared:
// figures with their spread, ratios, goals met or missed, a table, plots, and
// the check against an earlier run. It measures nothing itself.
package report

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"strings"
)

// The metrics that cases report.
const (
	Throughput = "throughput" // operations a second, all callers together
	Time       = "time"       // nanoseconds that a caller spends on an operation
	P50        = "p50"        // latency percentiles of sampled operations, in microseconds
	P90        = "p90"
	P99        = "p99"
	P999       = "p99.9"
	DueP999    = "p99.9 due"    // as P999, from when the call was due rather than made
	Worst      = "worst"        // the longest call, in microseconds
	Step       = "longest step" // of a listing, in microseconds, by Redis's clock
	Allocs     = "allocations"  // heap allocations an operation, the whole process's
	Bytes      = "bytes"        // bytes allocated an operation, likewise
	AddIdle    = "add idle"     // nanoseconds an Add to one key, the others idle
	IncIdle    = "inc idle"     // nanoseconds an Inc with reply of one key, the others idle
	FlushIdle  = "flush idle"   // microseconds a Flush with one dirty key, the others idle
	AddBusy    = "add busy"     // nanoseconds an Add, going round all keys
	MemoryIdle = "memory idle"  // bytes a key, nothing going on
	MemoryBusy = "memory busy"  // bytes a key, while Adds go round all keys
	Asleep     = "asleep"       // bytes a key after passivation
	Commands   = "commands"     // Redis commands while idle
	CPU        = "cpu"          // per cent of one core while idle
)

// units is what a metric's figures are in.
var units = map[string]string{
	Throughput: "/s", Time: "ns", P50: "µs", P90: "µs", P99: "µs", P999: "µs", DueP999: "µs", Worst: "µs", Step: "µs",
	Allocs: "allocs", Bytes: "B", AddIdle: "ns", IncIdle: "ns", AddBusy: "ns", FlushIdle: "µs",
	MemoryIdle: "B", MemoryBusy: "B", Asleep: "B", Commands: "commands", CPU: "%",
}

// Figure is one metric of one case, a value for each round.
type Figure struct {
	Case   string    `json:"case"`
	Metric string    `json:"metric"`
	Unit   string    `json:"unit"`
	Median float64   `json:"median"`
	Rounds []float64 `json:"rounds"`
}

// Figures are those of a run.
type Figures struct {
	List  []*Figure
	index map[[2]string]*Figure
}

// Add appends a round's value to the figure of this case and metric.
func (f *Figures) Add(name, metric string, value float64) {
	figure := f.find(name, metric)
	if figure == nil {
		figure = &Figure{Case: name, Metric: metric, Unit: units[metric]}
		if f.index == nil {
			f.index = map[[2]string]*Figure{}
		}
		f.index[[2]string{name, metric}] = figure
		f.List = append(f.List, figure)
	}
	figure.Rounds = append(figure.Rounds, value)
	figure.Median = Median(figure.Rounds)
}

func (f *Figures) find(name, metric string) *Figure { return f.index[[2]string{name, metric}] }

// Comparison asks for a ratio: a case's metric divided by a rival's, round by
// round.
type Comparison struct {
	Case, Rival, Metric string
	RivalMetric         string // of the rival, if it is another; else ""
}

// Name identifies the comparison across runs.
func (c Comparison) Name() string {
	rival := c.Rival
	if cut := strings.LastIndexByte(c.Case, '/'); strings.HasPrefix(rival, c.Case[:cut+1]) {
		rival = rival[cut+1:]
	}
	return fmt.Sprintf("%s vs %s, %s", c.Case, rival, c.Metric)
}

// higherIsBetter tells a metric where more is better from one where less is.
func higherIsBetter(metric string) bool { return metric == Throughput }

// Ratio is the answer to a Comparison.
type Ratio struct {
	Name           string    `json:"name"`
	Case           string    `json:"case"`
	Rival          string    `json:"rival"`
	HigherIsBetter bool      `json:"higher_is_better"`
	Median         float64   `json:"median"`
	Min            float64   `json:"min"`
	Max            float64   `json:"max"`
	Rounds         []float64 `json:"rounds"`
}

// Ratio divides the rounds of the two figures, which were measured one after
// the other. It reports false if one of them was not measured.
func (f *Figures) Ratio(c Comparison) (Ratio, bool) {
	ours, theirs := f.find(c.Case, c.Metric), f.find(c.Rival, cmp.Or(c.RivalMetric, c.Metric))
	if ours == nil || theirs == nil {
		return Ratio{}, false
	}
	r := Ratio{Name: c.Name(), Case: c.Case, Rival: c.Rival, HigherIsBetter: higherIsBetter(c.Metric)}
	for i := range min(len(ours.Rounds), len(theirs.Rounds)) {
		if theirs.Rounds[i] != 0 {
			r.Rounds = append(r.Rounds, ours.Rounds[i]/theirs.Rounds[i])
		}
	}
	if len(r.Rounds) == 0 {
		return Ratio{}, false
	}
	r.Median, r.Min, r.Max = Median(r.Rounds), slices.Min(r.Rounds), slices.Max(r.Rounds)
	return r, true
}

// Ratios answers those of the comparisons that were measured.
func (f *Figures) Ratios(comparisons []Comparison) []Ratio {
	var out []Ratio
	for _, c := range comparisons {
		if r, ok := f.Ratio(c); ok {
			out = append(out, r)
		}
	}
	return out
}

// Median is the middle value, or the mean of the two in the middle; NaN of none.
func Median(values []float64) float64 { return quantile(values, 0.5) }

// quantile interpolates between the two values nearest to the share q of them.
func quantile(values []float64, q float64) float64 {
	if len(values) == 0 {
		return math.NaN()
	}
	sorted := slices.Sorted(slices.Values(values))
	at := q * float64(len(sorted)-1)
	low := int(at)
	if low+1 == len(sorted) {
		return sorted[low]
	}
	return sorted[low] + (at-float64(low))*(sorted[low+1]-sorted[low])
}

// Noise is how far rounds lie from their median, as a share of it: the distance
// of the farther quartile. Half of all rounds lie within it; unlike the range,
// one round that a neighbour on the machine spoilt does not move it.
func Noise(rounds []float64) float64 {
	median := Median(rounds)
	if median == 0 || math.IsNaN(median) {
		return 0
	}
	return max(quantile(rounds, 0.75)-median, median-quantile(rounds, 0.25)) / median
}
