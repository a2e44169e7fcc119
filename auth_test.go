package distkit_test

// Passwords and permissions.

import (
	"context"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/distkit/distkit-go"
	"github.com/distkit/distkit-go/internal/redistest"
	"github.com/stretchr/testify/require"
)

func TestWrongPassword_failsAtOnce(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t, "--requirepass", "right")
	for _, password := range []string{"", "wrong"} {
		options := patient(server.Addr)
		options.Password = password
		system, err := distkit.NewSystem(redistest.NewClient(t, options))
		require.NoError(t, err)
		ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
		defer cancel()
		for _, c := range []distkit.Counter{system.Strict(), system.Lax()} {
			_, err = c.Inc(ctx, keyA, 1)
			requireNotApplied(t, err, distkit.ErrNotApplied)
			require.NotErrorIs(t, err, context.DeadlineExceeded)
			require.Regexp(t, "NOAUTH|WRONGPASS|unauthenticated", err.Error())
		}
		// To more than ten arguments Redis has another answer.
		_, err = system.Strict().IncAll(ctx, distkit.Update{Key: keyA, N: 1}, distkit.Update{Key: keyB, N: 1})
		requireNotApplied(t, err, distkit.ErrNotApplied)
		require.NotErrorIs(t, err, context.DeadlineExceeded)
		require.NoError(t, system.Shutdown(ctx))
	}
}

// TestPermissions_thatTheReadmeNames_suffice gives a user just those.
func TestPermissions_thatTheReadmeNames_suffice(t *testing.T) {
	t.Parallel()
	readme, err := os.ReadFile("README.md")
	require.NoError(t, err)
	_, text, found := strings.Cut(string(readme), "A user with ACLs needs\n`~<prefix>:*` and `")
	require.True(t, found)
	text, _, _ = strings.Cut(text, "`")

	server := redistest.Start(t)
	ctx := context.Background()
	for _, prefix := range []string{"p", "app:env"} {
		rules := append([]string{"counter", "reset", "on", ">secret", "~" + prefix + ":*"}, strings.Fields(text)...)
		require.NoError(t, redistest.NewClient(t, patient(server.Addr)).ACLSetUser(ctx, rules[0], rules[1:]...).Err())
		options := patient(server.Addr)
		options.Username, options.Password, options.DisableIdentity = "counter", "secret", true
		system, err := distkit.NewSystem(redistest.NewClient(t, options), distkit.WithPrefix(distkit.MustKey(prefix)))
		require.NoError(t, err)
		for _, c := range []distkit.Counter{system.Strict(), system.Lax()} {
			for _, n := range []int64{1, 1 << 60} {
				_, err = c.Inc(ctx, keyA, n)
				require.NoError(t, err)
				require.NoError(t, system.Flush(ctx))
			}
			_, err = c.SetIf(ctx, keyA, distkit.Gt(0), -1)
			require.NoError(t, err)
			_, err = c.Dec(ctx, keyA, -1<<63)
			require.NoError(t, err)
			_, err = c.Del(ctx, keyA)
			require.NoError(t, err)
			require.NoError(t, c.Clear(ctx))
		}
		tx := distkit.Tx{ID: "it", Steps: []distkit.Step{on(keyA, distkit.Set{N: 1}), on(keyA, distkit.Del{}), on(keyB, distkit.Inc{N: 1})}}
		out, err := system.Strict().Apply(ctx, tx)
		require.NoError(t, err)
		require.True(t, out.Applied)
		_, found, err := system.Strict().Outcome(ctx, "it")
		require.NoError(t, err)
		require.True(t, found)
		require.NoError(t, system.Shutdown(ctx))
	}
}
