package distkit_test

import (
	"context"
	"fmt"
	"log/slog"
	"testing"
	"time"

	"github.com/distkit/distkit-go"
	"github.com/distkit/distkit-go/internal/redistest"
	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"
)

// Every error says which counter, what happened and what to do, and "distkit:" once.
func TestErrors_sayWhichCounterAndWhatToDo(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	admin := redistest.NewClient(t, &redis.Options{Addr: server.Addr})
	require.NoError(t, admin.Do(t.Context(), "acl", "setuser", "reader", "on", ">p", "~*", "+@read").Err())
	require.NoError(t, admin.Do(t.Context(), "acl", "setuser", "default", "on", ">secret").Err())
	for name, c := range map[string]struct {
		options redis.Options
		says    string
	}{
		"no password":    {redis.Options{}, "set Username and Password"},
		"wrong password": {redis.Options{Username: "reader", Password: "x"}, "see the options of the client"},
		"no permission":  {redis.Options{Username: "reader", Password: "p"}, "see the README"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c.options.Addr = server.Addr
			client := redistest.NewClient(t, &c.options)
			system, err := distkit.NewSystem(client, distkit.WithLogger(slog.New(slog.DiscardHandler)))
			require.NoError(t, err)
			key := distkit.MustKey("orders")
			_, err = system.Strict().Inc(t.Context(), key, 1)
			requireOnce(t, err, `"orders": not applied: `, c.says)

			_, err = system.Strict().PID(key).Request(t.Context(), distkit.Inc{N: 1})
			requireOnce(t, err, `"orders": not applied: `, c.says)

			_, err = system.Strict().IncAll(t.Context(), distkit.Update{Key: key, N: 1}, distkit.Update{Key: key, N: 1})
			requireOnce(t, err, "not applied: 2 of 2 operations", `"orders"`, c.says)
			require.NoError(t, system.Lax().Add(key, 1))
			ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
			defer cancel()
			err = system.Flush(ctx)
			require.ErrorIs(t, err, context.DeadlineExceeded)
			requireOnce(t, err, "last from Redis: ", c.says)
			requireOnce(t, system.Shutdown(ctx), `"orders" +1: not applied`, c.says)
		})
	}
}

func requireOnce(t testing.TB, err error, says ...string) {
	t.Helper()
	require.Error(t, err)
	text := err.Error()
	for _, s := range append(says, "distkit: ") {
		require.Contains(t, text, s)
	}
	require.NotContains(t, text[1:], "distkit: ", "it is said twice")
	require.Equal(t, text, fmt.Sprint(err))
}
