package main

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/distkit/distkit-go"
	"github.com/distkit/distkit-go/internal/redisio"
	"github.com/redis/go-redis/v9"
	"github.com/spf13/cobra"
)

//go:embed migrate.lua
var migrateText string

var migrateScript = redis.NewScript(migrateText)

// migrateAtOnce is how many strings one call of the script moves.
const migrateAtOnce = 100

// migration is what a migrate has done.
type migration struct {
	DryRun bool  `json:"dry_run"`
	Moved  int64 `json:"moved"`
	// Left are the strings that stay, and why: the first maxLeft of them.
	Left []leftString `json:"left"`
	// LeftCount is how many they are.
	LeftCount int64 `json:"left_count"`
}

// maxLeft is how many strings that stay are named.
const maxLeft = 1000

type leftString struct {
	Name string `json:"name"`
	Why  string `json:"why"`
}

// migrator moves strings to counters.
type migrator struct {
	of      *settings
	client  redis.UniversalClient
	pattern string
	strip   string
	expired bool // those that expire too
	dry     bool
	shards  int
	tell    io.Writer // of progress; nil: nobody
	told    time.Time
	report  migration
}

// migrate is the command that moves strings to counters.
func migrate(of *settings) *cobra.Command {
	m := &migrator{of: of}
	cmd := &cobra.Command{
		Use:   "migrate --match PATTERN",
		Short: "Move strings that were counted with INCR to counters",
		Long: `Move strings that were counted with INCR to counters of --kind.

Each string that PATTERN matches (as in SCAN) is added to the counter of its name,
without what --strip says, and deleted, in one step: nothing is counted twice or lost,
also while programs go on to INCR. What they count after that makes the string anew.
So: deploy the new programs, migrate, stop the old ones, migrate again. If it is broken
off, run it again. What cannot be moved stays, and is told; the exit status is then 1.

In a Redis Cluster strings and counters have to be in one slot: give them a hash tag in
common. docs/MIGRATING.md says what to do where they are not.`,
		Example:           "  distkit migrate --match 'views:*' --strip views: --prefix app --kind lax --dry-run",
		Args:              cobra.NoArgs,
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return of.connected(cmd, func(ctx context.Context, client redis.UniversalClient) error {
				m.client, m.told = client, time.Now()
				if terminal(cmd.ErrOrStderr()) {
					m.tell = cmd.ErrOrStderr()
				}
				err := m.run(ctx)
				if err != nil {
					return fmt.Errorf("%w (moved so far: %d; run it again to go on)", err, m.report.Moved)
				}
				return m.print(cmd)
			})
		},
	}
	cmd.Flags().StringVar(&m.pattern, "match", "", "which strings, as in SCAN: 'views:*'")
	cmd.Flags().StringVar(&m.strip, "strip", "", "what to take off the beginning of a name")
	cmd.Flags().BoolVar(&m.expired, "expiring", false, "move strings that expire too; their counters will not")
	cmd.Flags().BoolVar(&m.dry, "dry-run", false, "change nothing, and say what would be done")
	if err := cmd.MarkFlagRequired("match"); err != nil {
		panic(err) // there is no such flag
	}
	return cmd
}

func (m *migrator) run(ctx context.Context) (err error) {
	m.report = migration{DryRun: m.dry, Left: []leftString{}}
	short, cancel := m.of.within(ctx)
	defer cancel()
	if m.shards, err = layout(short, m.client, m.of.prefix); err != nil {
		return err
	}
	if !m.dry { // as a System would, before it makes the first counter
		err = m.client.SetNX(short, redisio.LayoutKey(m.of.prefix), m.shards, 0).Err()
		if err != nil && (m.shards > 1 || !redis.HasErrorPrefix(err, "NOPERM")) {
			return err
		}
	}
	return scan(ctx, m.client, m.pattern, func(names []string) error { return m.take(ctx, names) })
}

// take moves strings, those of each shard together.
func (m *migrator) take(ctx context.Context, names []string) error {
	byShard := map[int][]string{}
	for _, name := range names {
		if m.own(name) {
			continue
		}
		key, why := m.key(name)
		if why != "" {
			m.stays(name, why)
			continue
		}
		shard := redisio.ShardOf(key, m.shards)
		byShard[shard] = append(byShard[shard], name)
	}
	for shard, names := range byShard {
		for len(names) > 0 {
			n := min(len(names), migrateAtOnce)
			if err := m.move(ctx, shard, names[:n]); err != nil {
				return err
			}
			names = names[n:]
		}
	}
	return nil
}

