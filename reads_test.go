package distkit_test

import (
	"strconv"
	"strings"
	"testing"

	"github.com/distkit/distkit-go"
	"github.com/distkit/distkit-go/internal/redistest"
	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"
)

// info is a number of Redis's INFO.
func info(t *testing.T, f *fixture, section, name string) int {
	t.Helper()
	text, err := f.client.Info(f.ctx, section).Result()
	require.NoError(t, err)
	for line := range strings.SplitSeq(text, "\r\n") {
		if value, found := strings.CutPrefix(line, name+":"); found {
			n, err := strconv.Atoi(value)
			require.NoError(t, err)
			return n
		}
	}
	t.Fatalf("INFO has no %s", name)
	return 0
}

// Strict reads leave nothing behind: no byte in the append-only file, no key.
func TestStrictReads_writeNothing(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t, redistest.Durable...)
	f := fixtureOn(t, redistest.NewClient(t, &redis.Options{Addr: server.Addr}))
	written := func() int { return info(t, f, "persistence", "aof_current_size") }

	for range 10 { // of one who has never written
		got, err := f.Strict().Get(f.ctx, keyA)
		require.NoError(t, err)
		require.Zero(t, got)
	}
	require.Zero(t, f.client.DBSize(f.ctx).Val())

	_, err := f.Strict().IncAll(f.ctx, distkit.Update{Key: keyA, N: 5}, distkit.Update{Key: keyB, N: 7})
	require.NoError(t, err)
	before := written()
	for range 1_000 {
		got, err := f.Strict().Get(f.ctx, keyA)
		require.NoError(t, err)
		require.EqualValues(t, 5, got)
		all, err := f.Strict().GetAll(f.ctx, keyB, keyC, keyA)
		require.NoError(t, err)
		require.Equal(t, []int64{7, 0, 5}, all)
	}
	require.Equal(t, before, written())

	_, err = f.Strict().Inc(f.ctx, keyA, 1)
	require.NoError(t, err)
	require.Greater(t, written(), before, "of a write it would have been seen")
}
