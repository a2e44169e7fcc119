// What every test of the fault suite runs under: the shared Redis, and a look
// for goroutines that were left behind.
package faults_test

import (
	"testing"

	"github.com/distkit/distkit-go/internal/redistest"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	redistest.Main(m, func() (err error) {
		// go-redis looks once a second whether a pool that it dials for is closed:
		// longer than goleak waits.
		for range 4 {
			// Toxiproxy leaves a link's goroutines behind when bytes arrive at a
			// toxic that has closed the connection; nobody else may.
			err = goleak.Find(
				goleak.IgnoreAnyFunction("github.com/Shopify/toxiproxy/v2.(*ToxicLink).read"),
				goleak.IgnoreAnyFunction("github.com/Shopify/toxiproxy/v2/toxics.(*ToxicStub).Run"))
			if err == nil {
				return nil
			}
		}
		return err
	})
}
