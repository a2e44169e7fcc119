package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"regexp"
	"time"

	"github.com/distkit/distkit-go"
)

// config is what the command line and the environment say.
type config struct {
	duration, outage time.Duration
	workers          int
	prefix           distkit.Key
	keep             bool
	redisURL         string // empty: the embedded server
}

// flags declares the flags and their defaults on cfg, and the prefix.
func flags(cfg *config) (set *flag.FlagSet, prefix *string) {
	set = flag.NewFlagSet("demo", flag.ContinueOnError)
	set.SetOutput(io.Discard) // run prints errors and help where they belong
	set.DurationVar(&cfg.duration, "duration", 8*time.Second, "how long visitors and buyers come, the outage included")
	set.DurationVar(&cfg.outage, "outage", 3*time.Second, "how long Redis is away in the middle of that; 0 for never")
	set.IntVar(&cfg.workers, "workers", 32, "how many visitors, and how many buyers, there are at a time")
	set.BoolVar(&cfg.keep, "keep", false, "leave the counters in Redis; needs REDIS_URL")
	prefix = set.String("prefix", "", "the counters' `name` prefix in Redis, not in use yet (default demo- and a random number)")
	return set, prefix
}

// margin is what the load lasts beyond the outage, at least.
const margin = 500 * time.Millisecond

var prefixRule = regexp.MustCompile(`^[A-Za-z0-9.:_-]{1,100}$`)

// parse reads the command line; flag.ErrHelp asks for help.
func parse(args []string, redisURL string) (config, error) {
	cfg := config{redisURL: redisURL}
	set, prefix := flags(&cfg)
	if err := set.Parse(args); err != nil {
		return cfg, err
	}
	if *prefix == "" {
		*prefix = fmt.Sprintf("demo-%08x", rand.Uint32())
	}
	var errs []error
	refuse := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	if set.NArg() > 0 {
		refuse("it takes flags only, not %q", set.Arg(0))
	}
	if cfg.outage < 0 {
		refuse("-outage %v is negative; 0 or more is allowed", cfg.outage)
	} else if cfg.duration < cfg.outage+margin {
		refuse("-duration %v is too short; it has to be at least %v longer than the outage of %v", cfg.duration, margin, cfg.outage)
	}
	if cfg.workers < 1 || cfg.workers > 10_000 {
		refuse("-workers %d is out of range; 1 to 10000 are allowed", cfg.workers)
	}
	if cfg.keep && redisURL == "" {
		refuse("-keep has no use with the embedded server, which ends with the demo; set REDIS_URL")
	}
	if !prefixRule.MatchString(*prefix) {
		refuse("-prefix %q is not allowed; use 1 to 100 letters, digits, '.', ':', '_' and '-'", *prefix)
	} else {
		cfg.prefix = distkit.MustKey(*prefix)
	}
	return cfg, errors.Join(errs...)
}

func printHelp(w io.Writer) {
	fmt.Fprint(w, `demo plays an evening of a ticket shop on distkit's counters. Visitors look at
pages (lax counters), buyers take seats as long as there are any (strict,
conditional), and an actor counts tickets and mails by PID.Send. In the middle
of it Redis is taken away for a while, and work goes on. The end is a table of
what was asked and what Redis holds, read by a client that is not the library's.

usage: go run ./cmd/demo [flags]

`)
	set, _ := flags(&config{})
	set.SetOutput(w)
	set.PrintDefaults()
	fmt.Fprint(w, `
environment:
  REDIS_URL
    	the Redis to use, as redis://user:password@host:port/db; without it an
    	embedded server (miniredis) is. The demo touches no key outside its
    	prefix and deletes its counters in the end; its ledgers
    	(prefix:writer:…) expire a minute later.

exit code: 0 if everything agrees, 1 if not, 2 if the demo could not be played.
`)
}
