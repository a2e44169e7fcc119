package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/distkit/distkit-go"
	"github.com/spf13/cobra"
	"golang.org/x/term"
)

// table is what a command has to say to people.
type table struct {
	head []string
	rows [][]string
}

func (t *table) add(cells ...string) { t.rows = append(t.rows, cells) }

// print writes a table, or a value as JSON.
func (s *settings) print(cmd *cobra.Command, t table, value any) error {
	out := cmd.OutOrStdout()
	if s.output == "json" {
		return printJSON(out, value)
	}
	lines := tabwriter.NewWriter(out, 0, 8, 2, ' ', 0)
	if len(t.head) > 0 {
		fmt.Fprintln(lines, strings.Join(t.head, "\t"))
	}
	for _, row := range t.rows {
		fmt.Fprintln(lines, strings.Join(row, "\t"))
	}
	return lines.Flush()
}

func printJSON(out io.Writer, value any) error {
	text := json.NewEncoder(out)
	text.SetEscapeHTML(false)
	text.SetIndent("", "  ")
	return text.Encode(value)
}

// terminal reports whether somebody watches what is written.
func terminal(out io.Writer) bool {
	file, ok := out.(*os.File)
	return ok && term.IsTerminal(int(file.Fd()))
}

// The colours of a terminal.
const (
	red    = "31"
	yellow = "33"
	green  = "32"
)

// coloured is a text in a colour, where colours are wanted (https://no-color.org).
func coloured(out io.Writer, colour, text string) string {
	if !terminal(out) || os.Getenv("NO_COLOR") != "" || os.Getenv("TERM") == "dumb" {
		return text
	}
	return "\x1b[" + colour + "m" + text + "\x1b[0m"
}

// shown is a key as it is printed: no control character of it reaches the terminal.
func shown(key distkit.Key) string {
	text, _ := key.MarshalText() // never fails
	return string(text)
}

// size is a number of bytes for people.
func size(bytes int64) string {
	switch {
	case bytes < 0:
		return "?"
	case bytes < 10_000:
		return fmt.Sprintf("%d B", bytes)
	case bytes < 10_000_000:
		return fmt.Sprintf("%d kB", bytes/1000)
	default:
		return fmt.Sprintf("%d MB", bytes/1_000_000)
	}
}

// span is a duration for people.
func span(d time.Duration) string {
	switch {
	case d < 0:
		return "?"
	case d < time.Second:
		return d.Round(time.Millisecond / 10).String()
	case d < 2*time.Minute:
		return d.Round(time.Second).String()
	case d < 48*time.Hour:
		return strings.TrimSuffix(d.Round(time.Minute).String(), "0s")
	default:
		return fmt.Sprintf("%dd", int(d.Hours()/24))
	}
}
