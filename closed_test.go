package distkit_test

import (
	"context"
	"testing"

	"github.com/distkit/distkit-go"
	"github.com/distkit/distkit-go/internal/redistest"
	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"
)

// A client that is closed never answers again: calls, Flush and Shutdown end at once
// though their context does not, and what is told adds up.
func TestClosedClient_endsWhatIsLeft(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t, "--cluster-enabled", "yes")
	node := redistest.NewClient(t, &redis.Options{Addr: server.Addr})
	redistest.AwaitCluster(t, node)
	for name, client := range map[string]redis.UniversalClient{
		"plain":   redis.NewClient(redistest.Options(t)),
		"cluster": redis.NewClusterClient(&redis.ClusterOptions{Addrs: []string{server.Addr}}),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			prefix := redistest.Prefix(t, redistest.Client(t))
			f := &fixture{prefix: prefix, ctx: context.WithoutCancel(t.Context())}
			var err error
			f.System, err = distkit.NewSystem(client, distkit.WithPrefix(distkit.MustKey(prefix)), distkit.WithLogger(quiet), distkit.WithAllowedLag(never))
			require.NoError(t, err)
			for kind, c := range f.counters() {
				_, err := c.Inc(f.ctx, keyA, 1)
				require.NoError(t, err, kind)
			}
			f.flush(t)
			require.NoError(t, client.Close())
			_, err = f.Strict().Inc(f.ctx, keyA, 1)
			requireNotApplied(t, err, redis.ErrClosed)
			_, err = f.Strict().Get(f.ctx, keyA)
			requireNotApplied(t, err, redis.ErrClosed)
			_, err = f.Lax().Get(f.ctx, keyB) // never seen
			requireNotApplied(t, err, redis.ErrClosed)
			_, err = f.Lax().Del(f.ctx, keyA)
			requireNotApplied(t, err, redis.ErrClosed)
			requireNotApplied(t, f.Lax().Clear(f.ctx), redis.ErrClosed)
			require.NoError(t, f.Lax().Add(keyB, 7))
			var left *distkit.UnflushedError
			require.ErrorAs(t, f.Flush(f.ctx), &left)
			require.Len(t, left.Changes, 1)
			require.EqualValues(t, 7, left.Changes[0].N)
			requireNotApplied(t, left.Changes[0].Err, redis.ErrClosed)
			require.NoError(t, f.Lax().Add(keyB, 8))
			require.ErrorAs(t, f.Shutdown(f.ctx), &left)
			require.Len(t, left.Changes, 1)
			require.EqualValues(t, 8, left.Changes[0].N)
		})
	}
}
