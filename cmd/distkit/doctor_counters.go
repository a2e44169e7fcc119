package main

import (
	"context"
	"crypto/rand"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
)

// The checks of the doctor that look at what the user may do, and at the counters.

// permissions tries each command that the library needs, on a name that is no counter's:
// a command that is permitted fails otherwise, or does nothing that lasts.
func (e *examination) permissions(ctx context.Context) {
	name := e.of.prefix + ":doctor:" + rand.Text()
	if strings.Contains(e.of.prefix, "{") && strings.Contains(e.of.prefix, "}") {
		name = e.of.prefix + ":doctor" // in the slot that the prefix decides
	}
	tries := [][]any{
		{"set", name, "", "px", 10_000}, {"get", name}, {"mget", name}, {"exists", name},
		{"setrange", name, 0, ""}, {"append", name, ""}, {"pexpire", name, 10_000},
		{"pexpireat", name, time.Now().Add(10 * time.Second).UnixMilli()}, {"pttl", name},
		{"hget", name, "f"}, {"hset", name, "f", 0}, {"hincrby", name, "f", 0}, {"hdel", name, "f"},
		{"hmget", name, "f"}, {"hscan", name, 0}, {"hlen", name},
		{"eval", "return 1", 1, name}, {"evalsha", strings.Repeat("0", 40), 1, name},
		{"unlink", name},
	}
	var missing, names []string
	var why error
	for _, try := range tries {
		err := refused(e.client.Do(ctx, try...).Err())
		command := try[0].(string)
		names = append(names, "+"+command)
		if err != nil {
			missing, why = append(missing, "+"+command), err
		}
	}
	if len(missing) > 0 {
		e.say("permissions", wrong, fmt.Sprintf("ACL SETUSER <user> ~%s:* %s", e.of.prefix, strings.Join(names, " ")), "the user lacks %s: %v", strings.Join(missing, " "), why)
		return
	}
	e.say("permissions", fine, "", "the user may do what counting needs")
}

// counters looks at what there is under the prefix.
func (e *examination) counters(ctx context.Context) {
	shards, err := layout(ctx, e.client, e.of.prefix)
	switch {
	case err != nil:
		e.say("layout", wrong, "set it to the number that all Systems are given, or run distkit reshard again if it was broken off", "%v", err)
	case shards == 1 && e.of.cluster:
		e.say("layout", note, "if one node is too slow, spread the counters: distkit reshard --shards 64, and WithShards(64)", "all counters of a kind are on one node")
	case shards > 1 && strings.Contains(e.of.prefix, "{"):
		e.say("layout", warning, "use a prefix without braces", "%d shards, but the hash tag of the prefix keeps them in one slot", shards)
	default:
		e.say("layout", fine, "", "%d shard(s)", shards)
	}
	containers, ledgers, scanErr := underPrefix(ctx, e.client, e.of.prefix)
	if scanErr != nil {
		e.say("counters", warning, "permit +scan to the user of this command; give a longer --timeout if Redis holds many names", "the names in Redis cannot be listed: %v", scanErr)
		return
	}
	n := int64(0)
	for _, c := range containers {
		n += e.container(ctx, c, shards, err == nil)
	}
	e.say("counters", note, "", "%d, in %d hashes under the prefix %q", n, len(containers), e.of.prefix)
	if len(ledgers) > 10_000 {
		e.say("ledgers", warning, "many short processes: give them WithLedgerLifetime(time.Hour), and have them call Shutdown", "%d", len(ledgers))
	} else {
		e.say("ledgers", fine, "", "%d", len(ledgers))
	}
}

// container looks at one hash of counters, and returns how many there are.
func (e *examination) container(ctx context.Context, c found, shards int, known bool) int64 {
	kind, err := e.client.Type(ctx, c.name).Result()
	switch {
	case err != nil:
		e.say("counters", warning, "permit +type to the user of this command", "%s cannot be looked at: %v", printable(c.name), err)
		return 0
	case kind == "none":
		return 0
	case kind != "hash":
		e.say("counters", wrong, "find out who made it; rename or delete it", "%s is a %s and no hash: every call fails with ErrWrongType", printable(c.name), kind)
		return 0
	}
	n, left, _, err := look(ctx, e.client, c.name, func(p redis.Pipeliner) *redis.IntCmd { return p.HLen(ctx, c.name) })
	if err != nil {
		e.say("counters", warning, "", "%s cannot be looked at: %v", printable(c.name), err)
		return 0
	}
	switch {
	case c.period == "" && left > 0:
		e.say("counters", wrong, "PERSIST "+strconv.Quote(c.name)+", and find out who gave it an expiry", "%s expires in %s, with all counters in it", printable(c.name), span(left))
	case c.period != "" && left == -1:
		e.say("windows", warning, "DEL it when nobody needs it", "%s never expires", printable(c.name))
	}
	if known && !e.belongs(c, shards) {
		e.say("layout", wrong, "run distkit reshard: it moves all counters to where they are to be", "%s has counters, but with %d shard(s) nobody reads them there", printable(c.name), shards)
	}
	e.values(ctx, c)
	return n
}

// belongs reports whether there is such a container with so many shards.
func (e *examination) belongs(c found, shards int) bool {
	if c.shard == "" {
		return shards == 1
	}
	i, err := strconv.Atoi(c.shard[1:])
	return err == nil && shards > 1 && i < shards
}

// maxSampled is how many counters of a container are looked at.
const maxSampled = 10_000

// values looks for fields that are no counters.
func (e *examination) values(ctx context.Context, c found) {
	bad, seen := map[string]string{}, 0
	for cursor, first := uint64(0), true; (first || cursor != 0) && seen < maxSampled; first = false {
		pairs, next, err := e.client.HScan(ctx, c.name, cursor, "", 500).Result()
		if err != nil {
			return // the permissions have said it
		}
		cursor = next
		for i := 0; i+1 < len(pairs); i += 2 {
			seen++
			if n, err := strconv.ParseInt(pairs[i+1], 10, 64); err != nil || strconv.FormatInt(n, 10) != pairs[i+1] {
				bad[pairs[i]] = pairs[i+1]
			}
		}
	}
	if len(bad) > 0 {
		field := slices.Min(slices.Collect(maps.Keys(bad)))
		e.say("counters", wrong, "Set or HDEL them: they fail with ErrNotInteger", "%d of %d fields looked at in %s hold no number: %s holds %.40q", len(bad), seen, printable(c.name), strconv.Quote(field), bad[field])
	}
}
