package main

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/spf13/cobra"
)

// window is a window, over all its shards.
type window struct {
	Kind     string     `json:"kind"`
	Period   string     `json:"period"`
	Start    time.Time  `json:"start"`
	Expires  *time.Time `json:"expires"`
	Counters int64      `json:"counters"`
	// Bytes is the memory in Redis; -1 if it does not tell.
	Bytes int64 `json:"bytes"`
}

// windows is the command that lists windows.
func windows(of *settings) *cobra.Command {
	return &cobra.Command{
		Use:   "windows",
		Short: "List the windows of time that Redis holds",
		Long:  "List the windows of time that Redis holds, of both kinds. It goes through all names in Redis.",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return of.connected(cmd, func(ctx context.Context, client redis.UniversalClient) error {
				ctx, cancel := of.within(ctx)
				defer cancel()
				all, err := of.windows(ctx, client)
				if err != nil {
					return err
				}
				t := table{head: []string{"KIND", "PERIOD", "START", "COUNTERS", "SIZE", "EXPIRES IN"}}
				for _, w := range all {
					left := "never"
					if w.Expires != nil {
						left = span(time.Until(*w.Expires))
					}
					t.add(w.Kind, printable(w.Period), w.Start.UTC().Format(time.RFC3339), strconv.FormatInt(w.Counters, 10), size(w.Bytes), left)
				}
				return of.print(cmd, t, all)
			})
		},
	}
}

// windows are all windows of the prefix, the oldest first.
func (s *settings) windows(ctx context.Context, client redis.UniversalClient) ([]window, error) {
	containers, _, err := underPrefix(ctx, client, s.prefix)
	if err != nil {
		return nil, err
	}
	byName := map[string]*window{}
	all := []window{}
	for _, c := range containers {
		if c.period == "" {
			continue
		}
		length, left, bytes, err := look(ctx, client, c.name, func(p redis.Pipeliner) *redis.IntCmd { return p.HLen(ctx, c.name) })
		if err != nil {
			return nil, err
		}
		name := c.kind + "@" + c.period + "@" + c.start
		w := byName[name]
		if w == nil {
			start, _ := strconv.ParseInt(c.start, 10, 64) // the pattern lets only digits pass
			w = &window{Kind: c.kind, Period: c.period, Start: time.Unix(start, 0)}
			byName[name] = w
		}
		w.Counters += length
		if w.Bytes += bytes; bytes < 0 {
			w.Bytes = -1
		}
		if left > 0 {
			at := time.Now().Add(left)
			w.Expires = &at
		}
	}
	for _, w := range byName {
		all = append(all, *w)
	}
	slices.SortFunc(all, func(a, b window) int {
		return cmp.Or(cmp.Compare(a.Kind, b.Kind), cmp.Compare(a.Period, b.Period), a.Start.Compare(b.Start))
	})
	return all, nil
}

// look asks for a key's length, life (negative: for ever) and memory (-1: not told).
func look(ctx context.Context, client redis.UniversalClient, name string, length func(redis.Pipeliner) *redis.IntCmd) (n int64, left time.Duration, bytes int64, err error) {
	pipe := client.Pipeline()
	bytesCmd := pipe.MemoryUsage(ctx, name, 100)
	lengthCmd, leftCmd := length(pipe), pipe.PTTL(ctx, name)
	_, _ = pipe.Exec(ctx) // each command has its own error
	if err := errors.Join(lengthCmd.Err(), leftCmd.Err()); err != nil {
		return 0, 0, 0, err
	}
	bytes, err = bytesCmd.Result()
	if err != nil { // not permitted, or not known
		bytes = -1
	}
	return lengthCmd.Val(), leftCmd.Val(), bytes, nil
}

