package main

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/pbx-operator/pbx-operator/controllers/integration/certificates"
	"github.com/pbx-operator/pbx-operator/receiver/correlation"
	"github.com/pbx-operator/pbx-operator/receiver/journal"
)

// ring is several receivers that keep the logs together, on loopback addresses of their own.
type ring []*child

// newRing prepares receivers with numbers from 0 on.
func newRing(t *testing.T, size int) ring {
	t.Helper()
	const mostMembers = 5
	hosts, peers := make([]string, mostMembers), make([]string, mostMembers)
	for i := range hosts {
		hosts[i] = "127.0.0." + strconv.Itoa(2+i)
		peers[i] = fmt.Sprintf("receiver-%d=%s", i, freeAddressOf(t, hosts[i]))
	}
	bundle, _, err := certificates.Renew(certificates.Bundle{}, hosts, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	r := make(ring, size)
	for i := range r {
		_, address, _ := strings.Cut(peers[i], "=")
		r[i] = newChild(t)
		r[i].environment = []string{"POD_NAME=receiver-" + strconv.Itoa(i)}
		r[i].arguments = []string{
			"--integration", "office", "--replicas", strconv.Itoa(size), "--peers", strings.Join(peers, ","),
			"--cluster-listen", address, "--cluster-certs", certificateDir(t, bundle),
		}
	}
	return r
}

func freeAddressOf(t *testing.T, host string) string {
	t.Helper()
	listener, err := net.Listen("tcp", host+":0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = listener.Close() }()
	return listener.Addr().String()
}

func certificateDir(t *testing.T, bundle certificates.Bundle) string {
	t.Helper()
	dir := t.TempDir()
	writeCertificates(t, dir, bundle)
	return dir
}

func writeCertificates(t *testing.T, dir string, bundle certificates.Bundle) {
	t.Helper()
	for name, text := range map[string][]byte{"ca.crt": bundle.Authorities, "tls.crt": bundle.Certificate, "tls.key": bundle.Key} {
		if err := os.WriteFile(filepath.Join(dir, name), text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// start returns when all of them are ready.
func (r ring) start(t testing.TB) {
	t.Helper()
	for _, c := range r {
		c.launch(t)
	}
	for _, c := range r {
		c.awaitReady(t)
	}
}

// awaitRevisions waits until the receivers that run have written so many revisions of legs since
// they started.
func (r ring) awaitRevisions(t *testing.T, wanted float64) {
	t.Helper()
	waitUntil(t, func() bool { return r.sum(t, "pbx_receiver_leg_revisions_total") >= wanted })
}

// sum adds a metric up over the receivers that run.
func (r ring) sum(t testing.TB, metric string) (sum float64) {
	t.Helper()
	for _, c := range r {
		if c.command != nil {
			sum += max(c.metric(t, metric), 0)
		}
	}
	return sum
}

// awaitCorrelation waits until every partition has an owner, and everything is correlated.
func (r ring) awaitCorrelation(t testing.TB) {
	t.Helper()
	waitUntil(t, func() bool { return r.sum(t, "pbx_receiver_partitions_owned") == journal.DefaultPartitions })
	for _, c := range r {
		if c.command != nil {
			c.awaitCorrelation(t)
		}
	}
}

var hungUp = strings.Replace(ringing, "EventType=dial-in", "EventType=hangup", 1)

// mustPost sends an event until it is taken: while a leader is elected it is not.
func (c *child) mustPost(t *testing.T, body string) {
	t.Helper()
	waitUntil(t, func() bool { return c.post(t, body) == http.StatusOK })
}

func TestThreeReceiversKeepTheLogsTogether(t *testing.T) {
	r := newRing(t, 3)
	r.start(t)
	r[1].mustPost(t, ringing)
	r.awaitRevisions(t, 1)
	r[2].kill()
	r[1].mustPost(t, hungUp)
	r[2].start(t)
	requireWhole(t, r.legs(t), 1)
}

// lastCaller tells the calls of all callers apart.
var lastCaller atomic.Int64

// load has callers send events to all receivers until it is stopped.
type load struct {
	callers []*caller
	total   atomic.Int64
	stop    func()
}

func (r ring) load(t *testing.T) *load {
	t.Helper()
	const each = 4
	l := &load{}
	ctx, cancel := context.WithCancel(t.Context())
	var working sync.WaitGroup
	l.stop = func() { cancel(); working.Wait() }
	t.Cleanup(l.stop)
	for _, c := range r {
		for range each {
			caller := &caller{id: int(lastCaller.Add(1)), address: c.address, total: &l.total}
			l.callers = append(l.callers, caller)
			working.Go(func() { caller.run(ctx) })
		}
	}
	return l
}

// await waits until so many more events are acknowledged.
func (l *load) await(t *testing.T, more int64) {
	t.Helper()
	target := l.total.Load() + more
	waitUntil(t, func() bool { return l.total.Load() >= target })
}

// legs are those of the cluster when everything is correlated. They are read in place of the last
// receiver, which ends for it.
func (r ring) legs(t *testing.T) []correlation.Leg {
	t.Helper()
	r.awaitCorrelation(t)
	last := r[len(r)-1]
	last.stop(t)
	t.Setenv("POD_NAME", "receiver-"+strconv.Itoa(len(r)-1))
	o, err := parseFlags(append([]string{"--sources-file", "none"}, last.arguments...), io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	return readLegsOf(t, journal.Config{Dir: filepath.Join(last.dir, "data"), Logger: discard(), Cluster: o.cluster()})
}

func TestAcknowledgedEventsSurviveTheKillOfOneReceiverAndOfAll(t *testing.T) {
	const step = 1500
	r := newRing(t, 3)
	r.start(t)
	l := r.load(t)
	for _, c := range r {
		l.await(t, step)
		c.kill()
		l.await(t, step) // the others go on
		t.Logf("ready again after %v", c.start(t).Round(time.Millisecond))
	}
	l.await(t, step)
	for _, c := range r {
		c.kill()
	}
	r.start(t)
	l.await(t, step)
	l.stop()
	verifyLegs(t, l.callers, r.legs(t), 7*step)
}

func TestAReceiverWhoseVolumeIsLostJoinsAnew(t *testing.T) {
	const step = 1000
	r := newRing(t, 3)
	r.start(t)
	l := r.load(t)
	for _, c := range r {
		l.await(t, step)
		c.kill()
		if err := os.RemoveAll(filepath.Join(c.dir, "data")); err != nil {
			t.Fatal(err)
		}
		c.start(t)
	}
	l.await(t, step)
	l.stop()
	verifyLegs(t, l.callers, r.legs(t), 4*step)
}

func TestAReceiverWithACertificateOfAnotherClusterIsRefused(t *testing.T) {
	r := newRing(t, 3)
	stranger, _, err := certificates.Renew(certificates.Bundle{}, []string{"127.0.0.4"}, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	r.start(t)
	r[2].kill()
	r[2].arguments = append(r[2].arguments, "--cluster-certs", certificateDir(t, stranger))
	r[2].launch(t)
	r[1].mustPost(t, ringing)
	r[:2].awaitRevisions(t, 1)
	if status := r[2].readiness(t); status != http.StatusServiceUnavailable {
		t.Errorf("the stranger answers %d", status)
	}
	// With one of its two members away, the cluster would need the stranger.
	r[1].kill()
	if status := r[0].post(t, hungUp); status != http.StatusServiceUnavailable {
		t.Errorf("status %d without a majority", status)
	}
}

// readiness is how a receiver that has just been started answers the probe.
func (c *child) readiness(t *testing.T) (status int) {
	t.Helper()
	waitUntil(t, func() bool {
		response, err := http.Get("http://" + c.probes + "/readyz")
		if err != nil {
			return false
		}
		status = response.StatusCode
		return response.Body.Close() == nil
	})
	return status
}

// resize has receivers start with another number of replicas.
func (r ring) resize(replicas int) {
	for _, c := range r {
		c.arguments = append(c.arguments, "--replicas", strconv.Itoa(replicas))
	}
}

func TestEventsAndOpenCallsStayWhenReceiversComeAndGo(t *testing.T) {
	const step = 1000
	r := newRing(t, 3)
	first := r[:1]
	first.resize(1)
	first.start(t)
	first[0].mustPost(t, ringing)
	first.awaitRevisions(t, 1)
	alone := first.load(t)
	alone.await(t, step)
	alone.stop()
	first[0].stop(t)

	r.resize(3)
	r.start(t)
	r[1].mustPost(t, hungUp)
	together := r.load(t)
	together.await(t, step)
	together.stop()
	r[0].awaitCorrelation(t)
	r[0].stop(t)

	first.resize(1)
	first.start(t)
	if status := r[1].post(t, ringing); status != http.StatusServiceUnavailable {
		t.Errorf("status %d of a receiver that is left behind", status)
	}
	again := first.load(t)
	again.await(t, step)
	again.stop()
	first[0].awaitCorrelation(t)
	first[0].stop(t)
	legs := readLegs(t, filepath.Join(first[0].dir, "data"))
	verifyLegs(t, slices.Concat(alone.callers, together.callers, again.callers), legs, 3*step)
	open := slices.IndexFunc(legs, func(leg correlation.Leg) bool { return leg.CallID == "c1" })
	if open < 0 || legs[open].Phase != correlation.Completed || len(legs[open].Events) != 2 {
		t.Errorf("the call that was open has become %+v", legs[max(open, 0)])
	}
}

// TestReceiversTakeOverNewCertificates replaces the files of receivers that run, as the kubelet
// does, and starts one of them again with an authority that only the new files know.
func TestReceiversTakeOverNewCertificates(t *testing.T) {
	r := newRing(t, 3)
	r.start(t)
	old := certificatesOf(t, r[0])
	fresh, _, err := certificates.Renew(certificates.Bundle{}, []string{"127.0.0.2", "127.0.0.3", "127.0.0.4"}, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	both := fresh
	both.Authorities = slices.Concat(fresh.Authorities, old.Authorities)
	for _, c := range r {
		writeCertificates(t, c.certificates(), both)
	}
	writeCertificates(t, r[2].certificates(), fresh)
	r[2].stop(t)
	r[2].start(t)
	r[2].mustPost(t, ringing)
}

// certificates is the directory of the receiver's.
func (c *child) certificates() string {
	return c.arguments[slices.Index(c.arguments, "--cluster-certs")+1]
}

func certificatesOf(t *testing.T, c *child) certificates.Bundle {
	t.Helper()
	authorities, err := os.ReadFile(filepath.Join(c.certificates(), "ca.crt"))
	if err != nil {
		t.Fatal(err)
	}
	return certificates.Bundle{Authorities: authorities}
}
