// Windows over a month, in virtual time, against a real Redis.
package faults_test

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/asynkron/protoactor-go/actor"
	"github.com/distkit/distkit-go"
	"github.com/distkit/distkit-go/internal/chaos"
	"github.com/distkit/distkit-go/internal/redistest"
	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"
)

// TestMonthOfWindows counts many keys a day for 30 days. Then the days to keep are in
// Redis, with all that was counted in them, and nothing else; the process is as large as
// it was after the first week.
//
// The clock of the process is virtual (synctest), Redis's cannot be: it stands still, as
// far as the days go. So the test ages what is in Redis: with each hour that has passed
// it shortens all lifetimes by an hour, and deletes what is over. The windows' ends are
// moments, not lifetimes; they lie ahead of Redis's clock, since the test's begins there,
// and are held against that.
//
// It is not parallel, for the reason that TestSimulation is not.
func TestMonthOfWindows(t *testing.T) {
	run := chaos.Begin(t, "MonthOfWindows")
	defer simEmptyPools()
	options := redistest.Options(t)
	prefix := redistest.Prefix(t, redistest.Client(t))
	simBubble(t, func(t *testing.T) {
		m := newMonth(t, run, options, prefix)
		defer m.close()
		for day := range monthDays {
			m.day(day)
		}
		m.checkEnd()
	})
}

const (
	monthDays = 30
	monthKeep = 7 * 24 * time.Hour
)

// month is the test under way.
type month struct {
	*testing.T
	run     *chaos.Run
	prefix  string
	keys    []distkit.Key
	client  *redis.Client
	system  *distkit.System
	windows [len(kinds)]*distkit.Windows
	berlin  *time.Location
	heap    uint64 // after the first days
	threads int    // goroutines, likewise
}

func newMonth(t *testing.T, run *chaos.Run, options *redis.Options, prefix string) *month {
	// The clock is put back in Berlin on the last Sunday of October.
	berlin, err := time.LoadLocation("Europe/Berlin")
	require.NoError(t, err)
	time.Sleep(time.Until(monthDay(berlin, 0)))
	m := &month{T: t, run: run, prefix: prefix, client: redis.NewClient(options), berlin: berlin}
	for i := range run.Scale(400, 10_000) {
		m.keys = append(m.keys, distkit.MustKey("tenant:"+strconv.Itoa(i)))
	}
	actors := actor.NewActorSystem(actor.WithLoggerFactory(func(*actor.ActorSystem) *slog.Logger { return slog.New(slog.DiscardHandler) }))
	fillRegistry(actors)
	m.system, err = distkit.NewSystem(m.client, distkit.WithPrefix(distkit.MustKey(prefix)),
		distkit.WithActorSystem(actors), distkit.WithLogger(slog.New(slog.DiscardHandler)))
	require.NoError(t, err)
	m.system.Subscribe(func(e distkit.Event) { run.Violation("event: %v", e) })
	m.windows[0], err = m.system.Strict().Per(distkit.Daily(berlin), monthKeep)
	require.NoError(t, err)
	m.windows[1], err = m.system.Lax().Per(distkit.Daily(berlin), monthKeep)
	require.NoError(t, err)
	return m
}

// fillRegistry brings Proto.Actor's table of actors to its size: 32,768 maps, each of
// which takes its first 270 bytes when it is used, and keeps them. Names of actors that
// come and go, as those of windows, use all of them by and by, which is no growth.
func fillRegistry(actors *actor.ActorSystem) {
	for i := range 500_000 {
		pid, _ := actors.ProcessRegistry.Add(actors.DeadLetter, fmt.Sprint("fills-", i))
		actors.ProcessRegistry.Remove(pid)
	}
}

// monthDay is when a day of the month begins.
func monthDay(berlin *time.Location, day int) time.Time {
	return time.Date(2100, time.October, 9+day, 0, 0, 0, 0, berlin)
}

// amount is what a key is to hold of a day: of strict counters only one in ten counts.
func (m *month) amount(kind, day, key int) int64 {
	switch n := int64(1 + (7*key+day)%50); {
	case kind == 0 && key%10 > 0:
		return 0
	case kind == 1 && key < 2:
		return n + monthEdge
	default:
		return n
	}
}

// monthEdge is added in a day's first and last moments.
const monthEdge = 1000

// day counts each key once, in one of the day's hours, and two once more, in its first
// and last moments.
func (m *month) day(day int) {
	end := monthDay(m.berlin, day+1)
	require.NoError(m, m.windows[1].Add(m.keys[1], monthEdge))
	for hour := 0; time.Until(end) > time.Hour; hour++ {
		m.hour(day, hour)
		m.pass(time.Hour)
	}
	m.pass(time.Until(end) - time.Millisecond)
	require.NoError(m, m.windows[1].Add(m.keys[0], monthEdge))
	time.Sleep(2 * time.Millisecond)
	m.run.Cases(len(m.keys))
	if day == 8 {
		m.heap, m.threads = m.size(), runtime.NumGoroutine()
	}
}

// hour counts the keys whose hour it is.
func (m *month) hour(day, hour int) {
	var updates []distkit.Update
	for i := hour; i < len(m.keys) && hour < monthHours; i += monthHours {
		if n := m.amount(0, day, i); n > 0 {
			updates = append(updates, distkit.Update{Key: m.keys[i], N: n})
		}
		n := m.amount(1, day, i)
		if i < 2 {
			n -= monthEdge
		}
		require.NoError(m, m.windows[1].Add(m.keys[i], n))
	}
	if len(updates) > 0 {
		_, err := m.windows[0].IncAll(context.Background(), updates...)
		require.NoError(m, err)
	}
}

