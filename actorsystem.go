package distkit

import (
	"log/slog"
	"sync"

	"github.com/asynkron/protoactor-go/actor"
	"github.com/distkit/distkit-go/actors"
)

// A Proto.Actor system takes about 3 MB, most of it for its registry. So Systems that
// are given none share one, by their loggers, and the last of them shuts it down.

// sharedActors is an actor system of several Systems.
type sharedActors struct {
	logger *slog.Logger
	system *actor.ActorSystem
	users  int
}

var shared struct {
	mu sync.Mutex
	by map[*slog.Logger]*sharedActors
}

// shareActors returns the actor system for a logger; release is to be called when it is
// needed no more.
func shareActors(logger *slog.Logger) (system *actor.ActorSystem, release func()) {
	shared.mu.Lock()
	defer shared.mu.Unlock()
	s := shared.by[logger]
	if s == nil {
		s = &sharedActors{logger: logger, system: actor.NewActorSystem(actor.WithLoggerFactory(actors.QuietLogger(logger)))}
		if shared.by == nil {
			shared.by = map[*slog.Logger]*sharedActors{}
		}
		shared.by[logger] = s
	}
	s.users++
	return s.system, sync.OnceFunc(s.release)
}

func (s *sharedActors) release() {
	shared.mu.Lock()
	defer shared.mu.Unlock()
	if s.users--; s.users > 0 {
		return
	}
	delete(shared.by, s.logger)
	defer func() { _ = recover() }() // a user has shut it down, and a second time it panics
	s.system.Shutdown()
}
