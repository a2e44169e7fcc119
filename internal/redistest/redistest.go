// Package redistest gives tests a real Redis: a shared one, and servers of
// their own that a test may kill, pause and restart.
//
// The shared one is REDIS_URL where that is set; tests then keep to unique
// prefixes and delete what they made. Otherwise each test binary starts a
// redis-server or valkey-server from PATH on a free port of the loopback
// interface and stops it, by its process id, at the end.
package redistest

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"os/signal"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/logging"
	"github.com/stretchr/testify/require"
)

func init() { logging.Disable() } // go-redis reports every failed dial, which tests provoke

var shared struct {
	sync.Once
	server *Server // nil where REDIS_URL is used
	url    string
	err    error
}

// URL is the address of the shared Redis.
func URL(t testing.TB) string {
	t.Helper()
	shared.Do(func() {
		if shared.url = os.Getenv("REDIS_URL"); shared.url != "" {
			return
		}
		if shared.server, shared.err = start(os.TempDir()); shared.err == nil {
			shared.url = "redis://" + shared.server.Addr
		}
	})
	require.NoError(t, shared.err, "tests need a Redis: set REDIS_URL, or install redis-server or valkey-server, or run make test")
	return shared.url
}

// Main runs a package's tests and stops the shared server, if it was started
// here; interrupted, it stops every server. Call it from TestMain; check, which
// may be nil, looks for leaks at the end.
func Main(m *testing.M, check func() error) {
	if err := answers(os.Getenv("REDIS_URL")); err != nil {
		fmt.Fprintf(os.Stderr, "REDIS_URL: %v; unset it to have a server started\n", err)
		os.Exit(1)
	}
	interrupted := make(chan os.Signal, 1)
	signal.Notify(interrupted, os.Interrupt, syscall.SIGTERM)
	go func() {
		if _, ok := <-interrupted; ok {
			stopAll()
			os.Exit(130)
		}
	}()
	code := m.Run()
	signal.Stop(interrupted)
	close(interrupted)
	if shared.server != nil {
		shared.server.stop()
	}
	if code == 0 && check != nil {
		if err := check(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			code = 1
		}
	}
	os.Exit(code)
}

// answers says within seconds what is wrong with a URL of a Redis; nil if nothing is, or
// there is no URL.
func answers(url string) error {
	if url == "" {
		return nil
	}
	options, err := redis.ParseURL(url)
	if err != nil {
		return err
	}
	options.MaxRetries, options.DialTimeout, options.DialerRetries = -1, 2*time.Second, 1
	client := redis.NewClient(options)
	defer func() { _ = client.Close() }()
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Second)
	defer cancel()
	if err := client.Ping(ctx).Err(); err != nil {
		return fmt.Errorf("no Redis answers at %s: %w", options.Addr, err)
	}
	return nil
}

// Options returns client options for the shared Redis.
func Options(t testing.TB) *redis.Options {
	t.Helper()
	options, err := redis.ParseURL(URL(t))
	require.NoError(t, err)
	return options
}

// Client returns a client of the shared Redis.
func Client(t testing.TB) *redis.Client {
	t.Helper()
	return NewClient(t, Options(t))
}

// NewClient returns a client that is closed when the test ends.
func NewClient(t testing.TB, options *redis.Options) *redis.Client {
	t.Helper()
	client := redis.NewClient(options)
	t.Cleanup(func() { _ = client.Close() })
	return client
}

// Prefix returns a prefix that no other test uses, and deletes its keys from
// the client's Redis when the test ends.
func Prefix(t testing.TB, client redis.UniversalClient) string {
	t.Helper()
	prefix := fmt.Sprintf("test-%016x", rand.Uint64())
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		keys, err := client.Keys(ctx, "*"+prefix+"*").Result()
		if err == nil && len(keys) > 0 {
			client.Del(ctx, keys...)
		}
	})
	return prefix
}
