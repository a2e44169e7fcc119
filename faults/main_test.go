// What every test of the fault suite runs under: the shared Redis, and a look
// for goroutines that were left behind.
package faults_test

import (
	"testing"

	"github.com/distkit/distkit-go/internal/redistest"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	redistest.Main(m, func() error {
		// Toxiproxy leaves a link's goroutines behind when bytes arrive at a
		// toxic that has closed the connection; nobody else may.
		return goleak.Find(
			goleak.IgnoreAnyFunction("github.com/redis/go-redis/v9/internal/pool.(*ConnPool).tryDial"), // looks once a second whether its pool is closed
			goleak.IgnoreAnyFunction("github.com/Shopify/toxiproxy/v2.(*ToxicLink).read"),
			goleak.IgnoreAnyFunction("github.com/Shopify/toxiproxy/v2/toxics.(*ToxicStub).Run"))
	})
}
