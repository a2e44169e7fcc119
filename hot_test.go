package distkit_test

import (
	"errors"
	"math"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/distkit/distkit-go"
	"github.com/stretchr/testify/require"
)

// One counter that many callers increment: in a batch they travel as one, and each is
// told its own value, also where some of them no longer fit.
func TestStrict_hotCounter_tellsEachItsOwn(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	const callers, fit = 64, 40
	for range 20 {
		_, err := f.Strict().Set(f.ctx, keyA, math.MaxInt64-fit)
		require.NoError(t, err)
		var told [fit]atomic.Int32
		var refused atomic.Int32
		var calls sync.WaitGroup
		for range callers {
			calls.Go(func() {
				n, err := f.Strict().Inc(f.ctx, keyA, 1)
				if err == nil {
					told[math.MaxInt64-n].Add(1)
				} else {
					refused.Add(1)
					if !errors.Is(err, distkit.ErrOverflow) || !errors.Is(err, distkit.ErrNotApplied) {
						t.Error(err)
					}
				}
			})
		}
		calls.Wait()
		require.EqualValues(t, callers-fit, refused.Load())
		for at := range told {
			require.EqualValues(t, 1, told[at].Load(), "%d", at)
		}
		n, err := f.Strict().Get(f.ctx, keyA)
		require.NoError(t, err)
		require.EqualValues(t, math.MaxInt64, n)
	}
}
