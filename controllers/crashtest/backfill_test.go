package crashtest_test

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/pbx-operator/pbx-operator/api/v1alpha1"
	"github.com/pbx-operator/pbx-operator/controllers/backfill"
	"github.com/pbx-operator/pbx-operator/controllers/crashtest"
	"github.com/pbx-operator/pbx-operator/hack/pbxsim/simclient"
	"github.com/pbx-operator/pbx-operator/receiver/callhistory"
	"github.com/pbx-operator/pbx-operator/receiver/eventurl"
)

func unbroken() *crashtest.Fuse { return crashtest.NewFuse(-1) }

// receiver keeps the records that it is sent, each once, as the real one does.
type receiver struct {
	url  string
	ring eventurl.Ring

	mu      sync.Mutex
	records map[string]callhistory.Record
}

func newReceiver() *receiver {
	GinkgoHelper()
	key, err := eventurl.NewKey(1, "office")
	Expect(err).NotTo(HaveOccurred())
	r := &receiver{ring: eventurl.Ring{key}, records: map[string]callhistory.Record{}}
	server := httptest.NewServer(r)
	DeferCleanup(server.Close)
	r.url = server.URL
	return r
}

// ServeHTTP takes records.
func (r *receiver) ServeHTTP(w http.ResponseWriter, request *http.Request) {
	var records []callhistory.Record
	if json.NewDecoder(request.Body).Decode(&records) != nil || !strings.HasSuffix(request.URL.Path, callhistory.Path) {
		w.WriteHeader(http.StatusNotFound)
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, record := range records {
		r.records[record.ID] = record
	}
}

func (r *receiver) legs() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Sorted(maps.Keys(r.records))
}

// Get gives the sender the keys of the event URLs.
func (r *receiver) Get(context.Context, types.NamespacedName) (*corev1.Secret, error) {
	return &corev1.Secret{Data: r.ring.Data()}, nil
}

func (r *receiver) sender(fuse *crashtest.Fuse) backfill.Sender {
	return backfill.Sender{
		Secrets: r, HTTP: &http.Client{Transport: fuse}, Address: func(*v1alpha1.PBXIntegration) string { return r.url },
	}
}

// calls are how many were made in the outage: more than fit a page.
const calls = 5

// outage has calls made while the receiver is away, and reports that it is back.
func outage(ctx context.Context, s *site) {
	GinkgoHelper()
	for range calls {
		_, err := s.pbx.Sim.Place(ctx, simclient.CallRequest{Scenario: "S1", Speed: 1e6, Wait: true})
		Expect(err).NotTo(HaveOccurred())
	}
	began, ended := metav1.NewTime(time.Now().Add(-5*time.Minute)), metav1.NewTime(time.Now().Add(5*time.Minute))
	s.clock.forward(10 * time.Minute)
	s.report(ctx, func(p *v1alpha1.PBXIntegration) {
		p.Status.Events = &v1alpha1.EventsStatus{FirstTime: &began, Outage: &v1alpha1.Outage{Start: began, End: ended}}
		meta.SetStatusCondition(&p.Status.Conditions, metav1.Condition{
			Type: v1alpha1.ConditionReceiverAvailable, Status: metav1.ConditionTrue, Reason: "ReceiverAvailable", Message: "it takes events",
		})
	})
}

// anHourPasses, after which the history is read once more.
func anHourPasses(ctx context.Context, s *site) {
	GinkgoHelper()
	s.clock.forward(time.Hour)
	s.poke(ctx)
}

var _ = Describe("Backfill by an operator that is killed after any of its writes", func() {
	It("hands over every call of an outage", func(ctx SpecContext) {
		survives(ctx, scenario{
			change: func(p *v1alpha1.PBXIntegration) {
				p.Spec.PBX.RingMe.Registration = v1alpha1.RegistrationAccount
			},
			act: outage, drive: anHourPasses,
			settle: func(ctx context.Context, s *site) {
				GinkgoHelper()
				for reads := int32(1); reads <= 3; reads++ {
					Eventually(func(g Gomega) {
						filled := s.integration(ctx, g).Status.Backfill
						g.Expect(filled).NotTo(BeNil())
						g.Expect(filled.Reads).To(BeNumerically(">=", reads))
					}).Should(Succeed())
					anHourPasses(ctx, s)
				}
			},
			outcome: func(ctx context.Context, s *site) string {
				GinkgoHelper()
				p := s.integration(ctx, Default)
				Expect(s.receiver.legs()).To(HaveLen(calls))
				c := meta.FindStatusCondition(p.Status.Conditions, v1alpha1.ConditionBackfilled)
				Expect(c).NotTo(BeNil())
				filled := p.Status.Backfill
				return fmt.Sprint(c.Status, c.Reason, " ", filled.Records, " records, ", filled.Reads, " reads, cursor:", filled.Cursor)
			},
		})
	})
})
