package actors

import (
	"sync/atomic"
	"time"

	"github.com/distkit/distkit-go/internal/host"
)

// The sweeper puts to sleep what has been idle: it is the one timer for all of it.
// It looks at every key each half of the idle time; a key that had no message
// between three looks, and holds nothing, leaves memory, which is after 1 to 1½
// times the idle time. What a key is sent once it is asleep is refused, and handed
// to the actor that the key gets next: nothing is lost. When a space has no key
// left its writer goes too.
//
// While nothing is in memory it holds no timer.

// sweeper is the receiver of every incarnation of the actor.
type sweeper struct {
	actor  *host.Resident
	engine *Engine
	every  time.Duration // 0: keys stay in memory
	armed  atomic.Bool   // a look is due some time
	timer  *time.Timer   // the actor's
}

type (
	// armed: there are keys again.
	armed struct{}
	// sweep: it is time to look.
	sweep struct{}
)

func newSweeper(e *Engine) *sweeper {
	s := &sweeper{engine: e, every: (e.cfg.Passivation + 1) / 2}
	s.actor = host.NewResident(e.host, "sweeper", false, s)
	return s
}

// arm sees to it that what has come to life will be looked at.
func (s *sweeper) arm() {
	if s.every > 0 && !s.armed.Load() && s.armed.CompareAndSwap(false, true) {
		s.actor.Post(armed{})
	}
}

// Receive implements host.Receiver.
func (s *sweeper) Receive(message any) {
	switch message.(type) {
	case armed:
		s.wait()
	case sweep:
		s.armed.Store(false)
		if s.sweep() && s.armed.CompareAndSwap(false, true) {
			s.wait()
		}
	case host.Restarting:
		s.wait()
	case host.Stopped:
		if s.timer != nil {
			s.timer.Stop()
		}
	}
}

func (s *sweeper) wait() {
	s.timer = time.AfterFunc(s.every, func() { s.actor.Post(sweep{}) })
}

// sweep looks at everything once, and reports whether anything is awake.
func (s *sweeper) sweep() (awake bool) {
	for _, space := range s.engine.spaces() {
		if s.engine.closed.Load() {
			return false
		}
		awake = space.Sweep() || awake
	}
	return awake
}
