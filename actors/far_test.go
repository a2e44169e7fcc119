package actors

import (
	"fmt"
	"testing"
	"time"

	"github.com/distkit/distkit-go/internal/redisio"
	"github.com/stretchr/testify/require"
)

// Where a flush takes longer than AllowedLag, a change waits for the one that its key is
// in, and then goes at once: whatever other keys are in flight, Redis has it within the
// longer of the two, and its own way there.
func TestFar_changesWaitForOneFlush(t *testing.T) {
	for _, latency := range []time.Duration{latency, lag - 1, lag + 1, 2*lag + time.Millisecond, 10 * lag} {
		for _, phase := range []time.Duration{0, lag / 3, lag - time.Millisecond, lag + lag/3} {
			t.Run(fmt.Sprint(latency, " ", phase), func(t *testing.T) {
				bubble(t, func(t *testing.T) {
					s := newSim(t, nil)
					s.redis.Latency = latency
					s.addAll(t, phase, max(lag, latency)+latency/2)
				})
			})
		}
	}
}

// addAll adds to some keys every millisecond, to others now and then, to each from another
// phase on. Nothing is
// missing in Redis that was accepted longer ago than most, when the lanes are open.
func (s *sim) addAll(t *testing.T, phase, most time.Duration) {
	t.Helper()
	const ms = time.Millisecond
	keys := []string{"a", "b", "c", "d", "e"}
	every := []time.Duration{ms, ms, 67 * ms, 97 * ms, 113 * ms}
	accepted := make([][]time.Duration, len(keys)) // when
	open := 6 * most
	for s.now() < 10*open {
		for i, key := range keys {
			if s.now() >= time.Duration(i)*phase && s.now()%every[i] == 0 {
				require.NoError(t, s.Lax().Add(key, 1))
				accepted[i] = append(accepted[i], s.now())
			}
		}
		s.pass(time.Millisecond)
		for i, key := range keys {
			held := int(s.value(s.cfg.Prefix+":"+redisio.LaxKind, key))
			if held < len(accepted[i]) && s.now() > open { // it looks every millisecond
				require.LessOrEqual(t, s.now()-accepted[i][held], most+3*time.Millisecond, "%s at %v", key, s.now())
			}
		}
	}
}
