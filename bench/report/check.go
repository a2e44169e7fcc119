package report

import (
	"encoding/json"
	"fmt"
	"os"
)

// The check compares ratios, for times differ from machine to machine and from
// hour to hour, and most of that both sides of a ratio share.
//
// A loss counts when the new median is worse than the recorded one by more than
// a margin of three times the noise (the farther quartile's distance from the
// median) of whichever run is noisier. For rounds that scatter normally that is
// two standard deviations of a round, or two and a half of the difference of
// two medians of five. It is at least leastMargin, since the recorded run cannot
// know what another day brings, and at most mostMargin, or a run that was all
// noise would let everything pass.
const (
	leastMargin = 0.15
	mostMargin  = 0.50
)

// Baseline is what a run leaves for later checks.
type Baseline struct {
	Machine Machine `json:"machine"`
	Ratios  []Ratio `json:"ratios"`
}

// ReadBaseline reads a ratios.json.
func ReadBaseline(path string) (Baseline, error) {
	var b Baseline
	data, err := os.ReadFile(path)
	if err != nil {
		return b, err
	}
	if err := json.Unmarshal(data, &b); err != nil {
		return b, fmt.Errorf("%s: %w", path, err)
	}
	return b, nil
}

// Finding is what the check says of one ratio.
type Finding struct {
	Name          string
	Case, Rival   string
	Recorded, Now float64
	Change        float64 // the gain, as a share of the recorded median; a loss is negative
	Margin        float64 // how large a loss still passes
	Loss          bool    // beyond the margin
}

// Check compares a run's ratios with the recorded ones. Ratios that only one of
// the two has are left out.
func Check(recorded, now []Ratio) []Finding {
	before := map[string]Ratio{}
	for _, r := range recorded {
		before[r.Name] = r
	}
	var out []Finding
	for _, r := range now {
		old, ok := before[r.Name]
		if !ok || old.Median <= 0 || r.Median <= 0 {
			continue
		}
		f := Finding{Name: r.Name, Case: r.Case, Rival: r.Rival, Recorded: old.Median, Now: r.Median}
		// The loss is a factor either way: half the throughput is twice the time.
		if r.HigherIsBetter {
			f.Change = r.Median/old.Median - 1
		} else {
			f.Change = old.Median/r.Median - 1
		}
		f.Margin = min(max(leastMargin, 3*max(Noise(old.Rounds), Noise(r.Rounds))), mostMargin)
		f.Loss = f.Change < -f.Margin
		out = append(out, f)
	}
	return out
}

// String is the finding's line.
func (f Finding) String() string {
	verdict := "ok"
	if f.Loss {
		verdict = "LOSS"
	}
	return fmt.Sprintf("%-4s %-75s %6.2f recorded, %6.2f now: %+4.0f %%, margin %.0f %%",
		verdict, f.Name, f.Recorded, f.Now, 100*f.Change, 100*f.Margin)
}
