// Command distkit looks after the counters of the library distkit in Redis.
//
//	distkit doctor --url redis://localhost:6379
//	distkit ls --prefix app --kind lax
//	distkit inc seats 5
//
// It is a module of its own: what it needs, users of the library do not get.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/redis/go-redis/v9/logging"
	"github.com/spf13/cobra"
)

func main() {
	logging.Disable() // what go-redis logs, errors say
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := root().ExecuteContext(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "distkit: "+strings.TrimPrefix(err.Error(), "distkit: "))
		os.Exit(1)
	}
}

// root is the command with all of its own.
func root() *cobra.Command {
	of := &settings{}
	cmd := &cobra.Command{
		Use:   "distkit",
		Short: "Look after counters in Redis",
		Long: `Look after counters in Redis.

Keys that hold control characters are written, and may be given, as a Go string in
double quotes: "a\x00b". A negative number comes behind "--": distkit inc seats -- -5`,
		SilenceUsage:  true,
		SilenceErrors: true,
	}
	of.flags(cmd)
	cmd.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		if strings.Contains(err.Error(), "unknown shorthand flag") && strings.ContainsAny(err.Error(), "0123456789") {
			return fmt.Errorf(`%w; a negative number comes behind "--": %s KEY -- -5`, err, cmd.CommandPath())
		}
		return fmt.Errorf("%w; see %s -h", err, cmd.CommandPath())
	})
	cmd.AddCommand(
		list(of), get(of), set(of), inc(of), top(of), watch(of),
		windows(of), ledgers(of), outcome(of),
		doctor(of), migrate(of), reshard(of),
	)
	return cmd
}
