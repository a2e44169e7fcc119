// Command mutants sabotages a copy of the tree, one sabotage at a time, and
// runs the test that must notice. It prints a table, and fails unless every
// mutant was killed. make chaos runs it.
//
// The list is in list.go: what is replaced by what, and the test. A sabotage
// whose text is no longer in its file is an error, so the list cannot rot.
package main

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"regexp"
	"strings"
	"time"
)

func main() {
	only := flag.String("only", "", "run the mutants whose name matches this regular expression")
	limit := flag.Duration("limit", 2*time.Minute, "how long a mutant's test may take; one that hangs is killed, and so is the mutant")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	survivors, err := run(ctx, *only, *limit)
	if err != nil {
		fmt.Fprintln(os.Stderr, "mutants:", err)
		os.Exit(2)
	}
	if survivors > 0 {
		os.Exit(1)
	}
}

func run(ctx context.Context, only string, limit time.Duration) (survivors int, err error) {
	wanted, err := regexp.Compile(only)
	if err != nil {
		return 0, err
	}
	dir, err := os.MkdirTemp("", "mutants")
	if err != nil {
		return 0, err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	if err := os.CopyFS(dir, tree(".")); err != nil {
		return 0, err
	}
	for _, m := range mutants { // before any takes its time
		if err := m.fits(dir); err != nil {
			return 0, err
		}
	}
	killed := 0
	for _, m := range mutants {
		if !wanted.MatchString(m.name) {
			continue
		}
		start := time.Now()
		verdict, err := m.try(ctx, dir, limit)
		if err != nil {
			return survivors, fmt.Errorf("%s: %w", m.name, err)
		}
		if verdict == "SURVIVED" {
			survivors++
		} else {
			killed++
		}
		fmt.Printf("%-62s %-9s %5.1fs  %s %s\n", m.name, verdict, time.Since(start).Seconds(), m.pkg, m.run)
	}
	fmt.Printf("%d mutants, %d killed\n", killed+survivors, killed)
	return survivors, ctx.Err()
}

// fits checks that the text to replace is there, once.
func (m mutant) fits(dir string) error {
	text, err := os.ReadFile(filepath.Join(dir, m.file))
	if err != nil {
		return err
	}
	if n := strings.Count(string(text), m.old); n != 1 {
		return fmt.Errorf("%s: %s holds the text to replace %d times, not once: %q", m.name, m.file, n, m.old)
	}
	return nil
}

// try applies the mutant to the copy, runs its test, and takes it back.
func (m mutant) try(ctx context.Context, dir string, limit time.Duration) (verdict string, err error) {
	path := filepath.Join(dir, m.file)
	text, err := os.ReadFile(path)
	if err != nil {
		return "", err
	}
	sabotaged := strings.Replace(string(text), m.old, m.new, 1)
	if strings.Contains(m.new, "io.EOF") {
		sabotaged = strings.Replace(sabotaged, "\t\"errors\"\n", "\t\"errors\"\n\t\"io\"\n", 1)
	}
	if err := os.WriteFile(path, []byte(sabotaged), 0o644); err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, os.WriteFile(path, text, 0o644)) }()

	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	module, pkg := moduleOf(dir, filepath.Dir(m.file))
	build := exec.CommandContext(ctx, "go", "vet", "-unreachable=false", pkg)
	build.Dir = filepath.Join(dir, module)
	if output, err := build.CombinedOutput(); err != nil {
		return "", fmt.Errorf("the mutant does not build: %s", output)
	}
	module, pkg = moduleOf(dir, m.pkg)
	test := exec.CommandContext(ctx, "go", "test", "-count=1", "-timeout", limit.String(), "-run", m.run, "-v", pkg)
	test.Dir = filepath.Join(dir, module)
	test.Cancel = func() error { return test.Process.Signal(os.Interrupt) } // the tests stop what they started
	test.WaitDelay = 10 * time.Second
	output, err := test.CombinedOutput()
	switch {
	case err == nil && !bytes.Contains(output, []byte("--- PASS: ")):
		return "", fmt.Errorf("no test of %s matches %s", m.pkg, m.run)
	case err == nil:
		return "SURVIVED", nil
	case ctx.Err() != nil:
		return "hung", nil // which counts as killed
	default:
		return "killed", nil
	}
}

// moduleOf splits a package's path in the project at the module that it is in: some
// are of their own. Their go.mod finds the library beside them in the copy as in the
// project.
func moduleOf(dir, pkg string) (module, path string) {
	for module = filepath.Clean(pkg); module != "."; module = filepath.Dir(module) {
		if _, err := os.Stat(filepath.Join(dir, module, "go.mod")); err == nil {
			break
		}
	}
	if path, _ = filepath.Rel(module, pkg); path != "." {
		path = "./" + path
	}
	return module, path
}

// tree is the project without what a copy does not need.
func tree(root string) fsWithout {
	return fsWithout{os.DirFS(root)}
}
