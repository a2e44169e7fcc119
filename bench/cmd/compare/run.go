package main

import (
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"path"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/distkit/distkit-go/bench"
	"github.com/distkit/distkit-go/bench/report"
)

// run does what the flags say and returns how many losses -check found.
func run(ctx context.Context, o options) (losses int, err error) {
	env, err := bench.NewEnv(ctx)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, env.Close()) }()
	switch {
	case o.growth > 0 || o.passivation > 0:
		return 0, child(env, o)
	case o.check != "":
		return check(ctx, env, o)
	default:
		return 0, compare(ctx, env, o)
	}
}

// compare measures everything that is wanted, prints it, and writes it down.
func compare(ctx context.Context, env *bench.Env, o options) error {
	version, err := env.RedisVersion(ctx)
	if err != nil {
		return err
	}
	r := &report.Results{
		Machine: report.Describe(version), Rounds: o.rounds, Time: o.time.String(),
		Lacks: map[string]string{}, Figures: &report.Figures{},
	}
	// First, in processes of their own: nothing else is going on yet.
	if err := measureGrowth(ctx, o, r.Figures); err != nil {
		return err
	}
	wanted := func(c bench.Case) bool { return o.only.MatchString(c.Name) }
	if r.Skipped, err = measure(ctx, env, o, wanted, r.Figures); err != nil {
		return err
	}
	for _, group := range bench.Groups() {
		for _, c := range group.Cases {
			r.Lacks[path.Base(c.Name)] = c.Lacks
		}
	}
	r.List = r.Figures.List
	r.Ratios = r.Figures.Ratios(bench.Comparisons())
	r.Goals = r.Figures.Judge(bench.Goals())
	if len(r.List) == 0 {
		return fmt.Errorf("no case matches -only %s", o.only)
	}
	r.Print()
	if o.out == "" {
		return nil
	}
	fmt.Fprintln(os.Stderr, "writing", o.out)
	return r.Write(o.out)
}

// measure lets the wanted cases of each group take turns. What cannot be
// measured here is left out of further rounds, and returned.
func measure(ctx context.Context, env *bench.Env, o options, wanted func(bench.Case) bool, figures *report.Figures) (skipped []string, err error) {
	for _, group := range bench.Groups() {
		cases := slices.DeleteFunc(group.Cases, func(c bench.Case) bool { return !wanted(c) })
		for round := range o.rounds {
			for i := 0; i < len(cases); i++ {
				c := cases[i]
				if err := ctx.Err(); err != nil {
					return nil, err
				}
				fmt.Fprintf(os.Stderr, "%s round %d of %d: ", c.Name, round+1, o.rounds)
				runtime.GC() // what others left is not this one's to collect
				values, err := c.Measure(env, o.time)
				if errors.Is(err, bench.ErrSkipped) {
					fmt.Fprintln(os.Stderr, err)
					skipped = append(skipped, fmt.Sprintf("%s: %v", c.Name, err))
					cases = slices.Delete(cases, i, i+1)
					i--
					continue
				}
				if err != nil {
					fmt.Fprintln(os.Stderr, "failed")
					return nil, fmt.Errorf("%s: %w", c.Name, err)
				}
				for metric, value := range values {
					figures.Add(c.Name, metric, value)
				}
				fmt.Fprintln(os.Stderr, summary(values))
			}
		}
	}
	return skipped, nil
}

// summary is the one or two figures of a measurement that one watches.
func summary(values map[string]float64) string {
	var parts []string
	if v, ok := values[report.Throughput]; ok {
		parts = append(parts, fmt.Sprintf("%.0f/s", v))
	}
	if v, ok := values[report.Time]; ok {
		parts = append(parts, fmt.Sprintf("%.4g ns", math.Round(v*10)/10))
	}
	if v, ok := values[report.P999]; ok {
		parts = append(parts, fmt.Sprintf("p99.9 %.0f µs", v))
	}
	return strings.Join(parts, ", ")
}

// check measures the short form and compares it with an earlier run. What seems
// to be lost is measured once more, for twice as many rounds: a loss is what is
// lost both times.
func check(ctx context.Context, env *bench.Env, o options) (losses int, err error) {
	recorded, err := report.ReadBaseline(o.check)
	if err != nil {
		return 0, err
	}
	version, err := env.RedisVersion(ctx)
	if err != nil {
		return 0, err
	}
	if here := report.Describe(version); here.CPU != recorded.Machine.CPU || here.Cores != recorded.Machine.Cores {
		fmt.Fprintf(os.Stderr, "recorded on another machine (%s, %d cores; here %s, %d): ratios carry over, but not exactly\n",
			recorded.Machine.CPU, recorded.Machine.Cores, here.CPU, here.Cores)
	}
	begin := time.Now()
	findings, err := checkOnce(ctx, env, o, recorded, func(c bench.Case) bool { return c.Short && o.only.MatchString(c.Name) })
	if err != nil {
		return 0, err
	}
	if len(findings) == 0 {
		return 0, fmt.Errorf("%s has none of the ratios that were measured", o.check)
	}
	doubtful := map[string]bool{} // cases
	for _, f := range findings {
		fmt.Println(f)
		if f.Loss {
			doubtful[f.Case], doubtful[f.Rival] = true, true
		}
	}
	if len(doubtful) > 0 {
		fmt.Println("\nonce more:")
		o.rounds *= 2
		findings, err = checkOnce(ctx, env, o, recorded, func(c bench.Case) bool { return doubtful[c.Name] })
		if err != nil {
			return 0, err
		}
		for _, f := range findings {
			fmt.Println(f)
			if f.Loss {
				losses++
			}
		}
	}
	fmt.Printf("\n%d losses, %.0f s\n", losses, time.Since(begin).Seconds())
	return losses, nil
}

func checkOnce(ctx context.Context, env *bench.Env, o options, recorded report.Baseline, wanted func(bench.Case) bool) ([]report.Finding, error) {
	figures := &report.Figures{}
	skipped, err := measure(ctx, env, o, wanted, figures)
	for _, what := range skipped {
		fmt.Println("not measured:", what)
	}
	return report.Check(recorded.Ratios, figures.Ratios(bench.Comparisons())), err
}
