// What nobody waits for and Redis, or the end of the System, refuses: it is
// said by an event, or it would be lost without a word.
package faults_test

import (
	"context"
	"math"
	"testing"
	"time"

	"github.com/distkit/distkit-go"
	"github.com/distkit/distkit-go/internal/redistest"
	"github.com/stretchr/testify/require"
)

// TestSendRefused_isReported sends without waiting what will fail in each of
// the ways, and waits for as many MessageRefused.
func TestSendRefused_isReported(t *testing.T) {
	t.Parallel()
	key := distkit.MustKey("a")
	for _, c := range []struct {
		name   string
		refuse func(ctx context.Context, t *testing.T, system *distkit.System, server *redistest.Server)
		sends  int
	}{
		{"overflow", func(ctx context.Context, t *testing.T, system *distkit.System, _ *redistest.Server) {
			_, err := system.Strict().Set(ctx, key, math.MaxInt64)
			require.NoError(t, err)
			system.Strict().PID(key).Send(distkit.Inc{N: 1})
		}, 1},
		{"out of memory", func(ctx context.Context, t *testing.T, system *distkit.System, server *redistest.Server) {
			require.NoError(t, serverAdmin(t, server.Addr).ConfigSet(ctx, "maxmemory", "1").Err())
			system.Strict().PID(key).Send(distkit.Inc{N: 1})
		}, 1},
		{"shut down without Redis", func(ctx context.Context, t *testing.T, system *distkit.System, server *redistest.Server) {
			server.Kill(t)
			system.Strict().PID(key).Send(distkit.Inc{N: 1})
			system.Lax().PID(key).Send(distkit.IncIf{If: distkit.Always(), N: 1})
			brief, cancel := context.WithTimeout(ctx, 100*time.Millisecond)
			defer cancel()
			require.Error(t, system.Shutdown(brief))
		}, 2},
	} {
		t.Run(c.name, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(context.Background(), serverPatience)
			defer cancel()
			server := redistest.Start(t)
			system, events := serverSystem(t, redistest.NewClient(t, serverOptions(server.Addr)), "p")
			c.refuse(ctx, t, system, server)
			reported := 0
			events.await(func(e distkit.Event) bool {
				if _, refused := e.(distkit.MessageRefused); refused {
					reported++
				}
				return reported == c.sends
			})
			require.Equal(t, c.sends, reported)
			_ = system.Shutdown(ctx) // a second call tells what the first did
		})
	}
}
