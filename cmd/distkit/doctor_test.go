package main

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/distkit/distkit-go/internal/redistest"
	"github.com/stretchr/testify/require"
)

// examined are the findings of a doctor.
type examined struct {
	Wrong    int       `json:"wrong"`
	Findings []finding `json:"findings"`
}

func (f *fixture) examine(args ...string) (e examined, err error) {
	f.t.Helper()
	out, err := f.run(append([]string{"doctor", "-o", "json"}, args...)...)
	require.NoError(f.t, json.Unmarshal([]byte(out), &e), "%s: %v", out, err)
	return e, err
}

func TestDoctor_nothingIsWrong(t *testing.T) {
	t.Parallel()
	f := on(t, redistest.Start(t, "--appendonly", "yes", "--appendfsync", "always"))
	f.says("inc", "seats")
	e, err := f.examine()
	require.NoError(t, err)
	require.Zero(t, e.Wrong, e.Findings)
	require.Contains(t, f.says("doctor"), "ok permissions: the user may do what counting needs")
	require.Contains(t, f.says("doctor"), `note counters: 1, in 1 hashes under the prefix "app"`)
	require.Empty(t, f.client.Keys(f.ctx, "app:doctor:*").Val())
}

// A server that is set up wrong in many ways: each is found, and what to do.
func TestDoctor_whatIsWrongIsFound(t *testing.T) {
	t.Parallel()
	f := on(t, redistest.Start(t, "--appendonly", "no", "--save", "", "--maxmemory-policy", "allkeys-lru"))
	do := func(args ...any) {
		t.Helper()
		require.NoError(t, f.client.Do(f.ctx, args...).Err())
	}
	do("acl", "setuser", "app", "on", ">secret", "~*", "+@all", "-hincrby", "-unlink")
	do("set", "app:layout", "4")
	do("set", "app:strict_counter#1", "no hash")
	do("hset", "app:strict_counter#9", "lost", "1")
	do("hset", "app:lax_counter#2", "views", "many")
	do("pexpire", "app:lax_counter#2", "600000")
	url := "redis://app:secret@" + f.url[len("redis://"):]
	e, err := f.examine("--url", url)
	require.EqualError(t, err, "7 things are wrong")
	require.Equal(t, 7, e.Wrong)
	for _, want := range []struct{ check, found, advice string }{
		{"persistence", "none: a crash or restart loses all counters", "appendfsync always"},
		{"eviction", "allkeys-lru: a full Redis deletes all counters", "noeviction"},
		{"permissions", "the user lacks +hincrby +unlink", "ACL SETUSER"},
		{"counters", "app:strict_counter#1 is a string and no hash", "rename or delete"},
		{"layout", "app:strict_counter#9 has counters, but with 4 shard(s)", "distkit reshard"},
		{"counters", "app:lax_counter#2 expires in", "PERSIST"},
		{"counters", "1 of 1 fields looked at in app:lax_counter#2", "ErrNotInteger"},
	} {
		f.requireFound(e, wrong, want.check, want.found, want.advice)
	}
	out, err := f.run("doctor", "--url", url)
	require.Error(t, err)
	require.Contains(t, out, "wrong    persistence: none")
	require.Contains(t, out, "\n         -> set maxmemory-policy noeviction\n")

	do("set", "app:layout", "moving 4 8 by somebody")
	e, _ = f.examine()
	f.requireFound(e, wrong, "layout", "are being moved", "reshard again")
	do("config", "set", "maxmemory", "1")
	e, _ = f.examine()
	f.requireFound(e, wrong, "memory", "Redis refuses changes", "raise maxmemory")
	do("config", "set", "maxmemory-policy", "volatile-ttl")
	e, _ = f.examine("--cluster")
	require.Positive(t, e.Wrong, "it is no cluster")
	e, _ = f.examine("--url", "redis://app:wrong@"+f.url[len("redis://"):])
	f.requireFound(e, wrong, "reachable", "does not let this user in", "password")
}

