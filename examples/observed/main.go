// Command observed is a service that counts, and that can be watched while it does:
//
//	go run . -addr localhost:8080
//	curl -X POST localhost:8080/view/front-page
//	curl -X POST localhost:8080/buy/seat
//
// It shows its writers, outages and top counters at /, has metrics for Prometheus at
// /metrics, and says at /healthz whether it runs and at /readyz whether it can count. With
// neither -redis nor REDIS_URL it has a Redis of its own, in memory.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/distkit/distkit-go"
	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/logging"
)

func main() {
	logging.Disable() // what go-redis logs of an outage, the System's events say
	addr := flag.String("addr", "localhost:8080", "`address` to listen on")
	url := flag.String("redis", os.Getenv("REDIS_URL"), "`URL` of the Redis, redis://host:port; empty: one in memory")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, *addr, *url); err != nil {
		fmt.Fprintln(os.Stderr, "observed:", err)
		os.Exit(1)
	}
}

// run serves until ctx ends, then writes what is left.
func run(ctx context.Context, addr, url string) error {
	options := &redis.Options{}
	if url == "" {
		server := miniredis.NewMiniRedis()
		if err := server.Start(); err != nil {
			return err
		}
		defer server.Close()
		options.Addr = server.Addr()
	} else {
		var err error
		if options, err = redis.ParseURL(url); err != nil {
			return fmt.Errorf("read the URL of the Redis: %w", err)
		}
	}
	client := redis.NewClient(options)
	defer func() { _ = client.Close() }()
	s, err := newService(func(opts ...distkit.Option) (*distkit.System, error) {
		return distkit.NewSystem(client, append(opts, distkit.WithPrefix(distkit.MustKey("observed")))...)
	})
	if err != nil {
		return err
	}
	defer s.close()
	server := &http.Server{Addr: addr, Handler: s.handler(), ReadHeaderTimeout: 5 * time.Second}
	failed := make(chan error, 1)
	go func() { failed <- server.ListenAndServe() }()
	fmt.Println("http://" + addr)
	select {
	case err := <-failed:
		return err
	case <-ctx.Done():
	}
	// First no more requests, then what they have left.
	ending, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	return errors.Join(server.Shutdown(ending), s.system.Shutdown(ending))
}
