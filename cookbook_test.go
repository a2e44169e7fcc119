package distkit_test

import (
	"context"
	"fmt"
	"log"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/distkit/distkit-go"
	"github.com/redis/go-redis/v9"
)

// quickSystem is a System on an embedded server, for the examples.
func quickSystem() (system *distkit.System, stop func()) {
	server, err := miniredis.Run()
	if err != nil {
		log.Fatal(err)
	}
	client := redis.NewClient(&redis.Options{Addr: server.Addr()})
	if system, err = distkit.NewSystem(client); err != nil {
		log.Fatal(err)
	}
	return system, func() {
		_ = system.Shutdown(context.Background())
		_ = client.Close()
		server.Close()
	}
}

// A sale that is asked for twice, since its first reply was lost, is made once: the
// request's ID says that it is the same.
func ExampleStrictCounter_Apply() {
	system, stop := quickSystem()
	defer stop()
	ctx := context.Background()
	strict := system.Strict()
	stock, sold := distkit.MustKey("stock:42"), distkit.MustKey("sold:42")
	if _, err := strict.Set(ctx, stock, 1); err != nil {
		log.Fatal(err)
	}
	for _, request := range []string{"request-1", "request-1", "request-2"} {
		outcome, err := strict.Apply(ctx, distkit.Tx{ID: request, Steps: []distkit.Step{
			{Key: stock, Do: distkit.IncIf{If: distkit.Ge(1), N: -1}},
			{Key: sold, Do: distkit.Inc{N: 1}},
		}})
		if err != nil {
			log.Fatal(err)
		}
		fmt.Println(request, "sold:", outcome.Applied, "before:", outcome.Replayed)
	}
	values, err := strict.GetAll(ctx, stock, sold)
	fmt.Println(values, err)
	// Output:
	// request-1 sold: true before: false
	// request-1 sold: true before: true
	// request-2 sold: false before: false
	// [0 1] <nil>
}

// A transfer between two wallets: both change, or none.
func ExampleStrictCounter_Apply_transfer() {
	system, stop := quickSystem()
	defer stop()
	ctx := context.Background()
	strict := system.Strict()
	ann, bob := distkit.MustKey("wallet:ann"), distkit.MustKey("wallet:bob")
	if _, err := strict.Set(ctx, ann, 100); err != nil {
		log.Fatal(err)
	}
	transfer := func(from, to distkit.Key, n int64) {
		outcome, err := strict.Apply(ctx, distkit.Tx{Steps: []distkit.Step{
			{Key: from, Do: distkit.IncIf{If: distkit.Ge(n), N: -n}},
			{Key: to, Do: distkit.Inc{N: n}},
		}})
		if err != nil {
			log.Fatal(err)
		}
		values, err := strict.GetAll(ctx, ann, bob)
		fmt.Println(outcome.Applied, values, err)
	}
	transfer(ann, bob, 70)
	transfer(ann, bob, 70)
	// Output:
	// true [30 70] <nil>
	// false [30 70] <nil>
}

// A counter is seeded from a database once, by whoever is first; 0 is not absent.
func ExampleAbsent() {
	system, stop := quickSystem()
	defer stop()
	ctx := context.Background()
	quota := distkit.MustKey("quota:42")
	for _, fromDatabase := range []int64{100, 100} { // two processes, one after the other
		seeded, err := system.Strict().SetIf(ctx, quota, distkit.Absent(), fromDatabase)
		if err != nil {
			log.Fatal(err)
		}
		fmt.Println("seeded:", seeded.Applied)
		if _, err := system.Strict().Inc(ctx, quota, -50); err != nil {
			log.Fatal(err)
		}
	}
	n, exists, err := system.Strict().Lookup(ctx, quota)
	fmt.Println(n, exists, err)
	// Output:
	// seeded: true
	// seeded: false
	// 0 true <nil>
}