// monthHours is in how many hours of a day the keys are counted: the shortest has so many.
const monthHours = 22

// pass lets time pass, in Redis too.
func (m *month) pass(d time.Duration) {
	time.Sleep(d)
	m.age(d)
}

// age shortens the lifetimes in Redis, and deletes what is over. Each window has to end
// when it should, and to hold what was counted in it.
func (m *month) age(d time.Duration) {
	now := time.Now()
	for name, left := range m.lifetimes() {
		kind, start := m.window(name)
		switch {
		case left < 0:
			m.run.Violation("%s would never expire", name)
		case kind < 0 && left <= d:
			require.NoError(m, m.client.Del(context.Background(), name).Err())
		case kind < 0:
			require.NoError(m, m.client.PExpire(context.Background(), name, left-d).Err())
		default:
			day := m.dayOf(start)
			expires := monthDay(m.berlin, day+1).Add(monthKeep)
			clock, err := m.client.Time(context.Background()).Result()
			require.NoError(m, err)
			if at := clock.Add(left); at.Sub(expires).Abs() > 10*time.Second { // the questions take their time
				m.run.Violation("%s expires %v, and should %v", name, at, expires)
			}
			if !expires.After(now) {
				m.checkWindow(name, kind, day)
				require.NoError(m, m.client.Del(context.Background(), name).Err())
			}
		}
	}
}

// lifetimes are the keys in Redis, and how long they will live.
func (m *month) lifetimes() map[string]time.Duration {
	lives := map[string]time.Duration{}
	keys := m.client.Scan(context.Background(), 0, m.prefix+":*", 1000).Iterator()
	for keys.Next(context.Background()) {
		left, err := m.client.PTTL(context.Background(), keys.Val()).Result()
		require.NoError(m, err)
		if left != -2 && keys.Val() != m.prefix+":layout" { // it has expired meanwhile; the layout stays
			lives[keys.Val()] = left
		}
	}
	require.NoError(m, keys.Err())
	return lives
}

// window is the kind of a window's container and when it begins; -1 of another key.
func (m *month) window(name string) (kind int, start time.Time) {
	for kind, container := range kinds {
		if text, is := strings.CutPrefix(name, m.prefix+":"+container+"@day-Europe-Berlin@"); is {
			unix, err := strconv.ParseInt(text, 10, 64)
			require.NoError(m, err)
			return kind, time.Unix(unix, 0)
		}
	}
	return -1, time.Time{}
}

// dayOf is which day begins then; -1 if none does.
func (m *month) dayOf(start time.Time) int {
	for day := range monthDays {
		if monthDay(m.berlin, day).Equal(start) {
			return day
		}
	}
	m.run.Violation("a window begins at %v", start)
	return -1
}

// checkWindow holds a window against what was counted in it.
func (m *month) checkWindow(name string, kind, day int) {
	held, err := m.client.HGetAll(context.Background(), name).Result()
	require.NoError(m, err)
	wrong := 0
	for i, key := range m.keys {
		want := ""
		if n := m.amount(kind, day, i); n > 0 {
			want = strconv.FormatInt(n, 10)
		}
		if held[key.String()] != want {
			wrong++
		}
		delete(held, key.String())
	}
	if wrong > 0 || len(held) > 0 {
		m.run.Violation("%s: %d counters are wrong, and %d are nobody's", name, wrong, len(held))
	}
}

// size is the heap's, of what is in use.
func (m *month) size() uint64 {
	runtime.GC()
	runtime.GC()
	var stats runtime.MemStats
	runtime.ReadMemStats(&stats)
	return stats.HeapAlloc
}

// checkEnd looks at what is left of the month.
func (m *month) checkEnd() {
	heap, threads := m.size(), runtime.NumGoroutine()
	m.Logf("%d keys a day; heap %d kB after 9 days and %d kB after %d; goroutines %d and %d", len(m.keys), m.heap>>10, heap>>10, monthDays, m.threads, threads)
	if heap > m.heap+200<<10 || threads > m.threads+10 {
		m.run.Violation("the process grows: %d bytes and %d goroutines after 9 days, %d and %d after %d", m.heap, m.threads, heap, threads, monthDays)
	}
	m.pass(time.Hour) // the ledgers of the last day are let go
	m.pass(time.Hour)
	want := map[string]bool{}
	for kind, container := range kinds {
		for day := monthDays - int(monthKeep/(24*time.Hour)); day < monthDays; day++ {
			name := fmt.Sprintf("%s:%s@day-Europe-Berlin@%d", m.prefix, container, monthDay(m.berlin, day).Unix())
			want[name] = true
			m.checkWindow(name, kind, day)
		}
	}
	for name := range m.lifetimes() {
		if !want[name] {
			m.run.Violation("%s is left", name)
		}
		delete(want, name)
	}
	if len(want) > 0 {
		m.run.Violation("of the days to keep are missing %v", slices.Sorted(maps.Keys(want)))
	}
}

func (m *month) close() {
	ctx, cancel := context.WithTimeout(context.Background(), serverPatience)
	defer cancel()
	require.NoError(m, m.system.Shutdown(ctx))
	require.NoError(m, m.client.Close())
	time.Sleep(time.Minute) // go-redis's own goroutines end
}
