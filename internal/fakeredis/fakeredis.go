// Package fakeredis is a Redis in memory, for tests of what stands on
// redisio.Sender: it does with calls what lua/apply.lua does, loses what it is told
// to lose, and runs in virtual time. Only tests use it. That it does what a real
// Redis does is held by the test of the script against it, in redisio.
package fakeredis

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/distkit/distkit-go/internal/redisio"
	"github.com/distkit/distkit-go/internal/verb"
)

// Fate is what becomes of an attempt at a call.
type Fate uint8

// The fates.
const (
	Deliver     Fate = iota
	LoseReply        // it is carried out, and nobody learns so
	LoseRequest      // it is written, and never arrives
	Delay            // it is written, and arrives when Arrive is called
	BreakOff         // the script ends after its first write, without an answer
	Unreachable      // it is not even written
	Busy             // Redis answers that it cannot now
	Refuse           // Redis answers that it will not
	NoMemory         // Redis answers that it has no memory
	Migrate          // Redis answers that the keys are being moved
	Forget           // Redis answers that it does not know the script
	kept             // it was about to be written, and was kept from it
)

// ends are the classes and errors of attempts without an answer of the script's.
var ends = [...]redisio.Reply{
	LoseReply:   {Class: redisio.Unknown, Err: errors.New("fakeredis: the reply was lost")},
	LoseRequest: {Class: redisio.Unknown, Err: errors.New("fakeredis: the request was lost")},
	Delay:       {Class: redisio.Unknown, Err: errors.New("fakeredis: the request is late")},
	BreakOff:    {Class: redisio.Unknown, Err: errors.New("fakeredis: the script was broken off")},
	Unreachable: {Class: redisio.NotYet, Err: errors.New("fakeredis: unreachable")},
	Busy:        {Class: redisio.NotYet, Err: errors.New("LOADING fakeredis is busy")},
	Refuse:      {Class: redisio.Refused, Err: errors.New("NOPERM fakeredis refuses")},
	NoMemory:    {Class: redisio.Full, Err: errors.New("OOM fakeredis is full")},
	Migrate:     {Class: redisio.Moving, Err: errors.New("TRYAGAIN fakeredis moves the keys")},
	Forget:      {Class: redisio.NoScript, Err: errors.New("NOSCRIPT fakeredis knows no script")},
	kept:        {Class: redisio.NotYet, Stayed: true, Err: errors.New("fakeredis: the call was kept from leaving")},
}

// Redis is a redisio.Sender, safe for concurrent use.
type Redis struct {
	// Fate says what becomes of an attempt; nil delivers all. It is called before
	// the call leaves, and may block.
	Fate func(*redisio.Call) Fate
	// Latency is how long a round trip takes.
	Latency time.Duration

	mu    sync.Mutex
	state State
	full  bool
	late  []request
}

// New returns an empty Redis. Fate and Latency are set before it is used.
func New() *Redis {
	return &Redis{state: State{map[string]Hash{}, map[string]Ledger{}, map[string]Once{}, map[string]time.Time{}}}
}

// Edit has f change what Redis holds, past the script, while nothing else happens.
func (r *Redis) Edit(f func(*State)) {
	r.mu.Lock()
	defer r.mu.Unlock()
	f(&r.state)
}

// Snapshot returns what Redis holds.
func (r *Redis) Snapshot() (s State) {
	r.Edit(func(now *State) { s = now.Clone() })
	return s
}

// Restore makes Redis hold what it held, as a failover to a replica that lags does.
func (r *Redis) Restore(s State) { r.Edit(func(now *State) { *now = s.Clone() }) }

// SetFull says whether Redis refuses what needs memory.
func (r *Redis) SetFull(full bool) { r.Edit(func(*State) { r.full = full }) }

// DropLedgers evicts all ledgers.
func (r *Redis) DropLedgers() { r.Edit(func(s *State) { clear(s.Ledgers) }) }

// DropContainer evicts a container.
func (r *Redis) DropContainer(name string) { r.Edit(func(s *State) { delete(s.Containers, name) }) }

// Get is a counter, and whether it is there and a number.
func (r *Redis) Get(container, key string) (n int64, ok bool) {
	r.Edit(func(s *State) {
		text, found := s.Containers[container].Fields[key]
		result := verb.ParseField(text)
		n, ok = result.N, found && result.Err == nil
	})
	return n, ok
}

// Set sets a counter, past the script.
func (r *Redis) Set(container, key string, n int64) {
	r.Edit(func(s *State) { s.do(container, &verb.Keyed{Key: key, Op: verb.Op{Kind: verb.Set, N: n}}) })
}

// Arrive carries out the requests that are late, in the order in which they were
// written, and returns how many they were.
func (r *Redis) Arrive() (n int) {
	r.Edit(func(s *State) {
		for i := range r.late {
			s.carryOut(&r.late[i], r.full, false)
		}
		n, r.late = len(r.late), nil
	})
	return n
}

// request is what of a call was written.
type request struct {
	task               redisio.Task
	container, ledger  string
	seq                int64
	nonce, previous    uint64
	lifetime           time.Duration
	overFull, unmarked bool
	cursor             uint64
	ops                []verb.Keyed
	onces              []string // of each of them, "" where it has none
}

// Send implements redisio.Sender.
func (r *Redis) Send(_ context.Context, calls []*redisio.Call) {
	fates, requests := make([]Fate, len(calls)), make([]request, len(calls))
	for i, c := range calls {
		changes := c.Task == redisio.Apply || c.Task == redisio.Bare
		if c.Gather != nil && !c.HasLeft() && (changes || c.Task == redisio.Read || c.Task == redisio.Recall) {
			c.Ops = c.Gather()
		}
		if r.Fate != nil {
			fates[i] = r.Fate(c)
		}
		if fates[i] != Unreachable && !c.Leave() {
			fates[i] = kept
		}
		requests[i] = request{
			c.Task, c.At.Name, c.At.Ledger(c.Writer), c.Seq, c.Nonce, c.Previous, c.Lifetime,
			c.OverFull, c.Unmarked, c.Cursor, slices.Clone(c.Ops), make([]string, len(c.Ops)),
		}
		for n := range c.Ops {
			if tx := c.Ops[n].Tx; tx != nil && tx.ID != "" {
				requests[i].onces[n] = c.At.Once(tx.ID)
			}
		}
	}
	time.Sleep(r.Latency / 2)
	r.Edit(func(s *State) {
		for i, c := range calls {
			r.attempt(s, c, &requests[i], fates[i])
		}
	})
	time.Sleep(r.Latency - r.Latency/2)
}

// attempt makes one attempt at a call, of which the fate is known.
func (r *Redis) attempt(s *State, c *redisio.Call, q *request, fate Fate) {
	room := c.Results[:0]
	switch fate {
	case Deliver:
		c.Reply = s.carryOut(q, r.full, false)
		if c.Results != nil {
			c.Results = append(room, c.Results...)
		}
		emptied, found := s.Marks[q.container]
		if c.Vanished() && found {
			c.Emptied, c.EmptiedAgo = true, time.Since(emptied)
		}
		return
	case LoseReply, BreakOff:
		s.carryOut(q, r.full, fate == BreakOff)
	case Delay:
		r.late = append(r.late, *q)
	case LoseRequest, Unreachable, Busy, Refuse, NoMemory, Migrate, Forget, kept:
	}
	c.Reply = ends[fate]
}
