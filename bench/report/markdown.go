package report

import (
	"cmp"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
)

// Markdown is the page that README.md in the results' directory holds.
func (r *Results) Markdown() string {
	var b strings.Builder
	fmt.Fprintf(&b, "# Results of `make bench`\n\nWritten by `make bench`; do not edit. How it is measured: [doc.go](../doc.go).\n\n")
	r.writeMachine(&b)
	fmt.Fprintf(&b, "\n## Goals\n\nMedian of the rounds, least to most in brackets. Ratios are made round by round.\n\n")
	b.WriteString(r.GoalsTable())
	if len(r.Skipped) > 0 {
		fmt.Fprintf(&b, "\nNot measured:\n\n")
		for _, what := range r.Skipped {
			fmt.Fprintf(&b, "- %s\n", what)
		}
	}
	fmt.Fprintf(&b, "\n## Plots\n\n")
	for _, p := range r.plots() {
		fmt.Fprintf(&b, "![%s](%s)\n\n", p.title, p.file)
	}
	fmt.Fprintf(&b, "## What the others do not do\n\n| contestant | |\n|---|---|\n")
	for _, name := range slices.Sorted(maps.Keys(r.Lacks)) {
		if r.Lacks[name] != "" {
			fmt.Fprintf(&b, "| %s | %s |\n", name, r.Lacks[name])
		}
	}
	fmt.Fprintf(&b, "\n## Ratios, distkit's divided by the other's\n\n")
	b.WriteString(r.RatiosTable())
	fmt.Fprintf(&b, "\n## Figures\n\nMedians.\n\n")
	r.writeFigures(&b)
	return b.String()
}

func (r *Results) writeMachine(b *strings.Builder) {
	m := r.Machine
	fmt.Fprintf(b, "| | |\n|---|---|\n")
	for _, row := range [][2]string{
		{"date", m.Date}, {"distkit", m.Revision},
		{"processor", fmt.Sprintf("%s, %d cores for Go, Redis and all else together", m.CPU, m.Cores)},
		{"memory", m.Memory}, {"system", m.OS + ", kernel " + m.Kernel}, {"Go", m.Go}, {"Redis", m.Redis},
		{"load before", m.Load},
		{"rounds", fmt.Sprintf("%d of %s a measurement", r.Rounds, r.Time)},
	} {
		fmt.Fprintf(b, "| %s | %s |\n", row[0], row[1])
	}
	for _, name := range slices.Sorted(maps.Keys(m.Modules)) {
		fmt.Fprintf(b, "| %s | %s |\n", name, m.Modules[name])
	}
}

// GoalsTable is the table of goals, met or missed.
func (r *Results) GoalsTable() string {
	var b strings.Builder
	fmt.Fprintf(&b, "| workload | goal | measured | |\n|---|---|---|---|\n")
	for _, v := range r.Goals {
		verdict := "met"
		if !v.Met {
			verdict = "**missed**"
		}
		what := v.What
		if v.Remark != "" {
			what += " (" + v.Remark + ")"
		}
		fmt.Fprintf(&b, "| %s | %s | %s %s | %s |\n", what, v.Goal, spread(v.Median, v.Min, v.Max), v.Unit, verdict)
	}
	return b.String()
}

// RatiosTable is the table of all ratios with their spread.
func (r *Results) RatiosTable() string {
	var b strings.Builder
	fmt.Fprintf(&b, "| ratio | median (least to most) | better |\n|---|---|---|\n")
	for _, ratio := range r.Ratios {
		better := "lower"
		if ratio.HigherIsBetter {
			better = "higher"
		}
		fmt.Fprintf(&b, "| %s | %s | %s |\n", ratio.Name, spread(ratio.Median, ratio.Min, ratio.Max), better)
	}
	return b.String()
}

func spread(median, least, most float64) string {
	if least == most {
		return number(median)
	}
	return fmt.Sprintf("%s (%s to %s)", number(median), number(least), number(most))
}

// writeFigures makes a table for each kind of workload, with a line for a case
// and a column for a metric.
func (r *Results) writeFigures(b *strings.Builder) {
	for _, kind := range []string{"strict", "lax", "flush", "tail", "growth"} {
		var cases, metrics []string
		for _, f := range r.List {
			if strings.HasPrefix(f.Case, kind+"/") {
				cases, metrics = appendNew(cases, f.Case), appendNew(metrics, f.Metric)
			}
		}
		if len(cases) == 0 {
			continue
		}
		// A case's metrics come in any order.
		slices.SortFunc(metrics, func(a, b string) int { return cmp.Compare(metricOrder(a), metricOrder(b)) })
		fmt.Fprintf(b, "| case |")
		for _, metric := range metrics {
			fmt.Fprintf(b, " %s, %s |", metric, units[metric])
		}
		fmt.Fprintf(b, "\n|---|%s\n", strings.Repeat("---|", len(metrics)))
		for _, name := range cases {
			fmt.Fprintf(b, "| %s |", name)
			for _, metric := range metrics {
				if f := r.Figures.find(name, metric); f != nil {
					fmt.Fprintf(b, " %s |", number(f.Median))
				} else {
					fmt.Fprintf(b, " |")
				}
			}
			fmt.Fprintln(b)
		}
		fmt.Fprintln(b)
	}
}

func appendNew(list []string, value string) []string {
	if slices.Contains(list, value) {
		return list
	}
	return append(list, value)
}

func metricOrder(metric string) int {
	return slices.Index([]string{
		Throughput, Time, P50, P90, P99, P999, DueP999, Worst, Step, Allocs, Bytes,
		AddIdle, IncIdle, AddBusy, FlushIdle, MemoryIdle, MemoryBusy, Asleep, Commands, CPU,
	}, metric)
}

// Print writes the tables that one wants to see at once to standard output.
func (r *Results) Print() {
	fmt.Fprint(os.Stdout, r.RatiosTable())
	if len(r.Goals) > 0 {
		fmt.Fprint(os.Stdout, "\n", r.GoalsTable())
	}
	for _, what := range r.Skipped {
		fmt.Fprintln(os.Stdout, "\nnot measured:", what)
	}
}
