package ledger

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/distkit/distkit-go/internal/fakeredis"
	"github.com/distkit/distkit-go/internal/redisio"
	"github.com/distkit/distkit-go/internal/verb"
	"github.com/stretchr/testify/require"
)

// Every course that a few batches can take: whatever is lost at whichever attempt,
// whatever Redis loses before it, whichever of two writers comes first. No batch is
// ever applied twice; one that is acknowledged was applied; one of which nobody
// knows was in doubt.

// chooser makes choices, and in each run others, until all have been made.
type chooser struct {
	made  []int // of this run, and where it follows the last one
	sizes []int
	at    int
}

// choose returns one of n numbers.
func (c *chooser) choose(n int) int {
	if c.at == len(c.made) {
		c.made, c.sizes = append(c.made, 0), append(c.sizes, n)
	}
	c.at++
	return c.made[c.at-1]
}

// next makes the choices of the next run; false if there is none.
func (c *chooser) next() bool {
	c.at = 0
	for last := len(c.made) - 1; last >= 0; last-- {
		if c.made[last]++; c.made[last] < c.sizes[last] {
			c.made, c.sizes = c.made[:last+1], c.sizes[:last+1]
			return true
		}
	}
	return false
}

// event is something that Redis does by itself, between two attempts.
type event uint8

const (
	quiet     event = iota
	evict           // all ledgers
	vanish          // the container
	rollBack        // to what it was before the last attempt, or the one before that
	rollFar         // to what it was at the start
	arrivals        // what was late arrives
	emptiness       // all that it has
)

// world is a Redis, what may go wrong with it, and who writes to it.
type world struct {
	*chooser
	redis   *fakeredis.Redis
	at      *redisio.Container
	fates   []fakeredis.Fate // the first is that nothing goes wrong
	events  []event
	budget  int // so much more may go wrong
	past    []fakeredis.State
	rolled  bool
	lossy   bool // Redis has lost something
	course  []step
	writers []*writer
}

// step is what has happened: an attempt, or what was before it or came of it.
type step struct {
	fate   fakeredis.Fate
	event  event
	loss   *Loss
	key    string
	task   redisio.Task
	lane   string
	seq    int64
	class  redisio.Class
	status redisio.Status
}

func (s step) String() string {
	switch {
	case s.loss != nil:
		return fmt.Sprintf("loss %+v", *s.loss)
	case s.event != quiet:
		return fmt.Sprint("event ", s.event)
	case s.key == "":
		return fmt.Sprint("fate ", s.fate)
	default:
		return fmt.Sprintf("%s: task %d of %d of %.4s: class %d, status %d", s.key, s.task, s.seq, s.lane, s.class, s.status)
	}
}

// writer carries out batches one by one, as the strict writer does.
type writer struct {
	name   string
	book   *Book
	todo   int
	made   int
	batch  *Batch
	key    string
	unsure bool // an attempt at the batch went without an answer
	told   map[string]Verdict
	bare   map[string]int
	losses []Reason
}

func newWorld(c *chooser, budget int, fates []fakeredis.Fate, events []event) *world {
	w := &world{
		chooser: c, redis: fakeredis.New(), at: redisio.NewContainer("p", "strict_counter"), budget: budget,
		fates: append([]fakeredis.Fate{fakeredis.Deliver}, fates...), events: append([]event{quiet}, events...),
	}
	w.redis.Fate = func(*redisio.Call) fakeredis.Fate { return w.fate() }
	w.past = []fakeredis.State{w.redis.Snapshot()}
	return w
}

// add adds a writer of so many batches.
func (w *world) add(name string, book *Book, batches int) *writer {
	book.At, book.Lifetime = w.at, time.Hour
	one := &writer{name: name, book: book, todo: batches, told: map[string]Verdict{}, bare: map[string]int{}}
	w.writers = append(w.writers, one)
	return one
}

func (w *world) fate() fakeredis.Fate {
	if w.budget == 0 {
		return fakeredis.Deliver
	}
	fate := w.fates[w.choose(len(w.fates))]
	if fate != fakeredis.Deliver {
		w.budget--
	}
	w.course = append(w.course, step{fate: fate})
	return fate
}

