package bench

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"strings"

	"github.com/redis/go-redis/v9"
)

// Env is the Redis of a run.
type Env struct {
	Options *redis.Options // how to reach it
	admin   *redis.Client  // for looking, beside what is measured

	clusters map[int]*cluster // that it has started, by their masters
}

// ErrNoRedis says that REDIS_URL is not set.
var ErrNoRedis = errors.New("REDIS_URL is not set; make bench starts a Redis and sets it")

// NewEnv connects to the Redis at REDIS_URL.
func NewEnv(ctx context.Context) (*Env, error) {
	url := os.Getenv("REDIS_URL")
	if url == "" {
		return nil, ErrNoRedis
	}
	options, err := redis.ParseURL(url)
	if err != nil {
		return nil, fmt.Errorf("REDIS_URL: %w", err)
	}
	env := &Env{Options: options}
	env.admin = env.client()
	if err := env.admin.Ping(ctx).Err(); err != nil {
		return nil, errors.Join(err, env.Close())
	}
	return env, nil
}

// Close closes what NewEnv opened, and what was started since.
func (e *Env) Close() error {
	err := e.admin.Close()
	for _, c := range e.clusters {
		err = errors.Join(err, c.stop())
	}
	return err
}

// client is go-redis as it comes, for one contestant.
func (e *Env) client() *redis.Client {
	options := *e.Options
	return redis.NewClient(&options)
}

// prefix names what one measurement writes.
func (e *Env) prefix() string { return fmt.Sprintf("bench-%016x", rand.Uint64()) }

// sum is what the fields of a hash of counters add up to.
func (e *Env) sum(ctx context.Context, container string) (int64, error) {
	return sumOf(ctx, e.admin, container)
}

func sumOf(ctx context.Context, client redis.UniversalClient, container string) (int64, error) {
	values, err := client.HVals(ctx, container).Result()
	if err != nil {
		return 0, err
	}
	var total int64
	for _, value := range values {
		n, err := strconv.ParseInt(value, 10, 64)
		if err != nil {
			return 0, err
		}
		total += n
	}
	return total, nil
}

// remove deletes a container; a large one, without making the server wait.
func (e *Env) remove(ctx context.Context, container string) error {
	return e.admin.Unlink(ctx, container).Err()
}

// RedisVersion asks the server.
func (e *Env) RedisVersion(ctx context.Context) (string, error) {
	info, err := e.admin.Info(ctx, "server").Result()
	if err != nil {
		return "", err
	}
	for line := range strings.Lines(info) {
		if version, ok := strings.CutPrefix(strings.TrimSpace(line), "redis_version:"); ok {
			return version, nil
		}
	}
	return "", nil
}

// commands is how many commands the server has handled, INFO left out.
func (e *Env) commands(ctx context.Context) (int64, error) {
	info, err := e.admin.Info(ctx, "commandstats").Result()
	if err != nil {
		return 0, err
	}
	return countCommands(info)
}

// countCommands adds up the calls in "cmdstat_NAME:calls=N,…" lines.
func countCommands(info string) (int64, error) {
	var total int64
	for line := range strings.Lines(info) {
		name, rest, ok := strings.Cut(strings.TrimSpace(line), ":calls=")
		if !ok || name == "cmdstat_info" {
			continue
		}
		calls, _, _ := strings.Cut(rest, ",")
		n, err := strconv.ParseInt(calls, 10, 64)
		if err != nil {
			return 0, err
		}
		total += n
	}
	return total, nil
}

// names are n keys of 12 bytes each, which is what redis-benchmark makes too.
func names(n int) []string {
	out := make([]string, n)
	for i := range out {
		out[i] = fmt.Sprintf("%012d", i)
	}
	return out
}
