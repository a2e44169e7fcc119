package redisio_test

import (
	"context"
	"testing"
	"time"

	"github.com/distkit/distkit-go/internal/line"
	"github.com/distkit/distkit-go/internal/redisio"
	"github.com/distkit/distkit-go/internal/redistest"
	"github.com/distkit/distkit-go/internal/verb"
	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"
)

// fixture is a container of a test's own in a Redis, and the Sender to it.
type fixture struct {
	redisio.Sender
	at     *redisio.Container
	prefix string
	admin  *redis.Client
	ctx    context.Context
	nonces uint64
}

// newFixture is one on the shared Redis.
func newFixture(t *testing.T) *fixture {
	t.Helper()
	client := redistest.Client(t)
	return fixtureOn(t, client, client)
}

// fixtureOn sends by one client, and looks by another.
func fixtureOn(t *testing.T, client redis.UniversalClient, admin *redis.Client) *fixture {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	t.Cleanup(cancel)
	prefix := redistest.Prefix(t, admin)
	return &fixture{redisio.New(client), redisio.NewContainer(prefix, "strict_counter"), prefix, admin, ctx, 0}
}

// mark is the name of the mark of who emptied the container.
func (f *fixture) mark() string { return f.prefix + ":cleared:{" + f.at.Name + "}" }

// call is a call, with the script's text: its hash may not be known yet.
func (f *fixture) call(task redisio.Task, ops ...verb.Keyed) *redisio.Call {
	return &redisio.Call{Task: task, At: f.at, Writer: "w", Lifetime: time.Hour, Text: true, Ops: ops}
}

// batch is the batch of a number, the nonces being the numbers.
func (f *fixture) batch(seq int64, ops ...verb.Keyed) *redisio.Call {
	c := f.call(redisio.Apply, ops...)
	c.Seq, c.Nonce, c.Previous = seq, uint64(seq)+1, uint64(seq)
	return c
}

// open opens the lane of the batches.
func (f *fixture) open(t *testing.T) {
	t.Helper()
	c := f.call(redisio.Open)
	c.Previous = 1
	f.send(c)
	require.Equal(t, redisio.Answered, c.Class, "%v", c.Err)
	require.Equal(t, redisio.Opened, c.Status)
}

func (f *fixture) send(calls ...*redisio.Call) { f.Send(f.ctx, calls) }

// done sends a call that is to be carried out.
func (f *fixture) done(t *testing.T, c *redisio.Call) *redisio.Call {
	t.Helper()
	f.send(c)
	require.Equal(t, redisio.Answered, c.Class, "%v", c.Err)
	require.Equal(t, redisio.Done, c.Status)
	return c
}

func (f *fixture) stored() map[string]string { return f.admin.HGetAll(f.ctx, f.at.Name).Val() }

func op(kind verb.Kind, key string, n int64) verb.Keyed {
	return verb.Keyed{Key: key, Op: verb.Op{Kind: kind, N: n}}
}

func inc(key string, n int64) verb.Keyed { return op(verb.Inc, key, n) }

func silent(key string, n int64) verb.Keyed {
	o := inc(key, n)
	o.Silent = true
	return o
}

// connected is a client of one connection that goes by a line, and has it.
func connected(t *testing.T, l *line.Line, options redis.Options) *redis.Client {
	t.Helper()
	options.PoolSize = 1
	client := redistest.NewClient(t, l.Lead(options))
	require.NoError(t, client.Ping(t.Context()).Err())
	return client
}

// hook is a hook of a user's around commands.
type hook func(ctx context.Context, cmd redis.Cmder, next redis.ProcessHook) error

func (hook) DialHook(next redis.DialHook) redis.DialHook { return next }

func (h hook) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error { return h(ctx, cmd, next) }
}

func (h hook) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		return h(ctx, cmds[0], func(ctx context.Context, _ redis.Cmder) error { return next(ctx, cmds) })
	}
}
