package faults_test

import (
	"context"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"
)

// rights are those of the Redis user of TestProxy's load, who loses and gets back one
// now and then.
type rights struct {
	admin          *redis.Client
	user, password string
	withdrawn      int // times
}

// rightsInDanger are commands that the engine needs, itself or in its script before it
// writes: without one a call fails at once, not applied.
var rightsInDanger = []string{"evalsha", "set", "getrange", "hmget"}

func newRights(t *testing.T, admin *redis.Client, user string) *rights {
	t.Helper()
	r := &rights{admin: admin, user: user, password: "p"}
	ctx := context.Background()
	require.NoError(t, admin.Do(ctx, "acl", "setuser", user, "on", ">"+r.password, "~*", "&*", "+@all").Err())
	t.Cleanup(func() { admin.Do(ctx, "acl", "deluser", user) })
	return r
}

// comeAndGo withdraws rights for a few milliseconds each until f returns.
func (r *rights) comeAndGo(rng *rand.Rand, f func()) {
	done, gone := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(gone)
		for {
			select {
			case <-done:
				return
			case <-time.After(time.Duration(50+rng.IntN(300)) * time.Millisecond):
			}
			command := rightsInDanger[rng.IntN(len(rightsInDanger))]
			r.admin.Do(context.Background(), "acl", "setuser", r.user, "-"+command)
			r.withdrawn++
			time.Sleep(time.Duration(1+rng.IntN(20)) * time.Millisecond)
			r.admin.Do(context.Background(), "acl", "setuser", r.user, "+"+command)
		}
	}()
	f()
	close(done)
	<-gone
}

// deniedTo reports whether Redis has said that the user may not.
func deniedTo(err error) bool {
	return strings.Contains(err.Error(), "NOPERM") || strings.Contains(err.Error(), "can't run this command") ||
		strings.Contains(err.Error(), "ACL failure in script") // Redis 8
}
