package distkit_test

import (
	"context"
	"errors"
	"fmt"
	"log"

	"github.com/alicebob/miniredis/v2"
	"github.com/asynkron/protoactor-go/actor"
	"github.com/distkit/distkit-go"
	"github.com/redis/go-redis/v9"
)

// The quick start of the README. In a service the client is one of a real
// Redis; here it is an embedded server, so that the example runs anywhere.
func Example() {
	server, err := miniredis.Run()
	if err != nil {
		log.Fatal(err)
	}
	defer server.Close()
	ctx := context.Background()

	client := redis.NewClient(&redis.Options{Addr: server.Addr()})
	defer client.Close()
	system, err := distkit.NewSystem(client)
	if err != nil {
		log.Fatal(err)
	}
	defer system.Shutdown(ctx)

	// Strict: every operation is executed in Redis.
	seats := distkit.MustKey("seats")
	if _, err := system.Strict().Set(ctx, seats, 2); err != nil {
		log.Fatal(err)
	}
	for range 3 {
		sale, err := system.Strict().IncIf(ctx, seats, distkit.Gt(0), -1)
		if err != nil {
			log.Fatal(err)
		}
		fmt.Println("sold:", sale.Applied, "left:", sale.New)
	}

	// Lax: increments fold in memory and reach Redis every 20 ms.
	views := distkit.MustKey("page_views")
	for range 1000 {
		if err := system.Lax().Add(views, 1); err != nil {
			log.Fatal(err)
		}
	}
	if err := system.Flush(ctx); err != nil {
		log.Fatal(err)
	}
	fmt.Println("views in Redis:", client.HGet(ctx, "distkit:lax_counter", "page_views").Val())

	// Output:
	// sold: true left: 1
	// sold: true left: 0
	// sold: false left: 0
	// views in Redis: 1000
}

// Parts that others choose cannot make the key of somebody else.
func ExampleJoinKey() {
	for _, parts := range [][]string{{"tenant", "42", "calls"}, {"tenant", "42:calls"}, {"ip", "2001:db8::1"}} {
		key, err := distkit.JoinKey(parts...)
		if err != nil {
			log.Fatal(err)
		}
		fmt.Println(key)
	}
	// Output:
	// tenant:42:calls
	// tenant:42%3Acalls
	// ip:2001%3Adb8%3A%3A1
}

// Any Proto.Actor code can count by PID.
func ExamplePID_Actor() {
	server, err := miniredis.Run()
	if err != nil {
		log.Fatal(err)
	}
	defer server.Close()
	client := redis.NewClient(&redis.Options{Addr: server.Addr()})
	defer client.Close()
	system, err := distkit.NewSystem(client)
	if err != nil {
		log.Fatal(err)
	}
	defer system.Shutdown(context.Background())

	tickets := system.Strict().PID(distkit.MustKey("tickets"))
	done := make(chan struct{})
	clerk := system.ActorSystem().Root.Spawn(actor.PropsFromFunc(func(ctx actor.Context) {
		switch message := ctx.Message().(type) {
		case string: // somebody bought a ticket
			ctx.Request(tickets.Actor(), distkit.Inc{N: 1})
		case distkit.Value:
			fmt.Println("tickets:", message.N)
			close(done)
		case distkit.Failure:
			fmt.Println("failed:", message.Err)
			close(done)
		}
	}))
	system.ActorSystem().Root.Send(clerk, "a ticket, please")
	<-done
	// Output: tickets: 1
}

// Every error says whether the operation was applied.
func ExampleStrictCounter_errors() {
	client := redis.NewClient(&redis.Options{Addr: "127.0.0.1:6379"})
	defer client.Close()
	system, err := distkit.NewSystem(client)
	if err != nil {
		log.Fatal(err)
	}
	if err := system.Shutdown(context.Background()); err != nil {
		log.Fatal(err)
	}
	_, err = system.Strict().Inc(context.Background(), distkit.MustKey("balance"), 1)
	switch {
	case errors.Is(err, distkit.ErrNotApplied):
		fmt.Println("safe to try again:", errors.Is(err, distkit.ErrClosed))
	case errors.Is(err, distkit.ErrOutcomeUnknown):
		fmt.Println("look before trying again")
	}
	// Output: safe to try again: true
}
