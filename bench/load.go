package bench

import (
	"errors"
	"math/rand/v2"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/distkit/distkit-go/bench/report"
)

// load is callers that count, one call after the other, round all keys.
type load struct {
	callers, keys int
	// sampled takes the latency of every sampleEvery-th operation. It costs two
	// looks at the clock, which is nothing to a round trip and much to an
	// increment in memory; these are not sampled, and look whether they are to
	// stop only every lookEvery-th time.
	sampled bool
	zipf    bool          // keys by Zipf's law, not in turns
	pause   time.Duration // of a caller between two calls
	// settling takes longer to get into its stride: each of very many callers is to come
	// to its turn several times, and the views of many lax keys, which have grown old
	// while nobody counted, are read one after the other at first. It is measured for a
	// second at least.
	settling bool
}

const (
	sampleEvery = 4
	lookEvery   = 64
)

// outcome is what a load did.
type outcome struct {
	ops           int64
	calling       time.Duration   // until the last call returned
	elapsed       time.Duration   // until everything had settled
	latencies     []time.Duration // sorted
	allocs, bytes float64         // an operation
}

// measure starts the contestant, warms it up for a quarter of the time, loads
// it for the time, and checks the counters' sum.
func (l load) measure(c Contestant, env *Env, d time.Duration) (figures map[string]float64, err error) {
	counter, err := c.Start(env, l.keys)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, counter.Close()) }()
	if l.settling {
		d = max(d, time.Second)
	}
	warm, err := l.drive(counter, d/4)
	if err != nil {
		return nil, err
	}
	runtime.GC()
	o, err := l.drive(counter, d)
	if err != nil {
		return nil, err
	}
	if err := verify(counter, warm.ops+o.ops); err != nil {
		return nil, err
	}
	figures = map[string]float64{
		report.Throughput: float64(o.ops) / o.elapsed.Seconds(),
		report.Time:       float64(o.elapsed.Nanoseconds()) * float64(l.callers) / float64(o.ops),
	}
	if l.sampled {
		addPercentiles(figures, o.latencies)
	} else {
		figures[report.Allocs], figures[report.Bytes] = o.allocs, o.bytes
	}
	return figures, nil
}

func addPercentiles(figures map[string]float64, sorted []time.Duration) {
	for metric, share := range map[string]float64{report.P50: .5, report.P90: .9, report.P99: .99, report.P999: .999} {
		figures[metric] = microseconds(percentile(sorted, share))
	}
}

func microseconds(d time.Duration) float64 { return float64(d.Nanoseconds()) / 1e3 }

// percentile is the value that the given share of the sorted values does not
// exceed; 0 of none.
func percentile(sorted []time.Duration, share float64) time.Duration {
	if len(sorted) == 0 {
		return 0
	}
	return sorted[min(int(share*float64(len(sorted))), len(sorted)-1)]
}

// drive runs the callers for a time, and until everything has settled.
func (l load) drive(counter Counter, d time.Duration) (outcome, error) {
	var (
		o       outcome
		stop    atomic.Bool
		wait    sync.WaitGroup
		mu      sync.Mutex
		failure error
		gate    = make(chan struct{})
	)
	for i := range l.callers {
		wait.Go(func() {
			<-gate
			ops, latencies, err := l.call(counter, i*l.keys/l.callers, &stop)
			mu.Lock()
			defer mu.Unlock()
			o.ops += ops
			o.latencies = append(o.latencies, latencies...)
			failure = errors.Join(failure, err)
		})
	}
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	begin := time.Now()
	timer := time.AfterFunc(d, func() { stop.Store(true) })
	defer timer.Stop()
	close(gate)
	wait.Wait()
	o.calling = time.Since(begin)
	if failure == nil {
		failure = counter.Settle()
	}
	o.elapsed = time.Since(begin)
	runtime.ReadMemStats(&after)
	o.allocs = float64(after.Mallocs-before.Mallocs) / float64(max(o.ops, 1))
	o.bytes = float64(after.TotalAlloc-before.TotalAlloc) / float64(max(o.ops, 1))
	slices.Sort(o.latencies)
	return o, failure
}

// call is one caller, starting at a key of its own.
func (l load) call(counter Counter, key int, stop *atomic.Bool) (ops int64, latencies []time.Duration, err error) {
	if !l.sampled {
		ops, err = l.callUnsampled(counter, key, stop)
		return ops, nil, err
	}
	var zipf *rand.Zipf
	if l.zipf {
		zipf = rand.NewZipf(rand.New(rand.NewPCG(uint64(key), 1)), 1.1, 1, uint64(l.keys-1))
	}
	for !stop.Load() {
		if ops%sampleEvery == 0 || l.pause > 0 {
			begin := time.Now()
			err = counter.Count(key)
			latencies = append(latencies, time.Since(begin))
		} else {
			err = counter.Count(key)
		}
		if err != nil {
			return ops, latencies, err
		}
		ops++
		if key++; key == l.keys {
			key = 0
		}
		if zipf != nil {
			key = int(zipf.Uint64())
		}
		if l.pause > 0 {
			time.Sleep(l.pause)
		}
	}
	return ops, latencies, nil
}

func (l load) callUnsampled(counter Counter, key int, stop *atomic.Bool) (ops int64, err error) {
	for !stop.Load() {
		for range lookEvery {
			if err := counter.Count(key); err != nil {
				return ops, err
			}
			if key++; key == l.keys {
				key = 0
			}
		}
		ops += lookEvery
	}
	return ops, nil
}
