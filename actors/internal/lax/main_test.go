package lax

import (
	"testing"
	"time"

	"github.com/distkit/distkit-go/actors/internal/refresh"
	"github.com/distkit/distkit-go/internal/host"
	"github.com/distkit/distkit-go/internal/ledger"
	"github.com/distkit/distkit-go/internal/limit"
	"github.com/distkit/distkit-go/internal/redisio"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// told is an Observer that keeps what it is told of operations and changes.
type told struct {
	messages []error
	changes  []int64
	panics   bool // it does, every time
}

func (*told) WriterFailed(string, int, time.Duration, error) {}
func (*told) WriterRecovered(string, int, time.Duration)     {}
func (*told) DataLost(string, *ledger.Loss)                  {}
func (*told) ActorPanicked(string, error)                    {}

func (o *told) ChangeRefused(_, _ string, n int64, _ bool, _ error) {
	o.changes = append(o.changes, n)
	if o.panics {
		panic("a bug")
	}
}

func (*told) Overloaded(int) {}

func (o *told) MessageRefused(_, _ string, err error) {
	o.messages = append(o.messages, err)
	if o.panics {
		panic("a bug")
	}
}

// alone is a coordinator whose actor nobody runs, and whose timers reach nobody.
func alone(t *testing.T) (*coordinator, *told) {
	t.Helper()
	o := &told{}
	c := &coordinator{
		observer: o, clock: refresh.NewClock(), allowedLag: time.Hour, epoch: 1, since: 1,
		woken:   true, // so that it is not sent anything
		pending: limit.New(1<<40, nil),
	}
	at := redisio.NewContainer("p", "lax_counter")
	c.book = ledger.Book{At: at}
	c.refresh = &refresh.Refresher[*key]{At: at, Clock: c.clock, Lag: time.Hour, Wait: time.Hour, Post: func(any) {}}
	t.Cleanup(c.stopTimers)
	return c, o
}

// newKey is a key's cell, whose actor nobody runs.
func (c *coordinator) newKey(name string) *key {
	k := &key{at: c}
	k.Become(name, &host.Group{})
	return k
}
