package v1alpha1_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/util/json"
	utilyaml "k8s.io/apimachinery/pkg/util/yaml"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/pbx-operator/pbx-operator/api/v1alpha1"
)

var _ = Describe("Defaults", func() {
	It("complete an integration", func(ctx context.Context) {
		create(ctx, manifest(integration))
		var pbx v1alpha1.PBXIntegration
		Expect(kube.Get(ctx, client.ObjectKey{Namespace: "default", Name: "head-office"}, &pbx)).To(Succeed())
		Expect(pbx.Spec.PBX.RingMe.AccountID).To(Equal("@me"))
		Expect(pbx.Spec.PBX.RingMe.EventLimit).To(BeEquivalentTo(16))
		Expect(pbx.Spec.PBX.RingMe.RequestsPerMinute).To(BeEquivalentTo(120))
		Expect(pbx.Spec.Receiver.Replicas).To(BeEquivalentTo(1))
		Expect(pbx.Spec.Receiver.Storage.Size.String()).To(Equal("1Gi"))
		Expect(pbx.Spec.CallLegs).To(Equal(v1alpha1.CallLegs{
			Scope: v1alpha1.ScopeExternal, Publish: v1alpha1.PublishLive, MaxObjects: 2000,
			TTLAfterFinished:  &metav1.Duration{Duration: time.Hour},
			MissedGracePeriod: &metav1.Duration{Duration: 5 * time.Second},
			MaxDuration:       metav1.Duration{Duration: 4 * time.Hour},
			ForwardedOutside:  v1alpha1.CountAsMissed, SelfService: v1alpha1.CountAsAnswered,
		}))
		Expect(pbx.Spec.Backfill).To(Equal(v1alpha1.Backfill{Mode: v1alpha1.BackfillEnabled, After: &metav1.Duration{Duration: 30 * time.Second}}))
		Expect(pbx.Spec.Discovery).To(BeNil())
		Expect(pbx.Spec.DeletionPolicy).To(Equal(v1alpha1.DeletionDelete))
		Expect(pbx.Spec.Suspend).To(BeFalse())
	})

	It("make a mapping one of a phone", func(ctx context.Context) {
		create(ctx, manifest(mapping))
		var ann v1alpha1.ExtensionMapping
		Expect(kube.Get(ctx, client.ObjectKey{Namespace: "default", Name: "ann"}, &ann)).To(Succeed())
		Expect(ann.Spec.Extension.Type).To(Equal(v1alpha1.ExtensionPhone))
		Expect(ann.DesiredEvents()).To(HaveLen(4))
	})

	It("survive a patch made with the Go types", func(ctx context.Context) {
		for _, text := range []string{integration, voipNow, callable, linuxBox, mapping, command} {
			object := manifest(text)
			create(ctx, object)
			typed, err := kube.Scheme().New(object.GroupVersionKind())
			Expect(err).NotTo(HaveOccurred())
			kept, ok := typed.(client.Object)
			Expect(ok).To(BeTrue())
			Expect(kube.Get(ctx, client.ObjectKeyFromObject(object), kept)).To(Succeed())
			before, ok := kept.DeepCopyObject().(client.Object)
			Expect(ok).To(BeTrue())
			kept.SetFinalizers([]string{v1alpha1.Finalizer})
			Expect(kube.Patch(ctx, kept, client.MergeFrom(before))).To(Succeed())
			Expect(kept.GetGeneration()).To(BeEquivalentTo(1), "a patch of the metadata must not change the spec")
			kept.SetFinalizers(nil)
			Expect(kube.Update(ctx, kept)).To(Succeed())
		}
	})
})

var _ = Describe("A duration of zero", func() {
	It("is kept by an update made with the Go types", func(ctx context.Context) {
		pbx := manifest(voipNow)
		pbx.Object = patched(pbx.Object, `{"spec":{"callLegs":{"ttlAfterFinished":"0s","missedGracePeriod":"0s"},
			"discovery":{"gracePeriod":"0s"},"backfill":{"after":"0s"}}}`)
		create(ctx, pbx)
		var kept v1alpha1.PBXIntegration
		Expect(kube.Get(ctx, client.ObjectKeyFromObject(pbx), &kept)).To(Succeed())
		kept.Labels = map[string]string{"seen": "yes"}
		Expect(kube.Update(ctx, &kept)).To(Succeed())
		Expect(kept.Spec.CallLegs.Retention()).To(BeZero())
		Expect(kept.Spec.CallLegs.GracePeriod()).To(BeZero())
		Expect(kept.Spec.Discovery.Grace()).To(BeZero())
		Expect(kept.Spec.Backfill.ShortestOutage()).To(BeZero())
	})

	It("does not make a command immutable to its finalizers", func(ctx context.Context) {
		dial := manifest(command)
		dial.Object = patched(dial.Object, `{"spec":{"ttlAfterFinished":"0s"}}`)
		create(ctx, dial)
		var kept v1alpha1.CallCommand
		Expect(kube.Get(ctx, client.ObjectKeyFromObject(dial), &kept)).To(Succeed())
		kept.Labels = map[string]string{"seen": "yes"}
		Expect(kube.Update(ctx, &kept)).To(Succeed())
		Expect(kept.Spec.Retention()).To(BeZero())
	})
})

