package foreign

import (
	"context"
	"runtime"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

// diary is a receiver that keeps what it gets.
type diary struct {
	mu  sync.Mutex
	got []int
}

func (d *diary) hand(n int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.got = append(d.got, n)
}

func (d *diary) read() []int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return slices.Clone(d.got)
}

func lost(n int) int { return -n }

func TestQueue_keepsOrder_andHasNoGoroutineWhenIdle(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var d diary
		q := NewQueue(d.hand, 0, nil)
		var want []int
		for i := range 1000 {
			q.Put(i)
			want = append(want, i)
		}
		q.Wait(t.Context())
		require.Equal(t, want, d.read())
		require.False(t, q.running)
	}) // which fails if a goroutine is left
}

func TestQueue_whateverTheReceiverDoes_theNextItemComes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var d diary
		q := NewQueue(func(n int) {
			d.hand(n)
			switch n {
			case 1:
				panic("a bug of the receiver's")
			case 2:
				runtime.Goexit()
			}
		}, 0, nil)
		for i := range 4 {
			q.Put(i)
		}
		q.Wait(t.Context())
		require.Equal(t, []int{0, 1, 2, 3}, d.read())
	})
}

func TestQueue_full_tellsWhatIsLost_andWaitKeepsToItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var d diary
		gate := make(chan struct{})
		q := NewQueue(func(n int) {
			<-gate
			d.hand(n)
		}, 2, lost)
		q.Put(1)
		synctest.Wait() // it is at the gate
		for i := range 5 {
			q.Put(i + 2)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		q.Wait(ctx)
		require.Error(t, ctx.Err())
		close(gate)
		q.Wait(t.Context())
		require.Equal(t, []int{1, 2, 3, -3}, d.read())
		q.Put(9)
		q.Wait(t.Context())
		require.Equal(t, []int{1, 2, 3, -3, 9}, d.read())
	})
}
