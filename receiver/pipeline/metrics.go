package pipeline

import "github.com/prometheus/client_golang/prometheus"

// Metrics are the pipeline's own numbers.
type Metrics struct {
	events      prometheus.Counter
	legs        prometheus.Counter
	reloaded    prometheus.Counter
	closedEarly prometheus.Counter
	parked      prometheus.Counter
	overLimit   prometheus.Counter
	undecodable prometheus.Counter
	failures    prometheus.Counter
	delay       prometheus.Histogram
}

// NewMetrics makes the metrics and registers them; a nil registerer leaves that out.
func NewMetrics(registerer prometheus.Registerer) *Metrics {
	counter := func(name, help string) prometheus.Counter {
		return prometheus.NewCounter(prometheus.CounterOpts{Name: "pbx_receiver_" + name, Help: help})
	}
	m := &Metrics{
		events:      counter("call_events_correlated_total", "Call events that were given to their calls, repetitions included."),
		legs:        counter("leg_revisions_total", "Revisions of legs written to the LEGS log."),
		reloaded:    counter("calls_reloaded_total", "Calls read back from the logs because an event came after they had been forgotten."),
		closedEarly: counter("calls_closed_early_total", "Calls that were closed with an unknown result because more were open than there is room for."),
		parked:      counter("call_events_parked_total", "Call events left out because their call was set aside: it cannot be correlated, or a log refuses it."),
		overLimit:   counter("call_events_over_limit_total", "Call events left out because their call already had the most events that one call may have."),
		undecodable: counter("stored_undecodable_total", "Stored requests that could not be decoded any more."),
		failures:    counter("pipeline_failures_total", "Passes of the pipeline that failed and were repeated."),
		delay: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "pbx_receiver_correlation_delay_seconds", Help: "Time from the receipt of a call event to its correlation.",
			Buckets: []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 60},
		}),
	}
	if registerer != nil {
		registerer.MustRegister(m.events, m.legs, m.closedEarly, m.parked, m.reloaded, m.overLimit, m.undecodable, m.failures, m.delay)
	}
	return m
}
