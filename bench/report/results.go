package report

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
)

// Results are all there is to say of a run.
type Results struct {
	Machine Machine `json:"machine"`
	Rounds  int     `json:"rounds"`
	Time    string  `json:"time"` // of a measurement
	// Lacks says of each contestant what it does not do that distkit does.
	Lacks   map[string]string `json:"lacks"`
	Skipped []string          `json:"skipped,omitempty"` // what could not be measured, and why
	Goals   []Verdict         `json:"goals"`
	Ratios  []Ratio           `json:"ratios"`
	List    []*Figure         `json:"figures"`

	// Figures is List, to be looked up.
	Figures *Figures `json:"-"`
}

// Baseline returns what later checks need.
func (r *Results) Baseline() Baseline { return Baseline{r.Machine, r.Ratios} }

// Write puts the results into a directory: results.json, ratios.json, README.md
// and the plots.
func (r *Results) Write(dir string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	return errors.Join(
		writeJSON(filepath.Join(dir, "results.json"), r),
		writeJSON(filepath.Join(dir, "ratios.json"), r.Baseline()),
		os.WriteFile(filepath.Join(dir, "README.md"), []byte(r.Markdown()), 0o644),
		r.Plot(dir),
	)
}

func writeJSON(path string, value any) error {
	data, err := json.MarshalIndent(value, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(path, append(data, '\n'), 0o644)
}
