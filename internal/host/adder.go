package host

import (
	"runtime"
	"sync"
	"sync/atomic"
)

// adder is a sum that many goroutines add to without a lock, while it is open. It may
// also tell them what the sum has come to, counted from a value that it was opened with.
// Once they get into each other's way it is split into stripes, each in a cache
// line of its own, which is the idea of Java's LongAdder; when they no longer do,
// it becomes one again. Split, it tells nothing. Whoever opens and closes it holds a lock.
//
// Each part's two lowest bits say what it is open for, the rest is its sum. An add thus
// finds the part open or is refused, and no sum is left behind in a closed one; and what
// it tells is right whenever it was opened, since the value is part of it.
type adder struct {
	whole   atomic.Int64
	from    int64                   // what whole was opened with
	stripes atomic.Pointer[stripes] // nil while there is the whole only
}

// What a part is open for.
const (
	adding  = 1 << iota // increments are taken
	telling             // its value may be told
	openFor = iota      // bits
)

// adderLimit bounds the sum of each part, and what is added: sums of all parts
// and of a few more such numbers are int64s.
const adderLimit = 1 << 56

func within(sum int64) bool { return sum > -adderLimit && sum < adderLimit }

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

// add adds n; false if the adder is not open for that, or would leave its limits.
func (a *adder) add(n int64) bool {
	if !within(n) {
		return false
	}
	part := &a.whole
	if s := a.stripes.Load(); s != nil {
		part = &s[stripe()].sum
	}
	for {
		was := part.Load()
		to, ok := plus(was, n)
		if !ok {
			return false
		}
		if part.CompareAndSwap(was, to) {
			return true
		}
		if part == &a.whole && a.stripes.Load() == nil {
			a.stripes.CompareAndSwap(nil, new(stripes)) // closed: it takes the place of the whole from the next open on
		}
	}
}

// plus is a part with n added; false if it is not open for that.
func plus(was, n int64) (to int64, ok bool) {
	sum := was>>openFor + n
	return was + n<<openFor, was&adding != 0 && within(sum)
}

// addAndTell adds n and tells what the sum has come to; false if the adder is not open
// for both.
func (a *adder) addAndTell(n int64) (int64, bool) {
	if !within(n) {
		return 0, false
	}
	for {
		was := a.whole.Load()
		to, ok := plus(was, n)
		if !ok || was&telling == 0 {
			return 0, false
		}
		if a.whole.CompareAndSwap(was, to) {
			return to >> openFor, true
		}
	}
}

// tell tells what the sum has come to; false if the adder is not open for that.
func (a *adder) tell() (int64, bool) {
	is := a.whole.Load()
	return is >> openFor, is&telling != 0
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

// open opens it, which is closed, at a value within its limits.
func (a *adder) open(from int64, what int64) {
	s := a.stripes.Load()
	if s == nil || what&adding == 0 {
		a.from = from
		a.whole.Store(from<<openFor | what)
		return
	}
	for i := range split {
		s[i].sum.Store(adding)
	}
}

// close closes it, and returns what has been added since it was opened.
func (a *adder) close() int64 {
	var sum int64
	if a.whole.Load() != 0 {
		sum = a.whole.Swap(0)>>openFor - a.from
	}
	s := a.stripes.Load()
	if s == nil {
		return sum
	}
	opened, used := false, 0
	for i := range split {
		if s[i].sum.Load() == 0 {
			continue
		}
		opened = true
		if part := s[i].sum.Swap(0) >> openFor; part != 0 {
			sum += part
			used++
		}
	}
	if opened && used < 2 {
		a.stripes.Store(nil)
	}
	return sum
}
