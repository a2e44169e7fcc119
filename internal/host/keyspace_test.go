package host

import (
	"runtime"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"
)

// tallies is a cell that counts what it is sent, for all lives of its key.
type tallies struct {
	Key
	book *book
	held atomic.Bool // it is not quiet
}

// book is what the cells of a keyspace write to.
type book struct {
	mu     sync.Mutex
	sums   map[string]int64
	lives  map[string]int
	handle func(*tallies, any)
}

func (c *tallies) Quiet() bool { return !c.held.Load() }

func (c *tallies) Receive(message any) {
	b := c.book
	if b.handle != nil {
		b.handle(c, message)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	switch message := message.(type) {
	case Started:
		b.lives[c.Name]++
	case Folded:
		b.sums[c.Name] += c.Box.Take()
	case int64:
		b.sums[c.Name] += message
	}
}

func newKeyspace(t *testing.T, woken func()) (*Keyspace[*tallies], *book) {
	t.Helper()
	b := &book{sums: map[string]int64{}, lives: map[string]int{}}
	k := new(Keyspace[*tallies])
	k.Init(newHost(t, silent{}), "keys", func() *tallies { return &tallies{book: b} }, woken)
	return k, b
}

func (k *Keyspace[C]) sweepAll() {
	for range sweeps {
		k.Sweep()
	}
}

func TestKeyspace_keyLivesFromItsFirstMessage_andSleepsWhenIdle(t *testing.T) {
	t.Parallel()
	woken := 0
	k, b := newKeyspace(t, func() { woken++ })
	require.Zero(t, k.Size())
	for life := 1; life <= 3; life++ {
		require.True(t, k.Offer("a", int64(1)))
		require.True(t, k.Offer("a", int64(2)))
		require.True(t, k.Offer("b", int64(3)))
		require.Equal(t, 2, k.Size())
		require.Len(t, k.All(), 2)
		require.Equal(t, 2*life, woken)
		a, ok := k.Find("a")
		require.True(t, ok)
		require.Equal(t, "a", a.Name)

		a.held.Store(true)
		k.sweepAll()
		require.Equal(t, []*tallies{a}, k.All(), "the one that holds something")
		a.held.Store(false)
		k.sweepAll()
		require.Zero(t, k.Size())
		_, ok = k.Find("a")
		require.False(t, ok)
		require.Equal(t, Sleeping, a.Box.Offer(int64(4)), "the old one takes nothing")
	}
	require.Equal(t, map[string]int64{"a": 9, "b": 9}, b.sums)
	require.Equal(t, map[string]int{"a": 3, "b": 3}, b.lives)
	require.Equal(t, 1, listed(k.host), "keys' actors are in nobody's list")
}

func TestKeyspace_closed_takesNothing_andStopsWhatThereIs(t *testing.T) {
	t.Parallel()
	k, b := newKeyspace(t, func() {})
	require.True(t, k.Offer("a", int64(1)))
	cells := k.Close()
	require.Len(t, cells, 1)
	require.False(t, k.Offer("a", int64(1)))
	require.False(t, k.Offer("b", int64(1)))
	require.False(t, k.Reach("a", func(box *Mailbox) Offered { return box.Add(1) }))
	require.True(t, cells[0].Box.Post(int64(5)), "of work already accepted")
	k.sweepAll()
	require.Equal(t, 1, k.Size(), "it stays to be looked at")
	k.Stop()
	cells[0].Box.Post("left")
	require.Equal(t, []any{"left"}, cells[0].Box.Drain())
	require.Equal(t, map[string]int64{"a": 6}, b.sums)
}

// A key's actor that panics is restarted with its cell, and goes on with what came
// meanwhile.
func TestKeyspace_panic_restartsTheKeyOnItsCell(t *testing.T) {
	t.Parallel()
	k, b := newKeyspace(t, func() {})
	var seen []any
	restarted := make(chan struct{})
	b.handle = func(_ *tallies, message any) {
		seen = append(seen, message)
		switch message {
		case "bug":
			require.True(t, k.Offer("a", int64(7)))
			panic("a bug")
		case int64(7):
			close(restarted)
		}
	}
	require.True(t, k.Offer("a", "bug"))
	<-restarted
	require.Equal(t, []any{Started{}, "bug", Restarting{}, Started{}, int64(7)}, seen)
	require.Equal(t, 1, k.Size())
	k.Close()
	k.Stop()
	require.Equal(t, Stopped{}, seen[5])
	require.EqualValues(t, 7, b.sums["a"])
}

// Whoever makes a key runs it, and holds no lock of the keyspace then.
func TestKeyspace_runsItsKeysWithoutItsLock(t *testing.T) {
	t.Parallel()
	k, b := newKeyspace(t, func() {})
	held := 0
	b.handle = func(_ *tallies, message any) {
		if message == (Stopped{}) {
			return
		}
		if !k.mu.TryLock() {
			held++
			return
		}
		k.mu.Unlock()
	}
	require.True(t, k.Offer("a", int64(1)))
	require.Zero(t, held)
}

// Many send to a few keys, which the sweeper puts to sleep as fast as it can, and in
// the end they are closed and stopped: what was taken has been counted, or is left
// to be taken out, once.
func TestKeyspace_offerSleepWakeCloseStop_inAnyOrder(t *testing.T) {
	t.Parallel()
	const keys, senders, each = 3, 6, 400
	k, b := newKeyspace(t, func() {})
	var took [keys]atomic.Int64
	var sending sync.WaitGroup
	send := func(n int) {
		for i := range n {
			at := i % keys
			name := strconv.Itoa(at)
			if k.Offer(name, int64(1)) {
				took[at].Add(1)
			}
			if k.Reach(name, func(box *Mailbox) Offered { return box.Add(10) }) {
				took[at].Add(10)
			}
			if i%8 == 0 {
				k.sweepAll()
			}
		}
	}
	for range senders {
		sending.Go(func() { send(each) })
	}
	sending.Wait()
	for k.Size() > 0 { // a goroutine that took a key over from its sender may still run it
		k.sweepAll()
		runtime.Gosched()
	}
	for range senders {
		sending.Go(func() { send(each) })
	}
	half := took[0].Load() * 3 / 2 // of what is still to come
	sending.Go(func() {
		for took[0].Load() < half {
			k.Sweep()
		}
		k.Close()
	})
	sending.Wait()
	k.Stop()
	sums := [keys]int64{}
	for at := range sums {
		name := strconv.Itoa(at)
		sums[at] = b.sums[name]
		require.Greater(t, b.lives[name], 1)
	}
	for _, c := range k.All() {
		at, err := strconv.Atoi(c.Name)
		require.NoError(t, err)
		for _, message := range c.Box.Drain() {
			switch message := message.(type) {
			case int64:
				sums[at] += message
			case *Increments:
				sums[at] += message.N
			}
		}
	}
	for at := range sums {
		require.Equal(t, took[at].Load(), sums[at], "key %d", at)
	}
}
