package main

import (
	"context"
	"encoding/json"
	"fmt"
	"regexp"
	"strconv"
	"strings"

	"github.com/distkit/distkit-go"
	"github.com/spf13/cobra"
)

// value is a counter as it is printed.
type value struct {
	Key    distkit.Key `json:"key"`
	Value  int64       `json:"value"`
	Exists bool        `json:"exists"`
}

// list is the command that goes through all counters.
func list(of *settings) *cobra.Command {
	var limit int
	cmd := &cobra.Command{
		Use:   "ls [PATTERN]",
		Short: "List counters and their values",
		Long: `List counters and their values, in no order and without holding up Redis.

In PATTERN a * stands for any text and a ? for one byte; quote it for your shell.`,
		Args:              cobra.MaximumNArgs(1),
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(cmd *cobra.Command, args []string) error {
			if limit < 0 {
				return fmt.Errorf("--limit: %d is negative; 0 is no limit", limit)
			}
			matches := func(string) bool { return true }
			if len(args) > 0 {
				matches = glob(args[0]).MatchString
			}
			return of.counting(cmd, func(ctx context.Context, system *distkit.System) error {
				entries := newStream(of, cmd)
				for e, err := range of.counter(system).All(ctx) {
					if err != nil {
						return err
					}
					if !matches(e.Key.String()) {
						continue
					}
					if err := entries.add(e); err != nil {
						return err
					}
					if entries.n == limit {
						break
					}
				}
				return entries.end()
			})
		},
	}
	cmd.Flags().IntVar(&limit, "limit", 0, "end after so many; 0: list all")
	return cmd
}

// glob is a pattern as an expression.
func glob(pattern string) *regexp.Regexp {
	text := strings.NewReplacer(`\*`, `.*`, `\?`, `.`).Replace(regexp.QuoteMeta(pattern))
	return regexp.MustCompile(`(?s)^` + text + `$`)
}

// stream prints counters one by one: there may be more than fit into memory.
type stream struct {
	of  *settings
	cmd *cobra.Command
	n   int
}

func newStream(of *settings, cmd *cobra.Command) *stream { return &stream{of, cmd, 0} }

func (s *stream) add(e distkit.Entry) error {
	out := s.cmd.OutOrStdout()
	s.n++
	if s.of.output == "table" {
		_, err := fmt.Fprintf(out, "%20d  %s\n", e.N, shown(e.Key))
		return err
	}
	text, err := json.Marshal(value{e.Key, e.N, true})
	if err != nil {
		return err
	}
	before := ",\n"
	if s.n == 1 {
		before = "[\n"
	}
	_, err = fmt.Fprintf(out, "%s  %s", before, text)
	return err
}

func (s *stream) end() error {
	out := s.cmd.OutOrStdout()
	switch {
	case s.of.output == "table" && s.n == 0 && terminal(out):
		fmt.Fprintf(s.cmd.ErrOrStderr(), "no %s counters under the prefix %q\n", s.of.kind, s.of.prefix)
	case s.of.output == "table":
	case s.n == 0:
		fmt.Fprintln(out, "[]")
	default:
		fmt.Fprintln(out, "\n]")
	}
	return nil
}

// get is the command that reads counters.
func get(of *settings) *cobra.Command {
	return &cobra.Command{
		Use:               "get KEY...",
		Short:             "Read counters",
		Args:              cobra.MinimumNArgs(1),
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(cmd *cobra.Command, args []string) error {
			keys, err := keysOf(args)
			if err != nil {
				return err
			}
			return of.counting(cmd, func(ctx context.Context, system *distkit.System) error {
				ctx, cancel := of.within(ctx)
				defer cancel()
				values := make([]value, len(keys))
				for i, key := range keys {
					n, ok, err := of.counter(system).Lookup(ctx, key)
					if err != nil {
						return err
					}
					values[i] = value{key, n, ok}
				}
				return of.printValues(cmd, values)
			})
		},
	}
}

func keysOf(args []string) ([]distkit.Key, error) {
	keys := make([]distkit.Key, len(args))
	for i, arg := range args {
		var err error
		if keys[i], err = keyOf(arg); err != nil {
			return nil, err
		}
	}
	return keys, nil
}

// printValues prints one value alone as a number, so that a shell can use it.
func (s *settings) printValues(cmd *cobra.Command, values []value) error {
	t := table{head: []string{"KEY", "VALUE"}}
	if len(values) == 1 {
		t.head = nil
	}
	for _, v := range values {
		text := strconv.FormatInt(v.Value, 10)
		switch {
		case len(values) == 1:
			t.add(text)
		case !v.Exists:
			t.add(shown(v.Key), "(none)")
		default:
			t.add(shown(v.Key), text)
		}
	}
	return s.print(cmd, t, values)
}

// set is the command that assigns.
func set(of *settings) *cobra.Command {
	return of.changing("set KEY N", "Assign N to a counter", func(ctx context.Context, c distkit.Counter, key distkit.Key, n int64) (int64, error) {
		return c.Set(ctx, key, n)
	}, cobra.ExactArgs(2))
}

// inc is the command that adds.
func inc(of *settings) *cobra.Command {
	return of.changing("inc KEY [N]", "Add N, or 1, to a counter", func(ctx context.Context, c distkit.Counter, key distkit.Key, n int64) (int64, error) {
		return c.Inc(ctx, key, n)
	}, cobra.RangeArgs(1, 2))
}

// changing is a command that changes a counter and prints its new value.
func (s *settings) changing(use, short string, change func(context.Context, distkit.Counter, distkit.Key, int64) (int64, error), args cobra.PositionalArgs) *cobra.Command {
	return &cobra.Command{
		Use:   use,
		Short: short,
		Long: short + `, and print its new value.

It is applied once, whatever happens to its reply. If it ends with "outcome unknown",
read the counter before you repeat it. A negative N comes behind "--".
A change of a lax counter is in Redis when the command has ended.`,
		Args:              args,
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(cmd *cobra.Command, args []string) error {
			key, err := keyOf(args[0])
			if err != nil {
				return err
			}
			n := int64(1)
			if len(args) == 2 {
				if n, err = strconv.ParseInt(args[1], 10, 64); err != nil {
					return fmt.Errorf("%q is not a whole number from -2^63 to 2^63-1", args[1])
				}
			}
			return s.counting(cmd, func(ctx context.Context, system *distkit.System) error {
				ctx, cancel := s.within(ctx)
				defer cancel()
				now, err := change(ctx, s.counter(system), key, n)
				if err == nil {
					err = system.Flush(ctx)
				}
				if err != nil {
					return err
				}
				return s.printValues(cmd, []value{{key, now, true}})
			})
		},
	}
}

// top is the command that finds the largest counters.
func top(of *settings) *cobra.Command {
	var n int
	cmd := &cobra.Command{
		Use:   "top",
		Short: "Show the largest counters",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if n < 1 {
				return fmt.Errorf("-n: %d is not at least 1", n)
			}
			return of.counting(cmd, func(ctx context.Context, system *distkit.System) error {
				entries, err := of.counter(system).Top(ctx, n)
				if err != nil {
					return err
				}
				t, values := table{head: []string{"KEY", "VALUE"}}, make([]value, 0, len(entries))
				for _, e := range entries {
					t.add(shown(e.Key), strconv.FormatInt(e.N, 10))
					values = append(values, value{e.Key, e.N, true})
				}
				return of.print(cmd, t, values)
			})
		},
	}
	cmd.Flags().IntVarP(&n, "number", "n", 10, "how many")
	return cmd
}