// ledger is a writer's ledger.
type ledger struct {
	ID        string `json:"id"`
	Container string `json:"container"`
	// State is "alive", "ended" after a Shutdown, or "fenced" after a failover.
	State string `json:"state"`
	// Batch is the number of the last batch.
	Batch int64 `json:"batch"`
	// Idle is the seconds since the last batch, if the lifetime is the one given; null
	// where the lifetime has been changed since, by a Shutdown or a fence.
	Idle *float64 `json:"idle_seconds"`
	// Left is the seconds until it expires.
	Left  float64 `json:"left_seconds"`
	Bytes int64   `json:"bytes"`
}

// afterShutdown is how long the ledger of a System lives that was shut down.
const afterShutdown = time.Minute

// fence is the number that a ledger has where no batch is to pass any more.
const fence = 1<<53 - 1

// ledgers is the command that lists who writes.
func ledgers(of *settings) *cobra.Command {
	var lifetime time.Duration
	cmd := &cobra.Command{
		Use:   "ledgers",
		Short: "List who writes: the ledgers of writers, their age and size",
		Long: `List who writes: the ledgers of writers, their age and size. It goes through all
names in Redis.

A ledger lives for WithLedgerLifetime from the last batch of its writer, and for a
minute after a Shutdown. Its ID is random: Redis does not know which process it is of.
A strict writer has one, a lax one up to 15; with shards, on each shard.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return of.connected(cmd, func(ctx context.Context, client redis.UniversalClient) error {
				ctx, cancel := of.within(ctx)
				defer cancel()
				all, err := of.ledgers(ctx, client, lifetime)
				if err != nil {
					return err
				}
				t := table{head: []string{"CONTAINER", "ID", "STATE", "LAST BATCH", "AGO", "EXPIRES IN", "SIZE"}}
				for _, l := range all {
					number := strconv.FormatInt(l.Batch, 10)
					if l.State == "fenced" {
						number = "-"
					}
					ago := "?"
					if l.Idle != nil {
						ago = span(time.Duration(*l.Idle * float64(time.Second)))
					}
					t.add(printable(l.Container), l.ID, l.State, number, ago, span(time.Duration(l.Left*float64(time.Second))), size(l.Bytes))
				}
				return of.print(cmd, t, all)
			})
		},
	}
	cmd.Flags().DurationVar(&lifetime, "lifetime", 7*24*time.Hour, "the Systems' WithLedgerLifetime, from which the time of the last batch follows")
	return cmd
}

// ledgers are all ledgers of the prefix, those that were used last first.
func (s *settings) ledgers(ctx context.Context, client redis.UniversalClient, lifetime time.Duration) ([]ledger, error) {
	_, names, err := underPrefix(ctx, client, s.prefix)
	if err != nil {
		return nil, err
	}
	all := []ledger{}
	for _, f := range names {
		head, err := client.GetRange(ctx, f.name, 0, 20).Result()
		if err != nil {
			return nil, err
		}
		_, left, bytes, err := look(ctx, client, f.name, func(p redis.Pipeliner) *redis.IntCmd { return p.StrLen(ctx, f.name) })
		if err != nil {
			return nil, err
		}
		if head == "" || left < 0 {
			continue // it has expired meanwhile
		}
		number, _, _ := strings.Cut(head, " ")
		l := ledger{ID: f.ledger, Container: f.container, State: "alive", Left: left.Seconds(), Bytes: bytes}
		l.Batch, _ = strconv.ParseInt(number, 10, 64)
		switch {
		case l.Batch == fence:
			l.State = "fenced"
		case left <= afterShutdown:
			l.State = "ended"
		case left <= lifetime:
			idle := (lifetime - left).Seconds()
			l.Idle = &idle
		}
		all = append(all, l)
	}
	slices.SortFunc(all, func(a, b ledger) int {
		return cmp.Or(cmp.Compare(a.Container, b.Container), cmp.Compare(b.Left, a.Left), cmp.Compare(a.ID, b.ID))
	})
	return all, nil
}

// printable is a part of a name, of which no control character reaches the terminal.
func printable(text string) string {
	if quoted := strconv.Quote(text); quoted != `"`+text+`"` {
		return quoted
	}
	return text
}
