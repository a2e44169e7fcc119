package host

import (
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/asynkron/protoactor-go/actor"
	"github.com/stretchr/testify/require"
)

// newHost starts a supervisor in an actor system of its own.
func newHost(t *testing.T, observer Observer) *Host {
	t.Helper()
	system := actor.NewActorSystem(actor.WithLoggerFactory(QuietLogger(slog.New(slog.DiscardHandler))))
	t.Cleanup(system.Shutdown)
	return New(system, Backoff{time.Millisecond, 2 * time.Millisecond}, observer)
}

// listed is how many actors and addresses of ours the registry knows.
func listed(h *Host) (n int) {
	for _, bucket := range h.system.ProcessRegistry.LocalPIDs.LocalPIDs {
		for _, name := range bucket.Keys() {
			if strings.HasPrefix(name, h.name) {
				n++
			}
		}
	}
	return n
}

// diary is a Receiver that keeps what it gets, and can do something with it.
type diary struct {
	mu     sync.Mutex
	got    []any
	handle func(message any)
}

func (d *diary) Receive(message any) {
	d.mu.Lock()
	d.got = append(d.got, message)
	d.mu.Unlock()
	if d.handle != nil {
		d.handle(message)
	}
}

func (d *diary) read() []any {
	d.mu.Lock()
	defer d.mu.Unlock()
	return append([]any(nil), d.got...)
}

// panics is an Observer that tells of actors' panics.
type panics struct {
	silent
	of chan string
}

func (p panics) ActorPanicked(actor string, _ error) { p.of <- actor }

func TestHost_stop_endsTheSupervisor(t *testing.T) {
	t.Parallel()
	h := newHost(t, silent{})
	require.Equal(t, 1, listed(h))
	h.Stop()
	require.Zero(t, listed(h))
}

// A restart that has not begun when restarts end never does, and the actor can be
// stopped all the same.
func TestHost_endRestarts_leavesAPanickedActorToBeStopped(t *testing.T) {
	t.Parallel()
	observer := panics{of: make(chan string, 2)}
	h := newHost(t, observer)
	h.supervisor.backoff = Backoff{time.Hour, time.Hour}
	d := &diary{handle: func(message any) {
		if message == "bug" {
			panic("a bug")
		}
	}}
	r := NewResident(h, "resident", true, d)
	r.Post("bug") // restarted at once
	r.Post("bug") // and after the backoff, which is long
	<-observer.of
	<-observer.of
	r.Post("kept")
	h.EndRestarts()
	r.Stop()
	require.Equal(t, []any{Started{}, "bug", Restarting{}, Started{}, "bug", Stopped{}}, d.read())
	require.Equal(t, []any{"kept"}, r.box.Drain())
	h.Stop()
}

type answer struct{ of any }

func TestAddress_handsItsMessagesOn_andAnswersTheirSender(t *testing.T) {
	t.Parallel()
	observer := panics{of: make(chan string, 1)}
	h := newHost(t, observer)
	addresses := NewAddresses(h)
	var alone atomic.Int64
	pid := addresses.PID("a", func(message any, reply func(any)) {
		if reply == nil {
			alone.Add(1)
			return
		}
		reply(answer{message})
	})
	require.Same(t, pid, addresses.PID("a", nil), "the same address")

	root := h.system.Root
	got, err := root.RequestFuture(pid, "hello", time.Minute).Result()
	require.NoError(t, err)
	require.Equal(t, answer{"hello"}, got)
	root.Send(pid, "hello")
	require.EqualValues(t, 1, alone.Load())

	// A sender that panics on its reply is no failure of ours.
	bad, absent := h.system.ProcessRegistry.Add(badSender{}, "bad sender")
	require.True(t, absent)
	root.RequestWithCustomSender(pid, "hello", bad)
	require.Equal(t, bad.Id, <-observer.of)

	// An address has no life cycle.
	root.Stop(pid)
	root.Send(pid, "hello")
	require.EqualValues(t, 2, alone.Load())

	addresses.Release()
	_, known := h.system.ProcessRegistry.GetLocal(pid.Id)
	require.False(t, known)
	late := addresses.PID("b", nil)
	_, known = h.system.ProcessRegistry.GetLocal(late.Id)
	require.False(t, known, "of a host that has ended, nobody's")
	h.Stop()
}

// badSender is a Process that panics when it is sent something.
type badSender struct{}

func (badSender) SendUserMessage(*actor.PID, any)   { panic("a bug of the sender's") }
func (badSender) SendSystemMessage(*actor.PID, any) {}
func (badSender) Stop(*actor.PID)                   {}

// lines is a Writer that hands on what is written.
type lines chan string

func (l lines) Write(text []byte) (int, error) {
	l <- string(text)
	return len(text), nil
}

func TestQuietLogger_passesWarningsOnOnly(t *testing.T) {
	t.Parallel()
	out := make(lines, 2)
	logger := QuietLogger(slog.New(slog.NewTextHandler(out, nil)))(nil).With("a", 1).WithGroup("g")
	logger.Info("quiet")
	logger.Warn("loud", "b", 2)
	require.Contains(t, <-out, "msg=loud a=1 g.b=2")
	require.Empty(t, out)
}
