package bench

import (
	"errors"

	"github.com/redis/go-redis/v9"
)

// script is the least one would write, to keep what it returns and costs the
// same for all who run it. KEYS[1] is the hash, ARGV[1] the field.
const script = "return redis.call('HINCRBY', KEYS[1], ARGV[1], ARGV[2])"

var incrementScript = redis.NewScript(script)

// goredis counts with one command an increment, on go-redis's default pool of
// 10 connections a core.
type goredis struct {
	env       *Env
	client    *redis.Client
	pipeline  *redis.AutoPipeliner // nil without
	container string
	names     []string
	count     func(c *goredis, field string) error
}

func (c *goredis) Count(key int) error   { return c.count(c, c.names[key]) }
func (c *goredis) Settle() error         { return nil }
func (c *goredis) Total() (int64, error) { return c.env.sum(background, c.container) }

func (c *goredis) Close() error {
	var err error
	if c.pipeline != nil {
		err = c.pipeline.Close()
	}
	return errors.Join(err, c.env.remove(background, c.container), c.client.Close())
}

func startGoredis(env *Env, n int, count func(*goredis, string) error) *goredis {
	return &goredis{env: env, client: env.client(), container: env.prefix() + ":counter", names: names(n), count: count}
}

func goredisScript() Contestant {
	run := func(c *goredis, field string) error {
		return incrementScript.Run(background, c.client, []string{c.container}, field, 1).Err()
	}
	return contestant{"goredis-script", twice, func(env *Env, n int) (Counter, error) {
		return startGoredis(env, n, run), nil
	}}
}

func goredisHincrby() Contestant {
	hincrby := func(c *goredis, field string) error {
		return c.client.HIncrBy(background, c.container, field, 1).Err()
	}
	return contestant{"goredis-hincrby", twice + "; no conditions", func(env *Env, n int) (Counter, error) {
		return startGoredis(env, n, hincrby), nil
	}}
}

// goredisAutoPipeline runs EVALSHA of the script through go-redis's blocking
// autopipeline, as that comes, in half or in full duplex.
func goredisAutoPipeline(fullDuplex bool) Contestant {
	name := "goredis-autopipeline-half"
	if fullDuplex {
		name = "goredis-autopipeline-full"
	}
	evalsha := func(c *goredis, field string) error {
		return incrementScript.EvalSha(background, c.pipeline, []string{c.container}, field, 1).Err()
	}
	return contestant{name, twice, func(env *Env, n int) (Counter, error) {
		c := startGoredis(env, n, evalsha)
		options := redis.DefaultBlockingAutoPipelineOptions()
		options.FullDuplex = fullDuplex
		pipeline, err := c.client.AutoPipelineWithOptions(options)
		if err != nil {
			return nil, errors.Join(err, c.Close())
		}
		c.pipeline = pipeline
		if err := incrementScript.Load(background, c.client).Err(); err != nil {
			return nil, errors.Join(err, c.Close())
		}
		return c, nil
	}}
}