// requireFound fails unless a finding is there.
func (f *fixture) requireFound(e examined, status, check, found, advice string) {
	f.t.Helper()
	for _, is := range e.Findings {
		if is.Status == status && is.Check == check && strings.Contains(is.Found, found) && strings.Contains(is.Advice, advice) {
			return
		}
	}
	require.Failf(f.t, "not found", "%s %s: %s: %s\nin %v", status, check, found, advice, e.Findings)
}

func TestDoctor_replicaAndUnreachable(t *testing.T) {
	t.Parallel()
	f := on(t, redistest.Start(t, "--replicaof", "127.0.0.1 1"))
	e, err := f.examine()
	require.Error(t, err)
	f.requireFound(e, wrong, "role", "is a replica", "127.0.0.1:1")
	e, err = f.examine("--url", "redis://127.0.0.1:1", "--timeout", "2s")
	require.Error(t, err)
	f.requireFound(e, wrong, "reachable", "no answer", "host and port")
}

func TestDoctor_cluster(t *testing.T) {
	t.Parallel()
	f := on(t, redistest.Start(t, "--cluster-enabled", "yes"))
	redistest.AwaitCluster(t, f.client)
	e, err := f.examine()
	require.Error(t, err)
	f.requireFound(e, wrong, "cluster", "is a node of a Redis Cluster", "--cluster")
	e, _ = f.examine("--cluster")
	f.requireFound(e, fine, "cluster", "state is ok", "")
	require.Equal(t, "1", f.says("inc", "seats", "--cluster"))
	require.NoError(t, f.client.Set(f.ctx, "old:seats", 2, 0).Err())
	_, err = f.run("migrate", "--cluster", "--match", "old:*", "--strip", "old:")
	require.ErrorContains(t, err, "docs/MIGRATING.md")
}

func TestClockSkew(t *testing.T) {
	t.Parallel()
	now := time.Now()
	for skew, status := range map[time.Duration]string{0: fine, time.Second: fine, -3 * time.Second: wrong, time.Hour: wrong} {
		e := &examination{}
		e.clock(now.Add(skew), now, now, nil)
		require.Equal(t, status, e.findings[0].Status, skew)
	}
}

func TestVersions(t *testing.T) {
	t.Parallel()
	for version, status := range map[string]string{"4.0.14": wrong, "5.0.3": warning, "6.0.16": warning, "6.2.14": fine, "8.0.2": fine, "": note} {
		e := &examination{}
		e.version(map[string]string{"redis_version": version})
		require.Equal(t, status, e.findings[0].Status, version)
	}
	e := &examination{}
	e.version(map[string]string{"redis_version": "7.2.4", "valkey_version": "8.1.1"})
	require.Equal(t, "Valkey 8.1.1", e.findings[0].Found)
}

func TestNames(t *testing.T) {
	t.Parallel()
	for name, want := range map[string]found{
		"app:strict_counter":                          {kind: "strict", container: "strict_counter"},
		"app:lax_counter#12@day@-86400":               {kind: "lax", container: "lax_counter#12@day@-86400", shard: "#12", period: "day", start: "-86400"},
		"app:writer:{app:lax_counter}:0af":            {kind: "lax", container: "lax_counter", ledger: "0af"},
		"app:writer:{app:strict_counter#1@day@5}:0af": {kind: "strict", container: "strict_counter#1@day@5", shard: "#1", period: "day", start: "5", ledger: "0af"},
	} {
		want.name = name
		got, ok := parse("app", name)
		require.True(t, ok, name)
		require.Equal(t, want, got)
	}
	for _, other := range []string{"app:layout", "app:cleared:{app:lax_counter}", "apps:strict_counter", "app:env:strict_counter", "app:writer:{app:layout}:1"} {
		_, ok := parse("app", other)
		require.False(t, ok, other)
	}
}
