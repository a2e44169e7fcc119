package bench

import (
	"context"
	"fmt"
	"time"
)

// Contestant is a way to count: distkit's, or what one would use instead.
type Contestant interface {
	// Name is short and goes into the names of cases.
	Name() string
	// Lacks says what it does not do that distkit does; "" for distkit.
	Lacks() string
	// Start makes it ready to count on n keys, all new.
	Start(env *Env, n int) (Counter, error)
}

// Counter is a contestant at work.
type Counter interface {
	// Count adds one to a key, given by its number. It is safe for concurrent use.
	Count(key int) error
	// Settle returns when everything counted is where Total looks.
	Settle() error
	// Total is the sum of all keys, as it is in Redis (with Proto.Actor, which
	// does not write, in the actors).
	Total() (int64, error)
	// Close ends it and removes what it wrote.
	Close() error
}

// contestant is a Contestant made of its parts.
type contestant struct {
	name, lacks string
	start       func(env *Env, n int) (Counter, error)
}

func (c contestant) Name() string                           { return c.name }
func (c contestant) Lacks() string                          { return c.lacks }
func (c contestant) Start(env *Env, n int) (Counter, error) { return c.start(env, n) }

// What rivals lack.
const (
	twice        = "applied twice if a reply is lost and the call retried, as go-redis does by default"
	twiceUnsafe  = "not exactly once: after a lost reply nobody knows whether it was applied"
	losesDoubles = "no reply; loses what a failed flush had taken, or doubles it if retried; loses the rest at exit"
	memoryOnly   = "counts in memory only: no Redis"
)

// verify fails unless the counter holds what was counted.
func verify(c Counter, counted int64) error {
	total, err := c.Total()
	if err != nil {
		return err
	}
	if total != counted {
		return fmt.Errorf("counted %d, but the counters hold %d", counted, total)
	}
	return nil
}

// StrictContestants answer each increment with the value in Redis.
func StrictContestants() []Contestant {
	return []Contestant{
		distkitStrict(), rueidisScript("rueidis", 0), rueidisScript("rueidis-delay-100µs", 100*time.Microsecond),
		goredisScript(), goredisHincrby(), goredisAutoPipeline(false), goredisAutoPipeline(true),
	}
}

// lag is how long lax counters gather before they write.
const lag = 20 * time.Millisecond

// LaxContestants fold increments in memory, the first three with distkit.
func LaxContestants() []Contestant {
	return []Contestant{
		distkitAdd(lag), distkitSend(), distkitInc(), distkitLaxGet(),
		handwritten("handwritten", lag, flushHincrby),
		protoactorSend(), protoactorRequest(),
	}
}

// FlushContestants write when they are told to.
func FlushContestants() []Contestant {
	return []Contestant{
		distkitAdd(time.Hour),
		handwritten("evalsha-a-key", time.Hour, flushEvalsha),
		handwritten("handwritten", time.Hour, flushHincrby),
	}
}

// tailContestants count while others flush.
func tailContestants() []Contestant {
	return []Contestant{distkitInc(), handwritten("handwritten", lag, flushHincrby)}
}

// background is the context of calls that nobody gives up.
var background = context.Background()
