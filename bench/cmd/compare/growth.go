package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"slices"
	"strconv"

	"github.com/distkit/distkit-go/bench"
	"github.com/distkit/distkit-go/bench/report"
)

// Growth is measured in child processes, one after the other: a heap in which
// other things have been, or are, is not what a key's memory can be read from.

// child is what such a process does: it measures, and prints JSON.
func child(env *bench.Env, o options) error {
	var figures map[string][]float64
	var err error
	if o.growth > 0 {
		figures, err = bench.MeasureGrowth(env, o.growth, o.rounds, o.time)
	} else {
		figures, err = bench.MeasurePassivation(env, o.passivation)
	}
	if err != nil {
		return err
	}
	return json.NewEncoder(os.Stdout).Encode(figures)
}

// measureGrowth starts the children whose case is wanted.
func measureGrowth(ctx context.Context, o options, figures *report.Figures) error {
	for _, keys := range bench.GrowthSizes {
		name := bench.GrowthName(keys)
		if !o.only.MatchString(name) {
			continue
		}
		if err := startChild(ctx, o, name, "-growth", keys, figures); err != nil {
			return err
		}
		if keys == slices.Max(bench.GrowthSizes) {
			if err := startChild(ctx, o, name, "-passivation", keys, figures); err != nil {
				return err
			}
		}
	}
	return nil
}

func startChild(ctx context.Context, o options, name, what string, keys int, figures *report.Figures) error {
	program, err := os.Executable()
	if err != nil {
		return err
	}
	fmt.Fprintf(os.Stderr, "%s %s: ", name, what[1:])
	command := exec.CommandContext(ctx, program, what, strconv.Itoa(keys),
		"-rounds", strconv.Itoa(o.rounds), "-time", o.time.String())
	command.Stderr = os.Stderr
	output, err := command.Output()
	if err != nil {
		return errors.Join(fmt.Errorf("%s: %w", name, err), ctx.Err())
	}
	measured := map[string][]float64{}
	if err := json.Unmarshal(output, &measured); err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	for _, metric := range slices.Sorted(maps.Keys(measured)) {
		for _, value := range measured[metric] {
			figures.Add(name, metric, value)
		}
		fmt.Fprintf(os.Stderr, "%s %.4g; ", metric, report.Median(measured[metric]))
	}
	fmt.Fprintln(os.Stderr)
	return nil
}