// own reports whether a name is one of the library's, under this prefix.
func (m *migrator) own(name string) bool {
	rest, ok := strings.CutPrefix(name, m.of.prefix+":")
	if !ok {
		return strings.HasPrefix(name, "{"+m.of.prefix+":")
	}
	return rest == "layout" || strings.HasPrefix(rest, "writer:{") || strings.HasPrefix(rest, "once:{") ||
		strings.HasPrefix(rest, "cleared:{") || containerName.MatchString(rest)
}

// key is the counter's of a string, or why there can be none.
func (m *migrator) key(name string) (key, why string) {
	if strings.HasSuffix(name, ":layout") && name != m.pattern {
		return "", "it may be the layout of counters of another prefix; name it alone if it is not"
	}
	key = strings.TrimPrefix(name, m.strip)
	if _, err := distkit.ParseKey(key); err != nil {
		return "", err.Error()
	}
	return key, ""
}

// stays notes a string that was not moved.
func (m *migrator) stays(name, why string) {
	m.report.LeftCount++
	if len(m.report.Left) < maxLeft {
		m.report.Left = append(m.report.Left, leftString{name, why})
	}
}

// move calls the script for strings of one shard.
func (m *migrator) move(ctx context.Context, shard int, names []string) error {
	ctx, cancel := m.of.within(ctx)
	defer cancel()
	keys := []string{m.of.prefix + ":" + redisio.ShardName(m.of.container(), shard, m.shards)}
	args := []any{flag(m.expired), flag(m.dry)}
	for _, name := range names {
		key, _ := m.key(name) // it has one
		keys, args = append(keys, name), append(args, key)
	}
	told, err := migrateScript.Run(ctx, m.client, keys, args...).StringSlice()
	switch {
	case redis.HasErrorPrefix(err, "CROSSSLOT"), err != nil && strings.Contains(err.Error(), "CROSSSLOT"):
		return fmt.Errorf("strings and counters are in different slots of the cluster; docs/MIGRATING.md says what to do: %w", err)
	case err != nil:
		return err
	case len(told) != 2*len(names):
		return errors.New("malformed reply: Redis did not answer for each string")
	}
	for i, name := range names {
		status, detail := told[2*i], told[2*i+1]
		if status == "moved" {
			m.report.Moved++
		} else if why := reason(status, detail); why != "" {
			m.stays(name, why)
		}
	}
	if m.tell != nil && time.Since(m.told) >= time.Second {
		m.told = time.Now()
		fmt.Fprintf(m.tell, "moved %d, left %d\n", m.report.Moved, m.report.LeftCount)
	}
	return nil
}

func flag(on bool) string {
	if on {
		return "1"
	}
	return "0"
}

// reason says why a string stays; "" if it is gone.
func reason(status, detail string) string {
	switch status {
	case "gone":
		return ""
	case "type":
		return "it is no string but a " + detail
	case "value":
		return "it holds no whole number: " + printable(detail)
	case "expires":
		return "it expires, and its counter would not: use windows (Per), or --expiring"
	default:
		return "Redis refused: " + detail
	}
}

// print says what was done; what stays is a failure.
func (m *migrator) print(cmd *cobra.Command) error {
	r, t := m.report, table{}
	verb := "moved"
	if r.DryRun {
		verb = "would move"
	}
	t.add(fmt.Sprintf("%s %d strings to %s counters under %q", verb, r.Moved, m.of.kind, m.of.prefix))
	for i, left := range r.Left {
		if i == 20 {
			t.add(fmt.Sprintf("and %d more stay; -o json names up to %d", r.LeftCount-20, maxLeft))
			break
		}
		t.add(fmt.Sprintf("stays: %s: %s", printable(left.Name), left.Why))
	}
	if err := m.of.print(cmd, t, r); err != nil {
		return err
	}
	if r.LeftCount > 0 {
		return fmt.Errorf("%d strings stay", r.LeftCount)
	}
	return nil
}