var _ = Describe("CallLegs in a list", func() {
	legs := map[string]v1alpha1.CallLegStatus{
		"answered": {Integration: "head-office", CallID: "c1", LegID: "l1", Kind: v1alpha1.LegExtension, Direction: v1alpha1.DirectionInbound, From: "+12025550143", To: "1234*101",
			Extension: "1234*101", User: "ann", Phase: v1alpha1.PhaseCompleted, Result: v1alpha1.ResultAnswered, TalkTime: new("60s"), Logged: true, Revision: 3},
		"missed": {CallID: "c2", LegID: "l2", Kind: v1alpha1.LegQueue, Direction: v1alpha1.DirectionInbound, From: "+12025550144", To: "1234*900",
			Extension: "1234*900", Phase: v1alpha1.PhaseCompleted, Result: v1alpha1.ResultMissed, Logged: true, Revision: 1},
		"ringing": {CallID: "c3", LegID: "l3", Kind: v1alpha1.LegExtension, Direction: v1alpha1.DirectionOutbound, From: "1234*102", To: "+12025550145",
			Extension: "1234*102", User: "ben", Phase: v1alpha1.PhaseRinging, Revision: 1},
	}

	BeforeEach(func(ctx context.Context) {
		for name, status := range legs {
			create(ctx, &v1alpha1.CallLeg{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name}, Status: status})
		}
	})

	DescribeTable("are found by field selectors",
		func(ctx context.Context, selector, wanted string) {
			var found v1alpha1.CallLegList
			Expect(kube.List(ctx, &found, client.InNamespace("default"), client.MatchingFieldsSelector{Selector: fields.ParseSelectorOrDie(selector)})).To(Succeed())
			Expect(found.Items).To(HaveLen(1))
			Expect(found.Items[0].Name).To(Equal(wanted))
		},
		Entry("result", "status.result=Missed", "missed"),
		Entry("no result yet", "status.result=", "ringing"),
		Entry("direction", "status.direction=Outbound", "ringing"),
		Entry("phase", "status.phase=Ringing", "ringing"),
		Entry("extension", "status.extension=1234*900", "missed"),
		Entry("user", "status.user=ann", "answered"),
		Entry("call", "status.callID=c3", "ringing"),
		Entry("integration", "status.integration=head-office", "answered"),
		Entry("two at once", "status.phase=Completed,status.result!=Missed", "answered"),
	)

	It("show who called whom and how it ended", func(ctx context.Context) {
		columns, rows := table(ctx, "calllegs")
		Expect(columns).To(Equal([]string{"Name", "Direction", "From", "To", "User", "Phase", "Result", "Talk", "Age"}))
		Expect(rows["answered"][1:8]).To(Equal([]any{"Inbound", "+12025550143", "1234*101", "ann", "Completed", "Answered", "60s"}))
		Expect(rows["missed"][1:4]).To(Equal([]any{"Inbound", "+12025550144", "1234*900"}))
		Expect(rows["ringing"][1:6]).To(Equal([]any{"Outbound", "1234*102", "+12025550145", "ben", "Ringing"}))
	})
})

var _ = Describe("Integrations and mappings in a list", func() {
	It("show what they are and whether they are ready", func(ctx context.Context) {
		pbx, ann := manifest(integration), manifest(mapping)
		create(ctx, pbx)
		create(ctx, ann)
		setStatus(ctx, pbx, `{"conditions":[{"type":"Ready","status":"True","reason":"Reconciled","message":"all is well","lastTransitionTime":"2026-01-02T10:00:00Z"}],
			"extensions":{"total":12,"ready":11},"receiver":{"replicas":1,"readyReplicas":1}}`)
		setStatus(ctx, ann, `{"conditions":[{"type":"Ready","status":"False","reason":"EventLimitReached","message":"16 of 16","lastTransitionTime":"2026-01-02T10:00:00Z"}],
			"registeredEvents":0,"agent":{"state":"Available","since":"2026-01-02T10:00:00Z"}}`)

		columns, rows := table(ctx, "pbxintegrations")
		Expect(columns).To(Equal([]string{"Name", "Type", "Ready", "Reason", "Extensions", "Of", "Receivers", "Age"}))
		Expect(rows["head-office"][1:7]).To(Equal([]any{"RingMe", "True", "Reconciled", int64(11), int64(12), int64(1)}))
		columns, rows = table(ctx, "extensionmappings")
		Expect(columns).To(Equal([]string{"Name", "Integration", "Extension", "Type", "User", "Ready", "Reason", "Events", "Agent", "Age"}))
		Expect(rows["ann"][1:9]).To(Equal([]any{"head-office", "1234*101", "Phone", "ann", "False", "EventLimitReached", int64(0), "Available"}))
	})

	It("find the mappings of an integration and of an extension by field selectors", func(ctx context.Context) {
		create(ctx, manifest(mapping))
		for selector, wanted := range map[string]int{
			"spec.integrationRef.name=head-office": 1, "spec.integrationRef.name=branch": 0,
			"spec.extension.number=1234*101": 1, "spec.extension.number=1234*102": 0,
		} {
			var found v1alpha1.ExtensionMappingList
			Expect(kube.List(ctx, &found, client.MatchingFieldsSelector{Selector: fields.ParseSelectorOrDie(selector)})).To(Succeed())
			Expect(found.Items).To(HaveLen(wanted), selector)
		}
	})
})

