// Package reshard moves the counters of a prefix to another number of shards, while
// nobody counts on them.
//
//	mark ─► copy all that lies elsewhere than it is to ─► delete it there ─► settle
//
// Where a counter is to be follows from its key and the number of shards alone, and where
// it was is known by where it is found. So each step can be broken off at any point and
// done again: a copy is of the same value, and nothing is deleted before the copy has been
// seen once more. Between, a counter is in two places, with the same value; nobody looks,
// since the mark that lies where the number of shards was has every System refuse.
//
// Who marks takes over from who marked before: that one stops at its next step.
package reshard

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/distkit/distkit-go/internal/redisio"
	"github.com/redis/go-redis/v9"
	"golang.org/x/sync/errgroup"
)

// Report is what was done so far.
type Report struct {
	From, To int
	Resumed  bool
	Copied   int64
	Moved    int64
	Outcomes int64
}

// Mover moves the counters of a prefix.
type Mover struct {
	Client   redis.UniversalClient
	Prefix   string
	To       int
	Progress func(Report) // called one at a time; nil: nobody looks

	layouts []int  // all that there may be counters of, the last is the one to be
	mark    string // ours
	at      map[string]bool

	mu     sync.Mutex
	report Report
}

// atOnce bounds the containers that are gone through at the same time.
const atOnce = 8

// chunk is how many counters, or names, are asked for at once.
const chunk = 500

// Run moves everything. After an error it can be run again, by anybody.
func (m *Mover) Run(ctx context.Context) (Report, error) {
	settled, err := m.begin(ctx)
	if err != nil || settled {
		return m.report, err
	}
	for _, step := range []func(context.Context) error{m.copyAll, m.deleteAll, m.checkGone} {
		if err := step(ctx); err != nil {
			return m.report, err
		}
	}
	return m.report, m.swap(ctx, m.mark, strconv.Itoa(m.To))
}

// begin reads the layout and puts our mark in its place. It reports whether nothing is to
// be done.
func (m *Mover) begin(ctx context.Context) (settled bool, err error) {
	held, err := m.Client.Get(ctx, redisio.LayoutKey(m.Prefix)).Result()
	if err != nil && !errors.Is(err, redis.Nil) {
		return false, err
	}
	m.report.To = m.To
	if held == "" {
		m.layouts = []int{1} // of before there was a layout
	} else if m.layouts, err = parse(held); err != nil {
		return false, fmt.Errorf("%q holds %.40q, which no System has written", redisio.LayoutKey(m.Prefix), held)
	}
	m.report.From = m.layouts[0]
	m.report.Resumed = strings.HasPrefix(held, redisio.Resharding)
	if !m.report.Resumed && m.report.From == m.To {
		if held == "" {
			err = m.swap(ctx, "", strconv.Itoa(m.To))
		}
		return true, err
	}
	if m.layouts[len(m.layouts)-1] != m.To {
		m.layouts = append(m.layouts, m.To)
	}
	m.mark = redisio.Resharding + strings.Trim(fmt.Sprint(m.layouts), "[]") + " by " + rand.Text()
	return false, m.swap(ctx, held, m.mark)
}

// parse reads a layout, or a mark: "4", "moving 1 4 by <who>".
func parse(held string) (layouts []int, err error) {
	text, _, _ := strings.Cut(strings.TrimPrefix(held, redisio.Resharding), " by ")
	for _, word := range strings.Fields(text) {
		n, err := strconv.Atoi(word)
		if err != nil || n < 1 || n > redisio.MaxShards {
			return nil, errors.New("no number of shards")
		}
		layouts = append(layouts, n)
	}
	if len(layouts) == 0 {
		return nil, errors.New("no number of shards")
	}
	return layouts, nil
}

var errTakenOver = errors.New("another Reshard has begun since, and goes on with it")

// swap puts a text in the place of another where the layout is, "" being none.
func (m *Mover) swap(ctx context.Context, held, text string) error {
	key := redisio.LayoutKey(m.Prefix)
	err := m.Client.Watch(ctx, func(tx *redis.Tx) error {
		now, err := tx.Get(ctx, key).Result()
		if err != nil && !errors.Is(err, redis.Nil) {
			return err
		}
		if now == text { // an answer was lost
			return nil
		}
		if now != held {
			return errTakenOver
		}
		_, err = tx.TxPipelined(ctx, func(pipe redis.Pipeliner) error {
			pipe.Set(ctx, key, text, 0)
			return nil
		})
		return err
	}, key)
	if errors.Is(err, redis.TxFailedErr) {
		return errTakenOver
	}
	return err
}

