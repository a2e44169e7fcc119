// Command distkit looks after the counters of the library distkit in Redis.
//
//	distkit reshard --url redis://localhost:6379 --prefix app --shards 64
//
// It is a module of its own: what it needs, users of the library do not get.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/redis/go-redis/v9"
	"github.com/spf13/cobra"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := root().ExecuteContext(ctx); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// server is the Redis that a command works on, by its flags.
type server struct {
	url     string
	cluster bool
}

// root is the command with all of its own.
func root() *cobra.Command {
	of := &server{}
	cmd := &cobra.Command{
		Use:           "distkit",
		Short:         "Look after counters in Redis",
		SilenceUsage:  true,
		SilenceErrors: true,
	}
	cmd.PersistentFlags().StringVar(&of.url, "url", "redis://localhost:6379", "the server, or with --cluster a node of it: redis[s]://user:password@host:port[?addr=host:port]")
	cmd.PersistentFlags().BoolVar(&of.cluster, "cluster", false, "it is a Redis Cluster")
	cmd.AddCommand(reshard(of))
	return cmd
}

// client connects to the server.
func (s *server) client() (redis.UniversalClient, error) {
	if s.cluster {
		options, err := redis.ParseClusterURL(s.url)
		if err != nil {
			return nil, err
		}
		return redis.NewClusterClient(options), nil
	}
	options, err := redis.ParseURL(s.url)
	if err != nil {
		return nil, err
	}
	return redis.NewClient(options), nil
}
