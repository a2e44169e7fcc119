package main

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/distkit/distkit-go/internal/line"
	"github.com/redis/go-redis/v9"
)

// server is the Redis of a run: embedded, or the one REDIS_URL names. The
// library reaches it by the line, which can be cut for the library alone, in the
// same way for either; the demo's own checks go by direct, a plain go-redis
// client that never loses it.
type server struct {
	name     string
	direct   *redis.Client
	line     line.Line
	embedded *miniredis.Miniredis // nil with REDIS_URL
	prefix   string
}

// openServer connects, and makes sure that the prefix is nobody else's.
func openServer(ctx context.Context, cfg config) (*server, error) {
	s := &server{prefix: cfg.prefix.String()}
	opts, err := s.options(cfg.redisURL)
	if err != nil {
		return nil, err
	}
	opts.DialerRetries = 1 // the progress is not to hang on a server that died
	s.direct = redis.NewClient(opts)
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	used, err := s.direct.Exists(ctx, s.hash("strict"), s.hash("lax")).Result()
	switch {
	case err != nil:
		err = fmt.Errorf("reach %s: %w", s.name, err)
	case used > 0:
		err = fmt.Errorf("there are counters under the prefix %q in %s already; choose another -prefix", s.prefix, s.name)
	}
	if err != nil {
		s.close()
		return nil, err
	}
	return s, nil
}

// options says how to reach the server, which it starts if it is the embedded one.
func (s *server) options(url string) (*redis.Options, error) {
	if url != "" {
		opts, err := redis.ParseURL(url)
		if err != nil {
			return nil, fmt.Errorf("read REDIS_URL: %w", err)
		}
		s.name = "Redis at " + opts.Addr
		return opts, nil
	}
	s.name = "embedded miniredis"
	s.embedded = miniredis.NewMiniRedis()
	if err := s.embedded.StartAddr("127.0.0.1:0"); err != nil {
		return nil, fmt.Errorf("start the embedded server: %w", err)
	}
	return &redis.Options{Network: "tcp", Addr: s.embedded.Addr()}, nil
}

// led is a new client by the line, for the library.
func (s *server) led() *redis.Client { return redis.NewClient(s.line.Lead(*s.direct.Options())) }

// hash is the name of the Redis hash that holds the counters of a kind.
func (s *server) hash(kind string) string { return s.prefix + ":" + kind + "_counter" }

// read asks Redis itself for a counter, by HGET; one that is not there is 0.
func (s *server) read(ctx context.Context, kind, counter string) (int64, error) {
	text, err := s.direct.HGet(ctx, s.hash(kind), counter).Result()
	if errors.Is(err, redis.Nil) {
		return 0, nil
	}
	if err != nil {
		return 0, fmt.Errorf("read %s %s: %w", s.hash(kind), counter, err)
	}
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil {
		return 0, fmt.Errorf("read %s %s: %w", s.hash(kind), counter, err)
	}
	return n, nil
}

// remove deletes the run's counters, and their layout. The writers' ledgers expire by
// themselves, a minute after the System's Shutdown.
func (s *server) remove(ctx context.Context) error {
	if err := s.direct.Del(ctx, s.hash("strict"), s.hash("lax"), s.prefix+":layout").Err(); err != nil {
		return fmt.Errorf("delete the demo's counters under %q: %w", s.prefix, err)
	}
	return nil
}

func (s *server) close() {
	_ = s.direct.Close() // nothing of interest can be left on it
	if s.embedded != nil {
		s.embedded.Close()
	}
}
