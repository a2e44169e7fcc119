package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/distkit/distkit-go"
	"github.com/distkit/distkit-go/internal/redisio"
	"github.com/redis/go-redis/v9"
	"github.com/spf13/cobra"
)

// settings are the flags that all commands share.
type settings struct {
	url     string
	cluster bool
	prefix  string
	kind    string
	output  string
	timeout time.Duration
}

// usualURL is the server where neither --url nor REDIS_URL names one.
const usualURL = "redis://127.0.0.1:6379"

// What --kind and --output take.
var (
	kinds   = []string{"strict", "lax"}
	outputs = []string{"table", "json"}
)

func (s *settings) flags(cmd *cobra.Command) {
	flags := cmd.PersistentFlags()
	flags.StringVar(&s.url, "url", "", "the server, or with --cluster a node of it: redis[s]://user:password@host:port[?addr=host:port] (default $REDIS_URL, or "+usualURL+")")
	flags.BoolVar(&s.cluster, "cluster", false, "it is a Redis Cluster")
	flags.StringVar(&s.prefix, "prefix", "distkit", "the prefix of the counters")
	flags.StringVar(&s.kind, "kind", "strict", "the kind of counters: strict or lax")
	flags.StringVarP(&s.output, "output", "o", "table", "table, for people, or json, for programs")
	flags.DurationVar(&s.timeout, "timeout", 10*time.Second, "how long to wait for Redis; watch, migrate and reshard go on for longer; 0: for ever")
	for name, values := range map[string][]string{"kind": kinds, "output": outputs} {
		if err := cmd.RegisterFlagCompletionFunc(name, cobra.FixedCompletions(values, cobra.ShellCompDirectiveNoFileComp)); err != nil {
			panic(err) // there is no such flag
		}
	}
	cmd.PersistentPreRunE = func(*cobra.Command, []string) error { return s.check() }
}

// check says which flag is wrong, and what it takes.
func (s *settings) check() error {
	if !slices.Contains(kinds, s.kind) {
		return fmt.Errorf("--kind: %q is not one of %s", s.kind, strings.Join(kinds, ", "))
	}
	if !slices.Contains(outputs, s.output) {
		return fmt.Errorf("--output: %q is not one of %s", s.output, strings.Join(outputs, ", "))
	}
	if s.timeout < 0 {
		return fmt.Errorf("--timeout: %v is negative; 0 waits for ever", s.timeout)
	}
	if _, err := distkit.ParseKey(s.prefix); err != nil {
		return fmt.Errorf("--prefix: %w", err)
	}
	if err := redisio.CheckPrefix(s.prefix); err != nil {
		return fmt.Errorf("--prefix: %w", err)
	}
	return nil
}

// client connects to the server.
func (s *settings) client() (redis.UniversalClient, error) {
	at := s.url
	if at == "" {
		at = os.Getenv("REDIS_URL")
	}
	if at == "" {
		at = usualURL
	}
	if s.cluster {
		options, err := redis.ParseClusterURL(at)
		if err != nil {
			return nil, fmt.Errorf("--url: %w", withoutURL(err))
		}
		return redis.NewClusterClient(options), nil
	}
	options, err := redis.ParseURL(at)
	if err != nil {
		return nil, fmt.Errorf("--url: %w", withoutURL(err))
	}
	options.DialerRetries = 1
	return redis.NewClient(options), nil
}

// withoutURL is an error without the URL, which may hold a password.
func withoutURL(err error) error {
	if wrong, ok := errors.AsType[*url.Error](err); ok {
		return fmt.Errorf("not a URL: %w", wrong.Err)
	}
	return err
}

// container is the kind as Redis has it.
func (s *settings) container() string { return s.kind + "_counter" }

// within is the context of a command that ends soon.
func (s *settings) within(ctx context.Context) (context.Context, context.CancelFunc) {
	if s.timeout == 0 {
		return context.WithCancel(ctx)
	}
	return context.WithTimeout(ctx, s.timeout)
}

// connected runs a command with a client.
func (s *settings) connected(cmd *cobra.Command, run func(context.Context, redis.UniversalClient) error) (err error) {
	client, err := s.client()
	if err != nil {
		return err
	}
	defer func() { err = firstOf(err, client.Close()) }()
	return run(cmd.Context(), client)
}

// counting runs a command with a System of the layout that Redis holds. What the System
// has to write is written at the end.
func (s *settings) counting(cmd *cobra.Command, run func(context.Context, *distkit.System) error) error {
	return s.connected(cmd, func(ctx context.Context, client redis.UniversalClient) error {
		short, cancel := s.within(ctx)
		defer cancel()
		shards, err := layout(short, client, s.prefix)
		if err != nil {
			return err
		}
		system, err := distkit.NewSystem(client,
			distkit.WithPrefix(distkit.MustKey(s.prefix)),
			distkit.WithShards(shards),
			distkit.WithLedgerLifetime(time.Hour), // this process is a short one
			distkit.WithLogger(slog.New(slog.DiscardHandler)))
		if err != nil {
			return err
		}
		err = run(ctx, system)
		end, stop := s.within(context.WithoutCancel(ctx))
		defer stop()
		return firstOf(err, system.Shutdown(end))
	})
}

// counter is the counters of the kind.
func (s *settings) counter(system *distkit.System) distkit.Counter {
	if s.kind == "lax" {
		return system.Lax()
	}
	return system.Strict()
}

// layout is over how many shards the counters of a prefix are spread.
func layout(ctx context.Context, client redis.UniversalClient, prefix string) (int, error) {
	name := redisio.LayoutKey(prefix)
	held, err := client.Get(ctx, name).Result()
	switch {
	case errors.Is(err, redis.Nil), redis.HasErrorPrefix(err, "NOPERM"): // then one, as for a System
		return 1, nil
	case redis.HasErrorPrefix(err, "MOVED"):
		return 0, fmt.Errorf("the server is a node of a Redis Cluster; give --cluster (%w)", err)
	case err != nil:
		return 0, fmt.Errorf("the number of shards is not known: %w", err)
	case strings.HasPrefix(held, redisio.Resharding):
		return 0, fmt.Errorf("the counters of prefix %q are being moved (%s); if that has been broken off, run distkit reshard again", prefix, held)
	}
	n, err := strconv.Atoi(held)
	if err != nil || n < 1 || n > redisio.MaxShards {
		return 0, fmt.Errorf("%q holds %.40q, which is no number of shards (1 to %d)", name, held, redisio.MaxShards)
	}
	return n, nil
}

// keyOf is the key that an argument names, in the form in which keys are printed.
func keyOf(arg string) (key distkit.Key, err error) {
	if arg == "" {
		return distkit.ParseKey(arg) // which says what is wrong
	}
	err = key.UnmarshalText([]byte(arg))
	return key, err
}

func firstOf(err, other error) error {
	if err != nil {
		return err
	}
	return other
}
