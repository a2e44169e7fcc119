package redisio_test

import (
	"context"
	"net"
	"testing"

	"github.com/distkit/distkit-go/internal/redistest"
	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"
)

// What a Sentinel leads to is asked once whether it is a master, also where the user may
// not ask.
func TestSend_bySentinel_asksOnce(t *testing.T) {
	t.Parallel()
	for name, rule := range map[string]string{"and is told": "+role", "and may not": "-role"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := redistest.Start(t)
			admin := redistest.NewClient(t, &redis.Options{Addr: server.Addr})
			require.NoError(t, admin.Do(t.Context(), "acl", "setuser", "u", "on", ">p", "~*", "+@all", rule).Err())
			f := fixtureOn(t, redistest.NewClient(t, &redis.Options{
				Addr: "FailoverClient", Username: "u", Password: "p",
				Dialer: func(ctx context.Context, network, _ string) (net.Conn, error) {
					return (&net.Dialer{}).DialContext(ctx, network, server.Addr)
				},
			}), admin)
			f.open(t)
			for seq := range int64(3) {
				f.done(t, f.batch(seq+1, inc("a", 1)))
			}
			stats := admin.Info(t.Context(), "commandstats").Val()
			require.Regexp(t, `cmdstat_role:calls=[01],.*rejected_calls=[01],`, stats)
		})
	}
}
