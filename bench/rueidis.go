package bench

import (
	"time"

	"github.com/redis/rueidis"
)

// rueidisCounter runs the script with rueidis, which pipelines the calls of
// concurrent callers by itself over its default of four connections.
type rueidisCounter struct {
	env       *Env
	client    rueidis.Client
	script    *rueidis.Lua
	container []string
	args      [][]string
}

func (c *rueidisCounter) Count(key int) error {
	_, err := c.script.Exec(background, c.client, c.container, c.args[key]).AsInt64()
	return err
}

func (c *rueidisCounter) Settle() error         { return nil }
func (c *rueidisCounter) Total() (int64, error) { return c.env.sum(background, c.container[0]) }

func (c *rueidisCounter) Close() error {
	c.client.Close()
	return c.env.remove(background, c.container[0])
}

// rueidisScript is rueidis as it comes, or, under another name, with a pause
// after each write (MaxFlushDelay) in which more calls gather: more throughput
// at 256 callers and above, less at 64, later replies to few.
func rueidisScript(name string, pause time.Duration) Contestant {
	return contestant{name, twiceUnsafe, func(env *Env, n int) (Counter, error) {
		client, err := rueidis.NewClient(rueidis.ClientOption{
			InitAddress:       []string{env.Options.Addr},
			Username:          env.Options.Username,
			Password:          env.Options.Password,
			SelectDB:          env.Options.DB,
			TLSConfig:         env.Options.TLSConfig,
			ForceSingleClient: true,
			DisableCache:      true, // nothing is read
			MaxFlushDelay:     pause,
		})
		if err != nil {
			return nil, err
		}
		c := &rueidisCounter{
			env: env, client: client, script: rueidis.NewLuaScript(script), container: []string{env.prefix() + ":counter"},
		}
		for _, name := range names(n) {
			c.args = append(c.args, []string{name, "1"})
		}
		return c, nil
	}}
}
