package distkit_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"testing"
	"time"

	"github.com/distkit/distkit-go/internal/redistest"
	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"
)

// The connections of callers that send themselves (internal/redisio, interrupt.go): those
// whose reads nobody could end are not used so, and go-redis looks after all of them as it
// does without us.

// noDeadlines is a connection through an SSH tunnel, for which go-redis has a timeout of -2.
type noDeadlines struct{ net.Conn }

var errNoDeadlines = errors.New("deadlines are not supported")

func (noDeadlines) SetDeadline(time.Time) error      { return errNoDeadlines }
func (noDeadlines) SetReadDeadline(time.Time) error  { return errNoDeadlines }
func (noDeadlines) SetWriteDeadline(time.Time) error { return errNoDeadlines }

// Redis hangs, and the client would wait for ever: a caller leaves all the same.
func TestCarrier_leaves_whateverTheConnection(t *testing.T) {
	t.Parallel()
	dial := new(net.Dialer).DialContext
	for name, test := range map[string]struct {
		options redis.Options
		with    func(*redis.Client) *redis.Client
		before  func(*testing.T, *fixture)
	}{
		"none at rest: a new one would have to be greeted": {
			before: func(t *testing.T, f *fixture) {
				held := make(chan struct{})
				go func() {
					defer close(held)
					_ = f.client.BLPop(f.ctx, time.Second, "nothing")
				}()
				t.Cleanup(func() { <-held })
				require.Eventually(t, func() bool { return f.client.PoolStats().IdleConns == 0 }, 10*time.Second, time.Millisecond)
			},
		},
		"without deadlines": {
			options: redis.Options{ReadTimeout: -2, WriteTimeout: -2, Dialer: func(ctx context.Context, network, addr string) (net.Conn, error) {
				c, err := dial(ctx, network, addr)
				return noDeadlines{c}, err
			}},
		},
		"that was being made when the System was": {
			options: redis.Options{MinIdleConns: 1, PoolSize: 1, Dialer: func(ctx context.Context, network, addr string) (net.Conn, error) {
				time.Sleep(100 * time.Millisecond) // longer than it takes to make a System
				return dial(ctx, network, addr)
			}},
		},
		"of a client of which this is a clone": {
			with: func(c *redis.Client) *redis.Client { return c.WithTimeout(-1) },
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := redistest.Start(t)
			test.options.Addr = server.Addr
			if test.options.ReadTimeout == 0 {
				test.options.ReadTimeout, test.options.WriteTimeout = -1, -1
			}
			client := redis.NewClient(&test.options)
			t.Cleanup(func() { _ = client.Close() })
			if test.with != nil {
				client = test.with(client)
			}
			f := fixtureOn(t, client)
			_, err := f.Strict().Inc(f.ctx, keyA, 1)
			require.NoError(t, err)
			if test.before != nil {
				test.before(t, f)
			}
			server.Pause(t)
			defer server.Resume(t)
			left := make(chan error, 1)
			go func() {
				ctx, cancel := context.WithTimeout(f.ctx, 50*time.Millisecond)
				defer cancel()
				_, err := f.Strict().Inc(ctx, keyA, 1)
				left <- err
			}()
			select {
			case err := <-left:
				require.ErrorIs(t, err, context.DeadlineExceeded)
			case <-time.After(10 * time.Second):
				t.Error("it goes on waiting")
			}
		})
	}
}

// Connections at rest that the server has closed are found out before they are used, by
// ours and by the client's other users.
func TestCarrier_connectionsThatAreClosed(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	client := redistest.NewClient(t, &redis.Options{Addr: server.Addr, PoolSize: 20, MaxRetries: -1})
	admin := redistest.NewClient(t, &redis.Options{Addr: server.Addr})
	f := fixtureOn(t, client)
	events := recordEvents(t, f.System)
	for _, use := range []func() error{
		func() error { _, err := f.Strict().Inc(f.ctx, keyA, 1); return err },
		func() error { _, err := f.Strict().Get(f.ctx, keyA); return err },
		func() error { return client.Ping(f.ctx).Err() },
	} {
		require.NoError(t, use())
		require.NoError(t, admin.Do(f.ctx, "client", "kill", "type", "normal", "skipme", "yes").Err())
		require.Eventually(t, func() bool { return connected(t, admin) == 1 }, 10*time.Second, time.Millisecond)
		require.NoError(t, use())
	}
	require.Empty(t, events.all())
}

// connected is how many clients a server has.
func connected(t *testing.T, admin *redis.Client) (n int) {
	t.Helper()
	info, err := admin.InfoMap(context.Background(), "clients").Result()
	require.NoError(t, err)
	_, err = fmt.Sscan(info["Clients"]["connected_clients"], &n)
	require.NoError(t, err)
	return n
}

// The client gives its sockets the deadlines of contexts, and a socket may tell before the
// context does: that is no outage.
func TestCarrier_socketsWithTheContextsDeadline(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	f := fixtureOn(t, redistest.NewClient(t, &redis.Options{Addr: server.Addr, ContextTimeoutEnabled: true}))
	events := recordEvents(t, f.System)
	for range 20 {
		_, err := f.Strict().Inc(f.ctx, keyA, 1)
		require.NoError(t, err)
		server.Pause(t)
		ctx, cancel := context.WithTimeout(f.ctx, 20*time.Millisecond)
		_, err = f.Strict().Inc(ctx, keyA, 1)
		cancel()
		require.ErrorIs(t, err, context.DeadlineExceeded)
		server.Resume(t)
	}
	require.Empty(t, events.all())
}
