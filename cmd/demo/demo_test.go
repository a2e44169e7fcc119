package main

import (
	"bytes"
	"context"
	"io"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/redis/go-redis/v9/logging"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	logging.Disable()
	goleak.VerifyTestMain(m)
}

// screen is an output that can be awaited.
type screen struct {
	mu   sync.Mutex
	text bytes.Buffer
	more chan struct{}
}

func newScreen() *screen { return &screen{more: make(chan struct{}, 1)} }

func (s *screen) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	select {
	case s.more <- struct{}{}:
	default:
	}
	return s.text.Write(p)
}

func (s *screen) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.text.String()
}

func (s *screen) await(t *testing.T, text string) {
	t.Helper()
	limit := time.After(30 * time.Second)
	for !strings.Contains(s.String(), text) {
		select {
		case <-s.more:
		case <-limit:
			require.Failf(t, "missing", "%q did not come: %s", text, s)
		}
	}
}

func TestRun_outage_everythingAgrees(t *testing.T) {
	t.Parallel()
	out, errs := newScreen(), newScreen()
	code := run(t.Context(), []string{"-duration", "2s", "-outage", "800ms", "-workers", "8"}, "", out, errs)
	assert.Equal(t, exitOK, code, "%s", out)
	assert.Empty(t, errs.String())
	for _, want := range []string{
		"embedded miniredis", "views ", "Redis is gone", "event: ", "Redis is back",
		"Everything agrees: nothing was lost, nothing was counted twice.",
	} {
		assert.Contains(t, out.String(), want)
	}
	assert.Equal(t, 10, strings.Count(out.String(), " ok\n"), "%s", out)
	assert.NotContains(t, out.String(), "\r", "not a terminal")
}

func TestRun_interruptedInOutage_stillChecks(t *testing.T) {
	t.Parallel()
	ctx, interrupt := context.WithCancel(t.Context())
	out, errs := newScreen(), newScreen()
	code := make(chan int, 1)
	go func() {
		code <- run(ctx, []string{"-duration", "60s", "-outage", "59500ms", "-workers", "4"}, "", out, errs)
	}()
	out.await(t, "Redis is gone")
	interrupt()
	assert.Equal(t, exitOK, <-code, "%s%s", out, errs)
	assert.Equal(t, 10, strings.Count(out.String(), " ok\n"), "%s", out)
}

// Somebody else counts on the demo's counters: it has to notice.
func TestRun_redisHoldsAnotherCount_exitsNonZero(t *testing.T) {
	t.Parallel()
	server := miniredis.RunT(t)
	out, errs := newScreen(), newScreen()
	code := make(chan int, 1)
	go func() {
		code <- run(t.Context(), []string{"-duration", "1s", "-outage", "0", "-workers", "2", "-prefix", "shop:night", "-keep"},
			"redis://"+server.Addr(), out, errs)
	}()
	out.await(t, "visitors and") // the check that the prefix is unused is over
	_, err := server.HIncrBy("shop:night:lax_counter", "mails", 1)
	require.NoError(t, err)
	assert.Equal(t, exitDiffers, <-code, "%s%s", out, errs)
	assert.Equal(t, 1, strings.Count(out.String(), " DIFFERS\n"), "%s", out)
	assert.Contains(t, out.String(), "Redis does NOT hold what was asked.")
	assert.True(t, server.Exists("shop:night:strict_counter"), "-keep")

	again := newScreen()
	assert.Equal(t, exitCannot, run(t.Context(), []string{"-prefix", "shop:night"}, "redis://"+server.Addr(), io.Discard, again))
	assert.Contains(t, again.String(), "already")
	assert.True(t, server.Exists("shop:night:strict_counter"), "what was there stays")
}

func TestRun_redisURL_leavesNothing(t *testing.T) {
	t.Parallel()
	server := miniredis.RunT(t)
	out, errs := newScreen(), newScreen()
	code := run(t.Context(), []string{"-duration", "600ms", "-outage", "0", "-workers", "2"}, "redis://"+server.Addr(), out, errs)
	assert.Equal(t, exitOK, code, "%s%s", out, errs)
	for _, key := range server.Keys() {
		assert.Contains(t, key, ":writer:")
		assert.LessOrEqual(t, server.TTL(key), time.Minute)
	}
}

func TestRun_badUsage_saysWhy(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		args, url, want string
	}{
		{"-nonsense", "", "-nonsense"},
		{"extra", "", `not "extra"`},
		{"-duration soon", "", "soon"},
		{"-duration 1s -outage 2s", "", "at least 500ms longer than the outage of 2s"},
		{"-outage -1s", "", "-outage -1s is negative"},
		{"-workers 0", "", "1 to 10000"},
		{"-prefix a/b", "", `"a/b"`},
		{"-keep", "", "set REDIS_URL"},
		{"", "http://localhost", "REDIS_URL"},
		{"", "redis://127.0.0.1:1", "reach Redis at 127.0.0.1:1"},
	} {
		t.Run(test.args+test.url, func(t *testing.T) {
			t.Parallel()
			out, errs := newScreen(), newScreen()
			assert.Equal(t, exitCannot, run(t.Context(), strings.Fields(test.args), test.url, out, errs))
			assert.Contains(t, errs.String(), test.want)
			assert.Empty(t, out.String())
		})
	}
}

func TestRun_help(t *testing.T) {
	t.Parallel()
	out, errs := newScreen(), newScreen()
	assert.Equal(t, exitOK, run(t.Context(), []string{"-h"}, "", out, errs))
	assert.Empty(t, errs.String())
	for _, want := range []string{"REDIS_URL", "-duration", "-outage", "-workers", "-prefix", "-keep", "exit code"} {
		assert.Contains(t, out.String(), want)
	}
}

func TestRow_ok(t *testing.T) {
	t.Parallel()
	r := row{least: 3, most: 5}
	for redis, want := range map[int64]bool{2: false, 3: true, 5: true, 6: false} {
		r.redis = redis
		assert.Equal(t, want, r.ok(), "%d", redis)
	}
}

func TestConsole_terminal_keepsTheStatusBelow(t *testing.T) {
	t.Parallel()
	out := newScreen()
	c := &console{out: out, terminal: true, start: time.Now()}
	c.show("one")
	c.printf("line")
	c.show("two")
	c.end()
	status, blank := "  0.0s  one", "\r           \r"
	assert.Equal(t, status+blank+"line\n"+status+blank+"  0.0s  two\n", out.String())
}

func TestGroup(t *testing.T) {
	t.Parallel()
	for n, want := range map[int64]string{0: "0", 999: "999", 1000: "1,000", -123456: "-123,456", 1234567: "1,234,567"} {
		assert.Equal(t, want, group(n))
	}
}
