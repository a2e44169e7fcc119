package faults_test

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"reflect"
	"sync"
	"time"

	"github.com/distkit/distkit-go"
	"github.com/redis/go-redis/v9"
)

// The transactions of TestProxy's load, of two Systems. Each moves an amount from one
// wallet to another, so that all wallets together hold 0 at every moment, and adds to
// counters whose totals tell what is in them. Those with an ID are repeated now and then,
// by either System, and at the end until their outcome is known. Some have a last step
// that never holds: nothing of them may be there.

// proxyTag has the counters of transactions on one shard.
const proxyTag = "{tx}"

// inTxs reports whether the k-th counter is in transactions.
func inTxs(k int) bool { return k%2 == 0 }

// proxyWallets are the counters that only transfers change.
var proxyWallets = [...]distkit.Key{distkit.MustKey(proxyTag + "w0"), distkit.MustKey(proxyTag + "w1"), distkit.MustKey(proxyTag + "w2")}

// proxyNever is a counter to which only transactions that are not applied add.
var proxyNever = distkit.MustKey(proxyTag + "never")

// proxyKeep is longer than an epoch.
const proxyKeep = time.Hour

// proxyTxs are the transactions with an ID.
type proxyTxs struct {
	mu  sync.Mutex
	all []*proxyTx
}

// proxyTx is one transaction, and what is known of it.
type proxyTx struct {
	tx    distkit.Tx
	keys  map[int]int // of the steps that add to counters of told: which
	fails bool

	mu      sync.Mutex
	outcome *distkit.Outcome // the first that was told
}

// transact carries out a transaction, a new one or one again.
func (l *load) transact(rng *rand.Rand) {
	system := l.systems[rng.IntN(len(l.systems))]
	switch p := rng.IntN(10); {
	case p < 2:
		l.repeat(rng, system)
	case p < 3:
		l.readWallets(rng, system)
	default:
		l.apply(rng, system, l.newTx(rng), false)
	}
}

// newTx draws a transaction.
func (l *load) newTx(rng *rand.Rand) *proxyTx {
	x := &proxyTx{keys: map[int]int{}, fails: rng.IntN(4) == 0}
	amount, from := 1+rng.Int64N(1000), rng.IntN(len(proxyWallets))
	to := (from + 1 + rng.IntN(len(proxyWallets)-1)) % len(proxyWallets)
	x.tx.Steps = []distkit.Step{{Key: proxyWallets[from], Do: distkit.Dec{N: amount}}}
	for _, k := range rng.Perm(loadKeys / 2)[:1+rng.IntN(3)] {
		k *= 2 // inTxs
		x.keys[len(x.tx.Steps)] = k
		x.tx.Steps = append(x.tx.Steps, distkit.Step{Key: l.keys[k], Do: distkit.Inc{N: step(rng, k)}})
	}
	x.tx.Steps = append(x.tx.Steps, distkit.Step{Key: proxyWallets[to], Do: distkit.Inc{N: amount}})
	if x.fails {
		x.tx.Steps = append(x.tx.Steps, distkit.Step{Key: proxyNever, Do: distkit.Inc{N: 1}},
			distkit.Step{Key: proxyWallets[from], Do: distkit.IncIf{If: distkit.Eq(math.MinInt64), N: 1}})
	}
	if rng.IntN(3) > 0 {
		x.tx.Keep = proxyKeep
		l.txs.mu.Lock()
		x.tx.ID = fmt.Sprint("tx-", len(l.txs.all))
		l.txs.all = append(l.txs.all, x)
		l.txs.mu.Unlock()
	}
	return x
}

// apply has a system carry out a transaction, with patience or as callers have it.
func (l *load) apply(rng *rand.Rand, system *distkit.System, x *proxyTx, patient bool) (told bool) {
	impatient := !patient
	if x.tx.ID == "" {
		for _, k := range x.keys {
			impatient = impatient && l.told[0][k].impatient()
		}
	}
	ctx, cancel := wait(rng, impatient)
	defer cancel()
	out, err := system.Strict().Apply(ctx, x.tx)
	switch {
	case err == nil:
		l.hasOutcome(x, out)
		return true
	case x.tx.ID == "":
		for step, k := range x.keys {
			l.note("transaction", l.told[0][k].of(0, x.change(step), err))
		}
	case errors.Is(err, distkit.ErrNotApplied) == errors.Is(err, distkit.ErrOutcomeUnknown):
		l.run.Violation("transaction %q: neither not applied nor unknown, or both: %v", x.tx.ID, err)
	case !excused(err):
		l.run.Violation("transaction %q failed for another reason than its context: %v", x.tx.ID, err)
	}
	return false
}

// change is what a step adds.
func (x *proxyTx) change(step int) int64 { return x.tx.Steps[step].Do.(distkit.Inc).N }

