package bench

import (
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"
)

// handwrittenCounter is what people write for counting in memory: a sync.Map of
// atomics, and a ticker that pipelines what has gathered. Its keys are boxed
// beforehand, so that looking one up does not allocate.
type handwrittenCounter struct {
	env       *Env
	client    *redis.Client
	container string
	names     []any // strings
	cells     sync.Map
	put       func(pipe redis.Pipeliner, container, field string, n int64)

	flushing sync.Mutex
	failure  atomic.Pointer[error] // the ticker's
	stop     chan struct{}
	stopped  chan struct{}
}

func (c *handwrittenCounter) Count(key int) error {
	cell, ok := c.cells.Load(c.names[key])
	if !ok {
		cell, _ = c.cells.LoadOrStore(c.names[key], new(atomic.Int64))
	}
	cell.(*atomic.Int64).Add(1)
	return nil
}

// Add is Count: there is no reply to do without.
func (c *handwrittenCounter) Add(key int) error { return c.Count(key) }

// handwrittenPipeline is how many commands go into one pipeline, the best of
// what was tried: fewer mean more round trips, more make the server and the
// client take turns.
const handwrittenPipeline = 5000

func (c *handwrittenCounter) flush() error {
	c.flushing.Lock()
	defer c.flushing.Unlock()
	pipe := c.client.Pipeline()
	var err error
	exec := func() bool {
		_, err = pipe.Exec(background)
		return err == nil
	}
	c.cells.Range(func(name, cell any) bool {
		if n := cell.(*atomic.Int64).Swap(0); n != 0 {
			c.put(pipe, c.container, name.(string), n)
		}
		return pipe.Len() < handwrittenPipeline || exec()
	})
	if err == nil && pipe.Len() > 0 {
		exec()
	}
	return err
}

func (c *handwrittenCounter) tick(every time.Duration) {
	defer close(c.stopped)
	ticker := time.NewTicker(every)
	defer ticker.Stop()
	for {
		select {
		case <-c.stop:
			return
		case <-ticker.C:
			if err := c.flush(); err != nil {
				c.failure.Store(&err)
			}
		}
	}
}

func (c *handwrittenCounter) Settle() error {
	if err := c.failure.Load(); err != nil {
		return *err
	}
	return c.flush()
}

func (c *handwrittenCounter) Total() (int64, error) { return c.env.sum(background, c.container) }

func (c *handwrittenCounter) Close() error {
	close(c.stop)
	<-c.stopped
	return errors.Join(c.flush(), c.env.remove(background, c.container), c.client.Close())
}

// flushHincrby writes a delta with one HINCRBY.
func flushHincrby(pipe redis.Pipeliner, container, field string, n int64) {
	pipe.HIncrBy(background, container, field, n)
}

// flushEvalsha writes a delta with one EVALSHA, as one does who has a script
// for one counter.
func flushEvalsha(pipe redis.Pipeliner, container, field string, n int64) {
	pipe.EvalSha(background, incrementScript.Hash(), []string{container}, field, n)
}

func handwritten(name string, every time.Duration, put func(redis.Pipeliner, string, string, int64)) Contestant {
	return contestant{name, losesDoubles, func(env *Env, n int) (Counter, error) {
		c := &handwrittenCounter{
			env: env, client: env.client(), container: env.prefix() + ":counter", put: put,
			stop: make(chan struct{}), stopped: make(chan struct{}),
		}
		for _, name := range names(n) {
			c.names = append(c.names, name)
		}
		if err := incrementScript.Load(background, c.client).Err(); err != nil {
			return nil, errors.Join(err, c.client.Close())
		}
		go c.tick(every)
		return c, nil
	}}
}
