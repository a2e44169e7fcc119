package actors

import (
	"math"
	"sync"
	"testing"

	"github.com/asynkron/protoactor-go/actor"
	"github.com/stretchr/testify/require"
)

// invoker records what a mailbox has handled.
type invoker struct {
	mu      sync.Mutex
	handled []any
	failed  []any
	handle  func(message any)
}

func (i *invoker) InvokeSystemMessage(message any) { i.InvokeUserMessage(message) }

func (i *invoker) InvokeUserMessage(message any) {
	i.mu.Lock()
	i.handled = append(i.handled, message)
	i.mu.Unlock()
	if i.handle != nil {
		i.handle(message)
	}
}

func (i *invoker) EscalateFailure(reason, _ any) { i.failed = append(i.failed, reason) }

// openBox is a mailbox whose actor callers run.
func openBox(i *invoker) *mailbox {
	m := &mailbox{boxKind: &boxKind{}, inline: true}
	m.RegisterHandlers(i, nil)
	m.open()
	return m
}

func TestMailbox_handlesInOrder_onceEach_oneAtATime(t *testing.T) {
	t.Parallel()
	for _, inline := range []bool{false, true} {
		var done sync.WaitGroup
		running := 0
		i := &invoker{handle: func(any) {
			running++
			if running != 1 {
				t.Error("two goroutines in one actor")
			}
			running--
			done.Done()
		}}
		m := &mailbox{boxKind: &boxKind{}, inline: inline}
		m.PostUserMessage([2]int{0, 0}) // before there is an actor
		done.Add(1)
		m.RegisterHandlers(i, nil)
		m.open()
		const senders, each = 8, 2000
		done.Add(senders * each)
		for s := 1; s <= senders; s++ {
			go func() {
				for n := 1; n <= each; n++ {
					m.offer([2]int{s, n})
				}
			}()
		}
		done.Wait()
		require.Equal(t, [2]int{0, 0}, i.handled[0])
		var last [senders + 1]int
		for _, message := range i.handled[1:] {
			pair := message.([2]int)
			require.Equal(t, last[pair[0]]+1, pair[1], "order of sender %d", pair[0])
			last[pair[0]] = pair[1]
		}
		require.Len(t, i.handled, 1+senders*each)
	}
}

func TestMailbox_closed_refusesOperationsOnly(t *testing.T) {
	t.Parallel()
	i := &invoker{}
	m := openBox(i)
	require.Equal(t, taken, m.offer(1))
	m.close()
	require.Equal(t, refused, m.offer(2))
	require.Equal(t, refused, m.add(2))
	m.PostUserMessage(3)
	require.Equal(t, []any{1, 3}, i.handled)
}

func TestMailbox_panic_isAFailure_notTheCallers(t *testing.T) {
	t.Parallel()
	i := &invoker{handle: func(message any) {
		if message == 2 {
			panic("boom")
		}
	}}
	m := openBox(i)
	require.NotPanics(t, func() { m.offer(1); m.offer(2); m.offer(3) })
	require.Equal(t, []any{1, 2, 3}, i.handled)
	require.Equal(t, []any{"boom"}, i.failed)
}

func TestMailbox_suspended_keepsMessages(t *testing.T) {
	t.Parallel()
	i := &invoker{}
	m := openBox(i)
	m.setSuspended(true)
	m.offer(1)
	m.offer(2)
	m.PostSystemMessage("system")
	require.Equal(t, []any{"system"}, i.handled)
	require.Equal(t, 2, m.UserMessageCount())
	require.Equal(t, []any{1, 2}, m.drain())
}

func TestMailbox_stopped_keepsMessagesForDrain(t *testing.T) {
	t.Parallel()
	i := &invoker{}
	m := openBox(i)
	m.gone.Add(1)
	i.handle = func(message any) {
		if message == 1 { // the rest arrives while the actor runs
			m.offer(2)
			m.PostSystemMessage(&actor.Stop{})
			m.offer(3)
		}
	}
	m.offer(1)
	m.gone.Wait()
	require.Equal(t, []any{1, &actor.Stop{}}, i.handled)
	require.Equal(t, []any{2, 3}, m.drain())
}

