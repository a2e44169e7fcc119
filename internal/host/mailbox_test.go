package host

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
func openBox(i *invoker) *Mailbox {
	m := &Mailbox{Group: &Group{Inline: true}}
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
		m := &Mailbox{Group: &Group{Inline: inline}}
		m.PostUserMessage([2]int{0, 0}) // before there is an actor
		done.Add(1)
		m.RegisterHandlers(i, nil)
		m.open()
		const senders, each = 8, 2000
		done.Add(senders * each)
		for s := 1; s <= senders; s++ {
			go func() {
				for n := 1; n <= each; n++ {
					m.Offer([2]int{s, n})
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
	require.Equal(t, Taken, m.Offer(1))
	m.Close()
	require.Equal(t, Refused, m.Offer(2))
	require.Equal(t, Refused, m.Add(2))
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
	require.NotPanics(t, func() { m.Offer(1); m.Offer(2); m.Offer(3) })
	require.Equal(t, []any{1, 2, 3}, i.handled)
	require.Equal(t, []any{"boom"}, i.failed)
}

func TestMailbox_suspended_keepsMessages(t *testing.T) {
	t.Parallel()
	i := &invoker{}
	m := openBox(i)
	m.setSuspended(true)
	m.Offer(1)
	m.Offer(2)
	m.PostSystemMessage("system")
	require.Equal(t, []any{"system"}, i.handled)
	require.Equal(t, 2, m.UserMessageCount())
	require.Equal(t, []any{1, 2}, m.Drain())
}

func TestMailbox_stopped_keepsMessagesForDrain(t *testing.T) {
	t.Parallel()
	i := &invoker{}
	m := openBox(i)
	m.gone.Add(1)
	i.handle = func(message any) {
		if message == 1 { // the rest arrives while the actor runs
			m.Offer(2)
			m.PostSystemMessage(&actor.Stop{})
			m.Offer(3)
		}
	}
	m.Offer(1)
	m.gone.Wait()
	require.Equal(t, []any{1, &actor.Stop{}}, i.handled)
	require.Equal(t, []any{2, 3}, m.Drain())
}

// takes makes an invoker take what its mailbox has folded, as a message of its own.
func takes(i *invoker, m *Mailbox) {
	i.handle = func(message any) {
		if message == (Folded{}) {
			i.handled[len(i.handled)-1] = Increments{m.Take()}
		}
	}
}

func TestMailbox_foldsIncrements_inTheirPlace(t *testing.T) {
	t.Parallel()
	i := &invoker{}
	m := &Mailbox{Group: &Group{Inline: true}}
	takes(i, m)
	m.RegisterHandlers(i, nil)
	for range 1000 { // there is nobody yet to handle them
		m.Add(2)
	}
	m.Offer("a")
	for range 1000 {
		m.Add(3)
	}
	m.Add(math.MaxInt64) // in one sum with those before it would be no int64
	m.Offer("b")
	require.Equal(t, 5, m.UserMessageCount())
	m.open()
	require.Equal(t, []any{Increments{2000}, "a", Increments{3000}, Increments{math.MaxInt64}, "b"}, i.handled)
}

func TestMailbox_lazy_incrementsWaitForTheNextMessage(t *testing.T) {
	t.Parallel()
	i := &invoker{}
	m := openBox(i)
	takes(i, m)
	m.Add(1)
	m.SetLazy(true)
	m.Add(2)
	m.Add(3)
	require.Equal(t, []any{Increments{1}}, i.handled)
	m.Offer("a")
	require.Equal(t, []any{Increments{1}, Increments{5}, "a"}, i.handled)
	m.Add(4)
	m.SetLazy(false)
	m.Add(5)
	require.Equal(t, Increments{9}, i.handled[3])
	m.SetLazy(true)
	m.setSuspended(true)
	m.Add(6)
	require.Equal(t, []any{&Increments{6}}, m.Drain())
}

func TestMailbox_add_allocatesNothing(t *testing.T) { // it counts the process's allocations: not parallel
	m := openBox(&invoker{})
	m.SetLazy(true)
	require.Zero(t, testing.AllocsPerRun(1000, func() { m.Add(1) }))
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
				m.Offer(n)
			}
		}
		if message == inlineBudget+1 {
			<-back // for ever, if the caller were to handle this one too
		}
		if message == sent {
			close(all)
		}
	}
	m.Offer(0)
	close(back)
	<-all
}

func TestMailbox_sleeps_onlyWithoutAMessage(t *testing.T) {
	t.Parallel()
	yes, no := func() bool { return true }, func() bool { return false }
	m := openBox(&invoker{})
	require.False(t, m.doze(2))
	m.Offer(1)
	require.False(t, m.doze(2))
	require.True(t, m.doze(2))
	require.False(t, m.sleep(no))
	m.Offer(2)
	require.False(t, m.sleep(yes), "a message came")
	m.doze(2)
	m.SetLazy(true)
	m.Add(1)
	m.doze(2)
	require.False(t, m.sleep(yes), "it holds increments")
	m.Take()
	require.True(t, m.sleep(yes))
	require.Equal(t, Sleeping, m.Offer(3))
	require.Equal(t, Sleeping, m.Add(3))
	require.False(t, m.Post(3))
}