// happen lets Redis do something by itself.
func (w *world) happen() {
	if w.budget == 0 {
		return
	}
	e := w.events[w.choose(len(w.events))]
	isRollBack := e == rollBack || e == rollFar || e == emptiness
	if e == quiet || isRollBack && w.rolled {
		return // what a second one undoes of the fence against the first, nobody can know
	}
	w.rolled = w.rolled || isRollBack
	w.budget--
	w.course = append(w.course, step{event: e})
	w.lossy = w.lossy || e != arrivals
	switch e {
	case evict:
		w.redis.DropLedgers()
	case vanish:
		w.redis.DropContainer(w.at.Name)
	case rollBack:
		back := min(1+w.choose(2), len(w.past))
		w.redis.Restore(w.past[len(w.past)-back])
	case rollFar:
		w.redis.Restore(w.past[0])
	case emptiness:
		w.redis.Restore(fakeredis.New().Snapshot())
	case arrivals:
		w.redis.Arrive()
	case quiet:
	}
}

// run lets the writers go on, in any order, until all are done.
func (w *world) run(t *testing.T) {
	for steps := 0; ; steps++ {
		require.Less(t, steps, 100, "it does not end: %v", w.course)
		var busy []*writer
		for _, one := range w.writers {
			if one.batch != nil || one.made < one.todo {
				busy = append(busy, one)
			}
		}
		if len(busy) == 0 {
			break
		}
		one := busy[0]
		if len(busy) > 1 {
			one = busy[w.choose(len(busy))]
		}
		w.happen()
		w.step(t, one)
	}
	w.redis.Arrive()
	w.check(t)
}

// step makes one attempt of a writer's.
func (w *world) step(t *testing.T, one *writer) {
	if one.batch == nil {
		one.key = fmt.Sprint(one.name, one.made)
		one.made++
		one.unsure = false
		one.start()
	}
	b := one.batch
	task := b.Task
	b.Sending()
	if slices.Contains(w.events, rollBack) {
		w.past = append(w.past, w.redis.Snapshot())
	}
	w.redis.Send(context.Background(), []*redisio.Call{&b.Call})
	w.course = append(w.course, step{key: one.key, task: task, lane: b.Writer, seq: b.Seq, class: b.Class, status: b.Status})
	if task == redisio.Bare && b.Class != redisio.NotYet && !b.Class.NotApplied() {
		one.bare[one.key]++
	}
	one.unsure = one.unsure || b.Class == redisio.Unknown && task != redisio.Open
	verdict := b.Ended()
	if task == redisio.Fence && verdict == Again && b.Class == redisio.Answered {
		one.unsure = false // it is not in, and will not be
	}
	if b.Loss != nil {
		w.course = append(w.course, step{loss: b.Loss})
		one.losses = append(one.losses, b.Loss.Reason)
	}
	w.ended(t, one, verdict)
	b.Loss = nil
	w.twice(t)
}

// start makes a batch of the writer's operation.
func (one *writer) start() {
	ops := []verb.Keyed{{Key: one.key, Op: verb.Op{Kind: verb.Inc, N: 1}}}
	one.batch = one.book.NewBatch(ops, nil, nil)
}

func (w *world) ended(t *testing.T, one *writer, verdict Verdict) {
	b := one.batch
	switch verdict {
	case Again, Keep:
		return
	case Thaw:
		require.False(t, one.unsure, "it is let go, and may be in: %v", w.course)
		b.Release()
		one.start() // the operations go into another batch
		return
	case Done:
		if err := b.Results[0].Err; err != nil { // it was broken off
			require.ErrorIs(t, err, verb.ErrOutcomeUnknown)
			verdict = Unknown
			break
		}
		n, _ := w.redis.Get(w.at.Name, one.key)
		require.True(t, n == 1 || b.Loss != nil || w.lossy && len(w.writers) > 1, "acknowledged, and is not there: %v", w.course)
		require.Equal(t, verb.Result{N: 1}, b.Results[0])
	case Unknown:
		require.True(t, one.unsure, "unknown, and was never in doubt: %v", w.course)
	case Refuse:
		require.False(t, one.unsure, "refused, and may be in: %v", w.course)
	case Pending:
		t.Fatal("no verdict")
	}
	one.told[one.key] = verdict
	b.Release()
	one.batch = nil
}

