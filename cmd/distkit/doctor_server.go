package main

import (
	"context"
	"errors"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
)

// The checks of the doctor that look at the server.

// latency reports whether Redis answers, and says how fast.
func (e *examination) latency(ctx context.Context) bool {
	var took []time.Duration
	for range 20 {
		start := time.Now()
		err := e.client.Ping(ctx).Err()
		took = append(took, time.Since(start))
		switch {
		case err == nil, redis.HasErrorPrefix(err, "NOPERM"): // an answer, too
		case redis.HasErrorPrefix(err, "NOAUTH"), redis.HasErrorPrefix(err, "WRONGPASS"):
			e.say("reachable", wrong, "give user and password in --url: redis://user:password@host:port", "Redis does not let this user in: %v", err)
			return false
		case redis.HasErrorPrefix(err, "LOADING"):
			e.say("reachable", wrong, "wait until it has read its data", "Redis is starting: %v", err)
			return false
		default:
			e.say("reachable", wrong, "look at host and port in --url, at the network, and whether the server runs", "no answer: %v", err)
			return false
		}
	}
	slices.Sort(took[1:]) // the first has made the connection
	median, most := took[len(took)/2], took[len(took)-1]
	switch {
	case median > 20*time.Millisecond:
		e.say("latency", warning, "every strict call takes at least a round trip: run the service near its Redis", "a round trip takes %s, %s at most", span(median), span(most))
	case most > 200*time.Millisecond:
		e.say("latency", warning, "look for slow commands (SLOWLOG GET), forks of snapshots, and a machine without enough memory", "a round trip takes %s, but one of 20 took %s", span(median), span(most))
	default:
		e.say("latency", fine, "", "a round trip takes %s, %s at most", span(median), span(most))
	}
	return true
}

// server looks at one server; false if it does not tell of itself.
func (e *examination) server(ctx context.Context, node redis.Cmdable) bool {
	before := time.Now()
	now, err := node.Time(ctx).Result()
	e.clock(now, before, time.Now(), err)
	text, err := node.Info(ctx).Result()
	if err != nil {
		e.say("server", warning, "permit +info to the user, or ask your provider: version, persistence, eviction and role are not known", "INFO is refused: %v", err)
		return true
	}
	info := parseInfo(text)
	e.version(info)
	e.role(info)
	e.cluster(ctx, info)
	e.persistence(ctx, node, info)
	e.memory(ctx, node, info)
	e.connections(info)
	return true
}

// parseInfo reads what INFO answers.
func parseInfo(text string) map[string]string {
	info := map[string]string{}
	for line := range strings.Lines(text) {
		if name, value, ok := strings.Cut(strings.TrimSpace(line), ":"); ok {
			info[name] = value
		}
	}
	return info
}

func (e *examination) clock(now, before, after time.Time, err error) {
	if err != nil {
		e.say("clock", note, "", "not known: %v", err)
		return
	}
	skew := now.Sub(before.Add(after.Sub(before) / 2)).Round(time.Millisecond)
	switch {
	case skew.Abs() > 2*time.Second:
		e.say("clock", wrong, "have both machines set by NTP: windows begin by the clock of each process, and expire by that of Redis", "the clock of Redis is %v off this machine's", skew)
	default:
		e.say("clock", fine, "", "that of Redis is %v off this machine's", skew)
	}
}

func (e *examination) version(info map[string]string) {
	name, version := "Redis", info["redis_version"]
	if valkey := info["valkey_version"]; valkey != "" {
		name, version = "Valkey", valkey
	}
	parts := strings.SplitN(version, ".", 3)
	major, _ := strconv.Atoi(parts[0])
	switch {
	case version == "":
		e.say("version", note, "", "the server does not tell")
	case major < 5:
		e.say("version", wrong, "use Redis 5.0 or later", "%s %s", name, version)
	case name == "Redis" && (major < 6 || major == 6 && len(parts) > 1 && parts[1] < "2"):
		e.say("version", warning, "use 6.2 or later, on which the library's tests run", "%s %s", name, version)
	default:
		e.say("version", fine, "", "%s %s", name, version)
	}
}

func (e *examination) role(info map[string]string) {
	replicas, _ := strconv.Atoi(info["connected_slaves"])
	switch {
	case info["role"] == "slave":
		e.say("role", wrong, "lead the client to the master, "+info["master_host"]+":"+info["master_port"]+", or use Sentinel", "the server is a replica: it takes no changes")
	case replicas > 0:
		e.say("role", fine, "", "a master with %d replicas", replicas)
	default:
		e.say("role", note, "a machine that is lost takes the counters with it: have a replica, or backups", "a master without replicas")
	}
}

