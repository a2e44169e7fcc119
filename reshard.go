package distkit

import (
	"context"
	"errors"
	"fmt"

	"github.com/distkit/distkit-go/internal/redisio"
	"github.com/distkit/distkit-go/internal/reshard"
	"github.com/redis/go-redis/v9"
)

// ReshardConfig says what Reshard is to do.
type ReshardConfig struct {
	// Prefix is that of the counters, as in WithPrefix. Default: "distkit".
	Prefix Key
	// Shards is the number that there are to be, as in WithShards.
	Shards int
	// Progress is called now and then with what was done so far, one call at a time. It
	// may be nil.
	Progress func(ReshardReport)
}

// ReshardReport is what a Reshard has done.
type ReshardReport struct {
	// From and To are the numbers of shards before and after it.
	From, To int
	// Resumed says that an earlier Reshard had been broken off; From is that before it.
	Resumed bool
	// Copied is how many counters this call has copied to another shard, those of windows
	// included, and Moved how many of them it has then deleted where they were.
	Copied, Moved int64
	// Outcomes is how many outcomes of transactions it has copied. One is copied to all
	// shards, since it does not tell its keys.
	Outcomes int64
}

// Reshard moves the counters of a prefix, with their windows and the outcomes of their
// transactions, to another number of shards. Nobody may count on them meanwhile: shut all
// Systems of the prefix down first, since one that runs does not look at the layout again.
// Systems made before it has ended fail with ErrLayout; those made after it are given the
// new number.
//
// Every counter keeps its value, exactly. If it ends with an error, or the process is
// killed, at whatever point, call it again: it goes on, also to yet another number. One
// that is still running then stops at its next step, so make sure that it has ended. Until
// it has ended a counter that moves takes its memory twice. It refuses to go on where a
// counter has one value on one shard and another on another, which Systems of two
// layouts that counted at the same time have left. In a Redis Cluster no slots may be
// moved meanwhile.
func Reshard(ctx context.Context, client redis.UniversalClient, cfg ReshardConfig) (ReshardReport, error) {
	var errs []error
	if cfg.Prefix == (Key{}) {
		cfg.Prefix = defaults().prefix
	}
	if ctx == nil {
		errs = append(errs, errNilContext)
	}
	if err := checkClient(client); err != nil {
		errs = append(errs, err)
	}
	if err := redisio.CheckPrefix(cfg.Prefix.name); err != nil {
		errs = append(errs, err)
	}
	if cfg.Shards < 1 || cfg.Shards > redisio.MaxShards {
		errs = append(errs, fmt.Errorf("%d shards are not 1 to %d", cfg.Shards, redisio.MaxShards))
	}
	if len(errs) > 0 {
		return ReshardReport{}, fmt.Errorf("distkit: reshard: %w", errors.Join(errs...))
	}
	m := &reshard.Mover{Client: client, Prefix: cfg.Prefix.name, To: cfg.Shards}
	if cfg.Progress != nil {
		m.Progress = func(r reshard.Report) { cfg.Progress(ReshardReport(r)) }
	}
	report, err := m.Run(ctx)
	if err != nil {
		err = fmt.Errorf("distkit: reshard %q to %d shards: %w", cfg.Prefix, cfg.Shards, err)
	}
	return ReshardReport(report), err
}
