package bench

import (
	"errors"
	"runtime"
	"time"

	"github.com/distkit/distkit-go/bench/report"
)

// dirtyKeys is how many keys a flush writes.
const dirtyKeys = 100_000

// rest is how long dirty keys are left alone before they are flushed: what
// counting them set off has ended by then.
const rest = 30 * time.Millisecond

// measureFlush makes keys dirty and times how long writing them takes, over and
// over until that has taken the time in all. The first flush, of new keys, is
// the warm up.
func measureFlush(c Contestant, env *Env, keys int, d time.Duration) (figures map[string]float64, err error) {
	counter, err := c.Start(env, keys)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, counter.Close()) }()
	var took time.Duration
	flushes := int64(-1)
	for took < d || flushes < 1 {
		t, err := dirtyAndFlush(counter, keys)
		if err != nil {
			return nil, err
		}
		if flushes++; flushes > 0 {
			took += t
		}
	}
	if err := verify(counter, (flushes+1)*int64(keys)); err != nil {
		return nil, err
	}
	return map[string]float64{report.Throughput: float64(flushes) * float64(keys) / took.Seconds()}, nil
}

// dirtyAndFlush returns how long the flush took.
func dirtyAndFlush(counter Counter, keys int) (time.Duration, error) {
	for key := range keys {
		if err := counter.Count(key); err != nil {
			return 0, err
		}
	}
	time.Sleep(rest)
	runtime.GC()
	begin := time.Now()
	err := counter.Settle()
	return time.Since(begin), err
}
