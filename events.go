package distkit

import (
	"context"
	"fmt"
	"log/slog"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/distkit/distkit-go/internal/foreign"
	"github.com/distkit/distkit-go/internal/ledger"
)

// Event is something that happened to a System of which an operator may want
// to know: WriterFailed, WriterRecovered, DataLost, ChangeRefused,
// MessageRefused, ActorPanicked, Overloaded or EventsDropped. Each is a plain struct whose
// String is a sentence, and whose LogValue has its fields as attributes. The log has
// every event, but of an outage only when it begins, changes and ends.
type Event interface {
	fmt.Stringer
	slog.LogValuer
	level() slog.Level
	title() string
}

// WriterFailed: the writer of a kind ("strict" or "lax"; of a shard "strict#3") lost Redis. The
// supervisor restarts it after Delay, and it resumes what it was writing.
type WriterFailed struct {
	Writer  string
	Attempt int // failures since the last success
	Delay   time.Duration
	Err     error
}

// WriterRecovered: Redis answered a writer again.
type WriterRecovered struct {
	Writer   string
	Attempts int           // restarts that it took
	Away     time.Duration // since the first failure
}

// DataLost: Redis does not have what it had acknowledged to the writer. Reason says
// what is missing, and so what may be lost; counting goes on.
type DataLost struct {
	Writer string
	Reason LossReason
	// Acknowledged and Found are numbers of batches. With RolledBack, the writer's
	// batches up to Acknowledged were in, and now Redis knows of those up to Found:
	// what those in between changed is lost. With CountersGone, Acknowledged were
	// acknowledged since the counters were last known to be whole, and Found is 0.
	// With LedgerGone, Acknowledged were in, which need not be lost.
	Acknowledged, Found int64
	// Since is when Redis was last known to have it all; zero if never.
	Since time.Time
}

// LossReason says what of what Redis had acknowledged it does not have.
type LossReason uint8

// The reasons.
const (
	// RolledBack: Redis went back to an earlier state, by a failover to a replica
	// that was behind, or a restore.
	RolledBack = LossReason(ledger.RolledBack)
	// CountersGone: the hash of all counters has vanished, by eviction, expiry,
	// FLUSHALL or DEL; not by a Clear, or the Del of its last counter, of this
	// library. A program of another make may have deleted it on purpose.
	CountersGone = LossReason(ledger.CountersGone)
	// LedgerGone: only what Redis knew of the writer's batches has vanished, by
	// eviction or expiry, and a batch was in doubt, which is told as
	// ErrOutcomeUnknown. The counters are there.
	LedgerGone = LossReason(ledger.LedgerGone)
)

// String names the reason.
func (r LossReason) String() string {
	switch r {
	case RolledBack:
		return "rolled back"
	case CountersGone:
		return "counters gone"
	case LedgerGone:
		return "ledger gone"
	default:
		return fmt.Sprintf("LossReason(%d)", uint8(r))
	}
}

// ChangeRefused: Redis refused a change of a lax counter, or nobody will ever know
// whether it has it (Err then matches ErrOutcomeUnknown). The change is set aside: N
// was to be added, or with Assigned to be assigned.
type ChangeRefused struct {
	Key      Key
	Window   string // that the counter is of, as in the name of its hash: "day@1764288000"; "" if of none
	N        int64
	Assigned bool
	Err      error
}

// MessageRefused: an operation that nobody waited for failed.
type MessageRefused struct {
	Key    Key
	Window string // as that of ChangeRefused
	Err    error
}

// ActorPanicked: an actor failed by a bug, in this library or in a receiver of
// its replies. The supervisor restarts it; no accepted change is lost.
type ActorPanicked struct {
	Actor string
	Err   error
}

// Overloaded: as much is pending as WithMaxPending allows, and more is refused with
// ErrOverloaded. It is told again only after less than half was pending.
type Overloaded struct{ MaxPending int }

// EventsDropped: a subscriber, or the log, was slower than events came, and N are
// missing in it.
type EventsDropped struct{ N int }

func (e WriterFailed) String() string {
	return fmt.Sprintf("%s writer lost Redis (failure %d in a row), restarting in %v: %v", e.Writer, e.Attempt, e.Delay.Round(time.Millisecond), e.Err)
}

func (e WriterRecovered) String() string {
	return fmt.Sprintf("%s writer reached Redis again after %v and %d restarts", e.Writer, e.Away.Round(time.Millisecond), e.Attempts)
}

