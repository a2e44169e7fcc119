package main

import (
	"fmt"
	"time"

	"github.com/distkit/distkit-go"
	"github.com/spf13/cobra"
)

// reshard is the command that moves counters to another number of shards.
func reshard(of *settings) *cobra.Command {
	var shards int
	cmd := &cobra.Command{
		Use:   "reshard",
		Short: "Move the counters of a prefix to another number of shards",
		Long: `Move the counters of a prefix to another number of shards.

Shut all Systems of the prefix down first. Every counter keeps its value. If it
is broken off, run it again: it goes on. Until it has ended, Systems are refused.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) (err error) {
			client, err := of.client()
			if err != nil {
				return err
			}
			defer func() { err = firstOf(err, client.Close()) }()
			start, told := time.Now(), time.Now()
			report, err := distkit.Reshard(cmd.Context(), client, distkit.ReshardConfig{
				Prefix: distkit.MustKey(of.prefix), Shards: shards,
				Progress: func(r distkit.ReshardReport) {
					if terminal(cmd.ErrOrStderr()) && time.Since(told) >= time.Second {
						told = time.Now()
						fmt.Fprintf(cmd.ErrOrStderr(), "%v: %s\n", time.Since(start).Round(time.Second), counted(r))
					}
				},
			})
			if err != nil {
				return fmt.Errorf("%w (so far: %s)", err, counted(report))
			}
			if of.output == "json" {
				return printJSON(cmd.OutOrStdout(), map[string]any{
					"from": report.From, "to": report.To, "resumed": report.Resumed,
					"copied": report.Copied, "moved": report.Moved, "outcomes": report.Outcomes,
				})
			}
			fmt.Fprintln(cmd.OutOrStdout(), summary(report))
			return nil
		},
	}
	cmd.Flags().IntVar(&shards, "shards", 0, "how many shards there are to be")
	if err := cmd.MarkFlagRequired("shards"); err != nil {
		panic(err) // there is no such flag
	}
	return cmd
}

// counted is what a Reshard has done so far.
func counted(r distkit.ReshardReport) string {
	return fmt.Sprintf("copied %d counters, deleted %d where they were, copied %d outcomes of transactions", r.Copied, r.Moved, r.Outcomes)
}

// summary is what it has done in the end.
func summary(r distkit.ReshardReport) string {
	switch {
	case r.Resumed:
		return fmt.Sprintf("went on from %d to %d shards: %s", r.From, r.To, counted(r))
	case r.From == r.To:
		return fmt.Sprintf("there are %d shards already", r.To)
	default:
		return fmt.Sprintf("moved from %d to %d shards: %s", r.From, r.To, counted(r))
	}
}