// check returns an error when our mark is there no more.
func (m *Mover) check(ctx context.Context) error {
	now, err := m.Client.Get(ctx, redisio.LayoutKey(m.Prefix)).Result()
	if err != nil && !errors.Is(err, redis.Nil) {
		return err
	}
	if now != m.mark {
		return errTakenOver
	}
	return nil
}

// note counts, and tells.
func (m *Mover) note(count func(*Report)) {
	m.mu.Lock()
	defer m.mu.Unlock()
	count(&m.report)
	if m.Progress != nil {
		m.Progress(m.report)
	}
}

func (m *Mover) copyAll(ctx context.Context) error {
	if err := m.find(ctx); err != nil {
		return err
	}
	return m.eachContainer(ctx, func(ctx context.Context, c *container, pairs []string) error {
		err := m.copyFields(ctx, c, pairs)
		m.note(func(r *Report) { r.Copied += int64(len(pairs) / 2) })
		return err
	})
}

func (m *Mover) deleteAll(ctx context.Context) error {
	if err := m.eachContainer(ctx, m.moveFields); err != nil {
		return err
	}
	return m.scan(ctx, m.deleteOutcomes)
}

// find finds the containers, by their names and those of windows by looking at all names,
// and copies the outcomes of transactions that it meets.
func (m *Mover) find(ctx context.Context) error {
	m.at = map[string]bool{}
	for _, n := range m.layouts {
		for shard := range n {
			for _, kind := range []string{redisio.StrictKind, redisio.LaxKind} {
				m.at[redisio.ShardName(kind, shard, n)] = true
			}
		}
	}
	return m.scan(ctx, func(ctx context.Context, names []string) error {
		m.mu.Lock()
		for _, name := range names {
			if rest, ok := strings.CutPrefix(name, m.Prefix+":"); ok {
				if c, ok := parseContainer(rest); ok && c.window != "" {
					m.at[rest] = true
				}
			}
		}
		m.mu.Unlock()
		return m.copyOutcomes(ctx, names)
	})
}

// scan hands all names to take that may be of the prefix.
func (m *Mover) scan(ctx context.Context, take func(context.Context, []string) error) error {
	all := func(ctx context.Context, node redis.Cmdable) error {
		for cursor, first := uint64(0), true; first || cursor != 0; first = false {
			names, next, err := node.Scan(ctx, cursor, "*"+escape(m.Prefix)+":*", 2*chunk).Result()
			if err != nil {
				return err
			}
			if cursor = next; len(names) > 0 {
				if err := m.check(ctx); err != nil {
					return err
				}
				if err := take(ctx, names); err != nil {
					return err
				}
			}
		}
		return nil
	}
	if cluster, ok := m.Client.(*redis.ClusterClient); ok {
		return cluster.ForEachMaster(ctx, func(ctx context.Context, node *redis.Client) error { return all(ctx, node) })
	}
	return all(ctx, m.Client)
}

// escape makes a pattern that matches a text only.
func escape(text string) string {
	return strings.NewReplacer(`\`, `\\`, "*", `\*`, "?", `\?`, "[", `\[`, "]", `\]`).Replace(text)
}

// eachContainer goes through the counters of all containers.
func (m *Mover) eachContainer(ctx context.Context, take func(context.Context, *container, []string) error) error {
	calls, ctx := errgroup.WithContext(ctx)
	calls.SetLimit(atOnce)
	for _, name := range slices.Sorted(maps.Keys(m.at)) {
		calls.Go(func() error {
			c, _ := parseContainer(name)
			c.mover, c.name = m, m.Prefix+":"+name
			if err := c.each(ctx, take); err != nil {
				return fmt.Errorf("%s: %w", c.name, err)
			}
			return nil
		})
	}
	return calls.Wait()
}

// checkGone makes sure that nothing is left where nothing is to be.
func (m *Mover) checkGone(ctx context.Context) error {
	for name := range m.at {
		c, _ := parseContainer(name)
		if c.shard >= m.To || c.sharded == (m.To == 1) {
			n, err := m.Client.Exists(ctx, m.Prefix+":"+name).Result()
			if err != nil {
				return err
			}
			if n > 0 {
				return fmt.Errorf("%s:%s has counters again: somebody counts; shut all Systems of the prefix down and call it again", m.Prefix, name)
			}
		}
	}
	return nil
}

// left is how long a key lives yet; 0: for ever; false if it is gone.
func (m *Mover) left(ctx context.Context, key string) (d time.Duration, there bool, err error) {
	d, err = m.Client.PTTL(ctx, key).Result()
	switch {
	case err != nil || d == -2:
		return 0, false, err
	case d == -1:
		return 0, true, nil
	default:
		return max(d, time.Millisecond), true, nil
	}
}
