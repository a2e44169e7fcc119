package actors

import (
	"context"
	"errors"
	"log/slog"
	"testing"
	"time"

	"github.com/asynkron/protoactor-go/actor"
	"github.com/distkit/distkit-go/internal/host"
	"github.com/distkit/distkit-go/internal/ledger"
	"github.com/distkit/distkit-go/internal/redistest"
	"github.com/distkit/distkit-go/internal/verb"
	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	redistest.Main(m, func() error { return goleak.Find() })
}

// silent is an Observer that does nothing; tests override what they look at.
type silent struct{}

func (silent) WriterFailed(string, int, time.Duration, error)   {}
func (silent) WriterRecovered(string, int, time.Duration)       {}
func (silent) DataLost(string, *ledger.Loss)                    {}
func (silent) ChangeRefused(string, string, int64, bool, error) {}
func (silent) ActorPanicked(string, error)                      {}
func (silent) Overloaded(int)                                   {}
func (silent) MessageRefused(string, string, error)             {}

// testConfig is a Config that flushes and restarts at once.
func testConfig(observer host.Observer) Config {
	return Config{
		Observer:    observer,
		ActorSystem: actor.NewActorSystem(actor.WithLoggerFactory(QuietLogger(slog.New(slog.DiscardHandler)))),
		AllowedLag:  time.Millisecond, RefreshWait: time.Second, LedgerLifetime: time.Hour, MaxPending: 1 << 20,
		BackoffMin: time.Millisecond, BackoffMax: 10 * time.Millisecond,
		Decode: func(any) (verb.Op, error) { return verb.Op{}, errors.New("no messages here") },
		Encode: func(string, verb.Op, verb.Result) any { return nil },
	}
}

// newEngine starts an engine on a prefix of its own.
func newEngine(t *testing.T, observer host.Observer, client *redis.Client, prefix string) (*Engine, context.Context) {
	t.Helper()
	e, ctx := newEngineAt(t, observer, client, prefix, nil)
	t.Cleanup(func() {
		_, err := e.Shutdown(ctx)
		require.NoError(t, err)
	})
	return e, ctx
}

// newEngineAt starts an engine that stops at a fail point. The test shuts it down.
func newEngineAt(t *testing.T, observer host.Observer, client *redis.Client, prefix string, at host.FailPoint) (*Engine, context.Context) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	t.Cleanup(cancel)
	cfg := testConfig(observer)
	cfg.Client, cfg.Prefix, cfg.failAt = client, prefix, at
	return New(cfg), ctx
}

func inc(n int64) verb.Op { return verb.Op{Kind: verb.Inc, N: n} }

func incIf(n int64, cmp verb.Cmp, than int64) verb.Op {
	return verb.Op{Kind: verb.IncIf, N: n, If: verb.Cond{Cmp: cmp, N: than}}
}

var (
	get = verb.Op{Kind: verb.Get}
	del = verb.Op{Kind: verb.Del}
)

// asked sends an operation whose outcome comes by the channel.
func asked(t *testing.T, s *Shards, key string, o verb.Op) <-chan verb.Result {
	t.Helper()
	answer := make(chan verb.Result, 1)
	require.NoError(t, (*s.of(key).live()).Ask(key, o, func(_ verb.Op, r verb.Result) { answer <- r }))
	return answer
}
