package host

import (
	"runtime"
	"sync"
	"sync/atomic"
)

// adder is a sum that many goroutines add to without a lock, while it is open.
// Once they get into each other's way it is split into stripes, each in a cache
// line of its own, which is the idea of Java's LongAdder; when they no longer do,
// it becomes one again. Whoever opens and closes it holds a lock.
//
// Each part's lowest bit says that it is open, the rest is its sum. An add thus
// finds the part open or is refused, and no sum is left behind in a closed one.
type adder struct {
	whole   atomic.Int64
	stripes atomic.Pointer[stripes] // nil while there is the whole only
}

// adderLimit bounds the sum of each part, and what is added: sums of all parts
// and of a few more such numbers are int64s.
const adderLimit = 1 << 56

// stripes are the parts of a split adder.
type stripes [16]struct {
	sum atomic.Int64
	_   [56]byte // the rest of the cache line
}

// split is how many stripes are used: there is no sense in more than run at once.
var split = func() uint32 {
	n := uint32(1)
	for n < uint32(min(4*runtime.GOMAXPROCS(0), len(stripes{}))) {
		n *= 2
	}
	return n
}()

// add adds n; false if the adder is closed, or would leave its limits.
func (a *adder) add(n int64) bool {
	if n <= -adderLimit || n >= adderLimit {
		return false
	}
	part := &a.whole
	if s := a.stripes.Load(); s != nil {
		part = &s[stripe()].sum
	}
	for {
		was := part.Load()
		sum := was>>1 + n
		if was == 0 || sum <= -adderLimit || sum >= adderLimit {
			return false
		}
		if part.CompareAndSwap(was, sum<<1|1) {
			return true
		}
		if part == &a.whole && a.stripes.Load() == nil {
			a.stripes.CompareAndSwap(nil, new(stripes)) // closed: it takes the place of the whole from the next open on
		}
	}
}

// tokens spread goroutines over the stripes: a pool gives a processor the token
// back that it put in, so goroutines that run at once have different ones, which is
// the idea of xsync's Counter (https://github.com/puzpuzpuz/xsync).
var (
	tokens = sync.Pool{New: func() any { t := made.Add(1); return &t }}
	made   atomic.Uint32
)

// stripe picks a stripe for the goroutine that asks.
func stripe() uint32 {
	t := tokens.Get().(*uint32)
	at := *t & (split - 1)
	tokens.Put(t)
	return at
}

// open lets goroutines add; it is closed.
func (a *adder) open() {
	s := a.stripes.Load()
	if s == nil {
		a.whole.Store(1)
		return
	}
	for i := range split {
		s[i].sum.Store(1)
	}
}

// close lets nobody add any more, and returns the sum, which is 0 from then on.
func (a *adder) close() int64 {
	var sum int64
	if a.whole.Load() != 0 {
		sum = a.whole.Swap(0) >> 1
	}
	s := a.stripes.Load()
	if s == nil {
		return sum
	}
	used := 0
	for i := range split {
		if s[i].sum.Load() == 0 {
			continue
		}
		if part := s[i].sum.Swap(0) >> 1; part != 0 {
			sum += part
			used++
		}
	}
	if used == 1 {
		a.stripes.Store(nil)
	}
	return sum
}
