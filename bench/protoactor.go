package bench

import (
	"fmt"
	"log/slog"
	"time"

	"github.com/asynkron/protoactor-go/actor"
)

// The messages of the plain actor. Sending them does not allocate them.
type (
	increment struct{ n int64 }
	readTotal struct{}
)

// plainActor is a counter as one writes it with Proto.Actor: with the default
// mailbox and nothing else.
type plainActor struct{ n int64 }

func (a *plainActor) Receive(ctx actor.Context) {
	switch message := ctx.Message().(type) {
	case increment:
		a.n += message.n
		if ctx.Sender() != nil {
			ctx.Respond(a.n)
		}
	case readTotal:
		ctx.Respond(a.n)
	}
}

type protoactorCounter struct {
	system *actor.ActorSystem
	pids   []*actor.PID
	count  func(c *protoactorCounter, pid *actor.PID) error
}

func (c *protoactorCounter) Count(key int) error { return c.count(c, c.pids[key]) }

func (c *protoactorCounter) Settle() error {
	_, err := c.Total()
	return err
}

// Total asks every actor, which answers when it has handled what came before.
func (c *protoactorCounter) Total() (int64, error) {
	var total int64
	for _, pid := range c.pids {
		reply, err := c.system.Root.RequestFuture(pid, readTotal{}, time.Minute).Result()
		if err != nil {
			return 0, err
		}
		n, ok := reply.(int64)
		if !ok {
			return 0, fmt.Errorf("protoactor: the reply is %T", reply)
		}
		total += n
	}
	return total, nil
}

func (c *protoactorCounter) Close() error {
	for _, pid := range c.pids {
		c.system.Root.Stop(pid)
	}
	c.system.Shutdown()
	return nil
}

func startProtoactor(n int, count func(*protoactorCounter, *actor.PID) error) *protoactorCounter {
	c := &protoactorCounter{count: count, system: actor.NewActorSystem(actor.WithLoggerFactory(
		func(*actor.ActorSystem) *slog.Logger { return slog.New(slog.DiscardHandler) }))}
	props := actor.PropsFromProducer(func() actor.Actor { return &plainActor{} })
	for range n {
		c.pids = append(c.pids, c.system.Root.Spawn(props))
	}
	return c
}

func protoactorSend() Contestant {
	send := func(c *protoactorCounter, pid *actor.PID) error {
		c.system.Root.Send(pid, increment{1})
		return nil
	}
	return contestant{"protoactor-send", memoryOnly + "; no reply", func(_ *Env, n int) (Counter, error) {
		return startProtoactor(n, send), nil
	}}
}

func protoactorRequest() Contestant {
	request := func(c *protoactorCounter, pid *actor.PID) error {
		_, err := c.system.Root.RequestFuture(pid, increment{1}, time.Minute).Result()
		return err
	}
	return contestant{"protoactor-request", memoryOnly, func(_ *Env, n int) (Counter, error) {
		return startProtoactor(n, request), nil
	}}
}
