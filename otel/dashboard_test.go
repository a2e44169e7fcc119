package distkitotel_test

import (
	"context"
	"encoding/json"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/VictoriaMetrics/metricsql"
	distkitotel "github.com/distkit/distkit-go/otel"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"
	exporter "go.opentelemetry.io/otel/exporters/prometheus"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	"go.yaml.in/yaml/v3"
)

// Each query of the dashboard and the alerts parses, and names series and labels that
// there are, as Prometheus has them.
func TestDashboard_namesWhatThereIs(t *testing.T) {
	t.Parallel()
	there := scraped(t)
	queries, legends := dashboard(t)
	rules, summaries := alerts(t)
	for name, expr := range rules {
		queries[name] = expr
		for _, label := range labelsIn.FindAllStringSubmatch(summaries[name], -1) {
			for series := range namesOf(t, expr) {
				require.Contains(t, there[series], label[1], "the summary of %s", name)
			}
		}
	}
	asked := map[string]bool{}
	for name, expr := range queries {
		for series, labels := range namesOf(t, expr) {
			require.Contains(t, there, series, "%s: %s", name, expr)
			asked[family(series)] = true
			for _, label := range labels {
				require.Contains(t, there[series], label, "%s: %s", name, expr)
			}
		}
	}
	for name, legend := range legends {
		for _, label := range labelsIn.FindAllStringSubmatch(legend, -1) {
			require.Regexp(t, `\b`+label[1]+`\b`, queries[name], "the legend of %s", name)
		}
	}
	for series := range there { // what nobody looks at need not be there
		require.True(t, asked[family(series)], "no query has %s", series)
	}
}

// The test sees what is wrong.
func TestDashboard_namesOf(t *testing.T) {
	t.Parallel()
	require.Equal(t, map[string][]string{"a": {"x", "y"}, "b": {"y"}}, namesOf(t, `sum by (y) (rate(a{x="1"}[5m])) / sum by (y) (b)`))
	require.Equal(t, "a_seconds", family("a_seconds_bucket"))
}

var labelsIn = regexp.MustCompile(`{{(?:\s*\$labels\.)?(\w+)\s*}}`)

// own are the labels that a scrape adds.
var own = []string{"instance", "job", "le"}

// family is the metric that a series is of.
func family(series string) string {
	for _, suffix := range []string{"_bucket", "_sum", "_count"} {
		series = strings.TrimSuffix(series, suffix)
	}
	return series
}

// scraped are the series of a System that has seen everything, with their labels.
func scraped(t *testing.T) map[string][]string {
	t.Helper()
	registry := prometheus.NewRegistry()
	reader, err := exporter.New(exporter.WithRegisterer(registry), exporter.WithoutScopeInfo(), exporter.WithoutTargetInfo())
	require.NoError(t, err)
	f := newFixture(t, distkitotel.WithMeterProvider(sdkmetric.NewMeterProvider(sdkmetric.WithReader(reader))))
	_, err = f.Strict().Inc(f.ctx, keyA, 1)
	require.NoError(t, err)
	_, err = f.Lax().Get(f.ctx, keyA)
	require.NoError(t, err)
	require.NoError(t, f.Lax().Add(keyA, 1)) // of which there is a view that was needed
	require.NoError(t, f.Flush(f.ctx))
	f.line.Down(true)
	f.line.Lose(1)
	short, cancel := context.WithTimeout(f.ctx, 50*time.Millisecond)
	defer cancel()
	_, err = f.Strict().Set(short, keyA, 1)
	require.Error(t, err)
	f.line.Down(false)
	_, err = f.Strict().Get(f.ctx, keyA)
	require.NoError(t, err)
	found := map[string][]string{}
	require.Eventually(t, func() bool {
		families, err := registry.Gather()
		require.NoError(t, err)
		for _, of := range families {
			suffixes := []string{""}
			if of.Metric[0].Histogram != nil {
				suffixes = []string{"_bucket", "_sum", "_count"}
			}
			for _, suffix := range suffixes {
				labels := slices.Clone(own)
				for _, label := range of.Metric[0].Label {
					labels = append(labels, label.GetName())
				}
				found[of.GetName()+suffix] = labels
			}
		}
		return len(found) >= len(made(t))+2*histograms(t)
	}, 20*time.Second, 5*time.Millisecond)
	return found
}

