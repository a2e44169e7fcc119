// A shop that is killed while it sells: customers repeat their requests, under the IDs
// that they gave them, until they are told whether they have bought.
package faults_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/distkit/distkit-go"
	"github.com/distkit/distkit-go/internal/chaos"
	"github.com/distkit/distkit-go/internal/redistest"
	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"
)

// shopEnv names the prefix to sell under; it makes TestChildShop the child.
const shopEnv = "DISTKIT_FAULTS_SHOP_UNDER"

const (
	shopCustomers = 32
	shopAnswer    = 2 * time.Second // within which a customer wants one, before asking again
)

var (
	shopStock = distkit.MustKey("stock:42")
	shopSold  = distkit.MustKey("sold:42")
)

// TestShopKilled has customers buy over HTTP while the shop is killed with SIGKILL and
// opens again: everybody is told in the end, what was sold is what they were told, each
// piece once, and the stock is never negative.
func TestShopKilled(t *testing.T) {
	t.Parallel()
	run := chaos.Begin(t, "ShopKilled")
	purchases, kills := run.Scale(3_000, 60_000), run.Scale(3, 60)
	client := redistest.Client(t)
	s := &shop{t: t, prefix: redistest.Prefix(t, client), pieces: int64(purchases) * 2 / 3}
	s.http.Transport = &http.Transport{MaxIdleConnsPerHost: shopCustomers}
	defer s.http.CloseIdleConnections()
	container := s.prefix + ":strict_counter"
	require.NoError(t, client.HSet(t.Context(), container, shopStock.String(), s.pieces).Err())
	s.open()

	ctx, cancel := context.WithTimeout(context.Background(), time.Duration(kills)*serverPatience)
	defer cancel()
	var customers sync.WaitGroup
	for c := range shopCustomers {
		customers.Go(func() {
			rng := run.Rand(uint64(c))
			for i := c; i < purchases; i += shopCustomers {
				s.buy(ctx, run, rng, i)
			}
		})
	}
	looked := make(chan struct{})
	over := make(chan struct{})
	go func() {
		defer close(looked)
		s.watchStock(client, run, container, over)
	}()
	for kill := range kills { // each when so many have been told
		s.awaitTold(ctx, (kill+1)*purchases/(kills+1))
		s.kill()
		run.Faults(1)
		s.open()
	}
	customers.Wait()
	close(over)
	<-looked
	s.kill()
	run.Cases(purchases)

	slices.Sort(s.left)
	for i, left := range s.left {
		if left != int64(i) {
			run.Violation("two were told that %d pieces are left, or nobody: the %d told are %d…", i, len(s.left), s.left[:i+1])
			break
		}
	}
	strict := serverStored(t, client, s.prefix, "strict_counter")
	if sold := int64(len(s.left)); sold != s.pieces || strict[shopSold.String()] != sold || strict[shopStock.String()] != 0 {
		run.Violation("%d of %d pieces were sold, as customers were told; %v", sold, s.pieces, strict)
	}
	if told := len(s.left) + s.refused; told != purchases {
		run.Violation("%d of %d customers were told", told, purchases)
	}
	t.Logf("%d sold, %d refused; %d requests were repeated, %d of which had been carried out", len(s.left), s.refused, s.repeated.Load(), s.replayed.Load())
	require.Positive(t, s.repeated.Load())
}

// shop is the shop as it stands in the street: closed now and then.
type shop struct {
	t      *testing.T
	prefix string
	pieces int64
	cmd    *exec.Cmd
	output *strings.Builder
	addr   atomic.Pointer[string]
	http   http.Client

	repeated, replayed atomic.Int64

	mu      sync.Mutex
	left    []int64 // what customers who have bought were told is left
	refused int
	more    chan struct{} // closed when another one has been told
}

// open starts the process that sells, and waits until it does.
func (s *shop) open() {
	from, to, err := os.Pipe()
	require.NoError(s.t, err)
	defer func() { _ = from.Close() }()
	s.output = &strings.Builder{}
	s.cmd = exec.Command(os.Args[0], "-test.run=^TestChildShop$", "-test.count=1")
	s.cmd.Env = append(os.Environ(), shopEnv+"="+s.prefix, "REDIS_URL="+redistest.URL(s.t))
	s.cmd.Stdout, s.cmd.Stderr = s.output, s.output
	s.cmd.ExtraFiles = []*os.File{to}
	require.NoError(s.t, s.cmd.Start())
	_ = to.Close()
	text, err := io.ReadAll(from)
	require.NoError(s.t, err)
	addr := string(text)
	require.NotEmpty(s.t, addr, "%s", s.output)
	s.addr.Store(&addr)
}

