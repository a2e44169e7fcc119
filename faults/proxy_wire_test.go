package faults_test

import (
	"bufio"
	"fmt"
	"math/rand/v2"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// wire is a proxy before Redis that knows requests from replies, and so can do
// what toxiproxy cannot: break a connection at a chosen point of one exchange.
//
//	client ─► wire ─► Redis
//	    request ─┬─ resetBefore: gone before Redis sees it
//	             ├─ resetDuring: Redis gets a part of it
//	             ├─ late: Redis gets it when the connection is long gone
//	             ├─ blackHole: nothing moves, the connection stays; then it does
//	             ├─ delayed: some milliseconds, before it or before the reply
//	             ├─ resetAfter: Redis has it, nobody waits for the reply
//	    reply  ──┼─ swallowed: it came, and goes nowhere
//	             └─ cut: the client gets a part of it
//
// Faults are drawn by the seed, one for each burst that carries a script or a
// read, while the wire is harmful.
type wire struct {
	addr, to string
	listener net.Listener
	done     sync.WaitGroup

	scripts atomic.Int64                 // script calls that Redis was given
	goal    atomic.Pointer[goal]         // to be told of when they are enough
	injured [wireFaults]atomic.Int64     // faults by kind
	latest  [len(lateFates)]atomic.Int64 // what became of late requests

	mu       sync.Mutex
	rng      *rand.Rand
	harm     float64 // chance of a fault for each burst; 0 heals
	opening  bool    // hold the next opening of a lane for after everything
	batch    bool    // and the next batch
	healed   chan struct{}
	underway sync.WaitGroup // faults that have not run their course
	conns    map[net.Conn]struct{}
	held     []*heldRequest
	closed   bool
}

type wireFault int

const (
	none wireFault = iota
	resetBefore
	resetDuring
	resetAfter
	swallowed
	cut
	delayed
	late
	blackHole
	wireFaults
)

// wireWeights are how often each fault is drawn, relative to the others. A
// black hole costs a read timeout, the others next to nothing.
var wireWeights = [wireFaults]int{
	resetBefore: 10, resetDuring: 15, resetAfter: 15, swallowed: 20, cut: 15, delayed: 10, late: 20, blackHole: 2,
}

// startWire starts a wire to the Redis at the address to; it ends with the test.
func startWire(t testing.TB, to string, rng *rand.Rand) *wire {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	w := &wire{addr: listener.Addr().String(), to: to, listener: listener, rng: rng, conns: map[net.Conn]struct{}{}}
	w.healed = make(chan struct{})
	close(w.healed)
	w.done.Add(1)
	go w.accept()
	t.Cleanup(w.close)
	return w
}

// hurt makes each burst meet a fault with the chance given. The first opening of a
// lane and the first batch are held for after everything: the one must not bring a
// lane back, the other not pass without its ledger.
func (w *wire) hurt(chance float64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.harm, w.opening, w.batch, w.healed = chance, true, true, make(chan struct{})
}

// heal ends every fault: what a delay or a black hole holds is on its way when
// it returns. Requests held for later stay held.
func (w *wire) heal() {
	w.mu.Lock()
	if w.harm > 0 {
		w.harm = 0
		close(w.healed)
	}
	w.mu.Unlock()
	w.underway.Wait()
}

// faults is how many were injected.
func (w *wire) faults() int {
	n := int64(0)
	for i := range w.injured {
		n += w.injured[i].Load()
	}
	return int(n)
}

func (w *wire) String() string {
	names := [wireFaults]string{"", "reset before", "reset during", "reset after", "swallowed", "cut", "delayed", "late", "black hole"}
	var b strings.Builder
	for i := resetBefore; i < wireFaults; i++ {
		fmt.Fprintf(&b, "%s %d, ", names[i], w.injured[i].Load())
	}
	fates := [len(lateFates)]string{"applied", "found applied", "met a gap", "met a conflict", "opened a lane", "else"}
	b.WriteString("late requests:")
	for i, name := range fates {
		fmt.Fprintf(&b, " %s %d,", name, w.latest[i].Load())
	}
	return strings.TrimSuffix(b.String(), ",")
}

func (w *wire) accept() {
	defer w.done.Done()
	for {
		client, err := w.listener.Accept()
		if err != nil {
			return
		}
		server, err := net.Dial("tcp", w.to)
		if err != nil {
			_ = client.Close()
			continue
		}
		if !w.keep(client, server) {
			return
		}
		w.done.Add(1)
		go w.serve(client, server)
	}
}

func (w *wire) keep(conns ...net.Conn) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, conn := range conns {
		if w.closed {
			_ = conn.Close()
		} else {
			w.conns[conn] = struct{}{}
		}
	}
	return !w.closed
}