func (e DataLost) String() string {
	since := ""
	if !e.Since.IsZero() {
		since = ", last seen whole at " + e.Since.Format(time.RFC3339)
	}
	switch e.Reason {
	case CountersGone:
		return fmt.Sprintf("Redis lost all %s counters (evicted, expired, flushed, or deleted by another program): %d batches were acknowledged since they were last whole%s", e.Writer, e.Acknowledged, since)
	case LedgerGone:
		return fmt.Sprintf("Redis lost the ledger of the %s writer (evicted or expired) while a batch was in doubt; the counters are there, up to batch %d%s", e.Writer, e.Acknowledged, since)
	case RolledBack:
	}
	return fmt.Sprintf("Redis went back to an earlier state: it had acknowledged batch %d of the %s writer and now knows of batch %d%s", e.Acknowledged, e.Writer, e.Found, since)
}

func (e ChangeRefused) String() string {
	if e.Assigned {
		return fmt.Sprintf("assignment of %d to %s set aside: %v", e.N, counterIn(e.Key, e.Window), e.Err)
	}
	return fmt.Sprintf("change of %s by %d set aside: %v", counterIn(e.Key, e.Window), e.N, e.Err)
}

func (e MessageRefused) String() string {
	return fmt.Sprintf("message to %s failed: %v", counterIn(e.Key, e.Window), e.Err)
}

// counterIn names a counter, and its window if it is of one.
func counterIn(key Key, window string) string {
	if window == "" {
		return strconv.Quote(key.String())
	}
	return fmt.Sprintf("%q of %s", key, window)
}

func (e ActorPanicked) String() string { return fmt.Sprintf("actor %q failed: %v", e.Actor, e.Err) }

func (e Overloaded) String() string {
	return fmt.Sprintf("%d changes and messages are pending, and more are refused", e.MaxPending)
}

func (e EventsDropped) String() string {
	return fmt.Sprintf("%d events were not delivered to slow subscribers", e.N)
}

func (WriterFailed) level() slog.Level    { return slog.LevelWarn }
func (WriterRecovered) level() slog.Level { return slog.LevelInfo }
func (DataLost) level() slog.Level        { return slog.LevelError }
func (ChangeRefused) level() slog.Level   { return slog.LevelError }
func (MessageRefused) level() slog.Level  { return slog.LevelError }
func (ActorPanicked) level() slog.Level   { return slog.LevelError }
func (Overloaded) level() slog.Level      { return slog.LevelError }
func (EventsDropped) level() slog.Level   { return slog.LevelWarn }

// LogValue implements slog.LogValuer, as that of all events does: the attributes of
// the event.
func (e WriterFailed) LogValue() slog.Value {
	return slog.GroupValue(slog.String("writer", e.Writer), slog.Int("attempt", e.Attempt), slog.Duration("delay", e.Delay), slog.Any("error", e.Err))
}

// LogValue implements slog.LogValuer.
func (e WriterRecovered) LogValue() slog.Value {
	return slog.GroupValue(slog.String("writer", e.Writer), slog.Int("attempts", e.Attempts), slog.Duration("away", e.Away))
}

// LogValue implements slog.LogValuer.
func (e DataLost) LogValue() slog.Value {
	attrs := []slog.Attr{
		slog.String("writer", e.Writer), slog.String("reason", e.Reason.String()),
		slog.Int64("acknowledged", e.Acknowledged), slog.Int64("found", e.Found),
	}
	if !e.Since.IsZero() {
		attrs = append(attrs, slog.Time("since", e.Since))
	}
	return slog.GroupValue(attrs...)
}

// LogValue implements slog.LogValuer.
func (e ChangeRefused) LogValue() slog.Value {
	return slog.GroupValue(slog.String("key", e.Key.String()), inWindow(e.Window), slog.Int64("n", e.N), slog.Bool("assigned", e.Assigned), slog.Any("error", e.Err))
}

// LogValue implements slog.LogValuer.
func (e MessageRefused) LogValue() slog.Value {
	return slog.GroupValue(slog.String("key", e.Key.String()), inWindow(e.Window), slog.Any("error", e.Err))
}

// inWindow is the attribute of a window; handlers leave out that of none.
func inWindow(window string) slog.Attr {
	if window == "" {
		return slog.Attr{}
	}
	return slog.String("window", window)
}

// LogValue implements slog.LogValuer.
func (e ActorPanicked) LogValue() slog.Value {
	return slog.GroupValue(slog.String("actor", e.Actor), slog.Any("error", e.Err))
}