// hasOutcome notes an outcome: the first once, and that all others are the same.
func (l *load) hasOutcome(x *proxyTx, out distkit.Outcome) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if out.Applied == x.fails || len(out.Replies) != len(x.tx.Steps) {
		l.run.Violation("transaction %q, which fails: %v, has the outcome %+v", x.tx.ID, x.fails, out)
		x.outcome = &out
		return
	}
	if x.outcome != nil {
		if !reflect.DeepEqual(out.Replies, x.outcome.Replies) || !out.Replayed && !x.outcome.Replayed {
			l.run.Violation("transaction %q has two outcomes: %+v and %+v", x.tx.ID, *x.outcome, out)
		}
		x.outcome.Replayed = x.outcome.Replayed && out.Replayed
		return
	}
	x.outcome = &out
	if !out.Applied {
		return
	}
	for step, k := range x.keys {
		l.note("transaction", l.told[0][k].of(out.Replies[step].(distkit.Value).N, x.change(step), nil))
	}
}

// repeat repeats one of the transactions, or its ID with other steps.
func (l *load) repeat(rng *rand.Rand, system *distkit.System) {
	l.txs.mu.Lock()
	n := len(l.txs.all)
	if n == 0 {
		l.txs.mu.Unlock()
		return
	}
	x := l.txs.all[n-1-rng.IntN(min(n, 30))]
	l.txs.mu.Unlock()
	x.mu.Lock()
	known := x.outcome != nil
	x.mu.Unlock()
	if !known || rng.IntN(3) > 0 {
		l.apply(rng, system, x, false)
		return
	}
	other := distkit.Tx{ID: x.tx.ID, Keep: proxyKeep, Steps: []distkit.Step{{Key: proxyNever, Do: distkit.Inc{N: 1}}}}
	ctx, cancel := wait(rng, true)
	defer cancel()
	out, err := system.Strict().Apply(ctx, other)
	if !errors.Is(err, distkit.ErrConflict) && !excused(err) {
		l.run.Violation("transaction %q with other steps: %+v, %v", x.tx.ID, out, err)
	}
}

// readWallets looks at all wallets at once: nobody sees half of a transaction.
func (l *load) readWallets(rng *rand.Rand, system *distkit.System) {
	tx := distkit.Tx{}
	for _, key := range proxyWallets {
		tx.Steps = append(tx.Steps, distkit.Step{Key: key, Do: distkit.Get{}})
	}
	ctx, cancel := wait(rng, true)
	defer cancel()
	out, err := system.Strict().Apply(ctx, tx)
	if err != nil {
		if !excused(err) {
			l.run.Violation("reading the wallets: %v", err)
		}
		return
	}
	sum := int64(0)
	for _, reply := range out.Replies {
		sum += reply.(distkit.Value).N
	}
	if sum != 0 {
		l.run.Violation("the wallets hold %d together: %+v", sum, out)
	}
}

// settle finds out what became of each transaction with an ID that nobody was told of:
// what the Systems say of it, and then what it answers when it is repeated.
func (l *load) settle(ctx context.Context, epoch uint64) {
	var settling sync.WaitGroup
	for g := range loadCallers {
		settling.Go(func() {
			rng := l.run.Rand(epoch<<8 | uint64(loadCallers+g))
			for i := g; i < len(l.txs.all); i += loadCallers {
				if x := l.txs.all[i]; x.outcome == nil {
					l.settleOne(ctx, rng, x)
				}
			}
		})
	}
	settling.Wait()
}

func (l *load) settleOne(ctx context.Context, rng *rand.Rand, x *proxyTx) {
	recalled := false
	for _, system := range l.systems {
		out, found, err := system.Strict().Outcome(ctx, x.tx.ID)
		if err != nil {
			l.run.Violation("Outcome of transaction %q: %v", x.tx.ID, err)
			return
		}
		if recalled && !found {
			l.run.Violation("transaction %q has no outcome any more", x.tx.ID)
		}
		if recalled = found; found {
			if out.Applied == x.fails || len(out.Replies) != len(x.tx.Steps) || !out.Replayed {
				l.run.Violation("Outcome of transaction %q, which fails: %v: %+v", x.tx.ID, x.fails, out)
			}
		}
	}
	if !l.apply(rng, l.systems[rng.IntN(len(l.systems))], x, true) {
		l.run.Violation("transaction %q, repeated with patience, has no outcome", x.tx.ID)
		return
	}
	l.settled.Add(1)
	if recalled {
		l.recalled.Add(1)
	}
	if x.outcome.Replayed != recalled {
		l.run.Violation("transaction %q: an outcome was there before it was repeated: %v; it was answered %+v", x.tx.ID, recalled, *x.outcome)
	}
}

// compareTxs holds what transactions must have left against Redis.
func (l *load) compareTxs(ctx context.Context, when string) {
	fields := []string{proxyNever.String()}
	for _, key := range proxyWallets {
		fields = append(fields, key.String())
	}
	held, err := l.direct.HMGet(ctx, l.container(0, proxyNever), fields...).Result()
	if err != nil {
		l.run.Violation("%s: %v", when, err)
		return
	}
	if held[0] != nil {
		l.run.Violation("%s: %s: of transactions that were not applied %v is there", when, l.prefix, held[0])
	}
	sum := int64(0)
	for i := range proxyWallets {
		n, err := redis.NewCmdResult(held[1+i], nil).Int64()
		if held[1+i] != nil && err != nil {
			l.run.Violation("%s: wallet %d: %v", when, i, err)
		}
		sum += n
	}
	if sum != 0 {
		l.run.Violation("%s: %s: the wallets hold %d together: %v", when, l.prefix, sum, held)
	}
}