func (e *examination) cluster(ctx context.Context, info map[string]string) {
	enabled := info["cluster_enabled"] == "1"
	switch {
	case enabled && !e.of.cluster:
		e.say("cluster", wrong, "give --cluster here, and use redis.NewClusterClient in programs", "the server is a node of a Redis Cluster")
	case !enabled && e.of.cluster:
		e.say("cluster", wrong, "leave --cluster out", "the server is no node of a Redis Cluster")
	case enabled:
		state, err := e.client.ClusterInfo(ctx).Result()
		if err == nil && !strings.Contains(state, "cluster_state:ok") {
			e.say("cluster", wrong, "look at CLUSTER INFO and CLUSTER NODES: a node is away, or slots have none", "the cluster's state is not ok")
			return
		}
		e.say("cluster", fine, "", "a node of a cluster whose state is ok")
	}
}

// setting is one of the server's; false if it is not told.
func setting(ctx context.Context, node redis.Cmdable, name string) (string, bool) {
	values, err := node.ConfigGet(ctx, name).Result()
	value, ok := values[name]
	return value, err == nil && ok
}

func (e *examination) persistence(ctx context.Context, node redis.Cmdable, info map[string]string) {
	for _, write := range []struct{ field, what string }{
		{"aof_last_write_status", "writing the append-only file"},
		{"aof_last_bgrewrite_status", "rewriting the append-only file"},
		{"rdb_last_bgsave_status", "writing a snapshot"},
	} {
		if status := info[write.field]; status != "" && status != "ok" {
			e.say("persistence", wrong, "look at the server's log, its disk and free memory: Redis may refuse changes (MISCONF) until it succeeds", "%s has failed", write.what)
		}
	}
	const advice = "set appendonly yes and appendfsync always if what Redis acknowledged must survive its crash"
	if info["aof_enabled"] != "1" {
		if save, told := setting(ctx, node, "save"); told && save == "" {
			e.say("persistence", wrong, advice, "none: a crash or restart loses all counters")
		} else {
			e.say("persistence", warning, advice, "by snapshots alone: a crash loses what was counted since the last one")
		}
		return
	}
	switch sync, told := setting(ctx, node, "appendfsync"); {
	case !told:
		e.say("persistence", note, "ask your provider for appendfsync: with always nothing that was acknowledged is lost", "an append-only file; how often it is synced is not told")
	case sync == "always":
		e.say("persistence", fine, "", "an append-only file, synced before each answer")
	case sync == "everysec":
		e.say("persistence", warning, "set appendfsync always for strict counters that count money", "an append-only file, synced each second: a crash loses about the last second")
	default:
		e.say("persistence", wrong, advice, "an append-only file with appendfsync %s: a crash of the machine loses what its system has not written", sync)
	}
}

func (e *examination) memory(ctx context.Context, node redis.Cmdable, info map[string]string) {
	policy := info["maxmemory_policy"]
	if policy == "" {
		policy, _ = setting(ctx, node, "maxmemory-policy")
	}
	const advice = "set maxmemory-policy noeviction"
	switch {
	case policy == "noeviction":
		e.say("eviction", fine, "", "noeviction")
	case strings.HasPrefix(policy, "allkeys"):
		e.say("eviction", wrong, advice, "%s: a full Redis deletes all counters of a kind at once", policy)
	case policy == "":
		e.say("eviction", note, "see that it is noeviction", "the server does not tell its maxmemory-policy")
	default:
		e.say("eviction", wrong, advice, "%s: a full Redis deletes ledgers and windows, since they expire; batches in flight then end as unknown", policy)
	}
	limit, _ := strconv.ParseInt(info["maxmemory"], 10, 64)
	used, _ := strconv.ParseInt(info["used_memory"], 10, 64)
	switch {
	case limit == 0:
		e.say("memory", note, "set maxmemory below what the machine has, or the system may kill Redis", "%s used, no maxmemory", size(used))
	case used > limit:
		e.say("memory", wrong, "raise maxmemory or delete data", "%s of %s used: Redis refuses changes (OOM)", size(used), size(limit))
	case used > limit/10*9:
		e.say("memory", warning, "raise maxmemory or delete data before it is full: Redis then refuses changes (OOM)", "%s of %s used", size(used), size(limit))
	default:
		e.say("memory", fine, "", "%s of %s used", size(used), size(limit))
	}
	if evicted := info["evicted_keys"]; evicted != "" && evicted != "0" {
		e.say("eviction", warning, "find out whether counters were among them: programs got DataLost", "%s keys were evicted since the server started", evicted)
	}
}

func (e *examination) connections(info map[string]string) {
	clients, _ := strconv.Atoi(info["connected_clients"])
	most, _ := strconv.Atoi(info["maxclients"])
	if most > 0 && clients > most/10*9 {
		e.say("connections", warning, "raise maxclients, or lower PoolSize of the clients", "%d of %d in use", clients, most)
		return
	}
	e.say("connections", fine, "", "%d in use", clients)
}

// refused is what Redis says to what the user may not do; nil if it may.
func refused(err error) error {
	if err != nil && !errors.Is(err, redis.Nil) && (redis.HasErrorPrefix(err, "NOPERM") || strings.Contains(err.Error(), "unknown command") || strings.Contains(err.Error(), "NOPERM")) {
		return err
	}
	return nil
}
