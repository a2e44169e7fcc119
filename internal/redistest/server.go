package redistest

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"
)

// Server is a Redis server process of a test's own.
type Server struct {
	Addr string // host:port on the loopback interface

	binary string
	args   []string
	log    string
	cmd    *exec.Cmd
	exited chan struct{}
}

// Start starts a server, with further command line arguments, and stops it
// when the test ends. The first argument may be a file of settings, as a
// Sentinel needs one. Without a server on PATH (the shared Redis may be
// elsewhere, or in Docker) the test is skipped.
func Start(t testing.TB, args ...string) *Server {
	t.Helper()
	s, err := begin(t, args...)
	require.NoError(t, err)
	return s
}

// StartTLS starts a server that takes TLS on a second port, addr, with a
// certificate and its key from files. If the server was built without TLS, the
// test is skipped.
func StartTLS(t testing.TB, certificate, key string) (s *Server, addr string) {
	t.Helper()
	port, err := freePort()
	require.NoError(t, err)
	s, err = begin(t, "--tls-port", strconv.Itoa(port), "--tls-auth-clients", "no",
		"--tls-cert-file", certificate, "--tls-key-file", key, "--tls-ca-cert-file", certificate)
	for _, refusal := range []string{"Bad directive", "Failed finding TLS support"} {
		if err != nil && strings.Contains(err.Error(), refusal) {
			t.Skip("this server was built without TLS")
		}
	}
	require.NoError(t, err)
	return s, net.JoinHostPort("127.0.0.1", strconv.Itoa(port))
}

// begin starts a server for a test, or says why it did not start.
func begin(t testing.TB, args ...string) (s *Server, err error) {
	t.Helper()
	if _, err := lookServer(); err != nil {
		t.Skipf("this test needs a Redis server of its own to treat badly, and %v", err)
	}
	for range 5 { // somebody may take the port, or that of the cluster's bus, before the server does
		if s, err = start(t.TempDir(), args...); err == nil || !strings.Contains(err.Error(), "Address already in use") {
			break
		}
	}
	if err == nil {
		t.Cleanup(s.stop)
	}
	return s, err
}

// Durable makes Start's server keep every acknowledged write through a SIGKILL.
var Durable = []string{"--appendonly", "yes", "--appendfsync", "always"}

func start(dir string, args ...string) (*Server, error) {
	binary, err := lookServer()
	if err != nil {
		return nil, err
	}
	port, err := freePort()
	if err != nil {
		return nil, err
	}
	dir, err = os.MkdirTemp(dir, "redis")
	if err != nil {
		return nil, err
	}
	s := &Server{
		Addr:   net.JoinHostPort("127.0.0.1", strconv.Itoa(port)),
		binary: binary,
		log:    filepath.Join(dir, "log"),
	}
	s.args = append(slices.Clone(args),
		"--port", strconv.Itoa(port), "--bind", "127.0.0.1", "--dir", dir, "--logfile", s.log,
		"--save", "")
	return s, s.launch()
}

// running holds the processes that have not ended: process id -> *os.Process.
var running sync.Map

// stopAll ends them, paused ones too, when the tests are interrupted.
func stopAll() {
	running.Range(func(_, process any) bool {
		_ = process.(*os.Process).Kill()
		return true
	})
}

func lookServer() (string, error) {
	for _, name := range []string{"redis-server", "valkey-server"} {
		if path, err := exec.LookPath(name); err == nil {
			return path, nil
		}
	}
	return "", errors.New("neither redis-server nor valkey-server is on PATH")
}

// maxPort is the last port that a cluster's node can have: its bus takes the one
// 10,000 above.
const maxPort = 65535 - 10000

func freePort() (int, error) {
	for {
		listener, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return 0, err
		}
		defer func() { _ = listener.Close() }() // not before: else it is given again
		if port := listener.Addr().(*net.TCPAddr).Port; port <= maxPort {
			return port, nil
		}
	}
}

// launch starts the process and waits until it serves.
func (s *Server) launch() error {
	log, err := os.OpenFile(s.log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	s.cmd = exec.Command(s.binary, s.args...)
	s.cmd.Stderr = log // what it says before it opens the log itself
	err = s.cmd.Start()
	_ = log.Close() // the process has its own
	if err != nil {
		return err
	}
	s.exited = make(chan struct{})
	running.Store(s.cmd.Process.Pid, s.cmd.Process)
	go func(cmd *exec.Cmd, exited chan struct{}) {
		_ = cmd.Wait()
		running.Delete(cmd.Process.Pid)
		close(exited)
	}(s.cmd, s.exited)

	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	client := redis.NewClient(&redis.Options{Addr: s.Addr, MaxRetries: -1})
	defer func() { _ = client.Close() }()
	pause := time.NewTicker(10 * time.Millisecond)
	defer pause.Stop()
	for {
		err := client.Ping(ctx).Err()
		if err == nil || redis.HasErrorPrefix(err, "NOAUTH") {
			return nil
		}
		select {
		case <-s.exited:
			text, _ := os.ReadFile(s.log)
			return fmt.Errorf("%s %v ended at once: %s", s.binary, s.args, text)
		case <-ctx.Done():
			s.stop()
			return fmt.Errorf("%s did not serve in time: %w", s.binary, err)
		case <-pause.C:
		}
	}
}

// Kill ends the process with SIGKILL and waits until it is gone.
func (s *Server) Kill(t testing.TB) {
	t.Helper()
	require.NoError(t, s.cmd.Process.Kill())
	<-s.exited
}

// Restart starts a killed server again, on the same port and data.
func (s *Server) Restart(t testing.TB) {
	t.Helper()
	require.NoError(t, s.launch())
}

// Pause stops the process as it is (SIGSTOP): connections stay, nothing answers.
func (s *Server) Pause(t testing.TB) {
	t.Helper()
	require.NoError(t, s.cmd.Process.Signal(syscall.SIGSTOP))
}

// Resume lets a paused process go on.
func (s *Server) Resume(t testing.TB) {
	t.Helper()
	require.NoError(t, s.cmd.Process.Signal(syscall.SIGCONT))
}

func (s *Server) stop() {
	_ = s.cmd.Process.Kill() // it may be gone already
	<-s.exited
	_ = os.RemoveAll(filepath.Dir(s.log))
}

// AwaitCluster makes a cluster of one node, and waits until it is whole.
func AwaitCluster(t testing.TB, node *redis.Client) {
	t.Helper()
	ctx := t.Context()
	require.NoError(t, node.ClusterAddSlotsRange(ctx, 0, 16383).Err())
	require.Eventually(t, func() bool {
		return node.Set(ctx, "probe", 1, 0).Err() == nil
	}, 20*time.Second, 10*time.Millisecond, "the cluster takes a moment to be whole")
}
