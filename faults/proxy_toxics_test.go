package faults_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/Shopify/toxiproxy/v2"
	"github.com/rs/zerolog"
	"github.com/stretchr/testify/require"
)

// toxics is toxiproxy before the wire: what befalls a link as a whole, without
// regard to what travels on it. Toxics come one at a time, by the seed.
type toxics struct {
	proxy *toxiproxy.Proxy
	count atomic.Int64
}

// toxicKinds are toxiproxy's, with what it is told of them; each is used in
// both directions. Not bandwidth, which prints to stderr, and is latency to
// messages as small as ours.
var toxicKinds = []struct {
	kind       string
	attributes func(*rand.Rand) string
	lasts      time.Duration
	weight     int
}{
	{"latency", func(r *rand.Rand) string { return fmt.Sprintf(`"latency":%d,"jitter":3`, 3+r.IntN(10)) }, 40 * time.Millisecond, 4},
	{"slicer", func(r *rand.Rand) string {
		return fmt.Sprintf(`"average_size":%d,"size_variation":7,"delay":50`, 8+r.IntN(60))
	}, 60 * time.Millisecond, 4},
	{"reset_peer", func(r *rand.Rand) string { return fmt.Sprintf(`"timeout":%d`, r.IntN(3)) }, 10 * time.Millisecond, 6},
	{"limit_data", func(r *rand.Rand) string { return fmt.Sprintf(`"bytes":%d`, r.IntN(3000)) }, 20 * time.Millisecond, 6},
	{"timeout", func(*rand.Rand) string { return `"timeout":0` }, readTimeout + 50*time.Millisecond, 1}, // a black hole
}

// startToxics starts a toxiproxy to the address to; it ends with the test.
func startToxics(t testing.TB, to string) *toxics {
	t.Helper()
	server := toxiproxy.NewServer(toxiproxy.NewMetricsContainer(nil), zerolog.Nop())
	x := &toxics{proxy: toxiproxy.NewProxy(server, "redis", "127.0.0.1:0", to)}
	require.NoError(t, x.proxy.Start())
	t.Cleanup(x.proxy.Stop)
	return x
}

func (x *toxics) addr() string { return x.proxy.Listen }

// run adds and removes toxics until ctx ends; then there are none.
func (x *toxics) run(ctx context.Context, rng *rand.Rand) error {
	total := 0
	for _, k := range toxicKinds {
		total += k.weight
	}
	for rest(ctx, time.Duration(20+rng.IntN(80))*time.Millisecond) {
		n, i := rng.IntN(total), 0
		for n >= toxicKinds[i].weight {
			n -= toxicKinds[i].weight
			i++
		}
		k := toxicKinds[i]
		direction := []string{"upstream", "downstream"}[rng.IntN(2)]
		_, err := x.proxy.Toxics.AddToxicJson(strings.NewReader(fmt.Sprintf(
			`{"name":"toxic","type":%q,"stream":%q,"attributes":{%s}}`, k.kind, direction, k.attributes(rng))))
		if err != nil {
			return fmt.Errorf("add %s: %w", k.kind, err)
		}
		x.count.Add(1)
		rest(ctx, k.lasts)
		if err := x.proxy.Toxics.RemoveToxic(context.WithoutCancel(ctx), "toxic"); err != nil {
			return fmt.Errorf("remove %s: %w", k.kind, err)
		}
	}
	return nil
}

// rest waits for d; false if ctx ended first.
func rest(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}
