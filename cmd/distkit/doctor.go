package main

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/redis/go-redis/v9"
	"github.com/spf13/cobra"
)

// finding is what a check has found.
type finding struct {
	Check string `json:"check"`
	// Status is "ok", "note", "warning" or "wrong".
	Status string `json:"status"`
	// Node is the address, in a cluster.
	Node   string `json:"node,omitempty"`
	Found  string `json:"found"`
	Advice string `json:"advice,omitempty"`
}

// The statuses.
const (
	fine    = "ok"
	note    = "note"
	warning = "warning"
	wrong   = "wrong"
)

// examination looks at a server and what it holds.
type examination struct {
	of       *settings
	client   redis.UniversalClient
	node     string // that is being looked at, in a cluster
	findings []finding
}

func (e *examination) say(check, status, advice, format string, args ...any) {
	e.findings = append(e.findings, finding{check, status, e.node, fmt.Sprintf(format, args...), advice})
}

// doctor is the command that says what is wrong with a server.
func doctor(of *settings) *cobra.Command {
	return &cobra.Command{
		Use:   "doctor",
		Short: "Say what is wrong with a server, its settings and the counters in it",
		Long: `Say what is wrong with a server, its settings and the counters in it, and what to do.
The exit status is 1 if something is wrong; warnings do not count.

It looks at reachability and latency, version, role, persistence, eviction and memory,
connections, cluster, clock, the user's permissions, and the layout, types and values of
the counters. To learn what is permitted it makes one name, <prefix>:doctor:…, which it
deletes and which expires after 10 s. It goes through all names in Redis.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return of.connected(cmd, func(ctx context.Context, client redis.UniversalClient) error {
				ctx, cancel := of.within(ctx)
				defer cancel()
				e := &examination{of: of, client: client}
				e.run(ctx)
				return e.print(cmd)
			})
		},
	}
}

// run makes all checks; those that need what is missing are left out.
func (e *examination) run(ctx context.Context) {
	if !e.latency(ctx) {
		return
	}
	if cluster, ok := e.client.(*redis.ClusterClient); ok {
		err := e.eachMaster(ctx, cluster)
		if err != nil {
			e.say("cluster", wrong, "give the address of a node of a cluster, or leave out --cluster", "its nodes cannot be asked: %v", err)
			return
		}
	} else if !e.server(ctx, e.client) {
		return
	}
	e.permissions(ctx)
	e.counters(ctx)
}

// eachMaster looks at the masters of a cluster, one after the other.
func (e *examination) eachMaster(ctx context.Context, cluster *redis.ClusterClient) error {
	turn := make(chan struct{}, 1)
	err := cluster.ForEachMaster(ctx, func(ctx context.Context, node *redis.Client) error {
		turn <- struct{}{}
		defer func() { <-turn }()
		e.node = node.Options().Addr
		e.server(ctx, node)
		return nil
	})
	e.node = ""
	return err
}

// print says what was found, the worst first; what is wrong is a failure.
func (e *examination) print(cmd *cobra.Command) error {
	out, order := cmd.OutOrStdout(), []string{wrong, warning, note, fine}
	slices.SortStableFunc(e.findings, func(a, b finding) int {
		return slices.Index(order, a.Status) - slices.Index(order, b.Status)
	})
	bad := 0
	for _, f := range e.findings {
		if f.Status == wrong {
			bad++
		}
	}
	if e.of.output == "json" {
		if err := printJSON(out, map[string]any{"wrong": bad, "findings": e.findings}); err != nil {
			return err
		}
	} else {
		for _, f := range e.findings {
			colour := map[string]string{wrong: red, warning: yellow, note: green, fine: green}[f.Status]
			at := ""
			if f.Node != "" {
				at = " (" + f.Node + ")"
			}
			fmt.Fprintf(out, "%s  %s%s: %s\n", coloured(out, colour, fmt.Sprintf("%-7s", f.Status)), f.Check, at, f.Found)
			if f.Advice != "" {
				fmt.Fprintf(out, "         -> %s\n", f.Advice)
			}
		}
	}
	switch bad {
	case 0:
		return nil
	case 1:
		return errors.New("one thing is wrong")
	default:
		return fmt.Errorf("%d things are wrong", bad)
	}
}
