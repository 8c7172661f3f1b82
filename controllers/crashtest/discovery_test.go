package crashtest_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/pbx-operator/pbx-operator/api/v1alpha1"
	"github.com/pbx-operator/pbx-operator/controllers/lifecycle"
	"github.com/pbx-operator/pbx-operator/hack/pbxsim/simclient"
)

func discovers(p *v1alpha1.PBXIntegration) {
	p.Spec.Backfill.Mode = v1alpha1.BackfillDisabled
	p.Spec.Discovery = &v1alpha1.Discovery{GracePeriod: &metav1.Duration{}}
}

// mapped are the mappings, each as one line.
func (s *site) mapped(ctx context.Context, g Gomega) []string {
	var list v1alpha1.ExtensionMappingList
	g.Expect(kube.List(ctx, &list, client.InNamespace(s.namespace))).To(Succeed())
	lines := make([]string, len(list.Items))
	for i, m := range list.Items {
		lines[i] = fmt.Sprint(m.Name, " ", m.Spec.Extension.Number, " ", m.Spec.User.Name, " vanished:", m.Annotations[v1alpha1.AnnotationVanished] != "")
	}
	slices.Sort(lines)
	return lines
}

func discoveryOutcome(ctx context.Context, s *site) string {
	GinkgoHelper()
	p := s.integration(ctx, Default)
	text := strings.Join(s.mapped(ctx, Default), "\n")
	if found := p.Status.Discovery; found != nil {
		text += fmt.Sprint("\n", found.Extensions, " cursor:", found.Cursor, " missing:", found.Missing)
	}
	if c := meta.FindStatusCondition(p.Status.Conditions, v1alpha1.ConditionDiscovered); c != nil {
		text += fmt.Sprint("\n", c.Status, c.Reason, c.Message)
	}
	return text
}

// shows waits until the mappings are those of these numbers, and the condition speaks of them.
func (s *site) shows(numbers ...string) func(context.Context, *site) {
	return func(ctx context.Context, s *site) {
		GinkgoHelper()
		Eventually(func(g Gomega) {
			var got []string
			for _, line := range s.mapped(ctx, g) {
				g.Expect(line).To(HaveSuffix("vanished:false"))
				got = append(got, strings.Fields(line)[1])
			}
			g.Expect(got).To(ConsistOf(numbers))
			p := s.integration(ctx, g)
			c := meta.FindStatusCondition(p.Status.Conditions, v1alpha1.ConditionDiscovered)
			g.Expect(c).To(HaveField("Reason", v1alpha1.ReasonDiscovered))
			g.Expect(p.Status.Discovery.Extensions).To(BeEquivalentTo(len(numbers)))
		}).Should(Succeed())
	}
}

// timePasses until the next list is due.
func timePasses(ctx context.Context, s *site) {
	GinkgoHelper()
	s.clock.forward(20 * time.Second)
	s.poke(ctx)
}

var phones = []string{"1234*101", "1234*102", "1234*103"}

var _ = Describe("Discovery by an operator that is killed after any of its writes", func() {
	all := (*site)(nil).shows(phones...)

	It("makes each mapping once", func(ctx SpecContext) {
		survives(ctx, scenario{
			change: discovers, act: func(context.Context, *site) {}, settle: all, outcome: discoveryOutcome,
		})
	})

	It("lets the mapping of an extension go that is gone", func(ctx SpecContext) {
		gone := (*site)(nil).shows(phones[1:]...)
		survives(ctx, scenario{
			change: discovers, prepare: all, outcome: discoveryOutcome,
			act: func(ctx context.Context, s *site) {
				Expect(s.pbx.Sim.DeleteExtension(ctx, 5101)).To(Succeed())
			},
			drive: timePasses,
			settle: func(ctx context.Context, s *site) {
				Eventually(func(g Gomega) {
					timePasses(ctx, s)
					g.Expect(s.mapped(ctx, g)).To(HaveLen(2))
				}, "30s", "500ms").Should(Succeed())
				gone(ctx, s)
			},
		})
	})

	It("gives way to a mapping that is written by hand", func(ctx SpecContext) {
		survives(ctx, scenario{
			change: discovers, prepare: all, outcome: discoveryOutcome,
			act: func(ctx context.Context, s *site) {
				Expect(kube.Create(ctx, &v1alpha1.ExtensionMapping{
					ObjectMeta: metav1.ObjectMeta{Namespace: s.namespace, Name: "ann"},
					Spec: v1alpha1.ExtensionMappingSpec{
						IntegrationRef: v1alpha1.IntegrationReference{Name: "office"},
						Extension:      v1alpha1.Extension{Number: "1234*101", Type: v1alpha1.ExtensionPhone},
						User:           &v1alpha1.User{Name: "ann"},
					},
				})).To(Succeed())
				_, err := s.pbx.Sim.AddExtensions(ctx, simclient.NewExtension{Number: "104"})
				Expect(err).NotTo(HaveOccurred())
				s.poke(ctx)
			},
			settle: (*site)(nil).shows(append(slices.Clone(phones), "1234*104")...),
		})
	})

	It("takes all back when it is turned off", func(ctx SpecContext) {
		survives(ctx, scenario{
			change: discovers, prepare: all, outcome: discoveryOutcome,
			act: func(ctx context.Context, s *site) {
				s.edit(ctx, func(p *v1alpha1.PBXIntegration) { p.Spec.Discovery = nil })
			},
			settle: func(ctx context.Context, s *site) {
				Eventually(func(g Gomega) {
					g.Expect(s.mapped(ctx, g)).To(BeEmpty())
					p := s.integration(ctx, g)
					g.Expect(p.Status.Discovery).To(BeNil())
					g.Expect(p.Status.Conditions).To(ConsistOf(HaveField("Type", v1alpha1.ConditionReady)))
				}).Should(Succeed())
			},
		})
	})
})

var _ = Describe("The status that controllers share", func() {
	It("is written by each for itself", func(ctx SpecContext) {
		s := newSite(ctx, discovers)
		s.report(ctx, func(p *v1alpha1.PBXIntegration) { p.Status.KeyGeneration = 7 })
		stale := s.integration(ctx, Default)
		s.start(ctx, unbroken())
		s.shows(phones...)(ctx, s)
		p := s.integration(ctx, Default)
		Expect(p.Status.KeyGeneration).To(BeEquivalentTo(7))
		Expect(meta.IsStatusConditionTrue(p.Status.Conditions, v1alpha1.ConditionReady)).To(BeTrue())
		Expect(p.Status.ObservedGeneration).To(BeZero())

		By("refusing the other controller what it saw before")
		before := stale.DeepCopy()
		lifecycle.SetCondition(stale, time.Now(), v1alpha1.ConditionReady, metav1.ConditionFalse, "Late", "of another controller")
		Expect(kube.Status().Patch(ctx, stale, client.MergeFromWithOptions(before, client.MergeFromWithOptimisticLock{}))).NotTo(Succeed())
		s.report(ctx, func(p *v1alpha1.PBXIntegration) {
			lifecycle.SetCondition(p, time.Now(), v1alpha1.ConditionReady, metav1.ConditionFalse, "InTime", "of another controller")
		})
		s.edit(ctx, func(p *v1alpha1.PBXIntegration) { p.Spec.Discovery = nil })
		Eventually(func(g Gomega) {
			p := s.integration(ctx, g)
			g.Expect(p.Status.Conditions).To(HaveLen(1))
			g.Expect(p.Status.Conditions[0].Reason).To(Equal("InTime"))
			g.Expect(p.Status.Discovery).To(BeNil())
		}).Should(Succeed())
	})
})
