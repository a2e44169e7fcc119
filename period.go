package distkit

import (
	"errors"
	"fmt"
	"strings"
	"time"
)

// Period divides time into windows: Every, Hourly, Daily or Monthly. The zero Period is
// none. A Period is safe for concurrent use.
type Period struct {
	name  string
	start func(t time.Time) time.Time // of the window that holds t
	next  func(start time.Time) time.Time
	err   error // why it is none
}

var errNoPeriod = errors.New("distkit: the zero Period is no period; use Every, Hourly, Daily or Monthly")

// Every is windows of d, which is a whole number of seconds, from the beginning of Unix
// time on.
func Every(d time.Duration) Period {
	if d < time.Second || d%time.Second != 0 {
		return Period{err: fmt.Errorf("distkit: a period of %v; a whole number of seconds, at least one, is allowed", d)}
	}
	seconds := int64(d / time.Second)
	return Period{
		name: fmt.Sprintf("%ds", seconds),
		start: func(t time.Time) time.Time {
			now := t.Unix()
			return time.Unix(now-((now%seconds)+seconds)%seconds, 0)
		},
		next: func(start time.Time) time.Time { return start.Add(d) },
	}
}

// Hourly is the hours of a place's clock: each begins when its minute hand is at 0. Where
// the clock is changed by half an hour, one takes 30 or 90 minutes.
func Hourly(loc *time.Location) Period {
	if loc == nil {
		return noLocation("hour")
	}
	begin := func(t time.Time) time.Time { // by the clock that t is of
		t = t.In(loc)
		return t.Add(-time.Duration(t.Minute())*time.Minute - time.Duration(t.Second())*time.Second - time.Duration(t.Nanosecond()))
	}
	start := func(t time.Time) time.Time {
		at := begin(t)
		changed, _ := t.In(loc).ZoneBounds()
		switch {
		case changed.IsZero() || !at.Before(changed):
			return at
		case begin(changed).Equal(changed):
			return changed
		}
		return begin(changed.Add(-time.Nanosecond)) // it has begun by the clock of before
	}
	next := func(at time.Time) time.Time {
		end := at.Add(time.Hour)
		_, change := at.In(loc).ZoneBounds()
		switch {
		case change.IsZero() || end.Before(change):
			return end
		case begin(change).Equal(change):
			return change
		}
		return begin(change).Add(time.Hour)
	}
	return Period{name: periodName("hour", loc), start: start, next: next}
}

// Daily is the days of a place's calendar: where its clock is changed, one has 23 or 25
// hours.
func Daily(loc *time.Location) Period {
	return calendar("day", loc, func(t time.Time, ahead int) time.Time {
		return time.Date(t.Year(), t.Month(), t.Day()+ahead, 0, 0, 0, 0, time.UTC)
	})
}

// Monthly is the months of a place's calendar.
func Monthly(loc *time.Location) Period {
	return calendar("month", loc, func(t time.Time, ahead int) time.Time {
		return time.Date(t.Year(), t.Month()+time.Month(ahead), 1, 0, 0, 0, 0, time.UTC)
	})
}

// calendar is a period of a place's calendar. page is the page of the calendar that t is
// on, or one so many ahead, as the moment at which it would begin in UTC.
func calendar(unit string, loc *time.Location, page func(t time.Time, ahead int) time.Time) Period {
	if loc == nil {
		return noLocation(unit)
	}
	// A page begins with the first moment that is on it.
	begin := func(p time.Time) time.Time {
		at := time.Date(p.Year(), p.Month(), p.Day(), 0, 0, 0, 0, loc)
		changed, change := at.ZoneBounds()
		if page(at, 0).Before(p) { // its clock leaves out midnight
			return change
		}
		if changed.IsZero() {
			return at
		}
		_, offset := changed.Add(-time.Nanosecond).Zone()
		if earlier := time.Unix(p.Unix()-int64(offset), 0).In(loc); earlier.Before(changed) && page(earlier, 0).Equal(p) {
			return earlier // its clock shows midnight twice
		}
		return at
	}
	return Period{
		name: periodName(unit, loc),
		start: func(t time.Time) time.Time {
			t = t.In(loc)
			at := begin(page(t, 0))
			if next := begin(page(t, 1)); !next.After(t) { // its clock went back over midnight
				at = next
			}
			return at
		},
		next: func(start time.Time) time.Time {
			at := begin(page(start.In(loc), 1))
			for ahead := 2; !at.After(start); ahead++ { // a page is left out, as where the date line moved
				at = begin(page(start.In(loc), ahead))
			}
			return at
		},
	}
}

func noLocation(unit string) Period {
	return Period{err: fmt.Errorf("distkit: the location of a period by the %s is nil; use time.UTC", unit)}
}

// periodName is the unit, and where it is not UTC's, whose.
func periodName(unit string, loc *time.Location) string {
	if loc == time.UTC {
		return unit
	}
	return unit + "-" + strings.NewReplacer("/", "-", ":", "-").Replace(loc.String())
}

// String names the period as the containers of its windows in Redis do.
func (p Period) String() string { return p.name }

func (p Period) check() error {
	switch {
	case p.err != nil:
		return p.err
	case p.start == nil:
		return errNoPeriod
	}
	return nil
}
