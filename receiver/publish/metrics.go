package publish

import (
	"net/http"
	"strconv"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"

	"github.com/pbx-operator/pbx-operator/api/v1alpha1"
)

// metrics of publication. Labels never carry numbers, names of people or ids of calls.
type metrics struct {
	published *prometheus.CounterVec
	writes    *prometheus.CounterVec
	dropped   *prometheus.CounterVec
	latency   prometheus.Histogram
	evictions prometheus.Counter
}

// Why a leg is not shown, as the label reason of pbx_receiver_callleg_dropped_total.
const (
	droppedLimit    = "limit"
	droppedRefused  = "refused"
	droppedDeleting = "deleting"
	droppedBehind   = "behind"
)

func newMetrics(registerer prometheus.Registerer, pending *pending, objects *objectCache) *metrics {
	factory := promauto.With(registerer)
	factory.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "pbx_receiver_callleg_objects", Help: "CallLeg objects of this integration, as far as this receiver knows.",
	}, func() float64 { return float64(objects.size()) })
	factory.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "pbx_receiver_callleg_pending", Help: "Call legs whose newest state is not at the API server yet.",
	}, func() float64 { return float64(pending.size()) })
	return &metrics{
		published: factory.NewCounterVec(prometheus.CounterOpts{
			Name: "pbx_receiver_legs_published_total", Help: "Finished call legs shown as CallLeg objects.",
		}, []string{"direction", "result"}),
		writes: factory.NewCounterVec(prometheus.CounterOpts{
			Name: "pbx_receiver_callleg_requests_total",
			Help: "Requests to the Kubernetes API about CallLeg objects; code is the HTTP status, or error where none came.",
		}, []string{"verb", "code"}),
		dropped: factory.NewCounterVec(prometheus.CounterOpts{
			Name: "pbx_receiver_callleg_dropped_total",
			Help: "States of call legs that are in the log but were not shown: limit, behind (newer ones came faster than the API server takes them), " +
				"refused by the API server, or integration being deleted.",
		}, []string{"reason"}),
		latency: factory.NewHistogram(prometheus.HistogramOpts{
			Name:    "pbx_receiver_callleg_publish_seconds",
			Help:    "Time from the write of a leg to the LEGS log to its write to the Kubernetes API.",
			Buckets: []float64{.01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60, 300},
		}),
		evictions: factory.NewCounter(prometheus.CounterOpts{
			Name: "pbx_receiver_callleg_evictions_total", Help: "Finished CallLeg objects deleted early, to stay below spec.callLegs.maxObjects.",
		}),
	}
}

func (m *metrics) request(verb string, err error) {
	m.writes.WithLabelValues(verb, codeLabel(verb, err)).Inc()
}

func codeLabel(verb string, err error) string {
	switch code := codeOf(err); {
	case err == nil && verb == verbCreate:
		return strconv.Itoa(http.StatusCreated)
	case err == nil:
		return strconv.Itoa(http.StatusOK)
	case code == 0:
		return "error"
	default:
		return strconv.Itoa(code)
	}
}

func (m *metrics) finished(status v1alpha1.CallLegStatus) {
	m.published.WithLabelValues(string(status.Direction), string(status.Result)).Inc()
}
