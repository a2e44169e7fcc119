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
	for _, fromDatabase := range []int64{100, 100} {
		seeded, err := system.Strict().SetIf(ctx, quota, distkit.Absent(), fromDatabase)
		if err != nil {
			log.Fatal(err)
		}
		fmt.Println("seeded:", seeded.Applied)
		if _, err := system.Strict().Inc(ctx, quota, -100); err != nil {
			log.Fatal(err)
		}
		break
	}
	seeded, err := system.Strict().SetIf(ctx, quota, distkit.Absent(), 100)
	fmt.Println("seeded again:", seeded.Applied, err)
	n, exists, err := system.Strict().Lookup(ctx, quota)
	fmt.Println(n, exists, err)
	// Output:
	// seeded: true
	// seeded again: false <nil>
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
