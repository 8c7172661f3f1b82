package integration_test

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/pbx-operator/pbx-operator/api/v1alpha1"
	"github.com/pbx-operator/pbx-operator/controllers/integration"
	"github.com/pbx-operator/pbx-operator/controllers/integration/keyring"
	"github.com/pbx-operator/pbx-operator/controllers/pbxapi"
	simexchange "github.com/pbx-operator/pbx-operator/hack/pbxsim/exchange"
	"github.com/pbx-operator/pbx-operator/hack/pbxsim/sim"
	"github.com/pbx-operator/pbx-operator/hack/pbxsim/simclient"
	"github.com/pbx-operator/pbx-operator/hack/pbxsim/simtest"
	"github.com/pbx-operator/pbx-operator/receiver/eventurl"
)

// account is a simulated account with a registration of somebody else.
type account struct{ *simtest.PBX }

const foreignURL = "https://crm.example.com/hook?id=7"

func newAccount(ctx context.Context) account {
	GinkgoHelper()
	a := account{simtest.Start(GinkgoT(), sim.Config{})}
	elsewhere := newIntegration("elsewhere", a.wanted(v1alpha1.RegistrationAccount))
	elsewhere.UID = types.UID(a.URL)
	other, err := pbx.simulated.Client(elsewhere, a.credentials())
	Expect(err).NotTo(HaveOccurred())
	_, err = other.Register(ctx, pbxapi.AccountOwner, pbxapi.Registration{Event: v1alpha1.EventHangup, URL: foreignURL, Method: http.MethodPost})
	Expect(err).NotTo(HaveOccurred())
	DeferCleanup(a.inspect)
	return a
}

// inspect checks what must hold at the end of every test.
func (a account) inspect(ctx context.Context) {
	Expect(a.held(ctx, Default)).To(ContainElement("POST hangup "+foreignURL), "a registration of somebody else is gone")
	requests, err := a.Sim.Requests(ctx)
	Expect(err).NotTo(HaveOccurred())
	Expect(requests.CollectionDeletes).To(BeZero())
}

func (a account) credentials() map[string][]byte {
	return map[string][]byte{"clientID": []byte(a.ClientID), "clientSecret": []byte(a.ClientSecret)}
}

// wanted is an integration with this account.
func (a account) wanted(scope v1alpha1.RegistrationScope) func(*v1alpha1.PBXIntegration) {
	return func(p *v1alpha1.PBXIntegration) {
		p.Spec.PBX.RingMe.URL, p.Spec.PBX.RingMe.Registration = a.URL, scope
		p.Spec.PBX.RingMe.RequestsPerMinute = 60000
	}
}

// create makes the integration, its credentials and a receiver.
func (a account) create(ctx context.Context, change ...func(*v1alpha1.PBXIntegration)) *v1alpha1.PBXIntegration {
	GinkgoHelper()
	p := newIntegration(newNamespace(ctx), slices.Concat([]func(*v1alpha1.PBXIntegration){a.wanted(v1alpha1.RegistrationAccount)}, change)...)
	secret := credentials(p.Namespace)
	secret.Data = a.credentials()
	Expect(api.Create(ctx, secret)).To(Succeed())
	Expect(api.Create(ctx, p)).To(Succeed())
	if p.Labels[byHand] == "" {
		rollOut(ctx, p)
	}
	return p
}

func (a account) deploy(ctx context.Context, change ...func(*v1alpha1.PBXIntegration)) *v1alpha1.PBXIntegration {
	GinkgoHelper()
	p := a.create(ctx, change...)
	shows(ctx, p, ready, metav1.ConditionTrue, v1alpha1.ReasonReconciled)
	return p
}

// held is what the account carries.
func (a account) held(ctx context.Context, g Gomega) []string {
	list, err := a.Sim.Registrations(ctx)
	g.Expect(err).NotTo(HaveOccurred())
	held := []string{}
	for _, r := range list {
		if r.Owner.Scope == simexchange.OnAccount {
			held = append(held, r.Method+" "+r.EventType+" "+r.URL)
		}
	}
	return held
}

func accountRegistrations(url string) []string {
	held := []string{"POST hangup " + foreignURL}
	for _, event := range []string{"dial-in", "dial-out", "answer", "hangup", "extension-call-status"} {
		held = append(held, "POST "+event+" "+url)
	}
	return held
}

