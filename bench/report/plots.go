package report

import (
	"errors"
	"fmt"
	"image/color"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
	"gonum.org/v1/plot/vg/vgsvg"
)

// chart is one plot: lines of medians.
type chart struct {
	file, title string
	x, y        string // axis titles, with units
	logX, logY  bool
	ticks       plot.ConstantTicks // of x
	lines       []line
}

type line struct {
	name   string
	points plotter.XYs
}

// plots are the charts there are figures for.
func (r *Results) plots() []chart {
	var out []chart
	for _, keys := range []int{1, 1000} {
		out = append(out, r.throughputChart(keys))
	}
	out = append(out, r.callersChart())
	for _, callers := range []int{64, 1024} {
		out = append(out, r.latencyChart(callers))
	}
	out = append(out, r.growthChart("growth-time.svg", "Lax: time an operation against the number of keys",
		"time an operation [ns]", []string{AddIdle, IncIdle, AddBusy}))
	out = append(out, r.growthChart("growth-memory.svg", "Lax: memory a key against the number of keys",
		"memory a key [bytes]", []string{MemoryIdle, MemoryBusy}))
	return slices.DeleteFunc(out, func(c chart) bool { return len(c.lines) == 0 })
}

// Plot writes the charts into a directory.
func (r *Results) Plot(dir string) error {
	for _, c := range r.plots() {
		if err := c.save(filepath.Join(dir, c.file)); err != nil {
			return fmt.Errorf("%s: %w", c.file, err)
		}
	}
	return nil
}

func (r *Results) throughputChart(keys int) chart {
	c := chart{
		file:  fmt.Sprintf("throughput-%d-keys.svg", keys),
		title: fmt.Sprintf("Strict: throughput against concurrency, %d keys", keys),
		x:     "callers", y: "operations a second", logX: true,
	}
	if keys == 1 {
		c.file, c.title = "throughput-1-key.svg", "Strict: throughput against concurrency, 1 key"
	}
	for _, f := range r.List {
		var callers, n int
		var name string
		if _, err := fmt.Sscanf(f.Case, "strict/callers=%d/keys=%d/%s", &callers, &n, &name); err == nil && n == keys && f.Metric == Throughput {
			c.add(name, float64(callers), f.Median)
			c.tick(float64(callers), strconv.Itoa(callers))
		}
	}
	return c
}

// callersChart is the time an operation takes of the whole, from one caller on, of those
// who have been measured with one.
func (r *Results) callersChart() chart {
	c := chart{
		file: "time-callers.svg", title: "Strict: time an operation against callers, 1000 keys",
		x: "callers", y: "time an operation [µs]", logX: true, logY: true,
	}
	few := map[string]bool{}
	for _, form := range []string{"few/callers=%d/keys=1000/%s", "strict/callers=%d/keys=1000/%s"} {
		for _, f := range r.List {
			var callers int
			var name string
			if _, err := fmt.Sscanf(f.Case, form, &callers, &name); err != nil || f.Metric != Throughput || f.Median == 0 {
				continue
			}
			if form[0] == 'f' {
				few[name] = true
			}
			if few[name] {
				c.add(name, float64(callers), 1e6/f.Median)
				c.tick(float64(callers), strconv.Itoa(callers))
			}
		}
	}
	return c
}

// latencyChart has each further nine of the percentiles as wide as the last.
func (r *Results) latencyChart(callers int) chart {
	c := chart{
		file:  fmt.Sprintf("latency-%d-callers.svg", callers),
		title: fmt.Sprintf("Strict: latency, %d callers, 1000 keys", callers),
		x:     "percentile", y: "latency [µs]", logY: true,
	}
	for _, f := range r.List {
		name, ok := strings.CutPrefix(f.Case, fmt.Sprintf("strict/callers=%d/keys=1000/", callers))
		share, isPercentile := map[string]float64{P50: .5, P90: .9, P99: .99, P999: .999}[f.Metric]
		if ok && isPercentile {
			x := -math.Log10(1 - share)
			c.add(name, x, f.Median)
			c.tick(x, f.Metric)
		}
	}
	return c
}

func (r *Results) growthChart(file, title, y string, metrics []string) chart {
	c := chart{file: file, title: title, x: "keys", y: y, logX: true, logY: true}
	for _, f := range r.List {
		var keys int
		if _, err := fmt.Sscanf(f.Case, "growth/keys=%d/", &keys); err == nil && slices.Contains(metrics, f.Metric) && f.Median > 0 {
			c.add(f.Metric, float64(keys), f.Median)
			c.tick(float64(keys), grouped(keys))
		}
	}
	return c
}

// grouped is a number with a comma every three digits.
func grouped(n int) string {
	if n < 1000 {
		return strconv.Itoa(n)
	}
	return fmt.Sprintf("%s,%03d", grouped(n/1000), n%1000)
}

func (c *chart) add(name string, x, y float64) {
	at := slices.IndexFunc(c.lines, func(l line) bool { return l.name == name })
	if at < 0 {
		at = len(c.lines)
		c.lines = append(c.lines, line{name: name})
	}
	c.lines[at].points = append(c.lines[at].points, plotter.XY{X: x, Y: y})
}

