package redisio_test

import (
	"context"
	"net"
	"testing"

	"github.com/distkit/distkit-go/internal/redisio"
	"github.com/distkit/distkit-go/internal/redistest"
	"github.com/distkit/distkit-go/internal/verb"
	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"
)

// letGo has a client say that it is closed, as a ClusterClient does of a node that it has
// let go.
type letGo struct{}

func (letGo) DialHook(redis.DialHook) redis.DialHook {
	return func(context.Context, string, string) (net.Conn, error) { return nil, redis.ErrClosed }
}

func (letGo) ProcessHook(redis.ProcessHook) redis.ProcessHook {
	return func(_ context.Context, cmd redis.Cmder) error {
		cmd.SetErr(redis.ErrClosed)
		return redis.ErrClosed
	}
}

func (letGo) ProcessPipelineHook(redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(context.Context, []redis.Cmder) error { return redis.ErrClosed }
}

// A ClusterClient counts as closed when five attempts in a row for one container say so.
// Those for many, which may all have met one node, do not add up.
func TestSend_closed_countsForAContainer(t *testing.T) {
	t.Parallel()
	client := redis.NewClusterClient(&redis.ClusterOptions{Addrs: []string{redistest.Options(t).Addr}})
	t.Cleanup(func() { _ = client.Close() })
	client.AddHook(letGo{})
	sender := redisio.New(client)
	send := func(shard int) redisio.Class {
		call := &redisio.Call{
			Task: redisio.Read, At: redisio.NewContainer("p", redisio.ShardName(redisio.StrictKind, shard, 64)),
			Ops: []verb.Keyed{{Key: "a", Op: verb.Op{Kind: verb.Get}}},
		}
		sender.Send(t.Context(), []*redisio.Call{call})
		return call.Class
	}
	for attempt := range 5 {
		for shard := range 64 {
			want := redisio.NotYet
			if attempt == 4 {
				want = redisio.Closed
			}
			require.Equal(t, want, send(shard), "attempt %d, shard %d", attempt, shard)
		}
	}
}