// twice looks whether any batch has been applied twice.
func (w *world) twice(t *testing.T) {
	for _, one := range w.writers {
		for i := range one.made {
			if n, _ := w.redis.Get(w.at.Name, one.name+strconv.Itoa(i)); n > 1 {
				t.Fatalf("%s%d was applied twice: %v", one.name, i, w.course)
			}
		}
	}
}

// check looks at the end at what everybody was told.
func (w *world) check(t *testing.T) {
	w.twice(t)
	for _, one := range w.writers {
		for key, verdict := range one.told {
			n, _ := w.redis.Get(w.at.Name, key)
			require.True(t, verdict != Done || n == 1 || w.lossy, "acknowledged, and is not there: %s: %v", key, w.course)
			require.True(t, verdict != Refuse || n == 0, "refused, and is there: %s: %v", key, w.course)
			require.LessOrEqual(t, one.bare[key], 1, "sent twice without a ledger: %s: %v", key, w.course)
		}
		require.True(t, w.lossy || len(one.losses) == 0, "told of a loss, and nothing was lost: %v", w.course)
		lanes := map[*lane]bool{}
		for _, l := range one.book.free {
			require.False(t, lanes[l], "a lane is free twice: %v", w.course)
			lanes[l] = true
			require.Contains(t, one.book.lanes, l)
		}
	}
}

// explore runs all courses.
func explore(t *testing.T, run func(c *chooser)) {
	c, runs := &chooser{}, 0
	for more := true; more; more = c.next() {
		run(c)
		runs++
	}
	t.Logf("%d courses", runs)
}

var anyFate = []fakeredis.Fate{
	fakeredis.LoseReply, fakeredis.LoseRequest, fakeredis.Delay, fakeredis.BreakOff, fakeredis.Unreachable,
	fakeredis.Busy, fakeredis.Forget,
}

// One writer, and whatever is lost on the way: a clean run is the one in which
// nothing fails, and every attempt of it fails in another.
func TestCourses_ofLostMessages(t *testing.T) {
	t.Parallel()
	explore(t, func(c *chooser) {
		w := newWorld(c, 3, anyFate, []event{arrivals})
		one := w.add("a", &Book{}, 3)
		w.run(t)
		for key, verdict := range one.told {
			require.True(t, verdict == Done || verdict == Unknown, "%s: %v", key, w.course)
			require.True(t, verdict == Done || w.has(fakeredis.BreakOff), "the ledger is there, so the answer is: %v", w.course)
		}
	})
}

// has reports whether something of the fate has happened.
func (w *world) has(fate fakeredis.Fate) bool {
	for _, what := range w.course {
		if what.fate == fate {
			return true
		}
	}
	return false
}

// One writer, and Redis loses its ledgers, its counters, or its latest past.
func TestCourses_ofWhatRedisLoses(t *testing.T) {
	t.Parallel()
	for e := evict; e <= emptiness; e++ {
		t.Run(fmt.Sprint(e), func(t *testing.T) {
			t.Parallel()
			explore(t, func(c *chooser) {
				w := newWorld(c, 3, []fakeredis.Fate{fakeredis.LoseReply, fakeredis.Delay, fakeredis.Unreachable}, []event{e, arrivals})
				w.add("a", &Book{}, 3)
				w.run(t)
			})
		})
	}
}

// Several of these, one after the other.
func TestCourses_ofAllThatRedisLoses(t *testing.T) {
	t.Parallel()
	explore(t, func(c *chooser) {
		w := newWorld(c, 3, []fakeredis.Fate{fakeredis.LoseReply, fakeredis.Delay}, []event{evict, rollBack, emptiness, arrivals})
		w.add("a", &Book{}, 2)
		w.run(t)
	})
}

// The counters vanish once, and once an answer is lost, perhaps that of the batch that
// would have told: it tells when it is replayed.
func TestCourses_ofALoss_andALostAnswer_areTold(t *testing.T) {
	t.Parallel()
	explore(t, func(c *chooser) {
		w := newWorld(c, 2, []fakeredis.Fate{fakeredis.LoseReply}, []event{vanish})
		one := w.add("a", &Book{}, 3)
		w.run(t)
		w.budget, one.todo = 0, 4
		w.run(t)
		lost := 0
		for key := range one.told {
			if n, _ := w.redis.Get(w.at.Name, key); n == 0 {
				lost = 1
			}
		}
		require.GreaterOrEqual(t, len(one.losses), lost, "%v", w.course)
		require.LessOrEqual(t, len(one.losses), 2, "each loss once: %v", w.course)
	})
}

