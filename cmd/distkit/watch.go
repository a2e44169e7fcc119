package main

import (
	"context"
	"encoding/json"
	"fmt"
	"strconv"
	"time"

	"github.com/distkit/distkit-go"
	"github.com/spf13/cobra"
)

// reading is what a look at watched counters has found.
type reading struct {
	Time   time.Time     `json:"time"`
	Values []watchedRate `json:"values"`
}

type watchedRate struct {
	Key   distkit.Key `json:"key"`
	Value int64       `json:"value"`
	// Rate is the change a second since the look before.
	Rate float64 `json:"rate"`
}

// watch is the command that reads counters again and again.
func watch(of *settings) *cobra.Command {
	var interval time.Duration
	var count, n int
	cmd := &cobra.Command{
		Use:   "watch [KEY...]",
		Short: "Show counters, and how fast they change, until interrupted",
		Long: `Show counters, and how fast they change, until interrupted: the keys given, or the
largest. On a terminal each look takes the place of the one before. With -o json it
writes an object a line.`,
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(cmd *cobra.Command, args []string) error {
			if interval < 100*time.Millisecond {
				return fmt.Errorf("--interval: %v is not at least 100ms", interval)
			}
			if count < 0 || n < 1 {
				return fmt.Errorf("--count is 0 or more, and --number 1 or more")
			}
			keys, err := keysOf(args)
			if err != nil {
				return err
			}
			return of.counting(cmd, func(ctx context.Context, system *distkit.System) error {
				w := &watcher{of: of, cmd: cmd, counter: of.counter(system), keys: keys, n: n}
				return w.run(ctx, interval, count)
			})
		},
	}
	cmd.Flags().DurationVar(&interval, "interval", time.Second, "the time from one look to the next")
	cmd.Flags().IntVar(&count, "count", 0, "end after so many looks; 0: when interrupted")
	cmd.Flags().IntVarP(&n, "number", "n", 10, "how many, where no keys are given")
	return cmd
}

// watcher looks at counters.
type watcher struct {
	of      *settings
	cmd     *cobra.Command
	counter distkit.Counter
	keys    []distkit.Key // none: the n largest
	n       int

	before map[distkit.Key]int64
	at     time.Time
	lines  int // on the terminal, of the look before
}

// run looks until the context ends, or count times.
func (w *watcher) run(ctx context.Context, interval time.Duration, count int) error {
	ticks := time.NewTicker(interval)
	defer ticks.Stop()
	for looks := 1; ; looks++ {
		err := w.look(ctx)
		if ctx.Err() != nil {
			return nil // it was interrupted, as it is meant to be
		}
		if err != nil || looks == count {
			return err
		}
		select {
		case <-ctx.Done():
			return nil
		case <-ticks.C:
		}
	}
}

func (w *watcher) look(ctx context.Context) error {
	ctx, cancel := w.of.within(ctx)
	defer cancel()
	entries, err := w.read(ctx)
	if err != nil {
		return err
	}
	now := time.Now()
	found, known := reading{Time: now}, map[distkit.Key]int64{}
	for _, e := range entries {
		rate := 0.0
		if before, ok := w.before[e.Key]; ok {
			rate = (float64(e.N) - float64(before)) / now.Sub(w.at).Seconds()
		}
		known[e.Key] = e.N
		found.Values = append(found.Values, watchedRate{e.Key, e.N, rate})
	}
	w.before, w.at = known, now
	return w.show(found)
}

func (w *watcher) read(ctx context.Context) ([]distkit.Entry, error) {
	if len(w.keys) == 0 {
		return w.counter.Top(ctx, w.n)
	}
	values, err := w.counter.GetAll(ctx, w.keys...)
	if err != nil {
		return nil, err
	}
	entries := make([]distkit.Entry, len(values))
	for i, n := range values {
		entries[i] = distkit.Entry{Key: w.keys[i], N: n}
	}
	return entries, nil
}

func (w *watcher) show(found reading) error {
	out := w.cmd.OutOrStdout()
	if w.of.output == "json" {
		return json.NewEncoder(out).Encode(found)
	}
	if terminal(out) && w.lines > 0 {
		fmt.Fprintf(out, "\x1b[%dA\x1b[J", w.lines) // back to where the look before began
	}
	t := table{head: []string{"KEY", "VALUE", "A SECOND", found.Time.Format(time.TimeOnly)}}
	for _, v := range found.Values {
		t.add(shown(v.Key), strconv.FormatInt(v.Value, 10), fmt.Sprintf("%+.1f", v.Rate), "")
	}
	w.lines = len(t.rows) + 1
	return w.of.print(w.cmd, t, nil)
}