// takes makes an invoker take what its mailbox has folded, as a message of its own.
func takes(i *invoker, m *mailbox) {
	i.handle = func(message any) {
		if message == (folded{}) {
			i.handled[len(i.handled)-1] = increments{m.take()}
		}
	}
}

func TestMailbox_foldsIncrements_inTheirPlace(t *testing.T) {
	t.Parallel()
	i := &invoker{}
	m := &mailbox{boxKind: &boxKind{}, inline: true}
	takes(i, m)
	m.RegisterHandlers(i, nil)
	for range 1000 { // there is nobody yet to handle them
		m.add(2)
	}
	m.offer("a")
	for range 1000 {
		m.add(3)
	}
	m.add(math.MaxInt64) // in one sum with those before it would be no int64
	m.offer("b")
	require.Equal(t, 5, m.UserMessageCount())
	m.open()
	require.Equal(t, []any{increments{2000}, "a", increments{3000}, increments{math.MaxInt64}, "b"}, i.handled)
}

func TestMailbox_lazy_incrementsWaitForTheNextMessage(t *testing.T) {
	t.Parallel()
	i := &invoker{}
	m := openBox(i)
	takes(i, m)
	m.add(1)
	m.setLazy(true)
	m.add(2)
	m.add(3)
	require.Equal(t, []any{increments{1}}, i.handled)
	m.offer("a")
	require.Equal(t, []any{increments{1}, increments{5}, "a"}, i.handled)
	m.add(4)
	m.setLazy(false)
	m.add(5)
	require.Equal(t, increments{9}, i.handled[3])
	m.setLazy(true)
	m.setSuspended(true)
	m.add(6)
	require.Equal(t, []any{&increments{6}}, m.drain())
}

func TestMailbox_add_allocatesNothing(t *testing.T) { //nolint:paralleltest // it counts the process's allocations
	m := openBox(&invoker{})
	m.setLazy(true)
	require.Zero(t, testing.AllocsPerRun(1000, func() { m.add(1) }))
}

func TestMailbox_callerHandsOverAfterItsBudget(t *testing.T) {
	t.Parallel()
	const sent = 10 * inlineBudget
	back, all := make(chan struct{}), make(chan struct{})
	i := &invoker{}
	m := openBox(i)
	i.handle = func(message any) {
		if message == 0 { // what others send while the caller is in the actor
			for n := 1; n <= sent; n++ {
				m.offer(n)
			}
		}
		if message == inlineBudget+1 {
			<-back // for ever, if the caller were to handle this one too
		}
		if message == sent {
			close(all)
		}
	}
	m.offer(0)
	close(back)
	<-all
}

func TestMailbox_sleeps_onlyWithoutAMessage(t *testing.T) {
	t.Parallel()
	yes, no := func() bool { return true }, func() bool { return false }
	m := openBox(&invoker{})
	require.False(t, m.doze(2))
	m.offer(1)
	require.False(t, m.doze(2))
	require.True(t, m.doze(2))
	require.False(t, m.sleep(no))
	m.offer(2)
	require.False(t, m.sleep(yes), "a message came")
	m.doze(2)
	m.setLazy(true)
	m.add(1)
	m.doze(2)
	require.False(t, m.sleep(yes), "it holds increments")
	m.take()
	require.True(t, m.sleep(yes))
	require.Equal(t, sleeping, m.offer(3))
	require.Equal(t, sleeping, m.add(3))
	require.False(t, m.post(3))
}

func TestFifo_keepsOrder_andGivesMemoryBack(t *testing.T) {
	t.Parallel()
	var q fifo[int]
	next, want := 0, 0
	for range 10 {
		for range 3000 {
			q.push(next)
			next++
		}
		for range 2900 {
			require.Equal(t, want, q.pop())
			want++
		}
	}
	for q.len() > 0 {
		require.Equal(t, want, *q.peek())
		require.Equal(t, want, q.pop())
		want++
	}
	require.Equal(t, next, want)
	require.LessOrEqual(t, cap(q.items), 64)
}
