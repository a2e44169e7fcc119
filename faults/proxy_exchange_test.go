package faults_test

import (
	"bufio"
	"bytes"
	"net"
	"time"
)

// What a wire does to one exchange of a request and its replies, and how it
// delivers requests late.

// exchange is one burst and its replies.
type exchange struct {
	*wire
	client, server net.Conn
	out            *bufio.Reader
	burst          *burst
	fault          wireFault
	at             float64
	pause          time.Duration
}

// run passes the exchange on, with its fault; false ends the connection.
func (x *exchange) run() bool {
	request := x.burst.bytes
	switch x.fault {
	case resetBefore:
		x.abort(x.client)
		return false
	case resetDuring:
		_, _ = x.server.Write(request[:part(request, x.at)])
		x.abort(x.client)
		return false
	case late:
		x.hold()
		x.abort(x.client)
		return false
	case blackHole:
		x.rest()
	case delayed:
		if x.at < 0.5 {
			x.rest()
		}
	}
	x.deliverDue(x.count(x.burst))
	if _, err := x.server.Write(request); err != nil {
		return false
	}
	if x.fault == resetAfter {
		x.abort(x.client)
		return false
	}
	replies, err := readReplies(x.out, x.burst.commands)
	switch {
	case err != nil || x.fault == swallowed:
		return false
	case x.fault == cut:
		_, _ = x.client.Write(replies[:part(replies, x.at)])
		return false
	case x.fault == delayed && x.at >= 0.5:
		x.rest()
	}
	_, err = x.client.Write(replies)
	return err == nil
}

// part is a length between nothing and all.
func part(bytes []byte, at float64) int { return int(at * float64(len(bytes))) }

// rest waits for the fault's pause, or for the wire to heal.
func (x *exchange) rest() {
	x.mu.Lock()
	healed := x.healed
	x.mu.Unlock()
	timer := time.NewTimer(x.pause)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-healed:
	}
}

// hold keeps the burst and its connection to Redis for later: for one of the
// next script calls, or for after everything.
func (x *exchange) hold() {
	due := int64(afterAll)
	if x.at < 0.75 {
		due = x.scripts.Load() + 1 + int64(x.at*8)
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	x.held = append(x.held, &heldRequest{server: x.server, out: x.out, burst: x.burst, due: due})
}

// heldRequest waits to be delivered late, over the connection it was meant for.
type heldRequest struct {
	server net.Conn
	out    *bufio.Reader
	burst  *burst
	due    int64 // the script call before which it goes; afterAll: when told so
}

const afterAll = 1 << 62

// lateFates are what the script may answer to a late request: a batch applied, found
// applied, before which there is a gap, in conflict with what came meanwhile; a lane
// opened; and anything else, as of a request that was no call of the script.
var lateFates = [...]string{"A", "R", "G", "X", "O", ""}

// deliverDue delivers the held requests whose time has come.
func (w *wire) deliverDue(now int64) {
	w.mu.Lock()
	var due []*heldRequest
	kept := w.held[:0]
	for _, h := range w.held {
		if h.due <= now {
			due = append(due, h)
		} else {
			kept = append(kept, h)
		}
	}
	clear(w.held[len(kept):])
	w.held = kept
	w.mu.Unlock()
	for _, h := range due {
		w.deliver(h)
	}
}

// deliverHeld delivers everything that is still held.
func (w *wire) deliverHeld() { w.deliverDue(afterAll) }

// deliver hands Redis a late request and waits until it is carried out.
func (w *wire) deliver(h *heldRequest) {
	defer w.drop(h.server)
	w.count(h.burst)
	if _, err := h.server.Write(h.burst.bytes); err != nil {
		return
	}
	reply, err := readReplies(h.out, h.burst.commands)
	if err != nil {
		return
	}
	_, text, _ := bytes.Cut(reply, []byte("\r\n")) // after the length
	for i, fate := range lateFates {
		if bytes.HasPrefix(text, []byte(fate)) {
			w.latest[i].Add(1)
			return
		}
	}
}
