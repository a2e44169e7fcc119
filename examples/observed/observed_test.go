package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
	"github.com/distkit/distkit-go"
	"github.com/distkit/distkit-go/distkittest"
	"github.com/redis/go-redis/v9/logging"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	logging.Disable() // the outages are meant
	goleak.VerifyTestMain(m)
}

// serve starts the service on a Redis in memory.
func serve(t *testing.T) (*distkittest.System, string) {
	t.Helper()
	var system *distkittest.System
	s, err := newService(func(opts ...distkit.Option) (*distkit.System, error) {
		system = distkittest.New(t, append(opts, distkit.WithBackoff(5*time.Millisecond, 20*time.Millisecond))...)
		return system.System, nil
	})
	require.NoError(t, err)
	t.Cleanup(s.close)
	server := httptest.NewServer(s.handler())
	t.Cleanup(server.Close)
	return system, server.URL
}

// ask makes a request and returns its status and body.
func ask(t *testing.T, method, url string) (int, string) {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), method, url, nil)
	require.NoError(t, err)
	response, err := http.DefaultClient.Do(request)
	require.NoError(t, err)
	defer func() { _ = response.Body.Close() }()
	body, err := io.ReadAll(response.Body)
	require.NoError(t, err)
	t.Cleanup(http.DefaultClient.CloseIdleConnections)
	return response.StatusCode, string(body)
}

func TestService(t *testing.T) {
	system, url := serve(t)
	for range 3 {
		status, _ := ask(t, http.MethodPost, url+"/view/front")
		require.Equal(t, http.StatusNoContent, status)
	}
	status, body := ask(t, http.MethodPost, url+"/buy/seat")
	require.Equal(t, http.StatusOK, status)
	require.JSONEq(t, `{"sold":1}`, body)
	status, body = ask(t, http.MethodPost, url+"/view/"+strings.Repeat("x", 256))
	require.Equal(t, http.StatusBadRequest, status)
	require.Contains(t, body, "255")
	system.Flushed()

	_, body = ask(t, http.MethodGet, url+"/")
	require.Contains(t, body, "answers")
	require.Contains(t, body, "<td>front</td><td class=\"n\">3</td>")
	require.Contains(t, body, "<td>seat</td><td class=\"n\">1</td>")
	_, body = ask(t, http.MethodGet, url+"/metrics")
	require.Contains(t, body, `distkit_writer_up{distkit_kind="strict"`)
	require.Contains(t, body, `distkit_operation_duration_seconds_count{distkit_kind="strict",distkit_operation="inc",distkit_outcome="applied"`)
	for _, probe := range []string{"/healthz", "/readyz"} {
		status, _ = ask(t, http.MethodGet, url+probe)
		require.Equal(t, http.StatusOK, status, probe)
	}

	system.Outage()
	status, body = ask(t, http.MethodGet, url+"/readyz")
	require.Equal(t, http.StatusServiceUnavailable, status, body)
	status, _ = ask(t, http.MethodGet, url+"/healthz")
	require.Equal(t, http.StatusOK, status, "an outage is no reason to restart it")
	status, _ = ask(t, http.MethodPost, url+"/view/front")
	require.Equal(t, http.StatusNoContent, status, "lax counting goes on")
	distkittest.Await[distkit.WriterFailed](system)
	_, body = ask(t, http.MethodGet, url+"/")
	require.Contains(t, body, "cannot be read now")
	require.Contains(t, body, "is on")

	system.Resume()
	system.Flushed()
	require.Eventually(t, func() bool { status, _ := ask(t, http.MethodGet, url+"/readyz"); return status == http.StatusOK },
		10*time.Second, 10*time.Millisecond)
	_, body = ask(t, http.MethodGet, url+"/")
	require.Contains(t, body, "<td>front</td><td class=\"n\">4</td>")
	require.NotContains(t, body, "is on")
}

// The page in a browser, which has it anew every second: through an outage and after it.
// SCREENSHOT=file keeps a picture of the outage.
func TestPage_inABrowser(t *testing.T) {
	browser, err := exec.LookPath("chromium")
	if err != nil {
		t.Skip("there is no chromium; apt-get install chromium")
	}
	system, url := serve(t)
	for page, views := range map[string]int{"front-page": 41, "pricing": 17, "docs/quick-start": 9, "blog": 5} {
		for range views {
			key := distkit.MustKey(page)
			status, _ := ask(t, http.MethodPost, url+"/view/"+strings.ReplaceAll(key.String(), "/", "%2F"))
			require.Equal(t, http.StatusNoContent, status)
		}
	}
	for range 7 {
		status, _ := ask(t, http.MethodPost, url+"/buy/seat")
		require.Equal(t, http.StatusOK, status)
	}
	system.Flushed()

	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	ctx, cancel = chromedp.NewExecAllocator(ctx, append(chromedp.DefaultExecAllocatorOptions[:],
		chromedp.ExecPath(browser), chromedp.NoSandbox, chromedp.WindowSize(900, 760), chromedp.UserDataDir(t.TempDir()),
		chromedp.Flag("disable-quic", true), chromedp.Flag("disable-component-update", true))...)
	defer cancel()
	ctx, cancel = chromedp.NewContext(ctx)
	defer cancel()
	shows := func(selector, text string) { // the page may be between two of its seconds
		t.Helper()
		for {
			found, err := chromedp.Run(ctx, chromedp.Evaluate[bool](
				fmt.Sprintf(`(document.querySelector(%q)?.innerText ?? "").includes(%q)`, selector, text)))
			if err == nil && found {
				return
			}
			select {
			case <-time.After(50 * time.Millisecond):
			case <-ctx.Done():
				require.FailNow(t, "the page does not show it", "%s: %q (%v)", selector, text, err)
			}
		}
	}
	require.NoError(t, chromedp.Do(ctx, chromedp.Navigate(url)))
	shows("#writer-strict", "answers")
	shows("#outages", "none so far")
	for _, text := range []string{"front-page", "41", "seat"} {
		shows(".tops", text)
	}

	system.Outage()
	status, _ := ask(t, http.MethodPost, url+"/view/front-page")
	require.Equal(t, http.StatusNoContent, status)
	shows("#writer-lax", "fails for")
	shows("#outages", "is on")
	shows("#pending", "1 of at most")
	picture, err := chromedp.Run(ctx, chromedp.FullScreenshot(100))
	require.NoError(t, err)
	if file := os.Getenv("SCREENSHOT"); file != "" {
		require.NoError(t, os.WriteFile(file, picture, 0o644))
	}

	system.Resume()
	shows("#writer-lax", "answers")
	shows("#pending", "0 of at most")
	shows(".tops", "42")
}
