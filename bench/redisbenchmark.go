package bench

import (
	"bytes"
	"encoding/csv"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"strconv"
	"time"

	"github.com/distkit/distkit-go/bench/report"
)

// redis-benchmark with pipelined HINCRBY stands for what the server can do: it
// is C, prepares its commands beforehand and does not look at the replies.
const serverPipeline = 500 // commands a round trip, about distkit's increments a script

// ErrSkipped says that something cannot be measured here, and why.
var ErrSkipped = errors.New("skipped")

// measureServer has redis-benchmark increment fields at random, over so many
// connections, for the time and for at least keys increments.
func measureServer(env *Env, connections, keys int, d time.Duration) (figures map[string]float64, err error) {
	if env.Options.TLSConfig != nil {
		return nil, fmt.Errorf("%w: redis-benchmark is not given the TLS configuration", ErrSkipped)
	}
	host, port, err := net.SplitHostPort(env.Options.Addr)
	if err != nil {
		return nil, err
	}
	container := env.prefix() + ":counter"
	defer func() { err = errors.Join(err, env.remove(background, container)) }()
	run := func(requests int) (float64, error) {
		args := []string{"-h", host, "-p", port, "--dbnum", strconv.Itoa(env.Options.DB), "--csv",
			"-n", strconv.Itoa(requests), "-r", strconv.Itoa(keys),
			"-P", strconv.Itoa(serverPipeline), "-c", strconv.Itoa(connections)}
		if env.Options.Username != "" {
			args = append(args, "--user", env.Options.Username)
		}
		command := exec.Command("redis-benchmark", append(args, "HINCRBY", container, "__rand_int__", "1")...)
		command.Env = append(os.Environ(), "REDISCLI_AUTH="+env.Options.Password)
		output, err := command.Output()
		if errors.Is(err, exec.ErrNotFound) {
			return 0, fmt.Errorf("%w: redis-benchmark is not on PATH", ErrSkipped)
		}
		if err != nil {
			return 0, fmt.Errorf("%s: %w", command, err)
		}
		return parseRate(output)
	}
	// The first, of mostly new keys, tells how many fit into the time.
	rate, err := run(keys)
	if err != nil {
		return nil, err
	}
	round := serverPipeline * connections
	requests := max(int(rate*d.Seconds()), keys) / round * round
	if rate, err = run(requests); err != nil {
		return nil, err
	}
	total, err := env.sum(background, container)
	if err != nil {
		return nil, err
	}
	// It counts replies, and may have more pipelines under way when it has enough.
	if least := int64(keys + requests); total < least || total > least+int64(2*round) {
		return nil, fmt.Errorf("redis-benchmark was to count %d, but the counters hold %d", least, total)
	}
	return map[string]float64{report.Throughput: rate}, nil
}

// parseRate reads the requests a second from the output of redis-benchmark
// --csv: "test","rps",…, after a line of headings since Redis 6.2.
func parseRate(output []byte) (float64, error) {
	lines := csv.NewReader(bytes.NewReader(output))
	lines.FieldsPerRecord = -1
	records, err := lines.ReadAll()
	if err != nil {
		return 0, fmt.Errorf("redis-benchmark's output: %w", err)
	}
	if len(records) == 0 || len(records[len(records)-1]) < 2 {
		return 0, fmt.Errorf("redis-benchmark's output has no rate: %q", output)
	}
	rate, err := strconv.ParseFloat(records[len(records)-1][1], 64)
	if err != nil || rate <= 0 {
		return 0, fmt.Errorf("redis-benchmark's output has no rate: %q", output)
	}
	return rate, nil
}