// Redis loses something once: if what it lost had been acknowledged, the next batch
// tells of it.
func TestCourses_ofOneLoss_areTold(t *testing.T) {
	t.Parallel()
	explore(t, func(c *chooser) {
		w := newWorld(c, 1, nil, []event{evict, vanish, rollBack, rollFar, emptiness})
		one := w.add("a", &Book{}, 3)
		w.run(t)
		w.budget, one.todo = 0, 4
		w.run(t)
		lost := 0
		for key, verdict := range one.told {
			require.Equal(t, Done, verdict, "%v", w.course)
			if n, _ := w.redis.Get(w.at.Name, key); n == 0 {
				lost++
			}
		}
		require.Equal(t, min(lost, 1), len(one.losses), "told once: %v", w.course)
	})
}

// Two writers that are clones, as of a virtual machine that was copied: the same
// lane, the same numbers, the same past.
func TestCourses_ofClones(t *testing.T) {
	t.Parallel()
	for _, fates := range [][]fakeredis.Fate{
		{fakeredis.LoseReply}, {fakeredis.LoseRequest}, {fakeredis.Delay}, {fakeredis.Unreachable},
	} {
		for _, started := range []bool{false, true} {
			t.Run(fmt.Sprint(fates, " started ", started), func(t *testing.T) {
				t.Parallel()
				explore(t, func(c *chooser) {
					w := newWorld(c, 1, fates, []event{arrivals})
					first, second := &Book{}, &Book{}
					w.cloned(t, first, second, started)
					w.budget = 1
					w.add("a", first, 2)
					w.add("b", second, 2)
					w.run(t)
				})
			})
		}
	}
}

// cloned gives two books the same lane, which is just about to be opened, or has
// had a batch.
func (w *world) cloned(t *testing.T, first, second *Book, started bool) {
	w.budget = 0
	w.add("c", first, 1)
	if started {
		w.run(t)
	} else {
		first.free = []*lane{first.newLane()}
	}
	w.writers = nil
	copied := *first.lanes[0]
	*second = *first
	second.lanes, second.free = []*lane{&copied}, []*lane{&copied}
}

// Clones of which each must be told what it cannot know, though Redis loses
// something as well.
func TestCourses_ofClones_andOfWhatRedisLoses(t *testing.T) {
	t.Parallel()
	for e := evict; e <= emptiness; e++ {
		t.Run(fmt.Sprint(e), func(t *testing.T) {
			t.Parallel()
			explore(t, func(c *chooser) {
				w := newWorld(c, 2, []fakeredis.Fate{fakeredis.LoseReply, fakeredis.Delay}, []event{e})
				first, second := &Book{}, &Book{}
				w.cloned(t, first, second, true)
				w.budget = 2
				w.add("a", first, 1)
				w.add("b", second, 1)
				w.run(t)
			})
		})
	}
}

// While the keys are being moved a batch may go without a ledger: once.
func TestCourses_ofAMigration(t *testing.T) {
	t.Parallel()
	bare := false
	explore(t, func(c *chooser) {
		w := newWorld(c, 5, []fakeredis.Fate{fakeredis.Migrate, fakeredis.LoseReply, fakeredis.Busy}, nil)
		w.add("a", &Book{}, 2)
		w.run(t)
	})
	explore(t, func(c *chooser) { // they are moved for long
		w := newWorld(c, 2, []fakeredis.Fate{fakeredis.LoseReply, fakeredis.LoseRequest, fakeredis.Delay, fakeredis.Unreachable}, nil)
		one := w.add("a", &Book{}, 2)
		w.redis.Fate = func(call *redisio.Call) fakeredis.Fate {
			if fate := w.fate(); fate != fakeredis.Deliver || call.Task != redisio.Apply || len(w.course) > 40 {
				return fate
			}
			return fakeredis.Migrate
		}
		w.run(t)
		for key, verdict := range one.told {
			n, _ := w.redis.Get(w.at.Name, key)
			require.True(t, verdict == Done && n == 1 || verdict == Unknown, "%s: %v", key, w.course)
			bare = bare || one.bare[key] > 0
		}
	})
	require.True(t, bare, "no batch went without a ledger")
}
