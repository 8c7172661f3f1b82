package lifecycle

import "github.com/prometheus/client_golang/prometheus"

// Metrics count what reconciliation came to.
type Metrics struct {
	outcomes *prometheus.CounterVec
}

// NewMetrics registers pbx_operator_reconcile_outcomes_total{controller, outcome, reason}. Outcome
// is one of done, terminal, waiting, transient, rate_limited, suspended, deleted and conflict;
// reason is that of the Ready condition.
func NewMetrics(registry prometheus.Registerer) (*Metrics, error) {
	metrics := &Metrics{outcomes: prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "pbx_operator_reconcile_outcomes_total",
		Help: "Passes of a controller over an object, by outcome and reason.",
	}, []string{"controller", "outcome", "reason"})}
	return metrics, registry.Register(metrics.outcomes)
}

func (m *Metrics) observe(controller string, result outcome) {
	if m != nil {
		m.outcomes.WithLabelValues(controller, string(result.kind), result.reason).Inc()
	}
}