// LogValue implements slog.LogValuer.
func (e Overloaded) LogValue() slog.Value {
	return slog.GroupValue(slog.Int("max_pending", e.MaxPending))
}

// LogValue implements slog.LogValuer.
func (e EventsDropped) LogValue() slog.Value { return slog.GroupValue(slog.Int("dropped", e.N)) }

func (WriterFailed) title() string    { return "writer lost Redis" }
func (WriterRecovered) title() string { return "writer reached Redis again" }
func (DataLost) title() string        { return "Redis lost data" }
func (ChangeRefused) title() string   { return "change set aside" }
func (MessageRefused) title() string  { return "message failed" }
func (ActorPanicked) title() string   { return "actor failed" }
func (Overloaded) title() string      { return "too much is pending" }
func (EventsDropped) title() string   { return "events were not delivered" }

// maxEvents bounds what waits for a slow subscriber: a burst of refused changes as
// large as some rounds of a flush is to find room.
const maxEvents = 1 << 14

// events delivers events to the log and to subscribers: to each by a queue and a
// goroutine of its own, never on a caller's or an actor's.
type events struct {
	logger *slog.Logger
	log    *foreign.Queue[Event]
	failed map[string]string // by writer: how it last failed in the outage that is on; the log's

	mu          sync.Mutex
	subscribers map[int]*foreign.Queue[Event]
	next        int
}

func newEvents(logger *slog.Logger) *events {
	e := &events{logger: logger, failed: map[string]string{}, subscribers: map[int]*foreign.Queue[Event]{}}
	e.log = newSubscriber(e.write)
	return e
}

func newSubscriber(f func(Event)) *foreign.Queue[Event] {
	return foreign.NewQueue(f, maxEvents, func(n int) Event { return EventsDropped{n} })
}

func (e *events) subscribe(f func(Event)) (cancel func()) {
	var over atomic.Bool
	q := newSubscriber(func(event Event) {
		if !over.Load() {
			f(event)
		}
	})
	e.mu.Lock()
	defer e.mu.Unlock()
	id := e.next
	e.next++
	e.subscribers[id] = q
	return func() {
		over.Store(true)
		e.mu.Lock()
		defer e.mu.Unlock()
		delete(e.subscribers, id)
	}
}

// publish queues an event; it does not block.
func (e *events) publish(event Event) {
	e.log.Put(event)
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, q := range e.subscribers {
		q.Put(event)
	}
}

// write logs an event. Of an outage it logs the beginning, the end, and when it
// fails in another way than before.
func (e *events) write(event Event) {
	switch event := event.(type) {
	case WriterFailed:
		how := event.Err.Error()
		if e.failed[event.Writer] == how {
			return
		}
		e.failed[event.Writer] = how
	case WriterRecovered:
		delete(e.failed, event.Writer)
	}
	e.logger.LogAttrs(context.Background(), event.level(), "distkit: "+event.title(), event.LogValue().Group()...)
}

// wait returns when everything published has been delivered, or ctx ends.
func (e *events) wait(ctx context.Context) {
	e.mu.Lock()
	queues := []*foreign.Queue[Event]{e.log}
	for _, q := range e.subscribers {
		queues = append(queues, q)
	}
	e.mu.Unlock()
	for _, q := range queues {
		q.Wait(ctx)
	}
}

// observer turns what the engine reports into events.
type observer struct{ *events }

func (o observer) WriterFailed(writer string, attempt int, delay time.Duration, cause error) {
	o.publish(WriterFailed{writer, attempt, delay, cause})
}

func (o observer) WriterRecovered(writer string, attempts int, away time.Duration) {
	o.publish(WriterRecovered{writer, attempts, away})
}

func (o observer) DataLost(writer string, loss *ledger.Loss) {
	o.publish(DataLost{writer, LossReason(loss.Reason), loss.Acknowledged, loss.Found, loss.Since})
}

func (o observer) ChangeRefused(window, key string, n int64, assign bool, cause error) {
	o.publish(ChangeRefused{Key{key}, window, n, assign, cause})
}

func (o observer) ActorPanicked(actor string, cause error) {
	o.publish(ActorPanicked{actor, cause})
}

func (o observer) Overloaded(max int) { o.publish(Overloaded{max}) }

func (o observer) MessageRefused(window, key string, cause error) {
	o.publish(MessageRefused{Key{key}, window, cause})
}
