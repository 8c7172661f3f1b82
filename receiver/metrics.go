package main

import (
	"context"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/pbx-operator/pbx-operator/receiver/journal"
	"github.com/pbx-operator/pbx-operator/receiver/sources"
)

// journalMetrics are the numbers of the commits.
type journalMetrics struct {
	records *prometheus.HistogramVec
	took    *prometheus.HistogramVec
	failed  *prometheus.CounterVec
}

func newJournalMetrics(registerer prometheus.Registerer) *journalMetrics {
	m := &journalMetrics{
		records: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "pbx_receiver_commit_records", Help: "Records made durable by one commit.",
			Buckets: []float64{1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024},
		}, []string{"log"}),
		took: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "pbx_receiver_commit_duration_seconds", Help: "Time that one commit took, its fsync included.",
			Buckets: []float64{.0001, .00025, .0005, .001, .0025, .005, .01, .025, .05, .1, .25, 1, 5},
		}, []string{"log"}),
		failed: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "pbx_receiver_commit_failures_total", Help: "Commits that failed; their requests were answered 503.",
		}, []string{"log"}),
	}
	registerer.MustRegister(m.records, m.took, m.failed)
	return m
}

func (m *journalMetrics) committed(log journal.Log, records, _ int, took time.Duration, err error) {
	if err != nil {
		m.failed.WithLabelValues(string(log)).Inc()
		return
	}
	m.records.WithLabelValues(string(log)).Observe(float64(records))
	m.took.WithLabelValues(string(log)).Observe(took.Seconds())
}

// logCollector reports how full the logs are.
type logCollector struct {
	journal                     *journal.Journal
	records, bytes, limit, last *prometheus.Desc
}

const scrapeTimeout = 2 * time.Second

func newLogCollector(j *journal.Journal) *logCollector {
	describe := func(name, help string) *prometheus.Desc {
		return prometheus.NewDesc("pbx_receiver_log_"+name, help, []string{"log"}, nil)
	}
	return &logCollector{
		journal: j,
		records: describe("records", "Records in a log; one of EVENTS holds all events of a commit."),
		bytes:   describe("bytes", "Size of a log."),
		limit:   describe("limit_bytes", "Size at which a log takes no more, or discards its oldest records."),
		last:    describe("last_sequence", "Sequence of the newest record of a log."),
	}
}

// Describe implements prometheus.Collector.
func (c *logCollector) Describe(descriptions chan<- *prometheus.Desc) {
	for _, description := range []*prometheus.Desc{c.records, c.bytes, c.limit, c.last} {
		descriptions <- description
	}
}

// Collect implements prometheus.Collector. A log that cannot be looked at is left out.
func (c *logCollector) Collect(metrics chan<- prometheus.Metric) {
	ctx, cancel := context.WithTimeout(context.Background(), scrapeTimeout)
	defer cancel()
	for _, log := range []journal.Log{journal.Events, journal.Legs, journal.Calls, journal.Agents, journal.Quarantine} {
		stats, err := c.journal.Stats(ctx, log)
		if err != nil {
			continue
		}
		for description, value := range map[*prometheus.Desc]uint64{c.records: stats.Records, c.bytes: stats.Bytes, c.limit: stats.Limit, c.last: stats.Last} {
			metrics <- prometheus.MustNewConstMetric(description, prometheus.GaugeValue, float64(value), string(log))
		}
	}
}

// agentCollector counts the queue agents.
type agentCollector struct {
	watch *sources.Watch
	// counts reports whether this receiver is the one that counts.
	counts func() bool
	agents *prometheus.Desc
}

func newAgentCollector(watch *sources.Watch, counts func() bool) *agentCollector {
	const help = "Queue agents by the state that the status of their mapping shows."
	return &agentCollector{watch: watch, counts: counts, agents: prometheus.NewDesc("pbx_receiver_agents", help, []string{"state"}, nil)}
}

// Describe implements prometheus.Collector.
func (c *agentCollector) Describe(descriptions chan<- *prometheus.Desc) { descriptions <- c.agents }

// Collect implements prometheus.Collector.
func (c *agentCollector) Collect(metrics chan<- prometheus.Metric) {
	if !c.counts() {
		return
	}
	for state, count := range c.watch.AgentStates() {
		metrics <- prometheus.MustNewConstMetric(c.agents, prometheus.GaugeValue, float64(count), string(state))
	}
}

// correlationCollector reports how correlation fares.
type correlationCollector struct {
	receiver                              *receiver
	lag, stalled, unread, parked, damaged *prometheus.Desc
}

func newCorrelationCollector(r *receiver) *correlationCollector {
	describe := func(name, help string) *prometheus.Desc {
		return prometheus.NewDesc("pbx_receiver_"+name, help, nil, nil)
	}
	return &correlationCollector{
		receiver: r,
		lag:      describe("correlation_lag_seconds", "Age of the oldest event that is not correlated yet; 0 if there is none."),
		stalled:  describe("correlation_stalled_seconds", "Time since which nothing was correlated although there were events to read."),
		unread:   describe("unread_commits", "Commits of the EVENTS log that are not correlated yet."),
		parked:   describe("parked_calls", "Calls that were set aside since the start because they cannot be correlated or stored."),
		damaged:  describe("damaged_records_total", "Records of the logs that could not be read and were skipped."),
	}
}

// Describe implements prometheus.Collector.
func (c *correlationCollector) Describe(descriptions chan<- *prometheus.Desc) {
	for _, description := range []*prometheus.Desc{c.lag, c.stalled, c.unread, c.parked, c.damaged} {
		descriptions <- description
	}
}

// Collect implements prometheus.Collector. A receiver that does not correlate has nothing to
// report.
func (c *correlationCollector) Collect(metrics chan<- prometheus.Metric) {
	correlator := c.receiver.correlator.Load()
	if correlator == nil {
		return
	}
	status := correlator.Status()
	gauge := func(description *prometheus.Desc, value float64) {
		metrics <- prometheus.MustNewConstMetric(description, prometheus.GaugeValue, value)
	}
	gauge(c.lag, status.Lag.Seconds())
	gauge(c.stalled, c.receiver.stalled(time.Now()).Seconds())
	gauge(c.unread, float64(status.Unread))
	gauge(c.parked, float64(status.ParkedCalls))
	metrics <- prometheus.MustNewConstMetric(c.damaged, prometheus.CounterValue, float64(status.Damaged))
}

// degradedCollector reports what is wrong with the receiver.
type degradedCollector struct{ monitor *monitor }

var degraded = prometheus.NewDesc("pbx_receiver_degraded", "1 for each reason for which the condition Degraded is True.", []string{"reason"}, nil)

// Describe implements prometheus.Collector.
func (c *degradedCollector) Describe(descriptions chan<- *prometheus.Desc) { descriptions <- degraded }

// Collect implements prometheus.Collector.
func (c *degradedCollector) Collect(metrics chan<- prometheus.Metric) {
	seen := map[string]bool{}
	for _, reason := range c.monitor.reasons() {
		if !seen[reason] {
			metrics <- prometheus.MustNewConstMetric(degraded, prometheus.GaugeValue, 1, reason)
		}
		seen[reason] = true
	}
}
