package report

import (
	"bytes"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestMedianAndNoise(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		values        []float64
		median, noise float64
	}{
		{[]float64{7}, 7, 0},
		{[]float64{3, 1, 2}, 2, 0.25},
		{[]float64{4, 1, 3, 2}, 2.5, 0.3},
		{[]float64{10, 10, 10, 10, 1000}, 10, 0}, // one spoilt round
		{[]float64{8, 9, 10, 14, 11}, 10, 0.1},
	} {
		if got := Median(c.values); got != c.median {
			t.Errorf("the median of %v is %v, not %v", c.values, got, c.median)
		}
		if got := Noise(c.values); math.Abs(got-c.noise) > 1e-9 {
			t.Errorf("the noise of %v is %v, not %v", c.values, got, c.noise)
		}
	}
	if got := Median(nil); !math.IsNaN(got) {
		t.Errorf("the median of nothing is %v", got)
	}
}

// figures has two rounds of two contestants.
func figures() *Figures {
	f := &Figures{}
	for i, v := range []float64{100, 50, 90, 60} {
		f.Add("w/"+[]string{"ours", "theirs"}[i%2], Throughput, v)
		f.Add("w/"+[]string{"ours", "theirs"}[i%2], Time, 1/v)
	}
	return f
}

func TestRatio_dividesRoundByRound(t *testing.T) {
	t.Parallel()
	r, ok := figures().Ratio(Comparison{Case: "w/ours", Rival: "w/theirs", Metric: Throughput})
	if !ok || r.Min != 1.5 || r.Max != 2 || r.Median != 1.75 || !r.HigherIsBetter {
		t.Errorf("%+v, %v", r, ok)
	}
	if r.Name != "w/ours vs theirs, throughput" {
		t.Errorf("it is called %q", r.Name)
	}
	if r, _ := figures().Ratio(Comparison{Case: "w/ours", Rival: "w/theirs", Metric: Time}); r.HigherIsBetter {
		t.Error("more time is not better")
	}
	if r, ok := figures().Ratio(Comparison{Case: "w/ours", Rival: "w/nobody", Metric: Throughput}); ok {
		t.Errorf("nobody was measured, but %+v", r)
	}
	if r, ok := figures().Ratio(Comparison{Case: "w/ours", Metric: Throughput, Rival: "w/theirs", RivalMetric: Time}); !ok || r.Median != (100*50+90*60)/2 {
		t.Errorf("across metrics: %+v, %v", r, ok)
	}
}

func TestJudge(t *testing.T) {
	t.Parallel()
	goals := []Goal{
		{What: "least, met", Case: "w/ours", Rival: "w/theirs", Metric: Throughput, Limit: 1.75},
		{What: "least, missed", Case: "w/ours", Rival: "w/theirs", Metric: Throughput, Limit: 1.76},
		{What: "most, met", Case: "w/ours", Metric: Throughput, AtMost: true, Limit: 95},
		{What: "most, missed", Case: "w/ours", Metric: Throughput, AtMost: true, Limit: 94},
		{What: "not measured", Case: "w/ours", Metric: CPU, AtMost: true, Limit: 1},
		{What: "no rival", Case: "w/ours", Rival: "w/nobody", Metric: Throughput, Limit: 1},
	}
	verdicts := figures().Judge(goals)
	if len(verdicts) != 4 {
		t.Fatalf("%d verdicts, not 4: %+v", len(verdicts), verdicts)
	}
	for _, v := range verdicts {
		if v.Met != strings.HasSuffix(v.What, ", met") {
			t.Errorf("%s: met is %v", v.What, v.Met)
		}
	}
}

func ratio(higherIsBetter bool, rounds ...float64) []Ratio {
	return []Ratio{{Name: "r", HigherIsBetter: higherIsBetter, Median: Median(rounds), Rounds: rounds}}
}

