package faults_test

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/Shopify/toxiproxy/v2"
	"github.com/rs/zerolog"
	"github.com/stretchr/testify/require"
)

// toxics are toxiproxies before the wire: what befalls a connection as a whole,
// without regard to what travels on it. Each has one toxic for good, and a
// connection gets it by being dialled there: in toxiproxy v2.5, to remove a
// toxic from a link that is just breaking can deadlock (RemoveToxic waits,
// under the lock, for a toxic that waits for a writer that waits for the lock).
// Black holes are the wire's: toxiproxy's would begin with the handshake.
type toxics []*toxiproxy.Proxy

// toxicSpecs are toxiproxy's kinds of toxics and what they are told; bytes are
// those of a connection until it ends, in the middle of whatever that is.
var toxicSpecs = []string{
	`"type":"latency","stream":"upstream","attributes":{"latency":2,"jitter":2}`,
	`"type":"latency","stream":"downstream","attributes":{"latency":6,"jitter":5}`,
	`"type":"slicer","stream":"upstream","attributes":{"average_size":40,"size_variation":20,"delay":20}`,
	`"type":"slicer","stream":"downstream","attributes":{"average_size":20,"size_variation":8,"delay":20}`,
	`"type":"limit_data","stream":"upstream","attributes":{"bytes":1111}`,
	`"type":"limit_data","stream":"upstream","attributes":{"bytes":9973}`,
	`"type":"limit_data","stream":"downstream","attributes":{"bytes":777}`,
	`"type":"limit_data","stream":"downstream","attributes":{"bytes":3989}`,
	`"type":"reset_peer","stream":"upstream","attributes":{"timeout":0}`,
	`"type":"reset_peer","stream":"downstream","attributes":{"timeout":1}`,
}

// startToxics starts toxiproxies to the address to; they end with the test.
func startToxics(t testing.TB, to string) toxics {
	t.Helper()
	server := toxiproxy.NewServer(toxiproxy.NewMetricsContainer(nil), zerolog.Nop())
	var x toxics
	for i, spec := range toxicSpecs {
		proxy := toxiproxy.NewProxy(server, fmt.Sprintf("redis-%d", i), "127.0.0.1:0", to)
		_, err := proxy.Toxics.AddToxicJson(strings.NewReader("{" + spec + "}"))
		require.NoError(t, err)
		require.NoError(t, proxy.Start())
		t.Cleanup(proxy.Stop)
		x = append(x, proxy)
	}
	return x
}

// addr is the address of one of them.
func (x toxics) addr(rng *rand.Rand) string { return x[rng.IntN(len(x))].Listen }
