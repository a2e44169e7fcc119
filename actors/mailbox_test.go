package actors

import (
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
		m := &mailbox{inline: inline}
		m.PostUserMessage([2]int{0, 0}) // before there is an actor
		done.Add(1)
		m.RegisterHandlers(i, nil)
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

func TestMailbox_sealed_refusesOperationsOnly(t *testing.T) {
	t.Parallel()
	i := &invoker{}
	m := &mailbox{inline: true}
	m.RegisterHandlers(i, nil)
	require.True(t, m.offer(1))
	m.seal()
	require.False(t, m.offer(2))
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
	m := &mailbox{inline: true}
	m.RegisterHandlers(i, nil)
	require.NotPanics(t, func() { m.offer(1); m.offer(2); m.offer(3) })
	require.Equal(t, []any{1, 2, 3}, i.handled)
	require.Equal(t, []any{"boom"}, i.failed)
}

func TestMailbox_suspended_keepsMessages(t *testing.T) {
	t.Parallel()
	i := &invoker{}
	m := &mailbox{inline: true}
	m.RegisterHandlers(i, nil)
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
	var gone sync.WaitGroup
	gone.Add(1)
	m := &mailbox{inline: true, gone: &gone}
	i := &invoker{}
	i.handle = func(message any) {
		if message == 1 { // the rest arrives while the actor runs
			m.offer(2)
			m.PostSystemMessage(&actor.Stop{})
			m.offer(3)
		}
	}
	m.RegisterHandlers(i, nil)
	m.offer(1)
	gone.Wait()
	require.Equal(t, []any{1, &actor.Stop{}}, i.handled)
	require.Equal(t, []any{2, 3}, m.drain())
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
