package faults_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/distkit/distkit-go/internal/chaos"
	"github.com/distkit/distkit-go/internal/redistest"
	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"
)

// TestProxy proves the first promise on a bad network: whatever happens to
// requests, replies and connections between the library and Redis, a counter
// holds in the end what its callers were told, to the last increment.
//
//	callers ─► System ─┬─► toxiproxy ─┬─► wire ─► Redis
//	                   └──────────────┘
//
// It goes in epochs: callers work on a new System while faults come, then the
// rest of the faults end, the System flushes and shuts down, requests held
// back until then are delivered, and every counter is compared. In odd epochs
// the flush and the shutdown have to get through the faults, too, and Redis has
// forgotten all ledgers before the late deliveries. In half of the epochs, of either
// sort, the counters are on several shards.
func TestProxy(t *testing.T) {
	t.Parallel()
	run := chaos.Begin(t, "TestProxy")
	batches := int64(run.Scale(3_000, 1_000_000))
	end := endOf(t, run, 10*time.Second, 10*time.Minute)

	direct, addr := sharedRedis(t)
	p := &proxied{run: run, direct: direct, prefix: redistest.Prefix(t, direct)}
	p.wire = startWire(t, addr, run.Rand(1))
	p.toxics = startToxics(t, p.wire.addr)
	p.dials = run.Rand(2)
	p.rights = newRights(t, direct, p.prefix)
	epochs := uint64(0)
	for p.wire.scripts.Load() < batches && time.Now().Before(end) && !t.Failed() {
		epochs++
		batchesBefore, faultsBefore := p.wire.scripts.Load(), p.faults()
		p.epoch(t, epochs, min(batches, batchesBefore+2_000), end)
		run.Cases(int(p.wire.scripts.Load() - batchesBefore))
		run.Faults(p.faults() - faultsBefore)
	}
	t.Logf("%d epochs, %d batches; connections with a toxic %d, refused %d; permissions withdrawn %d; %v; strict %+v, lax %+v; of %d transactions with an ID %d were settled at the end, %d of which had been carried out",
		epochs, p.wire.scripts.Load(), p.poisoned.Load(), p.refused.Load(), p.rights.withdrawn, p.wire, p.tally[0], p.tally[1], p.txs, p.settled, p.recalled)
	require.Positive(t, epochs, "-timeout leaves no time")
	if t.Failed() || !run.Long() {
		return // the short form may be too short for the rarest
	}
	require.Positive(t, p.rights.withdrawn)
	require.Positive(t, p.recalled, "no transaction was carried out and not told")
	for fault := resetBefore; fault < wireFaults; fault++ {
		require.Positive(t, p.wire.injured[fault].Load(), "a kind of fault never came")
	}
}

// endOf is when a test has to stop starting things: after its form's share of
// time, and a minute before go test would panic.
func endOf(t *testing.T, run *chaos.Run, short, long time.Duration) time.Time {
	end := time.Now().Add(short)
	if run.Long() {
		end = time.Now().Add(long)
	}
	if limit, ok := t.Deadline(); ok && limit.Add(-time.Minute).Before(end) {
		end = limit.Add(-time.Minute)
	}
	return end
}

// proxied is what the epochs share.
type proxied struct {
	run    *chaos.Run
	direct *redis.Client
	prefix string
	wire   *wire
	toxics toxics
	rights *rights
	tally  [len(kinds)]tally

	txs               int   // transactions with an ID
	settled, recalled int64 // of which nobody was told at first; and yet they had been carried out

	mu       sync.Mutex
	dials    *rand.Rand
	harmful  bool
	refused  atomic.Int64 // connections
	poisoned atomic.Int64 // connections through a toxic
}

// faults is how many there have been.
func (p *proxied) faults() int {
	return p.wire.faults() + int(p.poisoned.Load()) + int(p.refused.Load()) + p.rights.withdrawn
}

// dial chooses the way of a new connection: through toxiproxy or past it,
// since a reset does not travel through; or to a port where nobody listens.
func (p *proxied) dial() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	n := p.dials.IntN(20)
	switch {
	case !p.harmful || n >= 6:
		return p.wire.addr
	case n == 0:
		p.refused.Add(1)
		return "127.0.0.1:1"
	default:
		p.poisoned.Add(1)
		return p.toxics.addr(p.dials)
	}
}

// hurt begins the faults; heal ends them.
func (p *proxied) hurt() (heal func()) {
	p.mu.Lock()
	p.harmful = true
	p.mu.Unlock()
	p.wire.hurt(0.03)
	return func() {
		p.mu.Lock()
		p.harmful = false
		p.mu.Unlock()
		p.wire.heal()
	}
}

// epoch runs callers until the wire has passed as many script calls in all.
func (p *proxied) epoch(t *testing.T, epoch uint64, until int64, end time.Time) {
	shards := 1
	if epoch%4 >= 2 {
		shards = 4
	}
	l, closeClient := newLoad(t, p.run, p.direct, fmt.Sprintf("%s-%d", p.prefix, epoch), shards, p.rights, p.dial)
	defer closeClient()
	heal := p.hurt()
	defer heal()

	var stop atomic.Bool
	p.wire.whenPassed(until, time.Until(end), func() { stop.Store(true) })
	p.rights.comeAndGo(p.run.Rand(epoch<<8|0xff), func() { l.callers(epoch, &stop) })

	if epoch%2 == 0 {
		heal()
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	l.settle(ctx, epoch)
	if err := l.system.Flush(ctx); err != nil {
		p.run.Violation("Flush at the end of %s: %v", l.prefix, err)
	}
	for _, system := range l.systems {
		if err := system.Shutdown(ctx); err != nil {
			p.run.Violation("Shutdown of %s: %v", l.prefix, err)
		}
	}
	heal()
	l.compare(ctx, "after the shutdown")
	if epoch%2 == 1 {
		p.evict(ctx, t, l.prefix)
	}
	p.wire.deliverHeld()
	l.compare(ctx, "after late deliveries")
	p.txs += len(l.txs.all)
	p.settled += l.settled.Load()
	p.recalled += l.recalled.Load()
	for kind := range l.told {
		for k := range l.told[kind] {
			p.tally[kind].add(&l.told[kind][k])
		}
	}
	for kind := range kinds {
		for _, key := range l.keys {
			p.direct.Del(ctx, l.container(kind, key))
		}
	}
}

// evict deletes the ledgers of a prefix.
func (p *proxied) evict(ctx context.Context, t *testing.T, prefix string) {
	ledgers, err := p.direct.Keys(ctx, prefix+":writer:*").Result()
	require.NoError(t, err)
	require.NotEmpty(t, ledgers)
	require.NoError(t, p.direct.Del(ctx, ledgers...).Err())
}
