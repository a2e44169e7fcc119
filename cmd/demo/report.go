package main

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"sync/atomic"
	"time"
)

// row compares one counter with the tallies: Redis has to hold least to most,
// which differ only where callers were told that the outcome is unknown.
type row struct {
	counter, kind string
	start         int64
	asked         int64 // by calls that were told: applied
	unknown       int64 // by calls that were told: outcome unknown
	least, most   int64
	redis         int64
}

func (r row) ok() bool { return r.least <= r.redis && r.redis <= r.most }

func exact(counter, kind string, asked int64) row {
	return row{counter: counter, kind: kind, asked: asked, least: asked, most: asked}
}

// rows are all counters of the service with what its tallies expect.
func (s *service) rows() []row {
	var rows []row
	for _, show := range s.shows {
		rows = append(rows, exact(show.views.String(), "lax", show.viewed.Load()))
	}
	rows = append(rows, exact(mailsKey.String(), "lax", s.buyers.purchases.Load()))
	for _, show := range s.shows {
		sold, unknown := show.sold.Load(), show.unknown.Load()
		rows = append(rows, row{
			counter: show.seats.String(), kind: "strict",
			start: show.capacity, asked: -sold, unknown: -unknown,
			least: max(0, show.capacity-sold-unknown), most: show.capacity - sold,
		})
	}
	for _, show := range s.shows {
		rows = append(rows, exact(show.tickets.String(), "strict", show.sold.Load()))
	}
	return rows
}

// report prints the table and reports whether everything agrees.
func (s *service) report(ctx context.Context, server *server, console *console) (bool, error) {
	rows := s.rows()
	for i := range rows {
		n, err := server.read(ctx, rows[i].kind, rows[i].counter)
		if err != nil {
			return false, err
		}
		rows[i].redis = n
	}
	good := printTable(console, rows)

	b, slowest := &s.buyers, time.Duration(s.lax.slowest.Load())
	console.printf("\npage views  %s counted, %s errors; the slowest answer took %v",
		group(s.total(func(show *show) *atomic.Int64 { return &show.viewed })), group(s.lax.failed.Load()), slowest.Round(100*time.Microsecond))
	console.printf("purchases   %s calls: %s sold, %s sold out; %s answered after %v or more",
		group(b.calls.Load()), group(b.purchases.Load()), group(b.soldOut.Load()), group(b.late.Load()), slow)
	console.printf("            given up after %v: %s not applied, %s outcome unknown",
		patience, group(b.notApplied.Load()), group(b.unknown.Load()))

	if n := s.lax.failed.Load(); n > 0 {
		console.printf("WRONG: %s page views failed; a lax counter counts on without Redis", group(n))
		good = false
	}
	if n := b.wrong.Load(); n > 0 {
		console.printf("WRONG: %s impossible answers, the first: %s", group(n), s.wrongs)
		good = false
	}
	return good, nil
}

// printTable reports whether every row agrees.
func printTable(console *console, rows []row) bool {
	const layout = "%-15s %-6s %6s %10s %7s  %-16s %10s%s"
	console.printf("\nWhat was asked, and what Redis holds (by HGET):\n\n"+layout,
		"counter", "kind", "start", "asked", "unknown", "expected", "in Redis", "")
	good := true
	for _, r := range rows {
		expected, verdict := group(r.least), " ok"
		if r.least != r.most {
			expected += " to " + group(r.most)
		}
		if !r.ok() {
			verdict, good = " DIFFERS", false
		}
		console.printf(layout, r.counter, r.kind, group(r.start), signed(r.asked), signed(r.unknown), expected, group(r.redis), verdict)
	}
	return good
}

// group writes n with commas.
func group(n int64) string {
	digits := strconv.FormatInt(n, 10)
	sign := ""
	if digits[0] == '-' {
		sign, digits = "-", digits[1:]
	}
	var b strings.Builder
	for i, digit := range digits {
		if i > 0 && (len(digits)-i)%3 == 0 {
			b.WriteByte(',')
		}
		b.WriteRune(digit)
	}
	return sign + b.String()
}

// signed is group with a '+' for what was added.
func signed(n int64) string {
	if n > 0 {
		return "+" + group(n)
	}
	return group(n)
}

// status is the progress in one line.
func (s *service) status(ctx context.Context, server *server) string {
	views := s.total(func(show *show) *atomic.Int64 { return &show.viewed })
	sold := s.total(func(show *show) *atomic.Int64 { return &show.sold })
	stored := int64(0)
	for _, show := range s.shows {
		n, err := server.read(ctx, "lax", show.views.String())
		if err != nil {
			return fmt.Sprintf("views %s   sold %s   (Redis cannot be read)", group(views), group(sold))
		}
		stored += n
	}
	return fmt.Sprintf("views %s, in Redis %s   sold %s   waiting %s",
		group(views), group(stored), group(sold), group(s.buyers.waiting.Load()))
}
