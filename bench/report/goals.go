package report

import (
	"fmt"
	"slices"
)

// Goal is one line of the table of goals: a figure, or with a rival a ratio,
// that must be at most or at least a limit.
type Goal struct {
	What   string // the workload and what of it, for the table
	Case   string
	Metric string
	AtMost bool // rather than at least
	Limit  float64
	Remark string // how the goal is read, where that is not obvious

	Rival       string // divides it; "" for the figure itself
	RivalMetric string // of the rival, if it is another; else ""
}

// Verdict is a goal and what the run says of it.
type Verdict struct {
	What   string  `json:"what"`
	Goal   string  `json:"goal"`
	Median float64 `json:"median"`
	Min    float64 `json:"min"`
	Max    float64 `json:"max"`
	Unit   string  `json:"unit"`
	Met    bool    `json:"met"`
	Remark string  `json:"remark,omitempty"`
}

// Judge answers the goals whose figures were measured, by their medians.
func (f *Figures) Judge(goals []Goal) []Verdict {
	var out []Verdict
	for _, g := range goals {
		unit, rounds := "×", []float64(nil)
		if g.Rival != "" {
			r, ok := f.Ratio(Comparison{Case: g.Case, Rival: g.Rival, Metric: g.Metric, RivalMetric: g.RivalMetric})
			if !ok {
				continue
			}
			rounds = r.Rounds
		} else {
			figure := f.find(g.Case, g.Metric)
			if figure == nil {
				continue
			}
			unit, rounds = figure.Unit, figure.Rounds
		}
		sign := "≥"
		if g.AtMost {
			sign = "≤"
		}
		v := Verdict{
			What: g.What, Goal: fmt.Sprintf("%s %s %s", sign, number(g.Limit), unit), Unit: unit, Remark: g.Remark,
			Median: Median(rounds), Min: slices.Min(rounds), Max: slices.Max(rounds),
		}
		v.Met = v.Median >= g.Limit
		if g.AtMost {
			v.Met = v.Median <= g.Limit
		}
		out = append(out, v)
	}
	return out
}

// number is a value with about three digits that matter.
func number(v float64) string {
	abs := max(v, -v)
	switch {
	case abs >= 1e6:
		return fmt.Sprintf("%.2f M", v/1e6)
	case abs >= 1e4:
		return fmt.Sprintf("%.0f k", v/1e3)
	case abs >= 100, v == float64(int64(v)):
		return fmt.Sprintf("%.0f", v)
	case abs >= 10:
		return fmt.Sprintf("%.1f", v)
	case abs >= 0.095:
		return fmt.Sprintf("%.2f", v)
	default:
		return fmt.Sprintf("%.1g", v)
	}
}
