package bench

import (
	"errors"
	"log/slog"
	"time"

	"github.com/distkit/distkit-go"
	"github.com/redis/go-redis/v9"
)

// distkitBase is what distkit's counters share.
type distkitBase struct {
	env       *Env
	client    *redis.Client
	system    *distkit.System
	container string
	keys      []distkit.Key
}

// startDistkit makes a System on a prefix of its own; kind is "strict" or "lax".
func startDistkit(env *Env, kind string, n int, options ...distkit.Option) (distkitBase, error) {
	b := distkitBase{env: env, client: env.client()}
	prefix := env.prefix()
	b.container = prefix + ":" + kind + "_counter"
	for _, name := range names(n) {
		b.keys = append(b.keys, distkit.MustKey(name))
	}
	var err error
	b.system, err = distkit.NewSystem(b.client, append(options,
		distkit.WithPrefix(distkit.MustKey(prefix)), distkit.WithLogger(slog.New(slog.DiscardHandler)))...)
	if err != nil {
		return b, errors.Join(err, b.client.Close())
	}
	return b, nil
}

func (b *distkitBase) Settle() error         { return b.system.Flush(background) }
func (b *distkitBase) Total() (int64, error) { return b.env.sum(background, b.container) }

func (b *distkitBase) Close() error {
	return errors.Join(b.system.Shutdown(background), b.env.remove(background, b.container), b.client.Close())
}

type strictInc struct {
	distkitBase
	counter *distkit.StrictCounter
}

func (c *strictInc) Settle() error { return nil }

func (c *strictInc) Count(key int) error {
	_, err := c.counter.Inc(background, c.keys[key], 1)
	return err
}

func distkitStrict() Contestant {
	return contestant{"distkit", "", func(env *Env, n int) (Counter, error) {
		base, err := startDistkit(env, "strict", n)
		if err != nil {
			return nil, err
		}
		return &strictInc{base, base.system.Strict()}, nil
	}}
}

type laxAdd struct {
	distkitBase
	counter *distkit.LaxCounter
}

func (c *laxAdd) Count(key int) error { return c.counter.Add(c.keys[key], 1) }

func distkitAdd(lag time.Duration) Contestant {
	return contestant{"distkit-add", "", func(env *Env, n int) (Counter, error) {
		base, err := startDistkit(env, "lax", n, distkit.WithAllowedLag(lag))
		if err != nil {
			return nil, err
		}
		return &laxAdd{base, base.system.Lax()}, nil
	}}
}

type laxSend struct {
	distkitBase
	pids []distkit.PID
}

func (c *laxSend) Count(key int) error {
	c.pids[key].Send(distkit.Inc{N: 1})
	return nil
}

func distkitSend() Contestant {
	return contestant{"distkit-send", "", func(env *Env, n int) (Counter, error) {
		base, err := startDistkit(env, "lax", n)
		if err != nil {
			return nil, err
		}
		c := &laxSend{distkitBase: base}
		for _, key := range base.keys {
			c.pids = append(c.pids, base.system.Lax().PID(key))
		}
		return c, nil
	}}
}

// laxInc counts with replies; its Add is for keys that are only to be dirty.
type laxInc struct {
	distkitBase
	counter *distkit.LaxCounter
}

func (c *laxInc) Count(key int) error {
	_, err := c.counter.Inc(background, c.keys[key], 1)
	return err
}

func (c *laxInc) Add(key int) error { return c.counter.Add(c.keys[key], 1) }

func distkitInc() Contestant {
	return contestant{"distkit-inc", "", func(env *Env, n int) (Counter, error) {
		base, err := startDistkit(env, "lax", n)
		if err != nil {
			return nil, err
		}
		return &laxInc{base, base.system.Lax()}, nil
	}}
}
