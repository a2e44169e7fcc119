package bench

import (
	"errors"
	"fmt"
	"runtime"
	"runtime/debug"
	"strings"
	"syscall"
	"time"

	"github.com/distkit/distkit-go"
	"github.com/distkit/distkit-go/bench/report"
)

// GrowthSizes are how many lax keys growth is measured with.
var GrowthSizes = []int{1, 1000, 100_000, 1_000_000}

// idleFor is how long an idle system is watched.
const idleFor = 5 * time.Second

// MeasureGrowth measures a System with so many lax keys; it is to be the only
// thing that its process does. Each metric has a value for each round.
//
// Memory is the heap and the stacks in use after two garbage collections, less
// what they were when the System had one key and its connections, divided by the
// keys. Each key is of 12 bytes, in a string of its own, which counts. What the
// benchmark itself holds of the keys was there before and does not count. It is
// measured when all keys have been counted on and written (idle), and as the most
// of three looks while a caller's Adds go round all keys (busy).
//
// "add idle" and "inc idle" are one caller on one of the keys while the others
// lie idle; "add busy" is one caller going round them all. Other than in the lax
// workloads, what is left to be done when the calls have returned does not
// count: a flush of a million keys is no part of an Add. "flush idle" is a Flush
// with one dirty key, the others idle. Commands and CPU are
// the server's and this process's over five seconds without a call, INFO left out.
func MeasureGrowth(env *Env, keys, rounds int, d time.Duration) (figures map[string][]float64, err error) {
	base, err := startDistkit(env, "lax", keys)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, base.Close()) }()
	before, err := touchAll(&base)
	if err != nil {
		return nil, err
	}
	figures = map[string][]float64{}
	perKey := func(bytes uint64) float64 { return (float64(bytes) - float64(before)) / float64(keys) }
	figures[report.MemoryIdle] = []float64{perKey(live())}
	if err := watchIdle(env, figures); err != nil {
		return nil, err
	}

	counted := int64(keys) + 1
	add, inc := &laxAdd{base, base.system.Lax()}, &laxInc{base, base.system.Lax()}
	repeat := func(metric string, counter Counter, keys int) error {
		for round := range rounds + 1 {
			o, err := load{callers: 1, keys: keys}.drive(counter, d/4)
			if err != nil {
				return err
			}
			counted += o.ops
			if round > 0 { // the first warms up
				figures[metric] = append(figures[metric], float64(o.calling.Nanoseconds())/float64(o.ops))
				if metric == report.AddIdle {
					figures[report.FlushIdle] = append(figures[report.FlushIdle], microseconds(o.elapsed-o.calling))
				}
			}
		}
		return nil
	}
	if err := errors.Join(repeat(report.AddIdle, add, 1), repeat(report.IncIdle, inc, 1), repeat(report.AddBusy, add, keys)); err != nil {
		return nil, err
	}
	most, ops, err := liveWhile(add, keys, d)
	if err != nil {
		return nil, err
	}
	figures[report.MemoryBusy] = []float64{perKey(most)}
	return figures, verify(add, counted+ops)
}

// touchAll counts once on every key, and returns the memory there was before.
func touchAll(base *distkitBase) (before uint64, err error) {
	counter := base.system.Lax()
	// The connections and what they hold are no key's.
	if err := errors.Join(counter.Add(distkit.MustKey("first"), 1), base.Settle()); err != nil {
		return 0, err
	}
	before = live()
	for _, key := range base.keys {
		if err := counter.Add(distkit.MustKey(strings.Clone(key.String())), 1); err != nil {
			return 0, err
		}
	}
	return before, base.Settle()
}

// live is what heap and stacks hold after a garbage collection, in bytes. There
// are two, for what a pool holds survives one.
func live() uint64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc + m.StackInuse
}

// liveWhile is the most that lives while a caller goes round the keys.
func liveWhile(counter Counter, keys int, d time.Duration) (most uint64, ops int64, err error) {
	type result struct {
		o   outcome
		err error
	}
	ended := make(chan result, 1)
	go func() {
		o, err := load{callers: 1, keys: keys}.drive(counter, d)
		ended <- result{o, err}
	}()
	for range 3 {
		time.Sleep(d / 4)
		most = max(most, live())
	}
	r := <-ended
	return most, r.o.ops, r.err
}

// watchIdle leaves the system alone, and sees what it does.
func watchIdle(env *Env, figures map[string][]float64) error {
	debug.FreeOSMemory() // or the runtime does it meanwhile, in the background
	time.Sleep(idleFor / 10)
	before, err := env.commands(background)
	if err != nil {
		return err
	}
	cpu, begin := processTime(), time.Now()
	time.Sleep(idleFor)
	figures[report.CPU] = []float64{100 * float64(processTime()-cpu) / float64(time.Since(begin))}
	after, err := env.commands(background)
	figures[report.Commands] = []float64{float64(after - before)}
	return err
}

// processTime is the CPU time that this process has used.
func processTime() time.Duration {
	var usage syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &usage); err != nil {
		return 0
	}
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
}

const (
	passivateAfter = time.Second
	passivateWait  = 20 * time.Second
)

// MeasurePassivation measures what memory is left of so many lax keys when they
// have been idle for longer than WithPassivation, here a second, or, if it never
// becomes a little, after 20 seconds. Its process, too, is to do nothing else.
func MeasurePassivation(env *Env, keys int) (figures map[string][]float64, err error) {
	base, err := startDistkit(env, "lax", keys, distkit.WithPassivation(passivateAfter))
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, base.Close()) }()
	before, err := touchAll(&base)
	if err != nil {
		return nil, err
	}
	left := 0.0
	for end := time.Now().Add(passivateWait); time.Now().Before(end); time.Sleep(passivateAfter / 2) {
		left = max(float64(live())-float64(before), 0) / float64(keys)
		if left < 1 { // a byte a key
			break
		}
	}
	total, err := base.Total()
	if err != nil {
		return nil, err
	}
	if total != int64(keys)+1 {
		return nil, fmt.Errorf("counted %d, but the counters hold %d", keys+1, total)
	}
	return map[string][]float64{report.Asleep: {left}}, nil
}
