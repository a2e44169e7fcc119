package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/distkit/distkit-go"
	distkitotel "github.com/distkit/distkit-go/otel"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	otelprometheus "go.opentelemetry.io/otel/exporters/prometheus"
	"go.opentelemetry.io/otel/sdk/metric"
)

// service counts views, which may be late, and sells, which may not.
type service struct {
	system  *distkit.System
	views   *distkit.Windows // lax, by day
	metrics http.Handler
	watch   *watch
	stop    []func()
}

// keepDays is how long a day's views are kept.
const keepDays = 30 * 24 * time.Hour

// newService has open make its System, with what it wants of it.
func newService(open func(...distkit.Option) (*distkit.System, error)) (*service, error) {
	registry := prometheus.NewRegistry()
	exporter, err := otelprometheus.New(otelprometheus.WithRegisterer(registry))
	if err != nil {
		return nil, err
	}
	provider := metric.NewMeterProvider(metric.WithReader(exporter))
	instruments, err := distkitotel.New(distkitotel.WithMeterProvider(provider))
	if err != nil {
		return nil, err
	}
	system, err := open(distkit.WithProbe(instruments.Probe()))
	if err != nil {
		return nil, err
	}
	s := &service{system: system, metrics: promhttp.HandlerFor(registry, promhttp.HandlerOpts{}), watch: &watch{}}
	s.stop = append(s.stop, func() { _ = provider.Shutdown(context.Background()) }, system.Subscribe(s.watch.event))
	unobserve, err := instruments.Observe(system)
	if err != nil {
		return nil, errors.Join(err, system.Shutdown(context.Background()))
	}
	s.stop = append(s.stop, unobserve)
	s.views, err = system.Lax().Per(distkit.Daily(time.UTC), keepDays)
	return s, err
}

// close lets go of what watches the System, which stays.
func (s *service) close() {
	for i := len(s.stop) - 1; i >= 0; i-- {
		s.stop[i]()
	}
}

func (s *service) handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("POST /view/{page}", s.view)
	mux.HandleFunc("POST /buy/{item}", s.buy)
	mux.HandleFunc("GET /{$}", s.page)
	mux.Handle("GET /metrics", s.metrics)
	mux.HandleFunc("GET /healthz", func(http.ResponseWriter, *http.Request) {}) // it runs: no reason to restart it
	mux.HandleFunc("GET /readyz", s.ready)
	return mux
}

func (s *service) view(w http.ResponseWriter, r *http.Request) {
	key, err := distkit.ParseKey(r.PathValue("page"))
	if err == nil {
		err = s.views.Add(key, 1)
	}
	answer(w, nil, err)
}

func (s *service) buy(w http.ResponseWriter, r *http.Request) {
	key, err := distkit.ParseKey(r.PathValue("item"))
	var sold int64
	if err == nil {
		sold, err = s.system.Strict().Inc(r.Context(), key, 1)
	}
	answer(w, map[string]int64{"sold": sold}, err)
}

// answer tells a client that is to try again from one that is not.
func answer(w http.ResponseWriter, body any, err error) {
	switch {
	case err == nil && body == nil:
		w.WriteHeader(http.StatusNoContent)
	case err == nil:
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(body)
	case errors.Is(err, distkit.ErrInvalidKey):
		http.Error(w, err.Error(), http.StatusBadRequest)
	default: // not applied, or nobody knows: the text says which
		http.Error(w, err.Error(), http.StatusServiceUnavailable)
	}
}

// ready says whether strict calls would be answered. It makes one first: after an outage
// in which all callers gave up, Health fails until the writer has had an answer.
func (s *service) ready(w http.ResponseWriter, r *http.Request) {
	ctx, cancel := context.WithTimeout(r.Context(), time.Second)
	defer cancel()
	_, _ = s.system.Strict().Get(ctx, distkit.MustKey("ready"))
	if err := s.system.Health(ctx); err != nil {
		http.Error(w, err.Error(), http.StatusServiceUnavailable)
		return
	}
	fmt.Fprintln(w, "ready")
}