func (s *shop) kill() {
	require.NoError(s.t, s.cmd.Process.Kill())
	require.ErrorContains(s.t, s.cmd.Wait(), "killed", "%s", s.output)
}

// buy is one customer: they ask until they are told.
func (s *shop) buy(ctx context.Context, run *chaos.Run, rng *rand.Rand, number int) {
	for attempt := 0; ; attempt++ {
		if ctx.Err() != nil {
			run.Violation("customer %d was never told", number)
			return
		}
		if attempt > 0 {
			s.repeated.Add(1)
		}
		within := shopAnswer
		if rng.IntN(8) == 0 { // they hang up
			within = time.Duration(rng.IntN(4000)) * time.Microsecond
		}
		outcome, left, err := s.ask(ctx, number, within)
		if err != nil {
			time.Sleep(5 * time.Millisecond) // the shop is closed; they do not hammer at its door
			continue
		}
		if strings.HasSuffix(outcome, "before") {
			s.replayed.Add(1)
			if attempt == 0 {
				run.Violation("customer %d asked once, and was told: %s", number, outcome)
			}
		}
		s.mu.Lock()
		if strings.HasPrefix(outcome, "sold") {
			s.left = append(s.left, left)
		} else {
			s.refused++
		}
		if s.more != nil {
			close(s.more)
			s.more = nil
		}
		s.mu.Unlock()
		return
	}
}

// ask makes one request.
func (s *shop) ask(ctx context.Context, number int, within time.Duration) (outcome string, left int64, err error) {
	ctx, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, fmt.Sprintf("http://%s/buy?request=%d", *s.addr.Load(), number), nil)
	if err != nil {
		return "", 0, err
	}
	response, err := s.http.Do(request)
	if err != nil {
		return "", 0, err
	}
	defer func() { _ = response.Body.Close() }()
	body, err := io.ReadAll(response.Body)
	if err == nil && response.StatusCode != http.StatusOK {
		err = errors.New(response.Status)
	}
	if err == nil {
		_, err = fmt.Sscan(string(body), &outcome, &left)
	}
	return outcome, left, err
}

// awaitTold waits until so many customers have been told.
func (s *shop) awaitTold(ctx context.Context, n int) {
	for {
		s.mu.Lock()
		if len(s.left)+s.refused >= n {
			s.mu.Unlock()
			return
		}
		if s.more == nil {
			s.more = make(chan struct{})
		}
		more := s.more
		s.mu.Unlock()
		select {
		case <-more:
		case <-ctx.Done():
			require.FailNow(s.t, "customers are stuck")
		}
	}
}

// watchStock looks at the stock all the time.
func (s *shop) watchStock(client *redis.Client, run *chaos.Run, container string, over chan struct{}) {
	for last := s.pieces; ; {
		n, err := client.HGet(context.Background(), container, shopStock.String()).Int64()
		if err != nil || n < 0 || n > last {
			run.Violation("the stock is %d, and was %d (%v)", n, last, err)
			return
		}
		last = n
		select {
		case <-over:
			return
		case <-time.After(time.Millisecond):
		}
	}
}

// TestChildShop sells until it is killed, as the child of TestShopKilled.
func TestChildShop(t *testing.T) {
	prefix := os.Getenv(shopEnv)
	if prefix == "" {
		t.Skip("only as the child of TestShopKilled")
	}
	client := redis.NewClient(redistest.Options(t))
	system, err := distkit.NewSystem(client, distkit.WithPrefix(distkit.MustKey(prefix)), distkit.WithLogger(slog.New(slog.DiscardHandler)))
	require.NoError(t, err)
	door, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	// A parent that dies must not leave us behind.
	time.AfterFunc(10*time.Minute, func() { os.Exit(3) })
	pipe := os.NewFile(3, "address")
	_, err = pipe.WriteString(door.Addr().String())
	require.NoError(t, err)
	require.NoError(t, pipe.Close())
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { shopSells(system, w, r) })}
	require.NoError(t, server.Serve(door))
}

// shopSells answers one request.
func shopSells(system *distkit.System, w http.ResponseWriter, r *http.Request) {
	out, err := system.Strict().Apply(r.Context(), distkit.Tx{
		ID: "buy:" + r.FormValue("request"),
		Steps: []distkit.Step{
			{Key: shopStock, Do: distkit.IncIf{If: distkit.Ge(1), N: -1}},
			{Key: shopSold, Do: distkit.Inc{N: 1}},
		},
	})
	if err != nil {
		http.Error(w, err.Error(), http.StatusServiceUnavailable)
		return
	}
	answer := map[bool]string{true: "sold", false: "refused"}[out.Applied]
	if out.Replayed {
		answer += ",before"
	}
	_, _ = fmt.Fprintln(w, answer, out.Replies[0].(distkit.Change).New)
}
