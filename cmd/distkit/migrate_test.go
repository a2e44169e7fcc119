package main

import (
	"context"
	"fmt"
	"sync"
	"testing"

	"github.com/distkit/distkit-go"
	"github.com/stretchr/testify/require"
)

func TestMigrate(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	for i := range 250 {
		require.NoError(t, f.client.Set(f.ctx, fmt.Sprintf("%s-old:k%d", f.prefix, i), i, 0).Err())
	}
	f.says("set", "k7", "100")
	from := []string{"migrate", "--match", f.prefix + "-old:*", "--strip", f.prefix + "-old:"}
	require.Equal(t, fmt.Sprintf(`would move 250 strings to strict counters under %q`, f.prefix), f.says(append(from, "--dry-run")...))
	require.Equal(t, "100", f.says("get", "k7"))
	require.Equal(t, fmt.Sprintf(`moved 250 strings to strict counters under %q`, f.prefix), f.says(from...))
	require.Equal(t, "107", f.says("get", "k7"), "it is added to what was counted already")
	require.Equal(t, "249", f.says("get", "k249"))
	require.Empty(t, f.client.Keys(f.ctx, f.prefix+"-old:*").Val())
	require.Equal(t, "1", f.client.Get(f.ctx, f.prefix+":layout").Val())
	require.Contains(t, f.says(from...), "moved 0 strings", "and again")
}

func TestMigrate_whatCannotBeMovedStays(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	old := f.prefix + "-old:"
	require.NoError(t, f.client.MSet(f.ctx, old+"text", "seven", old+"padded", "007", old+"big", "9223372036854775808",
		old+"most", "9223372036854775807", old+"good", "-3", old+"app:layout", "4").Err())
	require.NoError(t, f.client.Set(f.ctx, old+"short", 5, 1e12).Err())
	require.NoError(t, f.client.LPush(f.ctx, old+"list", 1).Err())
	f.says("inc", "most")
	var told migration
	out, err := f.run("migrate", "--match", old+"*", "--strip", old, "-o", "json")
	require.EqualError(t, err, "7 strings stay")
	for _, why := range []string{"no whole number: seven", "no whole number: 007", "not an integer", "overflow", "layout of counters of another prefix", "it expires", "no string but a list"} {
		require.Contains(t, out, why)
	}
	require.Contains(t, out, `"moved": 1`)
	require.Equal(t, "-3", f.says("get", "good"))
	require.Equal(t, "1", f.says("get", "most"))
	require.Equal(t, int64(7), f.client.Exists(f.ctx, old+"text", old+"padded", old+"big", old+"most", old+"app:layout", old+"short", old+"list").Val())
	f.tells(&told, "migrate", "--match", old+"short", "--strip", old, "--expiring")
	require.Equal(t, int64(1), told.Moved)
	f.tells(&told, "migrate", "--match", f.prefix+":*")
	require.Zero(t, told.Moved+told.LeftCount, "what is the library's own is passed over")
}

// Nothing is counted twice or lost while old programs go on to count, and a run is broken
// off.
func TestMigrate_whileOthersCount(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.system(distkit.WithShards(4)).Strict()
	_, err := f.system(distkit.WithShards(4)).Strict().Inc(f.ctx, distkit.MustKey("other"), 1)
	require.NoError(t, err)
	old := f.prefix + "-old:"
	const each = 2000
	var counting sync.WaitGroup
	for i := range 4 {
		counting.Go(func() {
			for n := range each {
				f.client.Incr(f.ctx, fmt.Sprintf("%s%d", old, (n+i)%10))
			}
		})
	}
	from := []string{"migrate", "--match", old + "*", "--strip", old}
	for range 10 {
		broken := *f
		ctx, cancel := context.WithTimeout(f.ctx, 3e6)
		broken.ctx = ctx
		_, _ = broken.run(from...)
		cancel()
		f.says(from...)
	}
	counting.Wait()
	f.says(from...)
	var values []value
	f.tells(&values, "ls", "?")
	sum := int64(0)
	for _, v := range values {
		sum += v.Value
	}
	require.Equal(t, int64(4*each), sum)
}
