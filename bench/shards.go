package bench

import (
	"errors"
	"fmt"
	"log/slog"
	"os/exec"
	"slices"
	"strconv"

	"github.com/distkit/distkit-go"
	"github.com/distkit/distkit-go/bench/report"
	"github.com/distkit/distkit-go/internal/redisio"
	"github.com/redis/go-redis/v9"
	"github.com/redis/rueidis"
)

// Counters that are spread over several hashes: what that costs on one node, and what it
// gains on a cluster, beside the cluster clients of go-redis and rueidis.

const (
	spreadKeys    = 10_000
	clusterShards = 16 // of the cluster's contestants, as SCALING.md would have it for three masters
)

var (
	spreadCallers  = []int{256, 1024}
	clusterMasters = []int{1, 2, 3}
)

func spreadName(callers, shards int) string {
	return fmt.Sprintf("shards/callers=%d/keys=%d/distkit-%d", callers, spreadKeys, shards)
}

func clusterName(masters int, name string) string {
	return fmt.Sprintf("cluster/masters=%d/callers=1024/keys=%d/%s", masters, spreadKeys, name)
}

// spread is what contestants have in common that count in several hashes.
type spread struct {
	client     redis.UniversalClient
	containers []string
}

// containerOf is the hash of a key.
func (s *spread) containerOf(key string) string {
	return s.containers[redisio.ShardOf(key, len(s.containers))]
}

func (s *spread) Settle() error { return nil }

func (s *spread) Total() (int64, error) {
	var total int64
	for _, container := range s.containers {
		n, err := sumOf(background, s.client, container)
		if err != nil {
			return 0, err
		}
		total += n
	}
	return total, nil
}

func (s *spread) Close() error {
	var errs []error
	for _, container := range s.containers {
		errs = append(errs, s.client.Unlink(background, container).Err())
	}
	return errors.Join(append(errs, s.client.Close())...)
}

func startSpread(env *Env, client redis.UniversalClient, shards int) (s spread, prefix string) {
	prefix = env.prefix()
	s = spread{client: client}
	for shard := range shards {
		s.containers = append(s.containers, prefix+":"+redisio.ShardName(redisio.StrictKind, shard, shards))
	}
	return s, prefix
}

// spreadInc is distkit on shards.
type spreadInc struct {
	spread
	system *distkit.System
	keys   []distkit.Key
}

func (c *spreadInc) Count(key int) error {
	_, err := c.system.Strict().Inc(background, c.keys[key], 1)
	return err
}

func (c *spreadInc) Close() error {
	return errors.Join(c.system.Shutdown(background), c.spread.Close())
}

// distkitSpread is distkit on so many shards, by a client of where.
func distkitSpread(name string, shards int, where func(*Env) (redis.UniversalClient, error)) Contestant {
	return contestant{name, "", func(env *Env, n int) (Counter, error) {
		client, err := where(env)
		if err != nil {
			return nil, err
		}
		c := &spreadInc{}
		var prefix string
		c.spread, prefix = startSpread(env, client, shards)
		for _, name := range names(n) {
			c.keys = append(c.keys, distkit.MustKey(name))
		}
		c.system, err = distkit.NewSystem(client, distkit.WithPrefix(distkit.MustKey(prefix)), distkit.WithShards(shards),
			distkit.WithLogger(slog.New(slog.DiscardHandler)))
		if err != nil {
			return nil, errors.Join(err, client.Close())
		}
		return c, nil
	}}
}

func oneNode(env *Env) (redis.UniversalClient, error) { return env.client(), nil }

func onCluster(masters int) func(*Env) (redis.UniversalClient, error) {
	return func(env *Env) (redis.UniversalClient, error) {
		c, err := env.cluster(masters)
		if err != nil {
			return nil, err
		}
		return c.client(), nil
	}
}

// spreadScript is go-redis's cluster client with a script an increment.
type spreadScript struct {
	spread
	names []string
}

func (c *spreadScript) Count(key int) error {
	field := c.names[key]
	return incrementScript.Run(background, c.client, []string{c.containerOf(field)}, field, 1).Err()
}

func goredisCluster(masters int) Contestant {
	return contestant{"goredis-script", twice, func(env *Env, n int) (Counter, error) {
		client, err := onCluster(masters)(env)
		if err != nil {
			return nil, err
		}
		s, _ := startSpread(env, client, clusterShards)
		return &spreadScript{s, names(n)}, nil
	}}
}

// spreadRueidis is rueidis's, as it comes.
type spreadRueidis struct {
	spread
	rueidis rueidis.Client
	script  *rueidis.Lua
	names   []string
}

func (c *spreadRueidis) Count(key int) error {
	field := c.names[key]
	_, err := c.script.Exec(background, c.rueidis, []string{c.containerOf(field)}, []string{field, strconv.Itoa(1)}).AsInt64()
	return err
}

func (c *spreadRueidis) Close() error {
	c.rueidis.Close()
	return c.spread.Close()
}

func rueidisCluster(masters int) Contestant {
	return contestant{"rueidis", twiceUnsafe, func(env *Env, n int) (Counter, error) {
		cluster, err := env.cluster(masters)
		if err != nil {
			return nil, err
		}
		client, err := rueidis.NewClient(rueidis.ClientOption{InitAddress: cluster.addrs, DisableCache: true})
		if err != nil {
			return nil, err
		}
		s, _ := startSpread(env, cluster.client(), clusterShards)
		return &spreadRueidis{s, client, rueidis.NewLuaScript(script), names(n)}, nil
	}}
}

func shardsGroups() []Group {
	var out []Group
	for _, callers := range spreadCallers {
		g := Group{Name: fmt.Sprintf("shards/callers=%d", callers)}
		for _, shards := range []int{1, 64} {
			c := distkitSpread(fmt.Sprintf("distkit-%d", shards), shards, oneNode)
			g.Cases = append(g.Cases, loadCase(spreadName(callers, shards), c, load{callers: callers, keys: spreadKeys, sampled: true}, false))
		}
		out = append(out, g)
	}
	if _, err := exec.LookPath(clusterServer); err != nil {
		return out // the Redis at hand is elsewhere
	}
	for _, masters := range clusterMasters {
		g := Group{Name: fmt.Sprintf("cluster/masters=%d", masters)}
		for _, c := range []Contestant{
			distkitSpread("distkit", clusterShards, onCluster(masters)), goredisCluster(masters), rueidisCluster(masters),
		} {
			g.Cases = append(g.Cases, loadCase(clusterName(masters, c.Name()), c, load{callers: 1024, keys: spreadKeys, sampled: true}, false))
		}
		out = append(out, g)
	}
	return out
}

func shardsComparisons() []report.Comparison {
	var out []report.Comparison
	for _, callers := range spreadCallers {
		out = append(out, report.Comparison{Case: spreadName(callers, 64), Rival: spreadName(callers, 1), Metric: report.Throughput})
	}
	for _, masters := range clusterMasters {
		ours := clusterName(masters, "distkit")
		rivals := []string{clusterName(masters, "goredis-script"), clusterName(masters, "rueidis")}
		if masters != clusterMasters[0] {
			rivals = slices.Insert(rivals, 0, clusterName(clusterMasters[0], "distkit"))
		}
		for _, rival := range rivals {
			out = append(out, report.Comparison{Case: ours, Rival: rival, Metric: report.Throughput})
		}
	}
	return out
}
