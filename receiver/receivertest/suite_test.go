package receivertest

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/log"

	"github.com/pbx-operator/pbx-operator/api/v1alpha1"
)

func TestReceiver(t *testing.T) {
	RegisterFailHandler(Fail)
	log.SetLogger(GinkgoLogr)
	SetDefaultEventuallyTimeout(time.Minute) // the machine may be busy
	RunSpecs(t, "Receiver")
}

var kubernetes *cluster

var _ = BeforeSuite(func(ctx context.Context) {
	var err error
	kubernetes, err = startCluster(ctx, GinkgoT().TempDir())
	Expect(err).NotTo(HaveOccurred())
})

var _ = AfterSuite(func() {
	if kubernetes != nil {
		Expect(kubernetes.environment.Stop()).To(Succeed())
	}
})

// running is an integration whose receiver takes events.
func running(ctx context.Context, pbx v1alpha1.PBX) *office {
	GinkgoHelper()
	o, err := kubernetes.open(ctx, GinkgoT().TempDir(), pbx)
	Expect(err).NotTo(HaveOccurred())
	DeferCleanup(o.kill)
	begin(ctx, o)
	return o
}

func begin(ctx context.Context, o *office) {
	GinkgoHelper()
	Expect(o.start()).To(Succeed())
	Eventually(func() (int, string) { return do(ctx, http.MethodGet, "http://"+o.probes+"/readyz", "", "") }).Should(Equal(http.StatusOK))
}

const inJSON = "application/json"

// ringing is a call to a number at extension 201, as Callable tells of it.
func ringing(call, to string) string {
	return fmt.Sprintf(`[{"parentCallSid":%[1]q,"callSid":%[1]q,"event":"call","status":"trying","from":"12025550143","to":%[2]q,"timestamp":%[3]d},
{"parentCallSid":%[1]q,"callSid":"b-%[1]s","childSid":"x","event":"phone","status":"connected","extension":"201","from":"12025550143","to":%[2]q,"timestamp":%[3]d}]`,
		call, to, time.Now().UnixMilli())
}

var _ = Describe("A receiver of an account", func() {
	It("knows whose the events are, and follows the settings", func(ctx SpecContext) {
		o := running(ctx, v1alpha1.PBX{Type: v1alpha1.PBXTypeCallable})
		Expect(o.staff(ctx, "ann", "201", "")).To(Succeed())
		Consistently(func() (v1alpha1.EventsStatus, error) { return o.events(ctx) }, time.Second).Should(BeZero())
		before := time.Now().Truncate(time.Second)
		call := 0
		Eventually(func(g Gomega) {
			call++ // until the mapping is known
			g.Expect(o.send(ctx, inJSON, ringing(fmt.Sprint("c", call), "442079460900"))).To(Equal(http.StatusOK))
			g.Eventually(func() ([]string, error) { return o.legs(ctx) }).WithTimeout(5 * time.Second).
				Should(ContainElement(fmt.Sprintf("c%d Device Inbound Answered of ann", call)))
		}).Should(Succeed())
		Eventually(func(g Gomega) {
			events, err := o.events(ctx)
			g.Expect(err).NotTo(HaveOccurred())
			g.Expect(events.FirstTime).NotTo(BeNil())
			g.Expect(events.FirstTime.Time).To(And(BeTemporally(">=", before), BeTemporally("<=", time.Now())))
		}).Should(Succeed())

		Expect(o.admin.Get(ctx, client.ObjectKeyFromObject(o.pbx), o.pbx)).To(Succeed())
		o.pbx.Spec.PBX.Callable = &v1alpha1.Callable{OwnNumbers: []string{"12025550143"}}
		Expect(o.admin.Update(ctx, o.pbx)).To(Succeed())
		Eventually(func(g Gomega) {
			call++
			g.Expect(o.send(ctx, inJSON, ringing(fmt.Sprint("d", call), "442079460900"))).To(Equal(http.StatusOK))
			g.Eventually(func() ([]string, error) { return o.legs(ctx) }).WithTimeout(5 * time.Second).
				Should(ContainElement(HavePrefix(fmt.Sprintf("d%d Trunk Outbound", call))))
		}).Should(Succeed())
	})

	It("says for how long it took no events", func(ctx SpecContext) {
		o := running(ctx, v1alpha1.PBX{Type: v1alpha1.PBXTypeCallable})
		Expect(o.send(ctx, inJSON, ringing("c1", "442079460900"))).To(Equal(http.StatusOK))
		var first v1alpha1.EventsStatus
		Eventually(func(g Gomega) {
			var err error
			first, err = o.events(ctx)
			g.Expect(err).NotTo(HaveOccurred())
			g.Expect(first.FirstTime).NotTo(BeNil())
		}).Should(Succeed())
		Expect(first.Outage).To(BeNil())
		o.kill()
		Expect(o.forget(time.Minute)).To(Succeed())
		begin(ctx, o)
		Eventually(func(g Gomega) {
			events, err := o.events(ctx)
			g.Expect(err).NotTo(HaveOccurred())
			g.Expect(events.Outage).NotTo(BeNil())
			g.Expect(events.Outage.End.Sub(events.Outage.Start.Time)).To(BeNumerically("~", time.Minute, 30*time.Second))
			g.Expect(events.FirstTime).To(Equal(first.FirstTime))
		}).Should(Succeed())
	})

	It("shows the statuses of phones and counts queue agents", func(ctx SpecContext) {
		o := running(ctx, v1alpha1.PBX{Type: v1alpha1.PBXTypeRingMe, RingMe: &v1alpha1.RingMe{
			URL: "https://pbx.example.com", CredentialsSecretRef: v1alpha1.SecretReference{Name: "office-pbx"},
		}})
		Expect(o.staff(ctx, "ann", "1234*101", "5101")).To(Succeed())
		const form, change = "application/x-www-form-urlencoded", "event_type=call-status-change&extension_id=5101&extension_name=1234*101&old_status_id=&new_status_id="
		mapping := func() (v1alpha1.ExtensionMappingStatus, error) {
			var ann v1alpha1.ExtensionMapping
			err := o.admin.Get(ctx, client.ObjectKey{Namespace: o.pbx.Namespace, Name: "ann"}, &ann)
			return ann.Status, err
		}
		minute := 0
		say := func(body string) {
			minute++
			Expect(o.send(ctx, form, fmt.Sprintf("%s&change_dt=2026-01-02+10:%02d:00", body, minute))).To(Equal(http.StatusOK))
		}
		Eventually(func(g Gomega) { // until the mapping is known
			say(change + "7")
			g.Eventually(func() (string, error) {
				status, err := mapping()
				if status.Phone == nil {
					return "", err
				}
				return status.Phone.ID, err
			}).WithTimeout(5 * time.Second).Should(Equal("7"))
		}).Should(Succeed())
		say(change + "null")
		Eventually(func() (*v1alpha1.PhoneStatus, error) { status, err := mapping(); return status.Phone, err }).Should(BeNil())
		Expect(o.send(ctx, form, "agent_id=77&agent_status=available&extension_name=1234*101@sip.example.com")).To(Equal(http.StatusOK))
		Eventually(func() bool { return strings.Contains(o.metrics(ctx), `pbx_receiver_agents{state="Available"} 1`) }).Should(BeTrue())
		Expect(o.metrics(ctx)).To(ContainSubstring(`pbx_receiver_agents{state="LoggedOut"} 0`))
	})
})
