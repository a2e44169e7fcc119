// The ways in which TestServerFaults treats a Redis badly that keeps its data.
package faults_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/distkit/distkit-go/internal/redistest"
	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"
)

// serverVictim is the Redis that is treated badly, and the hand that does it.
type serverVictim struct {
	t      testing.TB
	ctx    context.Context
	server *redistest.Server
	admin  *redis.Client
	rng    *rand.Rand

	delsOverFull bool // Redis 7 and later take a Del when memory is full
}

// serverFaults lists them. Each returns when it is over; some hold a state for
// a random time, sometimes shorter and sometimes longer than the client's
// patience of 250 ms, so that calls end in all the ways in which they can.
var serverFaults = []struct {
	name    string
	inflict func(*serverVictim)
}{
	{"kill and restart", (*serverVictim).killed},
	{"SCRIPT FLUSH", (*serverVictim).scriptsFlushed},
	{"CLIENT KILL", (*serverVictim).clientsKilled},
	{"CLIENT PAUSE", (*serverVictim).clientsPaused},
	{"DEBUG SLEEP", (*serverVictim).asleep},
	{"out of memory", (*serverVictim).outOfMemory},
	{"REPLICAOF", (*serverVictim).readOnly},
	{"min-replicas-to-write", (*serverVictim).withoutReplicas},
	{"a script that does not end", (*serverVictim).busy},
	{"SIGSTOP", (*serverVictim).stopped},
}

// startServerVictim starts a durable server that allows DEBUG, which Redis 7
// and later do only when asked, with an argument that older ones do not know.
func startServerVictim(ctx context.Context, t testing.TB, rng *rand.Rand) *serverVictim {
	t.Helper()
	probe := redistest.Start(t)
	info, err := serverAdmin(t, probe.Addr).Info(ctx, "server").Result()
	require.NoError(t, err)
	args := redistest.Durable
	_, version, _ := strings.Cut(info, "redis_version:")
	seven := version[0] >= '7'
	if seven {
		args = append([]string{"--enable-debug-command", "yes"}, args...)
	}
	probe.Kill(t)
	server := redistest.Start(t, args...)
	return &serverVictim{t: t, ctx: ctx, server: server, admin: serverAdmin(t, server.Addr), rng: rng, delsOverFull: seven}
}

// some is a random time between the two.
func (v *serverVictim) some(least, most time.Duration) time.Duration {
	return least + time.Duration(v.rng.Int64N(int64(most-least)))
}

func (v *serverVictim) do(args ...any) {
	v.t.Helper()
	require.NoError(v.t, v.admin.Do(v.ctx, args...).Err(), "%v", args)
}

// hold keeps a state for a while; now and then something else happens in it.
func (v *serverVictim) hold(d time.Duration) {
	v.t.Helper()
	time.Sleep(d / 2)
	switch v.rng.IntN(4) {
	case 0:
		v.scriptsFlushed()
	case 1:
		v.clientsKilled()
	}
	time.Sleep(d / 2)
}

func (v *serverVictim) killed() {
	v.t.Helper()
	v.server.Kill(v.t)
	time.Sleep(v.some(0, 150*time.Millisecond))
	v.server.Restart(v.t)
}

// repeat does something a few times, at intervals in which batches go through.
func (v *serverVictim) repeat(args ...any) {
	v.t.Helper()
	for range 1 + v.rng.IntN(20) {
		v.do(args...)
		time.Sleep(v.some(0, 3*time.Millisecond))
	}
}

func (v *serverVictim) scriptsFlushed() { v.t.Helper(); v.repeat("SCRIPT", "FLUSH") }

func (v *serverVictim) clientsKilled() {
	v.t.Helper()
	v.repeat("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
}

// clientsPaused pauses writes only, half of the time; reads then go on.
func (v *serverVictim) clientsPaused() {
	v.t.Helper()
	d := v.some(20*time.Millisecond, 500*time.Millisecond)
	args := []any{"CLIENT", "PAUSE", d.Milliseconds()}
	if v.rng.IntN(2) == 0 && v.knows("CLIENT PAUSE 0 WRITE") {
		args = append(args, "WRITE")
	}
	v.do(args...)
	time.Sleep(d)
}

// knows reports whether the server takes a command, which it carries out:
// Redis 5 and 6.0 know less than the others.
func (v *serverVictim) knows(command string) bool {
	fields := strings.Fields(command)
	args := make([]any, len(fields))
	for i, field := range fields {
		args[i] = field
	}
	return v.admin.Do(v.ctx, args...).Err() == nil
}

func (v *serverVictim) asleep() {
	v.t.Helper()
	v.do("DEBUG", "SLEEP", fmt.Sprintf("%.3f", v.some(20*time.Millisecond, 500*time.Millisecond).Seconds()))
}

// outOfMemory lets nothing in that needs memory; noeviction is the default.
func (v *serverVictim) outOfMemory() {
	v.t.Helper()
	v.do("CONFIG", "SET", "maxmemory", "1")
	v.hold(v.some(20*time.Millisecond, 200*time.Millisecond))
	v.do("CONFIG", "SET", "maxmemory", "0")
}

// readOnly makes it the replica of nobody, which keeps its data.
func (v *serverVictim) readOnly() {
	v.t.Helper()
	v.do("REPLICAOF", "127.0.0.1", "1")
	v.hold(v.some(20*time.Millisecond, 200*time.Millisecond))
	v.do("REPLICAOF", "NO", "ONE")
}

func (v *serverVictim) withoutReplicas() {
	v.t.Helper()
	v.do("CONFIG", "SET", "min-replicas-to-write", "1")
	v.hold(v.some(20*time.Millisecond, 200*time.Millisecond))
	v.do("CONFIG", "SET", "min-replicas-to-write", "0")
}

// busy occupies Redis with somebody else's script, which it interrupts to say
// BUSY to everybody else.
func (v *serverVictim) busy() {
	v.t.Helper()
	v.do("CONFIG", "SET", "lua-time-limit", "5")
	ended := make(chan error, 1)
	go func() { ended <- v.admin.Eval(v.ctx, "while true do end", nil).Err() }()
	time.Sleep(v.some(20*time.Millisecond, 300*time.Millisecond))
	for { // it may not have begun, and it takes no kill before its limit
		select {
		case err := <-ended:
			require.ErrorContains(v.t, err, "killed")
			return
		case <-v.ctx.Done():
			require.NoError(v.t, v.ctx.Err())
		default:
			_ = v.admin.ScriptKill(v.ctx).Err()
		}
	}
}

func (v *serverVictim) stopped() {
	v.t.Helper()
	v.server.Pause(v.t)
	time.Sleep(v.some(20*time.Millisecond, 500*time.Millisecond))
	v.server.Resume(v.t)
}