func (c *chart) tick(x float64, label string) {
	for _, t := range c.ticks {
		if t.Value == x {
			return
		}
	}
	c.ticks = append(c.ticks, plot.Tick{Value: x, Label: label})
}

// Colours that are told apart by colour-blind readers too (Okabe and Ito), and
// for paper, dashes and glyphs.
var (
	colours = []color.RGBA{
		{0, 114, 178, 255}, {213, 94, 0, 255}, {0, 158, 115, 255}, {204, 121, 167, 255}, {0, 0, 0, 255}, {230, 159, 0, 255}, {86, 180, 233, 255},
	}
	dashes = [][]vg.Length{nil, {6, 3}, {2, 2}, {8, 3, 2, 3}, {4, 4}, {1, 3}, {10, 4}}
	glyphs = []draw.GlyphDrawer{
		draw.CircleGlyph{}, draw.SquareGlyph{}, draw.TriangleGlyph{}, draw.CrossGlyph{}, draw.PlusGlyph{}, draw.RingGlyph{}, draw.PyramidGlyph{},
	}
)

func (c *chart) save(path string) error {
	p := plot.New()
	p.Title.Text, p.X.Label.Text, p.Y.Label.Text = c.title, c.x, c.y
	p.Title.Padding, p.X.Padding, p.Y.Padding = vg.Points(8), vg.Points(5), vg.Points(5)
	p.BackgroundColor = color.White
	if c.logX {
		p.X.Scale = plot.LogScale{}
	}
	p.X.Tick.Marker = c.ticks
	p.Y.Tick.Marker = plot.TickerFunc(linearTicks)
	if c.logY {
		p.Y.Scale, p.Y.Tick.Marker = plot.LogScale{}, plot.TickerFunc(logTicks)
	} else {
		p.Y.Min = 0
	}
	grid := plotter.NewGrid()
	grid.Vertical.Color, grid.Horizontal.Color = color.Gray{225}, color.Gray{225}
	p.Add(grid)
	for i, l := range c.lines {
		slices.SortFunc(l.points, func(a, b plotter.XY) int { return int(math.Copysign(1, a.X-b.X)) })
		drawn, glyph, err := plotter.NewLinePoints(l.points)
		if err != nil {
			return err
		}
		drawn.Color, drawn.Width, drawn.Dashes = colours[i%len(colours)], vg.Points(1.5), dashes[i%len(dashes)]
		glyph.Color, glyph.Radius, glyph.Shape = colours[i%len(colours)], vg.Points(3), glyphs[i%len(glyphs)]
		if i == 0 {
			drawn.Width = vg.Points(2.5)
		}
		p.Add(drawn, glyph)
		p.Legend.Add(l.name, drawn, glyph)
	}
	p.Legend.Top, p.Legend.Left = true, true
	p.Legend.Padding, p.Legend.ThumbnailWidth, p.Legend.XOffs = vg.Points(2), vg.Points(36), vg.Points(8)
	// Room for the legend, above the lines.
	if c.logY {
		p.Y.Min /= 1.3
		p.Y.Max *= max(math.Pow(p.Y.Max/p.Y.Min, 0.4), 2)
	} else {
		p.Y.Max *= 1.35
	}
	return write(p, path)
}

// write draws the plot with a margin: the last tick's label reaches beyond the
// axis.
func write(p *plot.Plot, path string) (err error) {
	canvas := vgsvg.New(18*vg.Centimeter, 12*vg.Centimeter)
	all := draw.New(canvas)
	all.SetColor(color.White)
	all.Fill(all.Rectangle.Path())
	p.Draw(draw.Crop(all, vg.Points(10), -vg.Points(30), vg.Points(8), -vg.Points(10)))
	file, err := os.Create(path)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	_, err = canvas.WriteTo(file)
	return err
}

// linearTicks are 0, 1, 2, … times 1, 2 or 5 times a power of ten, so that there
// are about eight.
func linearTicks(least, most float64) []plot.Tick {
	step := math.Pow(10, math.Floor(math.Log10((most-least)/8)))
	for _, factor := range []float64{2, 2.5, 2} { // 2, 5, 10
		if (most-least)/step > 8 {
			step *= factor
		}
	}
	var out []plot.Tick
	for v := math.Ceil(least/step) * step; v <= most; v += step {
		out = append(out, plot.Tick{Value: v, Label: label(v)})
	}
	return out
}

// logTicks are the powers of ten, and where these are few, 2 and 5 times them.
func logTicks(least, most float64) []plot.Tick {
	digits := []float64{1, 2, 5}
	if most/least > 1e4 {
		digits = digits[:1]
	}
	var out []plot.Tick
	for power := math.Pow(10, math.Floor(math.Log10(least))); power <= most; power *= 10 {
		for _, digit := range digits {
			if v := digit * power; v >= least && v <= most {
				out = append(out, plot.Tick{Value: v, Label: label(v)})
			}
		}
	}
	return out
}

// label is a tick's label on the y axis. The spaces keep it off the axis where
// the reader's font is wider than the one it is laid out with.
func label(v float64) string {
	switch {
	case v >= 1e6:
		return fmt.Sprintf("%.4g M  ", v/1e6)
	case v >= 1e3:
		return fmt.Sprintf("%.4g k  ", v/1e3)
	default:
		return fmt.Sprintf("%.4g  ", v)
	}
}