// Page views by day, with today's top pages.
func ExampleLaxCounter_Per() {
	system, stop := quickSystem()
	defer stop()
	ctx := context.Background()
	daily, err := system.Lax().Per(distkit.Daily(time.UTC), 30*24*time.Hour)
	if err != nil {
		log.Fatal(err)
	}
	day := time.Date(2040, 1, 2, 3, 4, 5, 0, time.UTC)
	for page, views := range map[string]int64{"/": 30, "/about": 10, "/prices": 20} {
		if _, err := daily.At(day).Inc(ctx, distkit.MustKey(page), views); err != nil {
			log.Fatal(err)
		}
	}
	top, err := daily.At(day).Top(ctx, 2)
	for _, e := range top {
		fmt.Println(e.Key, e.N)
	}
	fmt.Println(err)
	points, err := daily.Series(ctx, distkit.MustKey("/"), day.AddDate(0, 0, -1), day)
	for _, p := range points {
		fmt.Println(p.Start.Format(time.DateOnly), p.N)
	}
	fmt.Println(err)
	// Output:
	// / 30
	// /prices 20
	// <nil>
	// 2040-01-01 0
	// 2040-01-02 30
	// <nil>
}

// A user's cap and an organisation's: both are charged, or none.
func ExampleStrictCounter_Apply_caps() {
	system, stop := quickSystem()
	defer stop()
	ctx := context.Background()
	strict := system.Strict()
	user, org := distkit.MustKey("used:user:7"), distkit.MustKey("used:org:1")
	if _, err := strict.SetAll(ctx, distkit.Update{Key: user, N: 9}, distkit.Update{Key: org, N: 500}); err != nil {
		log.Fatal(err)
	}
	for range 2 {
		outcome, err := strict.Apply(ctx, distkit.Tx{Steps: []distkit.Step{
			{Key: user, Do: distkit.IncIf{If: distkit.Lt(10), N: 1}},
			{Key: org, Do: distkit.IncIf{If: distkit.Lt(1000), N: 1}},
		}})
		if err != nil {
			log.Fatal(err)
		}
		fmt.Println("allowed:", outcome.Applied)
	}
	values, err := strict.GetAll(ctx, user, org)
	fmt.Println(values, err)
	// Output:
	// allowed: true
	// allowed: false
	// [10 501] <nil>
}

// A message that a queue delivers twice is counted once: its ID is the transaction's.
func ExampleStrictCounter_Apply_redelivery() {
	system, stop := quickSystem()
	defer stop()
	ctx := context.Background()
	orders := distkit.MustKey("orders")
	for _, message := range []string{"m-1", "m-2", "m-1"} {
		_, err := system.Strict().Apply(ctx, distkit.Tx{ID: message, Keep: 7 * 24 * time.Hour, Steps: []distkit.Step{
			{Key: orders, Do: distkit.Inc{N: 1}},
		}})
		if err != nil {
			log.Fatal(err) // do not acknowledge it: it comes again
		}
	}
	n, err := system.Strict().Get(ctx, orders)
	fmt.Println(n, err)
	// Output:
	// 2 <nil>
}

// Strings that other programs count in by INCR are moved over while they do. Each step
// may be made again after a crash, and none counts twice: what is moved is set aside by
// RENAMENX first, and added under an ID that has its value's turn.
func ExampleStrictCounter_Apply_migration() {
	server, err := miniredis.Run()
	if err != nil {
		log.Fatal(err)
	}
	defer server.Close()
	ctx := context.Background()
	client := redis.NewClient(&redis.Options{Addr: server.Addr()})
	defer func() { _ = client.Close() }()
	system, err := distkit.NewSystem(client)
	if err != nil {
		log.Fatal(err)
	}
	defer func() { _ = system.Shutdown(ctx) }()
	client.Set(ctx, "hits", 40, 0)

	key := distkit.MustKey("hits")
	move := func(turn int) {
		aside := fmt.Sprint("hits:moving:", turn)
		client.RenameNX(ctx, "hits", aside) // fails where it was done before, or there is nothing
		n, err := client.Get(ctx, aside).Int64()
		if err == redis.Nil {
			return
		}
		if err != nil {
			log.Fatal(err)
		}
		if _, err := system.Strict().Apply(ctx, distkit.Tx{ID: aside, Keep: 30 * 24 * time.Hour, Steps: []distkit.Step{
			{Key: key, Do: distkit.Inc{N: n}},
		}}); err != nil {
			log.Fatal(err) // run it again, with the same turn
		}
		client.Del(ctx, aside)
	}
	move(1)
	move(1)
	client.IncrBy(ctx, "hits", 2) // by a program that still has the old code
	move(2)
	n, err := system.Strict().Get(ctx, key)
	fmt.Println(n, err)
	// Output:
	// 42 <nil>
}
