package bench

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
)

// A Redis Cluster of a run's own: masters without replicas, on this machine.

// cluster is so many masters, with the slots shared out evenly.
type cluster struct {
	addrs   []string
	servers []*exec.Cmd
	dir     string
}

const (
	clusterServer = "redis-server"
	slots         = 16384 // of a cluster
	busOffset     = 10000 // from a node's port to that of its bus
)

// cluster starts a cluster of so many masters, or returns the one that there is.
func (e *Env) cluster(masters int) (*cluster, error) {
	if c := e.clusters[masters]; c != nil {
		return c, nil
	}
	c, err := startCluster(masters)
	if err != nil {
		return nil, fmt.Errorf("start a cluster of %d masters: %w", masters, errors.Join(err, c.stop()))
	}
	if e.clusters == nil {
		e.clusters = map[int]*cluster{}
	}
	e.clusters[masters] = c
	return c, nil
}

func startCluster(masters int) (*cluster, error) {
	c := &cluster{}
	var err error
	if c.dir, err = os.MkdirTemp("", "bench-cluster"); err != nil {
		return c, err
	}
	for i := range masters {
		if err := c.start(i); err != nil {
			return c, err
		}
	}
	ctx, cancel := context.WithTimeout(background, 30*time.Second)
	defer cancel()
	for i, addr := range c.addrs {
		if err := c.join(ctx, i, addr); err != nil {
			return c, err
		}
	}
	for _, addr := range c.addrs {
		if err := whole(ctx, addr, masters); err != nil {
			return c, err
		}
	}
	return c, nil
}

// start starts a server on a free port, which leaves room for that of the bus.
func (c *cluster) start(i int) error {
	var port int
	for port == 0 || port+busOffset > 65535 {
		listener, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return err
		}
		port = listener.Addr().(*net.TCPAddr).Port
		if err := listener.Close(); err != nil {
			return err
		}
	}
	server := exec.Command(clusterServer, "--port", strconv.Itoa(port), "--bind", "127.0.0.1",
		"--cluster-enabled", "yes", "--cluster-config-file", fmt.Sprintf("nodes-%d.conf", i),
		"--dir", c.dir, "--save", "", "--logfile", fmt.Sprintf("%d.log", i))
	if err := server.Start(); err != nil {
		return err
	}
	c.servers, c.addrs = append(c.servers, server), append(c.addrs, net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
	return nil
}

// join gives the i-th server its slots and has it meet the first.
func (c *cluster) join(ctx context.Context, i int, addr string) error {
	node := redis.NewClient(&redis.Options{Addr: addr, MaxRetries: 50}) // it may not have begun to listen
	defer func() { _ = node.Close() }()
	masters := len(c.addrs)
	if err := node.ClusterAddSlotsRange(ctx, slots*i/masters, slots*(i+1)/masters-1).Err(); err != nil {
		return err
	}
	// Else all have the same epoch, and sort that out for a while.
	if err := node.Do(ctx, "cluster", "set-config-epoch", i+1).Err(); err != nil || i == 0 {
		return err
	}
	host, port, err := net.SplitHostPort(c.addrs[0])
	if err != nil {
		return err
	}
	return node.ClusterMeet(ctx, host, port).Err()
}

// whole waits until a server knows of all, and that all slots are served.
func whole(ctx context.Context, addr string, masters int) error {
	node := redis.NewClient(&redis.Options{Addr: addr})
	defer func() { _ = node.Close() }()
	for {
		info, err := node.ClusterInfo(ctx).Result()
		if err != nil {
			return err
		}
		if strings.Contains(info, "cluster_state:ok") && strings.Contains(info, fmt.Sprintf("cluster_known_nodes:%d", masters)) {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("it is not whole: %s", info)
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// stop ends the servers.
func (c *cluster) stop() error {
	var err error
	for _, server := range c.servers {
		err = errors.Join(err, server.Process.Kill())
		_ = server.Wait() // it was killed
	}
	return errors.Join(err, os.RemoveAll(c.dir))
}

// client is go-redis as it comes, for one contestant.
func (c *cluster) client() redis.UniversalClient {
	return redis.NewClusterClient(&redis.ClusterOptions{Addrs: c.addrs})
}
