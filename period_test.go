package distkit

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func places(t testing.TB) (all []*time.Location) {
	t.Helper()
	for _, name := range []string{
		"UTC", "Europe/Berlin", "America/New_York", "America/Sao_Paulo", "America/Havana", "Asia/Kolkata",
		"Australia/Lord_Howe", "Asia/Beirut", "Africa/Cairo", "Pacific/Apia", "America/St_Johns", "Asia/Kathmandu",
	} {
		loc, err := time.LoadLocation(name)
		require.NoError(t, err)
		all = append(all, loc)
	}
	return all
}

// Windows divide time: each moment is in the window that begins last before it, and one
// ends where the next begins.
func TestPeriods_divideTime(t *testing.T) {
	t.Parallel()
	rng := rand.New(rand.NewPCG(1, 2))
	for _, loc := range places(t) {
		for _, p := range []Period{Every(time.Second), Every(7 * time.Second), Every(36 * time.Hour), Hourly(loc), Daily(loc), Monthly(loc)} {
			name := fmt.Sprint(p, " in ", loc)
			for range 300 {
				at := time.Unix(rng.Int64N(90*365*24*3600)-10*365*24*3600, rng.Int64N(1e9))
				check(t, p, at, name)
			}
			for at := time.Date(2005, 1, 1, 0, 0, 0, 0, time.UTC); at.Year() < 2026; { // each change of clocks
				_, end := at.In(loc).ZoneBounds()
				if end.IsZero() {
					break
				}
				for _, d := range []time.Duration{-25 * time.Hour, -time.Hour, -time.Nanosecond, 0, time.Nanosecond, 31 * time.Minute, 25 * time.Hour} {
					check(t, p, end.Add(d), name)
				}
				at = end
			}
		}
	}
}

func check(t testing.TB, p Period, at time.Time, name string) {
	t.Helper()
	start := p.start(at)
	end := p.next(start)
	require.False(t, start.After(at), "%s: the window of %v begins at %v", name, at, start)
	require.True(t, at.Before(end), "%s: the window of %v, from %v, ends at %v", name, at, start, end)
	require.True(t, p.start(start).Equal(start), "%s: %v begins a window that begins at %v", name, start, p.start(start))
	require.True(t, p.start(end.Add(-time.Nanosecond)).Equal(start), "%s: the last moment of %v is of %v", name, start, p.start(end.Add(-time.Nanosecond)))
	require.True(t, p.start(end).Equal(end), "%s: %v ends at %v, which is of %v", name, start, end, p.start(end))
	require.Zero(t, start.Nanosecond())
}

func TestPeriods_ofCalendars(t *testing.T) {
	t.Parallel()
	berlin, err := time.LoadLocation("Europe/Berlin")
	require.NoError(t, err)
	for want, c := range map[string]struct {
		p  Period
		at time.Time
	}{
		"day-Europe-Berlin 2026-03-28T23:00:00Z 23h0m0s":    {Daily(berlin), time.Date(2026, 3, 29, 12, 0, 0, 0, berlin)},
		"day-Europe-Berlin 2026-10-24T22:00:00Z 25h0m0s":    {Daily(berlin), time.Date(2026, 10, 25, 23, 59, 59, 999, berlin)},
		"month-Europe-Berlin 2026-09-30T22:00:00Z 745h0m0s": {Monthly(berlin), time.Date(2026, 10, 31, 0, 0, 0, 0, berlin)},
		"hour 2026-01-01T05:00:00Z 1h0m0s":                  {Hourly(time.UTC), time.Date(2026, 1, 1, 5, 59, 0, 0, time.UTC)},
		"90s 2026-01-01T00:00:00Z 1m30s":                    {Every(90 * time.Second), time.Date(2026, 1, 1, 0, 1, 29, 0, time.UTC)},
	} {
		start := c.p.start(c.at)
		require.Equal(t, want, fmt.Sprint(c.p, " ", start.UTC().Format(time.RFC3339), " ", c.p.next(start).Sub(start)))
	}
}