// carries waits until the account carries our registrations under a URL, each once.
func (a account) carries(ctx context.Context, url string) {
	GinkgoHelper()
	Eventually(func(g Gomega) { g.Expect(a.held(ctx, g)).To(ConsistOf(accountRegistrations(url))) }).Should(Succeed())
}

func (a account) carriesNothing(ctx context.Context) {
	GinkgoHelper()
	Eventually(func(g Gomega) { g.Expect(a.held(ctx, g)).To(ConsistOf("POST hangup " + foreignURL)) }).Should(Succeed())
}

func (a account) fault(ctx context.Context, faults ...simclient.Fault) {
	GinkgoHelper()
	_, err := a.Sim.SetFaults(ctx, faults...)
	Expect(err).NotTo(HaveOccurred())
}

// looks is how often the account was asked what it carries, and changes how often it was asked to
// carry something else.
func (a account) looks(ctx context.Context) (looks, changes int) {
	GinkgoHelper()
	requests, err := a.Sim.Requests(ctx)
	Expect(err).NotTo(HaveOccurred())
	for route, counted := range requests.Routes {
		switch {
		case !strings.Contains(route, "phone_events"):
		case strings.HasPrefix(route, http.MethodGet):
			looks += counted.Count
		default:
			changes += counted.Count
		}
	}
	return looks, changes
}

// counts waits for status.registeredEvents; nil is none.
func counts(ctx context.Context, p *v1alpha1.PBXIntegration, want *int32) {
	GinkgoHelper()
	Eventually(func(g Gomega) {
		g.Expect(api.Get(ctx, client.ObjectKeyFromObject(p), p)).To(Succeed())
		g.Expect(p.Status.RegisteredEvents).To(Equal(want))
	}).Should(Succeed())
}

func registrationScope(ctx context.Context, p *v1alpha1.PBXIntegration, scope v1alpha1.RegistrationScope) {
	GinkgoHelper()
	edit(ctx, p, func(p *v1alpha1.PBXIntegration) { p.Spec.PBX.RingMe.Registration = scope })
}

