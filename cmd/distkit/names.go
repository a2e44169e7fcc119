package main

import (
	"context"
	"regexp"
	"strings"
	"sync"

	"github.com/redis/go-redis/v9"
)

// What the names under a prefix are of. docs/OPERATIONS.md lists them.

// found is a name under the prefix, taken apart.
type found struct {
	name      string
	container string // whose it is, without the prefix: "strict_counter#1@day@1700000000"
	kind      string // "strict" or "lax"
	shard     string // "" or "#1"
	period    string // of a window: "day"
	start     string // and its beginning, in Unix seconds
	ledger    string // of a ledger: its ID
}

// isContainer reports whether the name is of a hash of counters.
func (f found) isContainer() bool { return f.ledger == "" }

var containerName = regexp.MustCompile(`(?s)^(strict|lax)_counter(#\d+)?(?:@(.+)@(-?\d+))?$`)

// parse takes a name apart; false if it is neither a container's nor a ledger's.
func parse(prefix, name string) (f found, ok bool) {
	f.name = name
	rest, ok := strings.CutPrefix(name, prefix+":")
	if braced, inside := strings.CutPrefix(name, "{"+prefix+":"); inside { // where the prefix has half a pair of braces
		rest, f.ledger, ok = strings.Cut(braced, "}:writer:")
	} else if tagged, inside := strings.CutPrefix(rest, "writer:{"+prefix+":"); ok && inside {
		at := strings.LastIndex(tagged, "}:") // an ID has none
		if ok = at >= 0; ok {
			rest, f.ledger = tagged[:at], tagged[at+2:]
		}
	}
	if !ok {
		return found{}, false
	}
	parts := containerName.FindStringSubmatch(rest)
	if parts == nil {
		return found{}, false
	}
	f.container, f.kind, f.shard, f.period, f.start = rest, parts[1], parts[2], parts[3], parts[4]
	return f, true
}

// scan hands all names that match a pattern to take, some hundred at a time and one call
// at a time.
func scan(ctx context.Context, client redis.UniversalClient, pattern string, take func([]string) error) error {
	var mu sync.Mutex
	all := func(ctx context.Context, node redis.Cmdable) error {
		for cursor, first := uint64(0), true; first || cursor != 0; first = false {
			names, next, err := node.Scan(ctx, cursor, pattern, 500).Result()
			if err != nil {
				return err
			}
			if cursor = next; len(names) == 0 {
				continue
			}
			mu.Lock()
			err = take(names)
			mu.Unlock()
			if err != nil {
				return err
			}
		}
		return nil
	}
	if cluster, ok := client.(*redis.ClusterClient); ok {
		return cluster.ForEachMaster(ctx, func(ctx context.Context, node *redis.Client) error { return all(ctx, node) })
	}
	return all(ctx, client)
}

// underPrefix are the containers and ledgers of a prefix.
func underPrefix(ctx context.Context, client redis.UniversalClient, prefix string) (containers, ledgers []found, err error) {
	seen := map[string]bool{} // SCAN may tell a name twice
	err = scan(ctx, client, "*"+escape(prefix)+":*", func(names []string) error {
		for _, name := range names {
			f, ok := parse(prefix, name)
			switch {
			case !ok || seen[name]:
			case f.isContainer():
				containers = append(containers, f)
			default:
				ledgers = append(ledgers, f)
			}
			seen[name] = true
		}
		return nil
	})
	return containers, ledgers, err
}

// escape makes a pattern that matches a text only.
func escape(text string) string {
	return strings.NewReplacer(`\`, `\\`, "*", `\*`, "?", `\?`, "[", `\[`, "]", `\]`).Replace(text)
}