func histograms(t *testing.T) (n int) {
	for _, of := range made(t) {
		if of.kind == "histogram" {
			n++
		}
	}
	return n
}

// namesOf are the series that a query names, and the labels that it needs of each.
func namesOf(t *testing.T, expr string) map[string][]string {
	t.Helper()
	expr = strings.NewReplacer("$__rate_interval", "1m", "$__range", "1h").Replace(expr)
	parsed, err := metricsql.Parse(expr)
	require.NoError(t, err, expr)
	found := map[string][]string{}
	var visit func(e metricsql.Expr, by []string)
	visit = func(e metricsql.Expr, by []string) {
		switch e := e.(type) {
		case *metricsql.AggrFuncExpr:
			for _, arg := range e.Args {
				visit(arg, append(slices.Clone(by), e.Modifier.Args...))
			}
		case *metricsql.FuncExpr:
			for _, arg := range e.Args {
				visit(arg, by)
			}
		case *metricsql.BinaryOpExpr:
			visit(e.Left, append(slices.Clone(by), e.GroupModifier.Args...))
			visit(e.Right, append(slices.Clone(by), e.GroupModifier.Args...))
		case *metricsql.RollupExpr:
			visit(e.Expr, by)
		case *metricsql.MetricExpr:
			name, labels := "", by
			for _, filter := range e.LabelFilterss[0] {
				if filter.Label == "__name__" {
					name = filter.Value
				} else {
					labels = append(slices.Clone(labels), filter.Label)
				}
			}
			slices.Sort(labels)
			found[name] = slices.Compact(labels)
		case *metricsql.NumberExpr, *metricsql.DurationExpr, *metricsql.StringExpr:
		default:
			require.Failf(t, "unknown expression", "%T in %s", e, expr)
		}
	}
	visit(parsed, nil)
	return found
}

// dashboard are the queries of the dashboard's panels, and their legends, by the panels'
// titles.
func dashboard(t *testing.T) (queries, legends map[string]string) {
	t.Helper()
	text, err := os.ReadFile("dashboard/distkit.json")
	require.NoError(t, err)
	var board struct {
		Panels []struct {
			Type, Title string
			Targets     []struct{ RefID, Expr, LegendFormat string }
		}
	}
	require.NoError(t, json.Unmarshal(text, &board))
	queries, legends = map[string]string{}, map[string]string{}
	for _, panel := range board.Panels {
		require.True(t, panel.Type == "row" || len(panel.Targets) > 0, panel.Title)
		for _, target := range panel.Targets {
			name := panel.Title + " " + target.RefID
			queries[name], legends[name] = target.Expr, target.LegendFormat
		}
	}
	require.Greater(t, len(queries), 20)
	return queries, legends
}

// alerts are the expressions of the alerts, and their summaries, by their names.
func alerts(t *testing.T) (rules, summaries map[string]string) {
	t.Helper()
	text, err := os.ReadFile("dashboard/alerts.yml")
	require.NoError(t, err)
	var file struct {
		Groups []struct {
			Rules []struct {
				Alert, Expr string
				Annotations struct{ Summary string }
			}
		}
	}
	require.NoError(t, yaml.Unmarshal(text, &file))
	rules, summaries = map[string]string{}, map[string]string{}
	for _, group := range file.Groups {
		for _, rule := range group.Rules {
			require.NotEmpty(t, rule.Annotations.Summary, rule.Alert)
			rules[rule.Alert], summaries[rule.Alert] = rule.Expr, rule.Annotations.Summary
		}
	}
	require.Greater(t, len(rules), 8)
	return rules, summaries
}
