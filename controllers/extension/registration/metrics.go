package registration

import "github.com/prometheus/client_golang/prometheus"

// Metrics count what was done to registrations. A nil *Metrics counts nothing.
type Metrics struct {
	changes *prometheus.CounterVec
	drift   prometheus.Counter
	left    prometheus.Counter
}

// NewMetrics registers
//   - pbx_operator_registration_changes_total{operation="create"|"update"|"delete"},
//   - pbx_operator_registration_drift_total: passes that found the PBX to differ although nothing
//     had been changed here,
//   - pbx_operator_registrations_left_total: mappings and integrations that were let go with
//     registrations left on the PBX although they were to be deleted.
func NewMetrics(registry prometheus.Registerer) (*Metrics, error) {
	m := &Metrics{
		changes: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "pbx_operator_registration_changes_total",
			Help: "Event registrations created, updated and deleted on PBXs, by operation.",
		}, []string{"operation"}),
		drift: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "pbx_operator_registration_drift_total",
			Help: "Passes that found the registrations on a PBX to differ although nothing had been changed here, and corrected them.",
		}),
		left: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "pbx_operator_registrations_left_total",
			Help: "Mappings and integrations that were let go with registrations left on the PBX although they were to be deleted.",
		}),
	}
	for _, collector := range []prometheus.Collector{m.changes, m.drift, m.left} {
		if err := registry.Register(collector); err != nil {
			return nil, err
		}
	}
	return m, nil
}

// Changed counts a change.
func (m *Metrics) Changed(operation Operation) {
	if m != nil {
		m.changes.WithLabelValues(string(operation)).Inc()
	}
}

// Drifted counts a pass that corrected what nothing here had changed.
func (m *Metrics) Drifted() {
	if m != nil {
		m.drift.Inc()
	}
}

// LeftBehind counts an object that was let go although registrations of it may be left.
func (m *Metrics) LeftBehind() {
	if m != nil {
		m.left.Inc()
	}
}
