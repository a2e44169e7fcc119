// Package distkittest gives tests of programs that count with distkit a System on a server
// in the test's own process, which can go away, come back, lose replies and let time pass:
//
//	system := distkittest.New(t)
//	shop := NewShop(system.System)
//	system.Outage()
//	…
//	system.Resume()
//
// Everything ends with the test, so a leak check has to come after: register it with
// t.Cleanup before New, or use goleak.VerifyTestMain.
//
// The server is miniredis (https://github.com/alicebob/miniredis), which is not Redis.
// Two of its ways are mended here: HINCRBY refuses a sum outside int64, and a value that is
// no canonical number; SETRANGE of nothing makes no string. What stays different:
//
//   - Nothing expires by itself. Time passes in it by Advance only.
//   - It has unlimited memory, evicts nothing and never refuses a change for lack of memory.
//   - It writes nothing to disk and has no replicas: with WithReplicas every strict change
//     ends as ErrNotReplicated.
//   - It is one node: no Cluster, no Sentinel, no ACLs.
//   - A step of a listing, All or Top, may tell more counters at a time.
//   - Scripts take about ten times as long. Measure on a real server.
//
// A test that needs any of these needs a Redis.
//
// go-redis logs each connection that an Outage refuses; logging.Disable of its package
// logging silences it.
package distkittest

import (
	"context"
	"fmt"
	"log/slog"
	"regexp"
	"strconv"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/distkit/distkit-go"
	"github.com/distkit/distkit-go/internal/line"
	"github.com/redis/go-redis/v9"
)

// patience is how long anything here waits before the test fails.
const patience = 10 * time.Second

// quiet is one logger for all, so that Systems share an actor system.
var quiet = slog.New(slog.DiscardHandler)

// System is a System on a server of its own, in this process. The methods of a
// *distkit.System do what they do elsewhere; the others change the world around it, or
// wait, and fail the test if what they wait for does not come in 10 seconds. It is safe for
// concurrent use, but what waits belongs to the test's goroutine, as t.Fatal does.
type System struct {
	*distkit.System
	// Client is the System's, for whatever else the program wants from Redis.
	Client *redis.Client

	t      testing.TB
	server *miniredis.Miniredis
	line   line.Line
	opts   []distkit.Option
	events *events
}

// New returns a System with the options, and ends it with the test. What it logs nobody
// reads, unless there is a WithLogger; a test that fails shows its events. A writer that
// lost Redis is restarted after 1 to 20 ms, unless there is a WithBackoff.
func New(t testing.TB, opts ...distkit.Option) *System {
	t.Helper()
	server := miniredis.NewMiniRedis()
	if err := server.Start(); err != nil {
		t.Fatalf("distkittest: the server does not start: %v", err)
	}
	t.Cleanup(server.Close)
	mend(server.Server())
	s := &System{
		t:      t,
		server: server,
		opts:   append([]distkit.Option{distkit.WithLogger(quiet), distkit.WithBackoff(time.Millisecond, 20*time.Millisecond)}, opts...),
		events: newEvents(),
	}
	s.Client = redis.NewClient(s.line.Lead(redis.Options{Addr: server.Addr(), ReadTimeout: patience}))
	t.Cleanup(func() { _ = s.Client.Close() })
	s.System = s.Another()
	t.Cleanup(s.Subscribe(s.events.add))
	return s
}

// Another returns a further System on the server, as in another process, with the options
// of New and then these. It ends with the test.
func (s *System) Another(opts ...distkit.Option) *distkit.System {
	s.t.Helper()
	system, err := distkit.NewSystem(s.Client, append(s.opts[:len(s.opts):len(s.opts)], opts...)...)
	if err != nil {
		s.t.Fatalf("distkittest: %v", err)
	}
	s.t.Cleanup(func() {
		s.Resume()
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		if err := system.Shutdown(ctx); err != nil {
			s.t.Logf("distkittest: Shutdown: %v", err)
		}
		if s.t.Failed() {
			s.t.Logf("distkittest: events: %v", s.events.all())
		}
	})
	return system
}

// Server is the server, for looking at names and values, and for making trouble.
func (s *System) Server() *miniredis.Miniredis { return s.server }

// Outage breaks all connections and lets none be made until Resume. A call under way may
// have been applied, and its reply lost. The data stays.
func (s *System) Outage() { s.line.Cut() }

// Resume ends an Outage. Use Await for WriterRecovered, Flushed, or a strict call, to wait
// until the System has found out.
func (s *System) Resume() { s.line.Down(false) }

// LoseReply has the server carry out one more batch of changes whose reply does not come
// through; the connection breaks. Two calls lose two.
func (s *System) LoseReply() { s.line.LoseBatches(1) }

// Lost is how many replies LoseReply has lost by now.
func (s *System) Lost() int { return int(s.line.Lost()) }

// Advance lets so much time pass in the server: what expires meanwhile is gone. The clock
// of this process goes on as it does, so windows (Per) begin and end by that.
func (s *System) Advance(d time.Duration) { s.server.FastForward(d) }

// Flushed waits until every lax change accepted so far is in Redis.
func (s *System) Flushed() {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if err := s.Flush(ctx); err != nil {
		s.t.Fatalf("distkittest: %v", err)
	}
}

// StoredStrict is the value of a strict counter as it stands in Redis, also while there is
// an Outage; false if there is none.
func (s *System) StoredStrict(key distkit.Key) (n int64, ok bool) {
	s.t.Helper()
	return s.stored("strict_counter", key)
}

// StoredLax is that of a lax counter: what is not flushed is not in it.
func (s *System) StoredLax(key distkit.Key) (n int64, ok bool) {
	s.t.Helper()
	return s.stored("lax_counter", key)
}

// stored looks for a field in all containers of a kind; windows are not among them.
func (s *System) stored(kind string, key distkit.Key) (n int64, ok bool) {
	s.t.Helper()
	container := regexp.MustCompile(`(?s)^.+:` + kind + `(#\d+)?$`)
	for _, name := range s.server.Keys() {
		if !container.MatchString(name) || s.server.Type(name) != "hash" {
			continue
		}
		text := s.server.HGet(name, key.String())
		if text == "" {
			continue
		}
		if ok {
			s.t.Fatalf("distkittest: several prefixes have a counter %q: ask Server", key)
		}
		var err error
		if n, err = strconv.ParseInt(text, 10, 64); err != nil {
			s.t.Fatalf("distkittest: counter %q: %v", key, err)
		}
		ok = true
	}
	return n, ok
}

// Await waits for an event of type E of the System and returns it. Each event is returned
// once: calling it again waits for another.
func Await[E distkit.Event](s *System) E {
	s.t.Helper()
	limit := time.NewTimer(patience)
	defer limit.Stop()
	for {
		found, ok, more := take[E](s.events)
		if ok {
			return found
		}
		select {
		case <-more:
		case <-limit.C:
			s.t.Fatalf("distkittest: no %T came in %v; there were %s", found, patience, fmt.Sprint(s.events.all()))
		}
	}
}
