package bench

import (
	"errors"
	"fmt"
	"runtime"
	"slices"
	"sync/atomic"
	"time"

	"github.com/distkit/distkit-go/bench/report"
)

const (
	hotKeys = 1000                  // that the measured calls go to
	pace    = 20 * time.Microsecond // between their starts
)

// adder is a Counter that can count without a reply.
type adder interface {
	Counter
	Add(key int) error
}

// measureTail makes a call to a hot key every 20 µs, and all the while has
// 100,000 other keys made dirty and written, again and again.
//
// Two latencies are told apart: that of the call itself, and that from when the
// call was due. The second counts a stall for every call that it holds up, also
// one that falls between two calls, and so it has in it what the machine's
// scheduler does to a busy goroutine.
func measureTail(c Contestant, env *Env, d time.Duration) (figures map[string]float64, err error) {
	started, err := c.Start(env, hotKeys+dirtyKeys)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, started.Close()) }()
	counter, ok := started.(adder)
	if !ok {
		return nil, fmt.Errorf("%s cannot count without a reply", c.Name())
	}
	// All keys are known before the clock starts.
	for key := range hotKeys + dirtyKeys {
		if err := counter.Add(key); err != nil {
			return nil, err
		}
	}
	if err := counter.Settle(); err != nil {
		return nil, err
	}
	runtime.GC()

	var stop atomic.Bool
	var written int64
	ended := make(chan error, 1)
	go func() {
		var err error
		for !stop.Load() && err == nil {
			if err = dirty(counter); err == nil {
				written += dirtyKeys
			}
		}
		ended <- err
	}()
	// The first quarter warms up, as everywhere: the first call on each key that
	// finds its view too old has to wait for a read.
	begin := time.Now()
	warm, _, err := paced(counter, d/4)
	var calls, dues []time.Duration
	if err == nil {
		calls, dues, err = paced(counter, d)
	}
	stop.Store(true)
	err = errors.Join(err, <-ended)
	elapsed := time.Since(begin)
	if err == nil {
		err = counter.Settle()
	}
	if err == nil {
		err = verify(counter, hotKeys+dirtyKeys+written+int64(len(warm)+len(calls)))
	}
	if err != nil {
		return nil, err
	}
	figures = map[string]float64{
		report.Worst:      microseconds(calls[len(calls)-1]),
		report.DueP999:    microseconds(percentile(dues, .999)),
		report.Throughput: float64(written) / elapsed.Seconds(), // keys written meanwhile
	}
	addPercentiles(figures, calls)
	return figures, nil
}

// dirty makes all keys but the hot ones dirty, and waits until they are written.
func dirty(counter adder) error {
	for key := hotKeys; key < hotKeys+dirtyKeys; key++ {
		if err := counter.Add(key); err != nil {
			return err
		}
	}
	return counter.Settle()
}

// paced calls at a fixed rate and returns the calls' latencies, sorted: from
// when they were made, and from when they were due. It waits by looking at the
// clock, for a timer is not that precise.
func paced(counter Counter, d time.Duration) (calls, dues []time.Duration, err error) {
	n := int(d / pace)
	calls, dues = make([]time.Duration, 0, n), make([]time.Duration, 0, n)
	begin := time.Now()
	for i := range n {
		due := time.Duration(i) * pace
		made := time.Since(begin)
		for made < due {
			made = time.Since(begin)
		}
		if err := counter.Count(i % hotKeys); err != nil {
			return nil, nil, err
		}
		done := time.Since(begin)
		calls, dues = append(calls, done-made), append(dues, done-due)
	}
	slices.Sort(calls)
	slices.Sort(dues)
	return calls, dues, nil
}
