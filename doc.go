// Package distkit gives a Go service distributed counters kept in Redis, each
// of which is applied exactly once: an operation is applied once, not applied,
// or its outcome is unknown, and the caller is told which.
//
// There are two kinds, with one interface. A StrictCounter executes every
// operation in Redis and answers with the authoritative value: for billing,
// inventory, quota. A LaxCounter folds increments in memory and writes them
// every 20 ms: for analytics and traffic counts.
//
//	client := redis.NewClient(&redis.Options{Addr: "localhost:6379"})
//	system, err := distkit.NewSystem(client)
//	…
//	defer system.Shutdown(context.Background())
//	left, err := system.Strict().Dec(ctx, distkit.MustKey("seats"), 1)
//	err = system.Lax().Add(distkit.MustKey("page_views"), 1)
//
// Each counter key is one supervised actor (Proto.Actor); any actor can count
// by its PID: ctx.Send(system.Lax().PID(key).Actor(), distkit.Inc{N: 1}).
//
// What happens when Redis fails is described at StrictCounter, LaxCounter and
// the errors; docs/DESIGN.md in the repository describes how.
package distkit
