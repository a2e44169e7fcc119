package bench

import (
	"errors"
	"runtime"
	"slices"
	"testing"
	"time"
)

// Each contestant at each kind of workload, for a moment: the sums must hold.
func TestCases_countWhatTheyClaim(t *testing.T) {
	e := needRedis(t)
	for _, group := range Groups() {
		for _, c := range group.Cases {
			t.Run(c.Name, func(t *testing.T) {
				figures, err := c.Measure(e, 20*time.Millisecond)
				if errors.Is(err, ErrSkipped) {
					t.Skip(err)
				}
				if err != nil {
					t.Fatal(err)
				}
				for metric, value := range figures {
					if value < 0 {
						t.Errorf("%s is %v", metric, value)
					}
				}
			})
		}
	}
}

func TestGrowth_measuresEveryMetric(t *testing.T) {
	e := needRedis(t)
	figures, err := MeasureGrowth(e, 1000, 2, 20*time.Millisecond)
	if err != nil {
		t.Fatal(err)
	}
	for metric, rounds := range figures {
		if len(rounds) == 0 {
			t.Errorf("%s has no round", metric)
		}
	}
	if len(figures) != 8 {
		t.Errorf("%d metrics, not 8: %v", len(figures), figures)
	}
}

// forgetful is a counter that loses one in a hundred.
type forgetful struct{ counted, kept int64 }

func (c *forgetful) Count(int) error {
	if c.counted++; c.counted%100 != 0 {
		c.kept++
	}
	return nil
}

func (c *forgetful) Settle() error         { return nil }
func (c *forgetful) Total() (int64, error) { return c.kept, nil }
func (c *forgetful) Close() error          { return nil }

func TestMeasure_lostIncrements_fails(t *testing.T) {
	t.Parallel()
	liar := contestant{"liar", "", func(*Env, int) (Counter, error) { return &forgetful{}, nil }}
	if _, err := (load{callers: 1, keys: 10}).measure(liar, nil, time.Millisecond); err == nil {
		t.Error("a contestant that loses increments was measured")
	}
	if _, err := measureFlush(liar, nil, 1000, time.Nanosecond); err == nil {
		t.Error("a contestant that loses increments was measured at flushing")
	}
}

// Every ratio and every goal is about cases that exist.
func TestComparisonsAndGoals_nameCases(t *testing.T) {
	t.Parallel()
	var names []string
	for _, group := range Groups() {
		for _, c := range group.Cases {
			if slices.Contains(names, c.Name) {
				t.Errorf("%s is there twice", c.Name)
			}
			names = append(names, c.Name)
		}
	}
	for _, keys := range GrowthSizes {
		names = append(names, GrowthName(keys))
	}
	for _, c := range Comparisons() {
		if !slices.Contains(names, c.Case) || !slices.Contains(names, c.Rival) {
			t.Errorf("%s compares what is not measured", c.Name())
		}
	}
	for _, g := range Goals() {
		if !slices.Contains(names, g.Case) || g.Rival != "" && !slices.Contains(names, g.Rival) {
			t.Errorf("%s: %s or %s is not measured", g.What, g.Case, g.Rival)
		}
	}
}

func TestPercentile(t *testing.T) {
	t.Parallel()
	var sorted []time.Duration
	for i := range 1000 {
		sorted = append(sorted, time.Duration(i))
	}
	for share, want := range map[float64]time.Duration{0: 0, .5: 500, .99: 990, .999: 999, 1: 999} {
		if got := percentile(sorted, share); got != want {
			t.Errorf("percentile %v is %d, not %d", share, got, want)
		}
	}
	if got := percentile(nil, .5); got != 0 {
		t.Errorf("of nothing it is %v", got)
	}
}

func TestParseRate(t *testing.T) {
	t.Parallel()
	for output, want := range map[string]float64{
		"\"test\",\"rps\",\"avg_latency_ms\"\n\"HINCRBY h __rand_int__ 1\",\"1515151.50\",\"0.3\"\n": 1515151.5, // Redis 6.2 and later
		"\"HINCRBY h __rand_int__ 1\",\"99502.48\"\n":                                                99502.48,  // before
	} {
		if got, err := parseRate([]byte(output)); err != nil || got != want {
			t.Errorf("%q: %v, %v; want %v", output, got, err, want)
		}
	}
	for _, output := range []string{"", "\n", "ERR unknown", "\"test\",\"rps\"\n", "\"x\",\"0\"\n", "\"x\",\"nan", "\"x\""} {
		if rate, err := parseRate([]byte(output)); err == nil {
			t.Errorf("%q is no rate, but was read as %v", output, rate)
		}
	}
}

func TestCountCommands(t *testing.T) {
	t.Parallel()
	info := "# Commandstats\r\ncmdstat_hincrby:calls=7,usec=12\r\ncmdstat_info:calls=3,usec=1\r\ncmdstat_config|get:calls=2,usec=1\r\n"
	if n, err := countCommands(info); err != nil || n != 9 {
		t.Errorf("%d, %v; want 9", n, err)
	}
	if _, err := countCommands("cmdstat_x:calls=many,usec=1"); err == nil {
		t.Error("no number was read as one")
	}
}

func TestProcessTime_advancesWithWork(t *testing.T) {
	t.Parallel()
	before := processTime()
	for processTime() == before {
		runtime.Gosched()
	}
}

func TestPlural(t *testing.T) {
	t.Parallel()
	for n, want := range map[int]string{1: "1 key", 64: "64 keys", 1000: "1,000 keys", 1024: "1,024 keys"} {
		if got := plural(n, "key"); got != want {
			t.Errorf("%q, not %q", got, want)
		}
	}
}