// The goroutine that ran an actor to its end may look once more when the next one
// is on its way: what comes for that one is not the old one's.
func TestMailbox_wokenUp_handlesNothingBeforeItIsOpened(t *testing.T) {
	t.Parallel()
	before, after := &invoker{}, &invoker{}
	m := openBox(before)
	require.False(t, m.awaken(), "it does not sleep")
	m.doze(1)
	require.True(t, m.sleep(func() bool { return true }))
	m.running = true
	require.True(t, m.awaken())
	require.True(t, m.Post(1))
	m.run(0) // as it goes on
	require.Empty(t, before.handled)
	m.RegisterHandlers(after, nil)
	m.open()
	require.Equal(t, []any{1}, after.handled)
}

func TestMailbox_postedQuietly_keepsNobodyAwake(t *testing.T) {
	t.Parallel()
	i := &invoker{}
	m := openBox(i)
	require.False(t, m.doze(2))
	m.PostQuietly(1)
	require.True(t, m.doze(2))
	require.True(t, m.sleep(func() bool { return true }))
	m.PostQuietly(2)
	require.Equal(t, []any{1}, i.handled)
}

func TestFifo_keepsOrder_andGivesMemoryBack(t *testing.T) {
	t.Parallel()
	var q Fifo[int]
	next, want := 0, 0
	for range 10 {
		for range 3000 {
			q.Push(next)
			next++
		}
		for range 2900 {
			require.Equal(t, want, q.Pop())
			want++
		}
	}
	for q.Len() > 0 {
		require.Equal(t, want, *q.Peek())
		require.Equal(t, want, q.Pop())
		want++
	}
	require.Equal(t, next, want)
	require.LessOrEqual(t, cap(q.items), 64)
}

// What an actor at rest has published callers are told, as long as that and what
// they add is all there is to know.
func TestMailbox_tellsWhatIsPublished(t *testing.T) {
	t.Parallel()
	type message struct {
		publish, lazy bool
		value         int64
	}
	var m *Mailbox
	i := &invoker{}
	i.handle = func(now any) {
		_, told := m.Value()
		require.False(t, told, "while the actor is at work")
		switch now := now.(type) {
		case message:
			if m.Retract(); now.publish {
				m.Publish(now.value)
			}
			m.SetLazy(now.lazy)
		case string: // others add while it is at work
			m.Publish(20)
			require.Equal(t, Taken, m.Add(1))
			_, told = m.Value()
			require.False(t, told, "while the actor is at work")
		case Folded:
			m.Publish(m.value + m.Take())
		}
	}
	m = openBox(i)
	value := func(want int64, ok bool) {
		t.Helper()
		got, told := m.Value()
		require.Equal(t, ok, told)
		if ok {
			require.Equal(t, want, got)
		}
	}
	inc := func(n, want int64, ok bool) {
		t.Helper()
		got, told := m.AddAndTell(n)
		require.Equal(t, ok, told)
		if ok {
			require.Equal(t, want, got)
		}
	}
	m.Post(message{publish: true, value: 5})
	value(5, true)
	inc(1, 0, false) // nobody is coming to take it
	value(5, true)
	require.True(t, m.Used(BySweep) && m.Used(ByRead) && m.Used(ByGather))
	require.False(t, m.Used(BySweep) || m.Used(ByRead) || m.Used(ByGather))

	m.Post(message{publish: true, lazy: true, value: 5})
	inc(2, 7, true)
	inc(-9, -2, true)
	inc(0, 0, false)
	value(-2, true)
	require.Equal(t, Taken, m.Add(4))
	value(2, true)
	require.False(t, m.Empty(func() bool { return true }), "it has increments")
	require.Equal(t, Taken, m.Add(1))
	value(3, true)
	require.True(t, m.Used(ByGather))

	m.Post(message{lazy: true})
	value(0, false)
	inc(1, 0, false)
	require.EqualValues(t, []any{message{publish: true, value: 5}, message{publish: true, lazy: true, value: 5}, Folded{}, message{lazy: true}}, i.handled,
		"nobody has woken it")

	m.Post(message{publish: true, lazy: true, value: adderLimit - 2})
	inc(1, adderLimit-1, true)
	inc(1, 0, false)
	m.Post(message{publish: true, lazy: true, value: adderLimit})
	value(0, false)

	m.Post(message{publish: true, lazy: true, value: 1})
	m.Post("")
	value(21, true)
	m.Close()
	value(0, false)
	inc(1, 0, false)
	m.Post(message{publish: true, lazy: true, value: 1})
	value(0, false)
}

// An actor whose mailbox answers for it is not idle.
func TestMailbox_thatTells_doesNotDoze(t *testing.T) {
	t.Parallel()
	i := &invoker{}
	m := openBox(i)
	for range 3 * sweeps {
		m.Publish(1)
		m.Post("")
		require.False(t, m.doze(2))
		m.lock()
		m.reopen()
		m.mu.Unlock()
		_, ok := m.Value()
		require.True(t, ok)
		require.False(t, m.doze(2), "there was a reader")
	}
	require.True(t, m.doze(2))
}
