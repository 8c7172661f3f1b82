package pbxapi

import (
	"net/http"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// Metrics measure the requests to PBXs. A nil *Metrics measures nothing.
type Metrics struct {
	requests *prometheus.CounterVec
	duration *prometheus.HistogramVec
}

// NewMetrics registers
//   - pbx_operator_pbx_requests_total{method, code}: answered requests, those for tokens included,
//   - pbx_operator_pbx_request_duration_seconds{method}: time to the head of the answer.
func NewMetrics(registry prometheus.Registerer) (*Metrics, error) {
	m := &Metrics{
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "pbx_operator_pbx_requests_total",
			Help: "Answered requests to the management APIs of PBXs, those for access tokens included.",
		}, []string{"method", "code"}),
		duration: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name:    "pbx_operator_pbx_request_duration_seconds",
			Help:    "Time from a request to a PBX to the head of its answer.",
			Buckets: []float64{0.01, 0.03, 0.1, 0.3, 1, 3, 10},
		}, []string{"method"}),
	}
	for _, collector := range []prometheus.Collector{m.requests, m.duration} {
		if err := registry.Register(collector); err != nil {
			return nil, err
		}
	}
	return m, nil
}

func (m *Metrics) around(next http.RoundTripper) http.RoundTripper {
	if m == nil {
		return next
	}
	return promhttp.InstrumentRoundTripperCounter(m.requests, promhttp.InstrumentRoundTripperDuration(m.duration, next))
}