func (w *wire) drop(conn net.Conn) {
	_ = conn.Close()
	w.mu.Lock()
	delete(w.conns, conn)
	w.mu.Unlock()
}

// abort closes a connection with a reset instead of a farewell.
func (w *wire) abort(conn net.Conn) {
	_ = conn.(*net.TCPConn).SetLinger(0)
	w.drop(conn)
}

// serve passes bursts and replies in turn, until one side ends or a fault does.
func (w *wire) serve(client, server net.Conn) {
	defer w.done.Done()
	defer w.drop(client)
	in, out := bufio.NewReaderSize(client, 64<<10), bufio.NewReaderSize(server, 64<<10)
	for {
		b, err := readBurst(in)
		if err != nil { // a part of a request is Redis's to judge, as it would be without us
			_, _ = server.Write(b.bytes)
			w.drop(server)
			return
		}
		x := &exchange{wire: w, client: client, server: server, out: out, burst: b}
		x.fault, x.at, x.pause = w.draw(b)
		goesOn := x.run()
		if x.fault != none {
			w.underway.Done()
		}
		if !goesOn {
			if x.fault != late {
				w.drop(server)
			}
			return
		}
	}
}

// draw chooses the fault of one burst: what, where in it (from 0 to 1), how long.
func (w *wire) draw(b *burst) (f wireFault, at float64, pause time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.harm > 0 && (w.opening && b.openings > 0 || w.batch && b.scripts > b.openings) {
		w.opening = w.opening && b.openings == 0
		w.batch = w.batch && b.scripts == b.openings
		w.underway.Add(1)
		w.injured[late].Add(1)
		return late, 1, 0
	}
	if w.harm == 0 || !b.worthy() && !b.greeting || w.rng.Float64() >= w.harm {
		return none, 0, 0
	}
	total := 0
	for _, weight := range wireWeights {
		total += weight
	}
	n := w.rng.IntN(total)
	for n >= wireWeights[f] {
		n -= wireWeights[f]
		f++
	}
	if b.greeting && (f == late || f == blackHole) {
		f = resetBefore // a handshake is not worth a timeout
	}
	w.underway.Add(1)
	w.injured[f].Add(1)
	at = w.rng.Float64()
	if pause = time.Duration(1+w.rng.IntN(20)) * time.Millisecond; f == blackHole {
		pause = readTimeout + time.Duration(w.rng.IntN(150))*time.Millisecond
	}
	return f, at, pause
}

// goal is a number of script calls, and what to do when it is reached.
type goal struct {
	scripts int64
	reached func()
	timer   *time.Timer
}

// whenPassed calls reached once: when Redis was given so many script calls in
// all, or after the time given.
func (w *wire) whenPassed(scripts int64, limit time.Duration, reached func()) {
	reached = sync.OnceFunc(reached)
	w.goal.Store(&goal{scripts, reached, time.AfterFunc(limit, reached)})
}

// count counts a burst's script calls.
func (w *wire) count(b *burst) int64 {
	now := w.scripts.Add(int64(b.scripts))
	if g := w.goal.Load(); g != nil && now >= g.scripts && w.goal.CompareAndSwap(g, nil) {
		g.timer.Stop()
		g.reached()
	}
	return now
}

func (w *wire) close() {
	_ = w.listener.Close()
	w.heal()
	w.mu.Lock()
	w.closed = true
	for conn := range w.conns {
		_ = conn.Close()
	}
	w.mu.Unlock()
	w.done.Wait()
}
