package main

import (
	"cmp"
	"context"
	_ "embed"
	"html/template"
	"net/http"
	"sync"
	"time"

	"github.com/distkit/distkit-go"
)

// The page shows what the System says of itself, made anew for each request: no script, no
// build. A browser asks again every second.

//go:embed page.html
var pageText string

var pageTemplate = template.Must(template.New("page").Parse(pageText))

// watch remembers the last outages.
type watch struct {
	mu      sync.Mutex
	outages []outage // the latest first
}

// outage is one of a writer's.
type outage struct {
	Writer string
	Began  time.Time
	Lasted time.Duration // 0: it is on
	Err    string
}

// mostOutages is how many are remembered.
const mostOutages = 10

func (w *watch) event(e distkit.Event) {
	w.mu.Lock()
	defer w.mu.Unlock()
	switch e := e.(type) {
	case distkit.WriterFailed:
		for i := range w.outages {
			if o := &w.outages[i]; o.Writer == e.Writer && o.Lasted == 0 {
				o.Err = e.Err.Error()
				return
			}
		}
		w.outages = append([]outage{{Writer: e.Writer, Began: time.Now(), Err: e.Err.Error()}}, w.outages[:min(len(w.outages), mostOutages-1)]...)
	case distkit.WriterRecovered:
		for i := range w.outages {
			if o := &w.outages[i]; o.Writer == e.Writer && o.Lasted == 0 {
				o.Lasted = e.Away
			}
		}
	}
}

func (w *watch) last() []outage {
	w.mu.Lock()
	defer w.mu.Unlock()
	return append([]outage(nil), w.outages...)
}

// writer is a row of the page.
type writer struct {
	Name          string
	Err           error
	Since         time.Duration
	Resident      int
	Queued        int
	QueuedMeaning string
}

// writerOf is a kind of counters and its windows together.
func writerOf(name, queued string, counters, windows distkit.CounterStats) writer {
	w := writer{Name: name, Resident: counters.Resident + windows.Resident, Queued: counters.Queued + windows.Queued, QueuedMeaning: queued}
	if w.Err = cmp.Or(counters.Failing, windows.Failing); w.Err != nil {
		since := counters.FailingSince
		if counters.Failing == nil {
			since = windows.FailingSince
		}
		w.Since = time.Since(since).Round(time.Second)
	}
	return w
}

// top are the largest counters, or why they could not be read.
type top struct {
	Name    string
	Entries []distkit.Entry
	Err     error
}

const (
	topEntries = 10
	topWait    = 300 * time.Millisecond // the page is there, whatever Redis does
)

func (s *service) page(w http.ResponseWriter, r *http.Request) {
	stats := s.system.Stats()
	oldest := stats.Lax.Oldest
	if o := stats.LaxWindows.Oldest; oldest.IsZero() || !o.IsZero() && o.Before(oldest) {
		oldest = o
	}
	ctx, cancel := context.WithTimeout(r.Context(), topWait)
	defer cancel()
	tops := make([]top, 2)
	var reading sync.WaitGroup
	for i, of := range []struct {
		name string
		distkit.Counter
	}{{"views today", s.views}, {"sold", s.system.Strict()}} {
		reading.Go(func() {
			entries, err := of.Top(ctx, topEntries)
			tops[i] = top{of.name, entries, err}
		})
	}
	reading.Wait()
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.Header().Set("Cache-Control", "no-store")
	_ = pageTemplate.Execute(w, map[string]any{
		"Now":     time.Now().UTC().Format(time.TimeOnly),
		"Writers": []writer{writerOf("strict", "calls wait for a batch", stats.Strict, stats.StrictWindows), writerOf("lax", "counters wait for a flush", stats.Lax, stats.LaxWindows)},
		"Pending": stats.Pending, "MaxPending": stats.MaxPending,
		"Oldest":  age(oldest),
		"Outages": s.watch.last(),
		"Tops":    tops,
	})
}

// age is how long ago something was; "" if it was not.
func age(at time.Time) string {
	if at.IsZero() {
		return ""
	}
	return time.Since(at).Round(10 * time.Millisecond).String()
}
