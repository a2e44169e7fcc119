// Command demo plays an evening of a ticket shop on distkit's counters, takes
// Redis away in the middle of it, and checks every count in the end.
//
//	go run ./cmd/demo
//	REDIS_URL=redis://localhost:6379 go run ./cmd/demo
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"sync"
	"syscall"
	"time"

	"github.com/distkit/distkit-go"
	"github.com/distkit/distkit-go/internal/line"
	"github.com/redis/go-redis/v9/logging"
)

// The exit codes.
const (
	exitOK       = 0
	exitDiffers  = 1 // Redis does not hold what was asked
	exitCannot   = 2 // bad usage, or the demo could not be carried out
	drainTimeout = 8 * time.Second
)

func main() {
	logging.Disable() // go-redis would write of the outage between the demo's lines
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // a second Ctrl-C ends it the hard way
	os.Exit(run(ctx, os.Args[1:], os.Getenv("REDIS_URL"), os.Stdout, os.Stderr))
}

// run is the program; ctx ends the load early.
func run(ctx context.Context, args []string, redisURL string, stdout, stderr io.Writer) int {
	cfg, err := parse(args, redisURL)
	if errors.Is(err, flag.ErrHelp) {
		printHelp(stdout)
		return exitOK
	}
	if err != nil {
		fmt.Fprintf(stderr, "demo: %v\nTry -h for help.\n", err)
		return exitCannot
	}
	good, err := play(ctx, cfg, newConsole(stdout))
	switch {
	case err != nil:
		fmt.Fprintf(stderr, "demo: %v\n", err)
		return exitCannot
	case !good:
		return exitDiffers
	}
	return exitOK
}

// play carries out the demo and reports whether the counts agree.
func play(ctx context.Context, cfg config, console *console) (good bool, err error) {
	server, err := openServer(ctx, cfg)
	if err != nil {
		return false, err
	}
	defer server.close()
	client := server.led()
	defer func() { _ = client.Close() }() // after Shutdown nothing is under way on it
	system, err := distkit.NewSystem(client,
		distkit.WithPrefix(cfg.prefix), distkit.WithLogger(slog.New(slog.DiscardHandler)))
	if err != nil {
		return false, err
	}
	console.printf("A ticket shop on %s, prefix %q:\n%d visitors and %d buyers for %v, without Redis for %v.\n",
		server.name, server.prefix, cfg.workers, cfg.workers, cfg.duration, cfg.outage)
	defer system.Subscribe(console.event)()

	// Whatever ends this, ctx is not what the end waits by: after Ctrl-C the
	// counts are to be checked all the same.
	after := context.WithoutCancel(ctx)
	if !cfg.keep {
		defer func() { err = errors.Join(err, remove(after, server)) }()
	}
	shop, err := openService(ctx, system)
	if err != nil {
		return false, errors.Join(err, shutdown(after, system))
	}
	shop.evening(ctx, cfg, server, console)
	console.note("the shop closes; what is still in memory is written")
	unwritten := shutdown(after, system)
	good, err = shop.report(after, server, console)
	if err != nil {
		return false, errors.Join(unwritten, err)
	}
	if unwritten != nil {
		console.printf("WRONG: %v", unwritten)
		good = false
	}
	verdict := "Everything agrees: nothing was lost, nothing was counted twice."
	if !good {
		verdict = "Redis does NOT hold what was asked."
	}
	console.printf("\n%s (%.1f s)", verdict, time.Since(console.start).Seconds())
	if cfg.keep {
		console.printf("Kept: redis-cli HGETALL %s; redis-cli HGETALL %s", server.hash("strict"), server.hash("lax"))
	}
	return good, nil
}

// evening is the load with the outage in its middle, and the progress.
func (s *service) evening(ctx context.Context, cfg config, server *server, console *console) {
	load, stop := context.WithTimeout(ctx, cfg.duration)
	defer stop()
	progress, finish := context.WithCancel(context.WithoutCancel(ctx))
	var watching sync.WaitGroup
	watching.Go(func() {
		for pause(progress, console.every()) {
			if status := s.status(progress, server); progress.Err() == nil {
				console.show(status)
			}
		}
	})
	defer func() {
		finish()
		watching.Wait()
		console.end()
	}()

	var outage sync.WaitGroup
	outage.Go(func() { takeAway(load, cfg, &server.line, console) })
	s.run(load, cfg.workers)
	outage.Wait()
}

// takeAway takes Redis from the library for a while; if ctx ends in the
// meantime Redis is back when it returns.
func takeAway(ctx context.Context, cfg config, line *line.Line, console *console) {
	if cfg.outage == 0 || !pause(ctx, (cfg.duration-cfg.outage)/2) {
		return
	}
	line.Cut()
	console.note("---- Redis is gone ----")
	pause(ctx, cfg.outage)
	line.Down(false)
	console.note("---- Redis is back ----")
}

// shutdown writes everything and ends the System.
func shutdown(ctx context.Context, system *distkit.System) error {
	ctx, cancel := context.WithTimeout(ctx, drainTimeout)
	defer cancel()
	if err := system.Shutdown(ctx); err != nil {
		return fmt.Errorf("shut down: %w", err)
	}
	return nil
}

func remove(ctx context.Context, server *server) error {
	ctx, cancel := context.WithTimeout(ctx, drainTimeout)
	defer cancel()
	return server.remove(ctx)
}
