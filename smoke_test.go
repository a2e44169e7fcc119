package distkit

import (
	"context"
	"math"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"
)

func TestSmoke(t *testing.T) {
	c := redis.NewClient(&redis.Options{Addr: "localhost:16400"})
	defer c.Close()
	c.FlushAll(context.Background())
	s, err := NewSystem(c)
	require.NoError(t, err)
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	for _, k := range []Counter{s.Strict(), s.Lax()} {
		a := MustKey("a")
		v, err := k.Inc(ctx, a, 5)
		require.NoError(t, err)
		require.EqualValues(t, 5, v)
		v, err = k.Dec(ctx, a, 7)
		require.NoError(t, err)
		require.EqualValues(t, -2, v)
		ch, err := k.IncIf(ctx, a, Lt(0), 10)
		require.NoError(t, err)
		require.Equal(t, Change{-2, 8, true}, ch)
		v, err = k.Del(ctx, a)
		require.NoError(t, err)
		require.EqualValues(t, 8, v)
		vs, err := k.IncAll(ctx, Update{a, 1}, Update{a, 2})
		require.NoError(t, err)
		require.Equal(t, []int64{1, 3}, vs)
		require.NoError(t, k.Clear(ctx))
		v, err = k.Get(ctx, a)
		require.NoError(t, err)
		require.EqualValues(t, 0, v)
		v, err = k.Set(ctx, a, math.MaxInt64)
		require.NoError(t, err)
		_, err = k.Inc(ctx, a, 1)
		require.ErrorIs(t, err, ErrOverflow)
		var wg sync.WaitGroup
		b := MustKey("b")
		for range 64 {
			wg.Add(1)
			go func() {
				defer wg.Done()
				for range 1000 {
					_, err := k.Inc(ctx, b, 1)
					if err != nil {
						t.Error(err)
						return
					}
				}
			}()
		}
		start := time.Now()
		wg.Wait()
		t.Log(time.Since(start))
		require.NoError(t, s.Flush(ctx))
		v, err = k.Get(ctx, b)
		require.NoError(t, err)
		require.EqualValues(t, 64000, v)
		require.NoError(t, k.Clear(ctx))
	}
	require.NoError(t, s.Shutdown(ctx))
	t.Log(c.Keys(ctx, "*").Val())
}