var _ = Describe("kubectl", func() {
	var kubectl func(ctx context.Context, args ...string) string

	BeforeEach(func(ctx context.Context) {
		file := filepath.Join(GinkgoT().TempDir(), "kubeconfig")
		Expect(os.WriteFile(file, cluster.KubeConfig, 0o600)).To(Succeed())
		kubectl = func(ctx context.Context, args ...string) string {
			GinkgoHelper()
			command := exec.CommandContext(ctx, filepath.Join(os.Getenv("KUBEBUILDER_ASSETS"), "kubectl"), append([]string{"--kubeconfig", file}, args...)...)
			output, err := command.CombinedOutput()
			Expect(err).NotTo(HaveOccurred(), string(output))
			return string(output)
		}
		create(ctx, manifest(integration))
		create(ctx, manifest(mapping))
	})

	It("finds an integration by its short name and its own name", func(ctx context.Context) {
		Expect(kubectl(ctx, "get", "pbx", "head-office", "-o", "name")).To(Equal("pbxintegration.pbx-operator.io/head-office\n"))
		Expect(kubectl(ctx, "get", "pbx/head-office", "extmap/ann", "-o", "name")).To(ContainSubstring("extensionmapping.pbx-operator.io/ann"))
	})

	It("deletes by the short name what the name says, and nothing else", func(ctx context.Context) {
		kubectl(ctx, "delete", "pbx", "--all")
		Expect(kubectl(ctx, "get", "telephony", "-o", "name")).To(Equal("extensionmapping.pbx-operator.io/ann\n"))
	})
})

var _ = Describe("The samples", func() {
	It("apply cleanly, twice", func(ctx context.Context) {
		files, err := filepath.Glob("../../config/samples/*.yaml")
		Expect(err).NotTo(HaveOccurred())
		var applied int
		for _, file := range files {
			if filepath.Base(file) == "kustomization.yaml" {
				continue
			}
			for _, object := range documents(file) {
				object.SetNamespace("default")
				for range 2 {
					Expect(kube.Apply(ctx, client.ApplyConfigurationFromUnstructured(object.DeepCopy()), client.FieldOwner("kubectl"))).To(Succeed(), file)
				}
				DeferCleanup(func(ctx context.Context) { Expect(kube.Delete(ctx, object)).To(Succeed()) })
				applied++
			}
		}
		Expect(applied).To(BeNumerically(">=", 5))
	})
})

func documents(file string) []*unstructured.Unstructured {
	GinkgoHelper()
	text, err := os.ReadFile(file)
	Expect(err).NotTo(HaveOccurred())
	decoder := utilyaml.NewYAMLOrJSONDecoder(bytes.NewReader(text), 4096)
	var found []*unstructured.Unstructured
	for {
		object := &unstructured.Unstructured{}
		err := decoder.Decode(object)
		if errors.Is(err, io.EOF) {
			return found
		}
		Expect(err).NotTo(HaveOccurred(), file)
		if len(object.Object) > 0 {
			found = append(found, object)
		}
	}
}

func setStatus(ctx context.Context, object *unstructured.Unstructured, status string) {
	GinkgoHelper()
	Expect(kube.Status().Patch(ctx, object, client.RawPatch("application/merge-patch+json", []byte(`{"status":`+status+`}`)))).To(Succeed())
}

// table lists a resource as kubectl does and returns the columns of its narrow form, and the cells
// by name.
func table(ctx context.Context, resource string) ([]string, map[string][]any) {
	GinkgoHelper()
	server, err := rest.HTTPClientFor(config)
	Expect(err).NotTo(HaveOccurred())
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, strings.TrimSuffix(config.Host, "/")+"/apis/pbx-operator.io/v1alpha1/namespaces/default/"+resource, nil)
	Expect(err).NotTo(HaveOccurred())
	request.Header.Set("Accept", "application/json;as=Table;v=v1;g=meta.k8s.io")
	response, err := server.Do(request)
	Expect(err).NotTo(HaveOccurred())
	defer func() { Expect(response.Body.Close()).To(Succeed()) }()
	raw, err := io.ReadAll(response.Body)
	Expect(err).NotTo(HaveOccurred())
	var got metav1.Table
	Expect(json.Unmarshal(raw, &got)).To(Succeed())
	var columns []string
	for _, column := range got.ColumnDefinitions {
		if column.Priority == 0 {
			columns = append(columns, column.Name)
		}
	}
	rows := map[string][]any{}
	for _, row := range got.Rows {
		name, _ := row.Cells[0].(string)
		rows[name] = row.Cells
	}
	return columns, rows
}
