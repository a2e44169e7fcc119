package verb

import (
	"context"
	"errors"
	"math"
	"math/big"
	"testing"

	"github.com/stretchr/testify/require"
)

var edges = []int64{math.MinInt64, math.MinInt64 + 1, -1 << 53, -2, -1, 0, 1, 2, 1 << 53, math.MaxInt64 - 1, math.MaxInt64}

func TestAddSub_agreeWithBigIntegers(t *testing.T) {
	t.Parallel()
	for _, a := range edges {
		for _, b := range edges {
			exact := new(big.Int).Add(big.NewInt(a), big.NewInt(b))
			sum, ok := Add(a, b)
			require.Equal(t, exact.IsInt64(), ok, "%d + %d", a, b)
			if ok {
				require.Equal(t, exact.Int64(), sum)
			}
			exact.Sub(big.NewInt(a), big.NewInt(b))
			diff, ok := Sub(a, b)
			require.Equal(t, exact.IsInt64(), ok, "%d - %d", a, b)
			if ok {
				require.Equal(t, exact.Int64(), diff)
			}
		}
	}
}

func TestErrors_haveAClassAndACause(t *testing.T) {
	t.Parallel()
	err := NotApplied(Hint(context.DeadlineExceeded, errors.New("connection refused")))
	require.ErrorIs(t, err, ErrNotApplied)
	require.ErrorIs(t, err, context.DeadlineExceeded)
	require.NotErrorIs(t, err, ErrOutcomeUnknown)
	require.ErrorContains(t, err, "connection refused")
	require.NotErrorIs(t, Unknown(ErrClosed), ErrNotApplied)
	require.Equal(t, ErrClosed, Hint(ErrClosed, nil))
	hinted := Hint(ErrClosed, context.Canceled)
	require.ErrorIs(t, hinted, ErrClosed)
	require.NotErrorIs(t, hinted, context.Canceled, "the trouble is not the cause")
}
