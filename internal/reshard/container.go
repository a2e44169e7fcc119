package reshard

import (
	"context"
	"fmt"
	"regexp"
	"strconv"
	"strings"

	"github.com/distkit/distkit-go/internal/redisio"
	"github.com/redis/go-redis/v9"
)

// container is a hash of counters, of one of the layouts.
type container struct {
	mover   *Mover
	name    string
	kind    string
	sharded bool
	shard   int
	window  string // "" or "@<period>@<start>"
}

var containerName = regexp.MustCompile(`(?s)^(strict_counter|lax_counter)(#\d+)?(@.+@-?\d+)?$`)

// parseContainer takes a name apart, without its prefix.
func parseContainer(name string) (c *container, ok bool) {
	parts := containerName.FindStringSubmatch(name)
	if parts == nil {
		return nil, false
	}
	c = &container{kind: parts[1], sharded: parts[2] != "", window: parts[3]}
	if c.sharded {
		var err error
		if c.shard, err = strconv.Atoi(parts[2][1:]); err != nil {
			return nil, false
		}
	}
	return c, true
}

// of is where a key is to be.
func (c *container) of(key string) string {
	to := c.mover.To
	return c.mover.Prefix + ":" + redisio.ShardName(c.kind, redisio.ShardOf(key, to), to) + c.window
}

// each hands the counters to take that are elsewhere than they are to be: keys and values,
// in turn.
func (c *container) each(ctx context.Context, take func(context.Context, *container, []string) error) error {
	for cursor, first := uint64(0), true; first || cursor != 0; first = false {
		pairs, next, err := c.mover.Client.HScan(ctx, c.name, cursor, "", chunk).Result()
		if err != nil {
			return err
		}
		var misplaced []string
		for i := 0; i+1 < len(pairs); i += 2 {
			if c.of(pairs[i]) != c.name {
				misplaced = append(misplaced, pairs[i], pairs[i+1])
			}
		}
		if cursor = next; len(misplaced) == 0 {
			continue
		}
		if err := c.mover.check(ctx); err != nil {
			return err
		}
		if err := take(ctx, c, misplaced); err != nil {
			return err
		}
	}
	return nil
}

// copyFields makes sure that counters are where they are to be.
func (m *Mover) copyFields(ctx context.Context, c *container, pairs []string) error {
	left, there, err := m.left(ctx, c.name)
	if err != nil || !there { // it has expired
		return err
	}
	pipe := m.Client.Pipeline()
	set := make([]*redis.BoolCmd, 0, len(pairs)/2)
	targets := map[string]bool{}
	for i := 0; i < len(pairs); i += 2 {
		to := c.of(pairs[i])
		set = append(set, pipe.HSetNX(ctx, to, pairs[i], pairs[i+1]))
		targets[to] = true
	}
	if left > 0 {
		for to := range targets {
			pipe.PExpire(ctx, to, left)
		}
	}
	if _, err := pipe.Exec(ctx); err != nil {
		return err
	}
	asked, held := m.Client.Pipeline(), map[int]*redis.StringCmd{}
	for i := range set {
		if !set[i].Val() {
			held[2*i] = asked.HGet(ctx, c.of(pairs[2*i]), pairs[2*i])
		}
	}
	if len(held) == 0 {
		return nil
	}
	if _, err := asked.Exec(ctx); err != nil {
		return err
	}
	for i, other := range held {
		if other.Val() != pairs[i+1] {
			return fmt.Errorf("%q is %s there and %s in %s: Systems of two layouts have counted; set one of the two to the right value, delete the other and call it again",
				pairs[i], pairs[i+1], other.Val(), c.of(pairs[i]))
		}
	}
	return nil
}

// moveFields deletes counters, of which it makes sure that they are where they are to be.
func (m *Mover) moveFields(ctx context.Context, c *container, pairs []string) error {
	if err := m.copyFields(ctx, c, pairs); err != nil {
		return err
	}
	keys := make([]string, 0, len(pairs)/2)
	for i := 0; i < len(pairs); i += 2 {
		keys = append(keys, pairs[i])
	}
	gone, err := m.Client.HDel(ctx, c.name, keys...).Result()
	m.note(func(r *Report) { r.Moved += gone })
	return err
}

// outcome is the ID of a transaction whose outcome a name keeps, and on which shard it is.
func (m *Mover) outcome(name string) (on *container, id string, ok bool) {
	once := redisio.NewContainer(m.Prefix, redisio.StrictKind).Once("")
	at := strings.LastIndex(once, redisio.StrictKind)
	rest, ok := strings.CutPrefix(name, once[:at])
	if !ok {
		return nil, "", false
	}
	shard, id, ok := strings.Cut(rest, once[at+len(redisio.StrictKind):])
	if !ok {
		return nil, "", false
	}
	on, ok = parseContainer(shard)
	return on, id, ok && on.kind == redisio.StrictKind && on.window == ""
}

// copyOutcomes copies outcomes of transactions to every shard: they do not tell the keys
// of their steps, and whoever repeats one comes to the shard of those.
func (m *Mover) copyOutcomes(ctx context.Context, names []string) error {
	for _, name := range names {
		_, id, ok := m.outcome(name)
		if !ok {
			continue
		}
		left, there, err := m.left(ctx, name)
		if err != nil {
			return err
		}
		text, err := m.Client.Get(ctx, name).Result()
		if err == redis.Nil || !there {
			continue // it has expired
		} else if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		pipe := m.Client.Pipeline()
		for shard := range m.To {
			at := redisio.NewContainer(m.Prefix, redisio.ShardName(redisio.StrictKind, shard, m.To))
			pipe.SetNX(ctx, at.Once(id), text, left)
		}
		if _, err := pipe.Exec(ctx); err != nil {
			return err
		}
		m.note(func(r *Report) { r.Outcomes++ })
	}
	return nil
}

// deleteOutcomes deletes those on shards that are no more.
func (m *Mover) deleteOutcomes(ctx context.Context, names []string) error {
	for _, name := range names {
		on, _, ok := m.outcome(name)
		if !ok || on.sharded != (m.To == 1) && on.shard < m.To {
			continue
		}
		if err := m.Client.Del(ctx, name).Err(); err != nil {
			return err
		}
	}
	return nil
}
