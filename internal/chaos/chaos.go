// Package chaos is what the fault suite's tests share: a seed that is printed
// and can be given again, a short and a long form, and a row for the table.
//
//	cd faults                            a module of its own
//	go test .                            the short form
//	go test . -chaos.long                the long form
//	go test . -run Proxy -chaos.seed=17  one test again, as it was
//
// make chaos runs every test of the suite in its long form and prints the table.
package chaos

import (
	"encoding/json"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"sync/atomic"
	"testing"
	"time"
)

var (
	long   = flag.Bool("chaos.long", false, "run the long form of the fault suite")
	seed   = flag.Uint64("chaos.seed", 0, "seed of the fault suite; 0 draws one")
	report = flag.String("chaos.report", "", "file to append a row a test to, as JSON")
)

// Row is one test's line in the table.
type Row struct {
	Test       string
	Cases      int64
	Faults     int64
	Violations int64
	Seed       uint64
	Seconds    float64
	Long       bool
}

// Run is one test of the suite under way. It is safe for concurrent use.
type Run struct {
	t          testing.TB
	name       string
	seed       uint64
	cases      atomic.Int64
	faults     atomic.Int64
	violations atomic.Int64
	over       chan struct{} // closed at the end, in the long form
	silent     chan struct{} // closed when no more progress is shown
}

// progress is how often the long form says how far a test is.
const progress = 30 * time.Second

// Begin starts a test of the suite: it prints the seed, in the long form how far
// the test is from time to time, and writes the test's row when the test ends.
func Begin(t testing.TB, name string) *Run {
	t.Helper()
	r := &Run{t: t, name: name, seed: *seed}
	if r.seed == 0 {
		r.seed = rand.Uint64()>>1 | 1
	}
	t.Logf("%s: -chaos.seed=%d", name, r.seed)
	start := time.Now()
	if *long {
		r.over, r.silent = make(chan struct{}), make(chan struct{})
		go r.show(start)
	}
	t.Cleanup(func() { r.end(time.Since(start)) })
	return r
}

// show prints how far the test is.
func (r *Run) show(start time.Time) {
	defer close(r.silent)
	every := time.NewTicker(progress)
	defer every.Stop()
	for {
		select {
		case <-r.over:
			return
		case <-every.C:
			fmt.Fprintf(os.Stderr, "... %s: %d cases, %d faults, %d violations after %v\n",
				r.name, r.cases.Load(), r.faults.Load(), r.violations.Load(), time.Since(start).Round(time.Second))
		}
	}
}

func (r *Run) end(took time.Duration) {
	if r.over != nil {
		close(r.over)
		<-r.silent
	}
	row := Row{r.name, r.cases.Load(), r.faults.Load(), r.violations.Load(), r.seed, took.Seconds(), *long}
	if row.Violations == 0 && r.t.Failed() {
		row.Violations = 1
	}
	r.t.Logf("%s: %d cases, %d faults, %d violations", row.Test, row.Cases, row.Faults, row.Violations)
	if *report == "" {
		return
	}
	line, err := json.Marshal(row)
	if err != nil {
		r.t.Error(err)
		return
	}
	file, err := os.OpenFile(*report, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644)
	if err != nil {
		r.t.Error(err)
		return
	}
	defer func() { _ = file.Close() }()
	if _, err := file.Write(append(line, '\n')); err != nil {
		r.t.Error(err)
	}
}

// Long reports whether the long form is asked for.
func (r *Run) Long() bool { return *long }

// Scale is a size: short in CI, long in make chaos.
func (r *Run) Scale(short, long int) int {
	if r.Long() {
		return long
	}
	return short
}

// Seed is the run's seed.
func (r *Run) Seed() uint64 { return r.seed }

// Rand returns a source of its own for each stream (a goroutine, a case), which
// gives the same numbers for the same seed.
func (r *Run) Rand(stream uint64) *rand.Rand { return rand.New(rand.NewPCG(r.seed, stream)) }

// Cases counts what was tried.
func (r *Run) Cases(n int) { r.cases.Add(int64(n)) }

// Faults counts what was done to it.
func (r *Run) Faults(n int) { r.faults.Add(int64(n)) }

// Violation is a broken promise: the test fails, and goes on.
func (r *Run) Violation(format string, args ...any) {
	r.t.Helper()
	r.violations.Add(1)
	r.t.Errorf(format+" (-chaos.seed=%d)", append(args, r.seed)...)
}
