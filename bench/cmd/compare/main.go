// Command compare measures distkit and its rivals side by side and prints the
// ratios with their spread; package bench says how. It uses the Redis at
// REDIS_URL: make bench starts one.
//
//	compare                              everything, into -out
//	compare -only 'strict/callers=64/'   some cases, printed only
//	compare -check results/ratios.json   the short form, against an earlier run
//
// The exit status is 1 if -check found a loss, and 2 if something went wrong.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"regexp"
	"time"
)

// options are the flags.
type options struct {
	rounds int
	time   time.Duration
	only   *regexp.Regexp
	out    string
	check  string
	// What a child process measures; see growth.go.
	growth, passivation int
}

// The defaults of a full run, and of the short form that -check runs.
const (
	fullRounds, fullTime   = 5, time.Second
	shortRounds, shortTime = 5, 300 * time.Millisecond
)

func main() {
	o, err := parse(os.Args[1:])
	if errors.Is(err, flag.ErrHelp) {
		return
	}
	if err != nil {
		os.Exit(2)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	losses, err := run(ctx, o)
	if err != nil {
		fmt.Fprintln(os.Stderr, "compare:", err)
		os.Exit(2)
	}
	if losses > 0 {
		os.Exit(1)
	}
}

// parse reads the flags; what is wrong with them has been printed.
func parse(args []string) (options, error) {
	var o options
	flags := flag.NewFlagSet("compare", flag.ContinueOnError)
	flags.Usage = func() {
		fmt.Fprintln(flags.Output(), "usage: REDIS_URL=redis://HOST:PORT compare [flags]")
		fmt.Fprintln(flags.Output(), "\nMeasures distkit and its rivals in turns, and prints ratios with their spread.")
		flags.PrintDefaults()
	}
	flags.IntVar(&o.rounds, "rounds", 0, fmt.Sprintf("how often each case is measured (default %d)", fullRounds))
	flags.DurationVar(&o.time, "time", 0, fmt.Sprintf("how long a measurement takes, after a quarter of it to warm up\n(default %v, with -check %v)", fullTime, shortTime))
	only := flags.String("only", "", "measure the cases whose name matches this `regexp`, such as strict/callers=64/ or growth")
	flags.StringVar(&o.out, "out", "", "`directory` for results.json, ratios.json, README.md and the plots\n(default results; with -only or -check, none)")
	flags.StringVar(&o.check, "check", "", "measure the short form, and fail on a loss beyond noise against this ratios.json `file`")
	flags.IntVar(&o.growth, "growth", 0, "measure growth with so many `keys` in this process, and print it as JSON;\nthis is what the command starts child processes for")
	flags.IntVar(&o.passivation, "passivation", 0, "the same for what passivation leaves of so many `keys`")
	if err := flags.Parse(args); err != nil {
		return o, err
	}
	var err error
	if o.only, err = regexp.Compile(*only); err != nil {
		fmt.Fprintln(flags.Output(), "-only:", err)
		return o, err
	}
	if flags.NArg() > 0 || o.rounds < 0 || o.time < 0 {
		flags.Usage()
		return o, errors.New("bad arguments")
	}
	rounds, each := fullRounds, fullTime
	if o.check != "" {
		rounds, each = shortRounds, shortTime
	} else if *only == "" && o.out == "" {
		o.out = "results" // part of a run must not replace a whole one
	}
	if o.rounds == 0 {
		o.rounds = rounds
	}
	if o.time == 0 {
		o.time = each
	}
	return o, nil
}
