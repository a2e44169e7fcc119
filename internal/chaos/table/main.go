// Command table prints the rows that the fault suite's tests wrote with
// -chaos.report, as the Markdown table of docs/FAULTS.md. It fails if any row
// has a violation.
package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"os"
	"text/tabwriter"

	"github.com/distkit/distkit-go/internal/chaos"
)

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: table FILE")
		os.Exit(2)
	}
	violations, err := run(os.Args[1])
	if err != nil {
		fmt.Fprintln(os.Stderr, "table:", err)
		os.Exit(2)
	}
	if violations > 0 {
		os.Exit(1)
	}
}

func run(path string) (violations int64, err error) {
	file, err := os.Open(path)
	if err != nil {
		return 0, err
	}
	defer func() { _ = file.Close() }()
	out := tabwriter.NewWriter(os.Stdout, 0, 0, 1, ' ', 0)
	fmt.Fprintln(out, "| test\t| cases\t| faults injected\t| violations\t| seconds\t| seed\t|")
	fmt.Fprintln(out, "|---\t|---\t|---\t|---\t|---\t|---\t|")
	lines := bufio.NewScanner(file)
	for lines.Scan() {
		var r chaos.Row
		if err := json.Unmarshal(lines.Bytes(), &r); err != nil {
			return violations, err
		}
		fmt.Fprintf(out, "| %s\t| %d\t| %d\t| %d\t| %.0f\t| %d\t|\n", r.Test, r.Cases, r.Faults, r.Violations, r.Seconds, r.Seed)
		violations += r.Violations
	}
	if err := lines.Err(); err != nil {
		return violations, err
	}
	return violations, out.Flush()
}
