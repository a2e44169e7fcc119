package main

import (
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"github.com/distkit/distkit-go"
)

// maxEventLines bounds the events shown; one after an outage are a handful.
const maxEventLines = 20

// console shows how it goes. On a terminal a status line stays under the other
// lines and is rewritten in place; elsewhere a status is a line like any other.
type console struct {
	mu       sync.Mutex
	out      io.Writer
	terminal bool
	start    time.Time
	status   string // on the terminal now, without an end of line
	events   int
}

func newConsole(out io.Writer) *console {
	c := &console{out: out, start: time.Now()}
	if file, ok := out.(*os.File); ok {
		info, err := file.Stat()
		c.terminal = err == nil && info.Mode()&os.ModeCharDevice != 0
	}
	return c
}

// every is the time between two statuses.
func (c *console) every() time.Duration {
	if c.terminal {
		return 100 * time.Millisecond
	}
	return time.Second
}

// printf prints lines above the status.
func (c *console) printf(format string, args ...any) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.print(fmt.Sprintf(format, args...))
}

// show makes text the status. It has to fit an 80 column terminal.
func (c *console) show(text string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	text = c.clock() + text
	if !c.terminal {
		c.print(text)
		return
	}
	c.wipe()
	c.status = text
	_, _ = io.WriteString(c.out, text) // there is nowhere to tell of a broken terminal
}

// note prints something that happened, and when.
func (c *console) note(format string, args ...any) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.print(c.clock() + fmt.Sprintf(format, args...))
}

// event notes an event of the library. A writer fails again and again during
// an outage, which its recovery sums up: only the first failure is shown.
func (c *console) event(e distkit.Event) {
	if failed, ok := e.(distkit.WriterFailed); ok && failed.Attempt > 1 {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.events++
	switch {
	case c.events <= maxEventLines:
		c.print(c.clock() + "event: " + e.String())
	case c.events == maxEventLines+1:
		c.print(c.clock() + "further events are not shown")
	}
}

// end leaves the last status where it is.
func (c *console) end() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.status != "" {
		c.status = ""
		c.print("")
	}
}

// clock is the time of the run; the caller holds mu.
func (c *console) clock() string {
	return fmt.Sprintf("%5.1fs  ", time.Since(c.start).Seconds())
}

// print writes a line and puts the status back under it; the caller holds mu.
func (c *console) print(line string) {
	c.wipe()
	_, _ = io.WriteString(c.out, line+"\n"+c.status)
}

// wipe overwrites the status with blanks, which every terminal can; the caller
// holds mu.
func (c *console) wipe() {
	if c.status != "" {
		_, _ = io.WriteString(c.out, "\r"+strings.Repeat(" ", utf8.RuneCountInString(c.status))+"\r")
	}
}
