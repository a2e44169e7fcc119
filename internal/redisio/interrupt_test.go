package redisio

import (
	"context"
	"net"
	"os"
	"testing"
	"time"

	"github.com/distkit/distkit-go/internal/redistest"
	"github.com/distkit/distkit-go/internal/verb"
	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"
)

// wired is a line whose other end takes what is written, and a call about to be written.
func wired(t *testing.T, text string) (*line, *passage) {
	t.Helper()
	near, far := net.Pipe()
	t.Cleanup(func() { _ = near.Close(); _ = far.Close() })
	go func() {
		for b := make([]byte, 64); ; {
			if _, err := far.Read(b); err != nil {
				return
			}
		}
	}()
	l := &line{Conn: near, of: &lines{}}
	p := &passage{of: l.of, text: []byte(text)}
	l.of.arm(p)
	return l, p
}

// timesOut reports whether a read ends at once, and not when somebody closes the line.
func (l *line) timesOut(t *testing.T, deadline time.Time) bool {
	t.Helper()
	require.NoError(t, l.SetReadDeadline(deadline))
	closing := time.AfterFunc(50*time.Millisecond, func() { _ = l.Conn.Close() })
	defer closing.Stop()
	_, err := l.Read(make([]byte, 1))
	require.Error(t, err)
	return os.IsTimeout(err)
}

// The end of a call ends the read of its answer, begun or not, whatever deadline is set.
func TestLine_endsTheReadOfItsCall(t *testing.T) {
	t.Parallel()
	for name, before := range map[string]bool{"before it is written": true, "after": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l, p := wired(t, "one")
			if before {
				p.end()
			}
			_, err := l.Write([]byte("call one"))
			require.NoError(t, err)
			if !before {
				p.end()
			}
			require.True(t, l.timesOut(t, time.Time{}))
			require.NoError(t, l.SetDeadline(time.Now().Add(time.Hour)))
			require.True(t, l.timesOut(t, time.Now().Add(time.Hour)))
		})
	}
}

// A line that has gone on to another call, or carries only others', is left alone.
func TestLine_goesOnToOtherCalls(t *testing.T) {
	t.Parallel()
	l, p := wired(t, "one")
	_, err := l.Write([]byte("call two"))
	require.NoError(t, err)
	p.end()
	require.False(t, l.timesOut(t, time.Time{}), "it is another call's")

	l, p = wired(t, "one")
	for _, text := range []string{"call one", "call two"} {
		_, err := l.Write([]byte(text))
		require.NoError(t, err)
	}
	p.end()
	require.False(t, l.timesOut(t, time.Time{}), "it was used again before the end came")

	l, p = wired(t, "one")
	_, err = l.Write([]byte("call one"))
	require.NoError(t, err)
	p.end()
	_, err = l.Write([]byte("call two")) // the answer was there all the same
	require.NoError(t, err)
	require.False(t, l.timesOut(t, time.Time{}), "the end was of the call before")
}

// A call that went by a connection that is no line shows that callers cannot be ended.
func TestLines_unseen(t *testing.T) {
	t.Parallel()
	l := &lines{}
	(&passage{of: l}).over()
	require.False(t, l.blind.Load(), "it was never written")
	p := &passage{of: l}
	p.leaves(&Call{Task: Read, At: NewContainer("p", StrictKind)})
	p.leaves(&Call{Task: Read, At: NewContainer("p", StrictKind)}) // by a hook that repeats
	p.over()
	require.True(t, l.blind.Load())
	require.Nil(t, l.armed.Load())
}

// All Systems on a client share its lines, and one that has connections has none.
func TestLines_ofAClient(t *testing.T) {
	t.Parallel()
	client := redis.NewClient(&redis.Options{Dialer: func(context.Context, string, string) (net.Conn, error) {
		near, _ := net.Pipe()
		return near, nil
	}})
	first := linesOf(client)
	require.NotNil(t, first)
	require.Same(t, first, linesOf(client))
	require.NoError(t, client.Close())
}

// A read is known by a field of its own, and not by what commands of others may hold too.
func TestLine_readIsKnownAmongOthers(t *testing.T) {
	t.Parallel()
	at := NewContainer("p", StrictKind)
	l, p := wired(t, "another")
	p.mark = "123"
	p.leaves(&Call{Task: Read, At: at})
	_, err := l.Write([]byte("*4\r\n$7\r\nhincrby\r\n$16\r\n" + at.Name + "\r\n"))
	require.NoError(t, err)
	require.Nil(t, l.call, "the user's command is taken for ours")
	_, err = l.Write([]byte("*4\r\n$5\r\nhmget\r\n$16\r\n" + at.Name + "\r\n$3\r\n123\r\n"))
	require.NoError(t, err)
	require.Same(t, p, l.call)
}

// A caller may send where a connection is at rest, and nowhere else.
func TestInterrupts_whereAConnectionIsAtRest(t *testing.T) {
	t.Parallel()
	options := redistest.Options(t)
	options.PoolSize = 1
	raw := redis.NewClient(options)
	t.Cleanup(func() { _ = raw.Close() })
	c := New(raw).(Interrupter)
	at := NewContainer(redistest.Prefix(t, redistest.Client(t)), StrictKind)
	read := &Call{Task: Read, At: at, Ops: []verb.Keyed{{Key: "a", Op: verb.Op{Kind: verb.Get}}}}
	require.False(t, c.Interrupts(read), "there is none")
	c.Send(t.Context(), []*Call{read})
	require.NoError(t, read.Err)
	require.True(t, c.Interrupts(read))
	require.True(t, c.Interrupts(&Call{Task: Open, At: at}))
	require.False(t, c.Interrupts(&Call{Task: Recall, At: at}))
	c.SendWithin(t.Context(), read)
	require.NoError(t, read.Err)
	require.True(t, read.Results[0].Absent)
	require.True(t, c.Interrupts(read), "the connection is at rest again")
	held := raw.Conn()
	require.NoError(t, held.Ping(t.Context()).Err())
	require.False(t, c.Interrupts(read), "somebody has it")
	require.NoError(t, held.Close())
	require.True(t, c.Interrupts(read))
}
