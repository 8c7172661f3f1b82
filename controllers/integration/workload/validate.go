package workload

import (
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"net/url"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"github.com/pbx-operator/pbx-operator/api/v1alpha1"
	"github.com/pbx-operator/pbx-operator/receiver/eventurl"
)

// Validate checks what the schema of the CRD cannot, and says what to do about each fault. What is
// left over, such as the syntax of tolerations, the API server checks when the StatefulSet is
// applied.
func Validate(p *v1alpha1.PBXIntegration) error {
	receiver := p.Spec.Receiver
	return errors.Join(
		validateName(p.Name),
		validatePublicURL(receiver.PublicURL),
		validateSources(receiver.AllowedSources),
		validateNATS(receiver.Journal.NATS),
		validateTLS(receiver),
		validateAutoscaling(receiver),
		validateLabels(p),
	)
}

// validateName refuses what the name of a Service, which is made from it, may not begin with.
func validateName(name string) error {
	if name != "" && name[0] >= '0' && name[0] <= '9' {
		return fmt.Errorf("metadata.name: %q begins with a digit, which the name of a Service may not:"+
			" make a PBXIntegration whose name begins with a letter", name)
	}
	return nil
}

func validatePublicURL(publicURL string) error {
	parsed, err := url.Parse(publicURL)
	switch {
	case err != nil:
		return errors.New("spec.receiver.publicURL is not a URL")
	case parsed.User != nil:
		return errors.New("spec.receiver.publicURL holds a user name or password: leave it out, event URLs carry a token of their own")
	case strings.Contains(parsed.Path+"/", eventurl.PathPrefix):
		return fmt.Errorf("spec.receiver.publicURL contains %s, which the operator adds itself: leave it out", eventurl.PathPrefix)
	}
	return nil
}

func validateSources(sources []string) error {
	var faults []error
	for _, source := range sources {
		prefix, err := netip.ParsePrefix(source)
		switch {
		case err != nil:
			faults = append(faults, fmt.Errorf("spec.receiver.allowedSources: %q is no network in CIDR notation", source))
		case prefix.Masked() != prefix:
			faults = append(faults, fmt.Errorf("spec.receiver.allowedSources: %q has address bits beyond its mask: write %s", source, prefix.Masked()))
		}
	}
	return errors.Join(faults...)
}

func validateNATS(nats *v1alpha1.NATSJournal) error {
	if nats == nil {
		return nil
	}
	for server := range strings.SplitSeq(nats.URL, ",") {
		parsed, err := url.Parse(strings.TrimSpace(server))
		if err != nil || parsed.Hostname() == "" {
			return errors.New("spec.receiver.journal.nats.url: each of the comma separated servers needs a scheme and a host")
		}
		if parsed.User != nil {
			return errors.New("spec.receiver.journal.nats.url holds credentials: put them into a Secret and name it in credentialsSecretRef")
		}
	}
	return nil
}

func validateTLS(receiver v1alpha1.Receiver) error {
	ingress := receiver.Exposure.Ingress
	if ingress != nil && ingress.TLS != nil && strings.HasPrefix(receiver.PublicURL, "http:") {
		return errors.New("spec.receiver.exposure.ingress.tls is set, but publicURL is plain http: the PBX would be redirected or refused; use https")
	}
	return nil
}

// validateAutoscaling refuses a template by which no utilization can be told.
func validateAutoscaling(receiver v1alpha1.Receiver) error {
	if receiver.Autoscaling == nil {
		return nil
	}
	if _, requested := resources(receiver.Template.Resources).Requests[corev1.ResourceCPU]; !requested {
		return errors.New("spec.receiver.template.resources.requests has no cpu, of which spec.receiver.autoscaling keeps a percentage: set it")
	}
	return nil
}

// validateLabels keeps the template off the labels that Services and policies select pods by.
func validateLabels(p *v1alpha1.PBXIntegration) error {
	ours := Labels(p.Name)
	for _, label := range slices.Sorted(maps.Keys(p.Spec.Receiver.Template.Labels)) {
		if _, taken := ours[label]; taken {
			return fmt.Errorf("spec.receiver.template.labels: %s is set by the operator; choose another label", label)
		}
	}
	return nil
}
