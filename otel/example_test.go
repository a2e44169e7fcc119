package distkitotel_test

import (
	"context"
	"log"

	"github.com/distkit/distkit-go"
	distkitotel "github.com/distkit/distkit-go/otel"
	"github.com/redis/go-redis/v9"
)

func Example() {
	client := redis.NewClient(&redis.Options{Addr: "localhost:6379"})
	defer client.Close()
	instruments, err := distkitotel.New() // of the global providers
	if err != nil {
		log.Fatal(err)
	}
	system, err := distkit.NewSystem(client, distkit.WithProbe(instruments.Probe()))
	if err != nil {
		log.Fatal(err)
	}
	defer system.Shutdown(context.Background())
	stop, err := instruments.Observe(system)
	if err != nil {
		log.Fatal(err)
	}
	defer stop()
}
