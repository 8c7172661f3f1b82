package ingest

import (
	"net/http"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/pbx-operator/pbx-operator/receiver/callevent"
)

// Metrics are the numbers of the intake of events.
type Metrics struct {
	requests    *prometheus.CounterVec
	events      *prometheus.CounterVec
	latency     prometheus.Histogram
	quarantined prometheus.Counter
	connections prometheus.Gauge
	closedEarly prometheus.Counter
	success     prometheus.Counter
	byType      map[callevent.Type]prometheus.Counter
	registerer  prometheus.Registerer
}

// NewMetrics makes the metrics and registers them; a nil registerer leaves that out.
func NewMetrics(registerer prometheus.Registerer) *Metrics {
	m := &Metrics{
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "pbx_receiver_requests_total", Help: "Requests to event URLs by the status code of the answer.",
		}, []string{"code"}),
		events: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "pbx_receiver_events_total", Help: "Call events made durable, by type.",
		}, []string{"type"}),
		latency: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "pbx_receiver_request_duration_seconds", Help: "Time from the headers of a request to its answer.",
			Buckets: []float64{.0001, .00025, .0005, .001, .0025, .005, .01, .025, .05, .1, .25, 1, 5},
		}),
		quarantined: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "pbx_receiver_quarantined_total", Help: "Requests that were not understood, and kept in the QUARANTINE log.",
		}),
		connections: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "pbx_receiver_connections", Help: "Open connections to the port for events.",
		}),
		closedEarly: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "pbx_receiver_connections_closed_total",
			Help: "Connections closed to make room for others: those that had called no valid event URL first.",
		}),
		registerer: registerer,
		byType:     make(map[callevent.Type]prometheus.Counter),
	}
	m.success = m.requests.WithLabelValues(strconv.Itoa(http.StatusOK))
	for _, t := range []callevent.Type{
		callevent.DialIn, callevent.DialOut, callevent.Answer, callevent.Hangup,
		callevent.CallStart, callevent.CallEnd, callevent.HasAnswered, callevent.Pickup, callevent.Progress, callevent.History,
		callevent.Agent, callevent.PhoneStatus, callevent.Message, callevent.Other,
	} {
		m.byType[t] = m.events.WithLabelValues(string(t))
	}
	if registerer != nil {
		registerer.MustRegister(m.requests, m.events, m.latency, m.quarantined, m.connections, m.closedEarly)
	}
	return m
}

func (m *Metrics) answered(code int, took time.Duration) {
	if code == http.StatusOK {
		m.success.Inc()
	} else {
		m.requests.WithLabelValues(strconv.Itoa(code)).Inc()
	}
	m.latency.Observe(took.Seconds())
}

func (m *Metrics) took(events []callevent.Event) {
	for i := range events {
		counter, ok := m.byType[events[i].Type]
		if !ok { // the types are few, and none comes from the wire
			counter = m.events.WithLabelValues(string(events[i].Type))
		}
		counter.Inc()
	}
}

// observeBodies shows how much of a budget for bodies is taken.
func (m *Metrics) observeBodies(bodies *budget) {
	if m.registerer == nil {
		return
	}
	m.registerer.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "pbx_receiver_body_bytes_in_flight", Help: "Bytes of memory that bodies of more than 1 KiB take at the moment.",
	}, func() float64 { return float64(bodies.used.Load()) }))
}