var _ = Describe("The registrations of a whole account", func() {
	var five = new(int32(5))

	It("are made once each, and counted when they exist", func(ctx SpecContext) {
		a := newAccount(ctx)
		a.fault(ctx, simclient.Fault{Method: http.MethodPost, Path: "phone_events", Kind: simclient.FaultStatus, Status: 503, Skip: 3})
		p := a.create(ctx)
		shows(ctx, p, ready, metav1.ConditionFalse, v1alpha1.ReasonPBXUnreachable)
		Expect(p.Status.RegisteredEvents).To(HaveValue(BeZero()), "three of five would be taken for all")
		a.fault(ctx)
		now.advance(time.Minute)
		nudge(ctx, p)
		shows(ctx, p, ready, metav1.ConditionTrue, v1alpha1.ReasonReconciled)
		counts(ctx, p, five)
		a.carries(ctx, urlUnder(ctx, p, 1))
	})

	It("are made once each although answers get lost and requests come late", func(ctx SpecContext) {
		a := newAccount(ctx)
		a.fault(ctx, simclient.Fault{Method: http.MethodPost, Path: "phone_events", Kind: simclient.FaultResetAfter, Count: 2})
		p := a.create(ctx)
		for lost := 1; lost <= 2; lost++ {
			Eventually(func(g Gomega) {
				faults, err := a.Sim.Faults(ctx)
				g.Expect(err).NotTo(HaveOccurred())
				g.Expect(faults).To(ConsistOf(HaveField("Hits", BeNumerically(">=", lost))))
			}).Should(Succeed())
			now.advance(10 * time.Second)
			nudge(ctx, p)
		}
		shows(ctx, p, ready, metav1.ConditionTrue, v1alpha1.ReasonReconciled)
		counts(ctx, p, five)
		a.carries(ctx, urlUnder(ctx, p, 1))
	})

	It("cost one look an interval, a second one after a change, and no write", func(ctx SpecContext) {
		a := newAccount(ctx)
		p := a.create(ctx, func(p *v1alpha1.PBXIntegration) { p.Labels = map[string]string{byHand: "yes"} })
		controller := controllerOn(api)
		Expect(pass(ctx, controller, p)).To(Succeed())
		converge(ctx, controller, p)
		a.carries(ctx, urlUnder(ctx, p, 1))
		looks, changes := a.looks(ctx)
		again := func(after time.Duration, want int) {
			GinkgoHelper()
			now.advance(after)
			version := p.ResourceVersion
			for range 3 {
				Expect(pass(ctx, controller, p)).To(Succeed())
			}
			gotLooks, gotChanges := a.looks(ctx)
			Expect(gotLooks-looks).To(Equal(want), "looks of three passes after %s", after)
			Expect(gotChanges).To(Equal(changes))
			Expect(api.Get(ctx, client.ObjectKeyFromObject(p), p)).To(Succeed())
			Expect(p.ResourceVersion).To(Equal(version))
			looks = gotLooks
		}
		again(0, 0)
		again(30*time.Second, 1)
		again(10*time.Minute, 0)
		again(time.Hour, 1)
		again(time.Hour, 1)
	})

	It("come back when somebody deletes or doubles them", func(ctx SpecContext) {
		a := newAccount(ctx)
		p := a.deploy(ctx)
		counts(ctx, p, five)
		list, err := a.Sim.Registrations(ctx)
		Expect(err).NotTo(HaveOccurred())
		for _, r := range list {
			if r.URL != foreignURL && r.EventType == "hangup" {
				Expect(a.Sim.DeleteRegistration(ctx, r.ID)).To(Succeed())
			}
		}
		other, err := pbx.simulated.Client(p, a.credentials())
		Expect(err).NotTo(HaveOccurred())
		double := pbxapi.Registration{Event: v1alpha1.EventAnswer, URL: urlUnder(ctx, p, 1), Method: http.MethodPost}
		_, err = other.Register(ctx, pbxapi.AccountOwner, double)
		Expect(err).NotTo(HaveOccurred())
		now.advance(time.Hour)
		newMapping(ctx, p, "ann") // any change asks for the next pass
		a.carries(ctx, urlUnder(ctx, p, 1))
		announces(ctx, p, v1alpha1.ReasonDriftCorrected, ContainSubstring("account-wide registrations"))
		counts(ctx, p, five)
	})

	It("move with publicURL", func(ctx SpecContext) {
		a := newAccount(ctx)
		p := a.deploy(ctx)
		edit(ctx, p, func(p *v1alpha1.PBXIntegration) { p.Spec.Receiver.PublicURL = "https://other.example.org" })
		a.carries(ctx, urlUnder(ctx, p, 1))
		Expect(urlUnder(ctx, p, 1)).To(HavePrefix("https://other.example.org/"))
	})

	It("move to a new key, which does not replace the old one before that", func(ctx SpecContext) {
		a := newAccount(ctx)
		p := a.deploy(ctx)
		counts(ctx, p, five)
		old := urlUnder(ctx, p, 1)
		a.fault(ctx, simclient.Fault{Method: http.MethodPost, Path: "phone_events", Kind: simclient.FaultStatus, Status: 503})
		rotate(ctx, p, "a")
		Eventually(func() eventurl.Ring { return keys(ctx, p) }).Should(HaveLen(2))
		now.advance(keyring.Announce)
		nudge(ctx, p)
		shows(ctx, p, ready, metav1.ConditionFalse, v1alpha1.ReasonPBXUnreachable)
		now.advance(2 * keyring.Overlap)
		nudge(ctx, p)
		settled(p.Namespace)
		Expect(keys(ctx, p)).To(HaveLen(2))
		Expect(a.held(ctx, Default)).To(ConsistOf(accountRegistrations(old)))
		Expect(p.Status.RegisteredEvents).To(Equal(five))

		By("moving when the PBX lets them")
		a.fault(ctx)
		now.advance(time.Minute)
		nudge(ctx, p)
		shows(ctx, p, ready, metav1.ConditionTrue, v1alpha1.ReasonReconciled)
		a.carries(ctx, urlUnder(ctx, p, 2))
		now.advance(keyring.Overlap)
		nudge(ctx, p)
		Eventually(func() eventurl.Ring { return keys(ctx, p) }).Should(HaveLen(1))
		a.carries(ctx, urlUnder(ctx, p, 2))
	})

	It("are not looked for on an ordinary integration", func(ctx SpecContext) {
		a := newAccount(ctx)
		p := a.deploy(ctx, a.wanted(v1alpha1.RegistrationExtension))
		report(ctx, newMapping(ctx, p, "ann"), 4, 1, metav1.ConditionTrue, v1alpha1.ReasonRegistered)
		nudge(ctx, p)
		settled(p.Namespace)
		looks, changes := a.looks(ctx)
		Expect(looks).To(BeZero())
		Expect(changes).To(Equal(1), "that of somebody else")
		Expect(p.Status.RegisteredEvents).To(BeNil())
	})

	It("go when no phone needs them any more, and not before", func(ctx SpecContext) {
		a := newAccount(ctx)
		p := a.deploy(ctx)
		ann, bob := newMapping(ctx, p, "ann"), newMapping(ctx, p, "bob")
		withAgent := func() {
			GinkgoHelper()
			before := bob.DeepCopy()
			bob.Status.AgentID = "77"
			Expect(api.Status().Patch(ctx, bob, client.MergeFrom(before))).To(Succeed())
		}
		report(ctx, ann, 0, 1, metav1.ConditionTrue, v1alpha1.ReasonRegistered)
		report(ctx, bob, 2, 1, metav1.ConditionTrue, v1alpha1.ReasonRegistered)
		withAgent()
		registrationScope(ctx, p, v1alpha1.RegistrationExtension)
		report(ctx, ann, 4, 1, metav1.ConditionTrue, v1alpha1.ReasonRegistered)
		settled(p.Namespace)
		Expect(a.held(ctx, Default)).To(ConsistOf(accountRegistrations(urlUnder(ctx, p, 1))), "bob has the registrations of his queue agent only")

		report(ctx, bob, 6, 1, metav1.ConditionFalse, v1alpha1.ReasonPBXUnreachable)
		settled(p.Namespace)
		Expect(a.held(ctx, Default)).To(HaveLen(6))
		report(ctx, ann, 0, 1, metav1.ConditionTrue, v1alpha1.ReasonRegistered)
		report(ctx, bob, 6, 1, metav1.ConditionTrue, v1alpha1.ReasonRegistered)
		settled(p.Namespace)
		Expect(a.held(ctx, Default)).To(HaveLen(6))
		report(ctx, ann, 4, 1, metav1.ConditionTrue, v1alpha1.ReasonRegistered)
		a.carriesNothing(ctx)
		counts(ctx, p, nil)
		shows(ctx, p, ready, metav1.ConditionTrue, v1alpha1.ReasonReconciled)

		By("coming back with the mode")
		registrationScope(ctx, p, v1alpha1.RegistrationAccount)
		a.carries(ctx, urlUnder(ctx, p, 1))
		counts(ctx, p, five)
	})

	It("are refused with advice", func(ctx SpecContext) {
		a := newAccount(ctx)
		a.fault(ctx, simclient.Fault{Path: "phone_events", Kind: simclient.FaultStatus, Status: 403})
		p := a.create(ctx)
		shows(ctx, p, stalled, metav1.ConditionTrue, v1alpha1.ReasonPBXRefused)
		Expect(message(p, ready)).To(ContainSubstring("set spec.pbx.ringMe.registration to Extension"))
		a.fault(ctx)
	})

	It("are left alone by a pass over what is not so any more", func(ctx SpecContext) {
		a := newAccount(ctx)
		p := a.deploy(ctx, func(p *v1alpha1.PBXIntegration) { p.Spec.DeletionPolicy = v1alpha1.DeletionDelete })
		counts(ctx, p, five)
		settled(p.Namespace)
		stale := p.DeepCopy()
		registrationScope(ctx, p, v1alpha1.RegistrationExtension)
		a.carriesNothing(ctx)
		_, before := a.looks(ctx)
		_, err := controllerOn(api).Handler.Reconcile(ctx, stale)
		Expect(apierrors.IsConflict(err)).To(BeTrue(), "%v", err)
		_, after := a.looks(ctx)
		Expect(after).To(Equal(before))
	})

	It("are there once each when the manager dies at any write", func(ctx SpecContext) {
		for writes := range firstPass + 2 {
			a := newAccount(ctx)
			p := a.create(ctx, func(p *v1alpha1.PBXIntegration) { p.Labels = map[string]string{byHand: "yes"} })
			process := mortal(writes, writes%2 == 0)
			for range 2 {
				_ = pass(ctx, controllerOn(process), p)
			}
			By("changing its mind at the worst moment")
			registrationScope(ctx, p, v1alpha1.RegistrationExtension)
			converge(ctx, controllerOn(api), p)
			Expect(pass(ctx, controllerOn(api), p)).To(Succeed())
			Expect(a.held(ctx, Default)).To(HaveLen(1), "died at write %d", writes+1)
			registrationScope(ctx, p, v1alpha1.RegistrationAccount)
			Expect(pass(ctx, controllerOn(api), p)).To(Succeed())
			converge(ctx, controllerOn(api), p)
			Expect(a.held(ctx, Default)).To(ConsistOf(accountRegistrations(urlUnder(ctx, p, 1))), "died at write %d", writes+1)
			Expect(p.Status.RegisteredEvents).To(Equal(five))
		}
	})

	Context("of an integration that is deleted", func() {
		It("go with it", func(ctx SpecContext) {
			a := newAccount(ctx)
			p := a.deploy(ctx)
			counts(ctx, p, five)
			Expect(api.Delete(ctx, p)).To(Succeed())
			gone(ctx, p)
			a.carriesNothing(ctx)
		})

		It("go although the Secrets are deleted first", func(ctx SpecContext) {
			a := newAccount(ctx)
			p := a.deploy(ctx)
			counts(ctx, p, five)
			Expect(api.Delete(ctx, credentials(p.Namespace))).To(Succeed())
			Expect(api.Delete(ctx, p)).To(Succeed())
			gone(ctx, p)
			a.carriesNothing(ctx)
		})

		It("stay where they are to, and are named", func(ctx SpecContext) {
			a := newAccount(ctx)
			p := a.deploy(ctx, func(p *v1alpha1.PBXIntegration) { p.Spec.DeletionPolicy = v1alpha1.DeletionOrphan })
			url := urlUnder(ctx, p, 1)
			counts(ctx, p, five)
			Expect(api.Delete(ctx, p)).To(Succeed())
			gone(ctx, p)
			Expect(a.held(ctx, Default)).To(ConsistOf(accountRegistrations(url)))
			announces(ctx, p, v1alpha1.ReasonRegistrationsLeft, And(ContainSubstring("deletionPolicy is Orphan"), ContainSubstring("ids ")))
		})

		It("are tried until the deadline on a PBX that does not answer, and named then", func(ctx SpecContext) {
			a := newAccount(ctx)
			p := a.deploy(ctx)
			counts(ctx, p, five)
			a.fault(ctx, simclient.Fault{Method: http.MethodDelete, Path: "phone_events", Kind: simclient.FaultStatus, Status: 503, Skip: 2})
			Expect(api.Delete(ctx, p)).To(Succeed())
			shows(ctx, p, v1alpha1.ConditionReconciling, metav1.ConditionTrue, v1alpha1.ReasonDeleting)
			now.advance(integration.DeletionDeadline)
			nudge(ctx, p)
			gone(ctx, p)
			Expect(a.held(ctx, Default)).To(HaveLen(4))
			ids := []string{}
			list, err := a.Sim.Registrations(ctx)
			Expect(err).NotTo(HaveOccurred())
			for _, r := range list {
				if r.Owner.Scope == simexchange.OnAccount && r.URL != foreignURL {
					ids = append(ids, fmt.Sprint(r.ID))
				}
			}
			announces(ctx, p, v1alpha1.ReasonRegistrationsLeft, ContainSubstring("ids "+strings.Join(ids, ", ")))
		})

		It("are named at once where the Secrets are gone for good", func(ctx SpecContext) {
			a := newAccount(ctx)
			p := a.create(ctx, func(p *v1alpha1.PBXIntegration) { p.Labels = map[string]string{byHand: "yes"} })
			controller := controllerOn(api)
			Expect(pass(ctx, controller, p)).To(Succeed())
			converge(ctx, controller, p)
			Expect(p.Status.RegisteredEvents).To(Equal(five))
			secret := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: p.Namespace, Name: eventurl.SecretName(p.Name)}}
			Expect(api.Delete(ctx, secret)).To(Succeed())
			Expect(api.Delete(ctx, p)).To(Succeed())
			done, err := controllerOn(api).Handler.Finalize(ctx, deleted(ctx, p))
			Expect(err).NotTo(HaveOccurred())
			Expect(done.Notice.Reason).To(Equal(v1alpha1.ReasonRegistrationsLeft))
			Expect(done.Notice.Message).To(And(ContainSubstring("no key ring"), ContainSubstring("ids are unknown")))
			Expect(pass(ctx, controllerOn(api), p)).To(Succeed())
			gone(ctx, p)
		})
	})
})

// deleted is the integration as it is while its finalizer keeps it.
func deleted(ctx context.Context, p *v1alpha1.PBXIntegration) *v1alpha1.PBXIntegration {
	GinkgoHelper()
	Expect(api.Get(ctx, client.ObjectKeyFromObject(p), p)).To(Succeed())
	Expect(p.DeletionTimestamp).NotTo(BeNil())
	return p
}
