// Package bench measures distkit and what one would use instead, side by side:
// the same work on the same Redis in the same run, taking turns.
//
//	make bench                           everything, about a quarter of an hour; writes results/
//	make bench ARGS='-only strict'       some of it, printed only
//	make bench-check                     a short form against the ratios in results/
//	go test -bench 'Strict/callers=64/'  the same workloads as Go benchmarks, with REDIS_URL set
//
// # How it is measured
//
// A [Contestant] is a way to count, a [Case] is a contestant at a workload, and
// the cases of a [Group] take turns: A, B, C, A, B, C… for some rounds, each time
// on a fresh client and fresh counters, after a garbage collection and a warm up.
// A ratio is made from the two measurements of one round, so that what slows the
// machine for a minute slows both of its sides; of the ratios of all rounds, the
// median and the extremes are reported. After each measurement the counters'
// sum must be what was counted: nobody is measured doing nothing.
//
// Callers are goroutines that make one call after the other. "time" is what a
// caller spends on one operation: the run's time, times callers, divided by
// operations. The run of a lax workload ends when everything that was counted is
// in Redis (with Proto.Actor: has been handled), so nothing is left to be done
// after the clock has stopped. Allocations are the whole process's. Calls go
// through the Contestant's interface, which costs everybody some 2 ns.
//
// # Workloads
//
//   - strict: increments answered by Redis, 1 to 1,024 callers, 1 and 1,000 keys.
//     Every fourth operation's latency is taken.
//   - lax: increments folded in memory, one caller and one for each core.
//   - flush: 100,000 dirty keys are written; the clock runs from when they are
//     dirty and at rest.
//   - tail: the latency of a lax Inc, at 50,000 calls a second, while 100,000
//     other keys are dirty and written all the time, after a quarter of the time to
//     warm up. Its "throughput" is the keys written meanwhile.
//   - growth: time and memory with 1 to 1,000,000 lax keys, each size in a process
//     of its own. See [MeasureGrowth].
//
// It is a module of its own, so that what it compares with stays out of the
// library's go.mod. In Redis it touches nothing outside prefixes "bench-…".
package bench