func TestCheck_lossBeyondNoise(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		what          string
		recorded, now []Ratio
		loss          bool
	}{
		{"the same", ratio(true, 2, 2, 2), ratio(true, 2, 2, 2), false},
		{"within the least margin", ratio(true, 2, 2, 2), ratio(true, 1.75, 1.75, 1.75), false},
		{"beyond it", ratio(true, 2, 2, 2), ratio(true, 1.65, 1.65, 1.65), true},
		{"a gain", ratio(true, 2, 2, 2), ratio(true, 4, 4, 4), false},
		{"more time", ratio(false, 1, 1, 1), ratio(false, 1.3, 1.3, 1.3), true},
		{"less time", ratio(false, 1, 1, 1), ratio(false, 0.5, 0.5, 0.5), false},
		{"recorded with noise", ratio(true, 1.6, 2, 2.4), ratio(true, 1.5, 1.5, 1.5), false},
		{"measured with noise", ratio(true, 2, 2, 2), ratio(true, 1.2, 1.5, 1.8), false},
		{"beyond what noise excuses", ratio(true, 0.5, 2, 6), ratio(true, 0.9, 0.9, 0.9), true},
		{"one spoilt round", ratio(true, 2, 2, 2, 2, 2), ratio(true, 2, 2, 2, 2, 0.1), false},
	} {
		findings := Check(c.recorded, c.now)
		if len(findings) != 1 || findings[0].Loss != c.loss {
			t.Errorf("%s: %v", c.what, findings)
		}
	}
	other := []Ratio{{Name: "another", Median: 1, Rounds: []float64{1}}}
	if findings := Check(ratio(true, 2), other); len(findings) != 0 {
		t.Errorf("what was not recorded cannot be compared: %v", findings)
	}
}

func TestNumber(t *testing.T) {
	t.Parallel()
	for v, want := range map[float64]string{
		0: "0", 1: "1", 0.0004: "0.0004", 0.3: "0.30", 1.15: "1.15", 12.34: "12.3", 678.9: "679", 1000: "1000",
		12_345: "12 k", 1_234_567: "1.23 M",
	} {
		if got := number(v); got != want {
			t.Errorf("%v is %q, not %q", v, got, want)
		}
	}
}

// A whole run's results are written, read back, and drawn.
func TestWrite(t *testing.T) {
	t.Parallel()
	f := &Figures{}
	for i, callers := range []string{"1", "64", "1024"} {
		for j, name := range []string{"distkit", "rival"} {
			base := "strict/callers=" + callers + "/keys=1000/" + name
			for k, metric := range []string{Throughput, P50, P90, P99, P999} {
				f.Add(base, metric, float64((i+1)*(j+2)*(k+3)))
			}
		}
	}
	for i, keys := range []string{"1", "1000000"} {
		f.Add("growth/keys="+keys+"/distkit", AddIdle, float64(30+i))
		f.Add("growth/keys="+keys+"/distkit", MemoryIdle, float64(500+i))
	}
	comparison := Comparison{Case: "strict/callers=64/keys=1000/distkit", Rival: "strict/callers=64/keys=1000/rival", Metric: Throughput}
	r := &Results{
		Machine: Describe("7.0"), Rounds: 1, Lacks: map[string]string{"rival": "everything"}, List: f.List, Figures: f,
		Ratios: f.Ratios([]Comparison{comparison}), Goals: f.Judge([]Goal{{What: "the goal", Case: comparison.Case, Metric: Throughput, Limit: 1}}),
	}
	dir := filepath.Join(t.TempDir(), "results")
	if err := r.Write(dir); err != nil {
		t.Fatal(err)
	}
	baseline, err := ReadBaseline(filepath.Join(dir, "ratios.json"))
	if err != nil {
		t.Fatal(err)
	}
	if len(baseline.Ratios) != 1 || baseline.Ratios[0].Median != r.Ratios[0].Median {
		t.Errorf("read back: %+v", baseline.Ratios)
	}
	page, err := os.ReadFile(filepath.Join(dir, "README.md"))
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"the goal", "everything", comparison.Name()} {
		if !bytes.Contains(page, []byte(want)) {
			t.Errorf("README.md lacks %q", want)
		}
	}
	for _, name := range []string{"throughput-1000-keys", "latency-64-callers", "latency-1024-callers", "growth-time", "growth-memory"} {
		drawn, err := os.ReadFile(filepath.Join(dir, name+".svg"))
		if err != nil || !bytes.Contains(drawn, []byte("</svg>")) {
			t.Errorf("%s: %v", name, err)
		}
		if !bytes.Contains(page, []byte("("+name+".svg)")) {
			t.Errorf("README.md does not show %s", name)
		}
	}
}
