package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"time"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"

	"github.com/pbx-operator/pbx-operator/receiver/callevent"
	"github.com/pbx-operator/pbx-operator/receiver/sources"
)

const (
	// extensions is the number of event URLs that form.lua calls.
	extensions = 32
	// memoryLimit is GOMEMLIMIT as the operator sets it for receivers by default: 90 % of 256 MiB.
	memoryLimit = 256 << 20 / 100 * 90

	readyPath = "/readyz"

	acceptedMetric   = "pbx_receiver_events_total"
	correlatedMetric = "pbx_receiver_call_events_correlated_total"
	legsMetric       = "pbx_receiver_leg_revisions_total"
	openMetric       = "pbx_receiver_open_calls"
	lagMetric        = "pbx_receiver_correlation_lag_seconds"
)

// server is a process that takes events.
type server struct {
	*process
	address string
	probes  string
}

// startBare starts the handler that does nothing.
func (b *bench) startBare(ctx context.Context) (*server, error) {
	return b.startSelf(ctx, serveBare)
}

// startLimit starts the least that makes events durable.
func (b *bench) startLimit(ctx context.Context) (*server, error) {
	return b.startSelf(ctx, serveLimit, filepath.Join(b.dir, "limit.log"))
}

// startIngest starts the front door of the receiver with nothing behind it.
func (b *bench) startIngest(ctx context.Context) (*server, error) {
	file, err := b.sourcesFile()
	if err != nil {
		return nil, err
	}
	dir := filepath.Join(b.dir, "ingest-data")
	return b.startSelf(ctx, serveIngest, file, dir)
}

func (b *bench) startSelf(ctx context.Context, kind string, args ...string) (*server, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, fmt.Errorf("cannot find this program: %w", err)
	}
	address, err := freeAddress(ctx)
	if err != nil {
		return nil, err
	}
	p, err := b.start(command{name: kind, path: self, args: append([]string{serveCommand, kind, address}, args...)})
	if err != nil {
		return nil, err
	}
	if err := p.awaitPort(ctx, address); err != nil {
		p.stop()
		return nil, err
	}
	return &server{process: p, address: address}, nil
}

// startReceiver starts the receiver itself, without Kubernetes and with a fresh journal.
func (b *bench) startReceiver(ctx context.Context, name string) (*server, error) {
	binary, err := b.build(ctx, "receiver", "./receiver")
	if err != nil {
		return nil, err
	}
	file, err := b.sourcesFile()
	if err != nil {
		return nil, err
	}
	address, err := freeAddress(ctx)
	if err != nil {
		return nil, err
	}
	probes, err := freeAddress(ctx)
	if err != nil {
		return nil, err
	}
	return b.startServer(ctx, address, probes, readyPath, command{
		name: name, path: binary,
		args: []string{
			"serve", "--sources-file=" + file, "--source-rate=0", "--data-dir=" + filepath.Join(b.dir, name+"-data"),
			"--listen=" + address, "--probe-listen=" + probes,
		},
		env: []string{"GOMEMLIMIT=" + strconv.Itoa(memoryLimit)},
	})
}

// startServer starts a command that takes events at address, and waits until it says at probes that
// it does.
func (b *bench) startServer(ctx context.Context, address, probes, ready string, c command) (*server, error) {
	p, err := b.start(c)
	if err != nil {
		return nil, err
	}
	if err := p.await(ctx, "http://"+probes+ready); err != nil {
		p.stop()
		return nil, err
	}
	return &server{process: p, address: address, probes: probes}, nil
}

// sourcesFile writes the event URLs that form.lua calls.
func (b *bench) sourcesFile() (string, error) {
	file := sources.File{PBX: "RingMe"}
	for i := range extensions {
		file.Sources = append(file.Sources, sources.FileSource{
			Token: fmt.Sprintf("%032d", i),
			Source: callevent.Source{
				Type: callevent.Phone, Number: fmt.Sprintf("1234*%d", 100+i), ID: strconv.Itoa(5100 + i), User: fmt.Sprintf("user-%d", i),
			},
		})
	}
	text, err := json.Marshal(file)
	if err != nil {
		return "", fmt.Errorf("cannot encode the event URLs: %w", err)
	}
	path := filepath.Join(b.dir, "sources.json")
	return path, os.WriteFile(path, text, 0o600)
}

// counts are what a receiver says of itself: what it has counted since its start, how many calls
// are open, and how many seconds correlation is behind.
type counts struct{ accepted, correlated, legs, open, lag float64 }

func (s *server) counts(ctx context.Context) (counts, error) {
	page, err := fetch(ctx, "http://"+s.probes+"/metrics")
	if err != nil {
		return counts{}, err
	}
	parser := expfmt.NewTextParser(model.UTF8Validation)
	families, err := parser.TextToMetricFamilies(bytes.NewReader(page))
	if err != nil {
		return counts{}, fmt.Errorf("cannot read the metrics of %s: %w", s.name, err)
	}
	return counts{
		accepted: total(families[acceptedMetric]), correlated: total(families[correlatedMetric]), legs: total(families[legsMetric]),
		open: total(families[openMetric]), lag: total(families[lagMetric]),
	}, nil
}

func total(family *dto.MetricFamily) float64 {
	var sum float64
	for _, metric := range family.GetMetric() {
		sum += metric.GetCounter().GetValue() + metric.GetGauge().GetValue()
	}
	return sum
}

// settle waits until the legs of all accepted events are in the LEGS log.
func (s *server) settle(ctx context.Context) (counts, error) {
	const limit, interval = 2 * time.Minute, 20 * time.Millisecond
	var now counts
	err := until(ctx, limit, interval, "the events that were accepted are to be correlated", func(ctx context.Context) (bool, error) {
		var err error
		if err = s.alive(); err == nil {
			now, err = s.counts(ctx)
		}
		return now.correlated >= now.accepted && now.lag == 0, err
	})
	return now, err
}
