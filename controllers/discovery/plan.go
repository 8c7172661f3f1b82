package discovery

import (
	"crypto/sha256"
	"encoding/hex"
	"path"
	"slices"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/pbx-operator/pbx-operator/api/v1alpha1"
	"github.com/pbx-operator/pbx-operator/controllers/pbxapi"
)

// Plan is the way from the mappings that there are to those that there should be.
type Plan struct {
	// Wanted is how many of the extensions found are of the types and numbers asked for.
	Wanted int
	Create []*v1alpha1.ExtensionMapping
	// Delete are discovered mappings that hand-written ones replace, that the spec does not ask for any more, or whose extension has been
	// gone for the grace period.
	Delete []*v1alpha1.ExtensionMapping
	// Vanished and Returned are discovered mappings whose extension has gone from the PBX, or come back to it.
	Vanished, Returned []*v1alpha1.ExtensionMapping
	// NextEnd is when the next grace period is over; zero where none runs.
	NextEnd time.Time
}

// Decide compares the extensions that the PBX has with the mappings of the integration. It is a pure function; the mappings are not
// changed.
func Decide(p *v1alpha1.PBXIntegration, found []pbxapi.Extension, mappings []v1alpha1.ExtensionMapping, now time.Time) Plan {
	d := decision{integration: p, now: now, present: map[string]bool{}, handWritten: map[string]bool{}}
	for _, extension := range found {
		d.present[extension.Number] = true
	}
	for i := range mappings {
		if !isDiscovered(&mappings[i], p) && mappings[i].DeletionTimestamp.IsZero() {
			d.handWritten[mappings[i].Spec.Extension.Number] = true
		}
	}
	mapped := map[string]bool{}
	for i := range mappings {
		mapped[mappings[i].Spec.Extension.Number] = true
		if isDiscovered(&mappings[i], p) && mappings[i].DeletionTimestamp.IsZero() {
			d.judge(&mappings[i])
		}
	}
	for _, extension := range found {
		if !d.wants(extension.Number, extension.Type) {
			continue
		}
		d.Wanted++
		if !mapped[extension.Number] {
			mapped[extension.Number] = true
			d.Create = append(d.Create, newMapping(p, extension))
		}
	}
	return d.Plan
}

// isDiscovered tells whether discovery made a mapping for this integration. One whose label was taken off counts as hand-written.
func isDiscovered(mapping *v1alpha1.ExtensionMapping, p *v1alpha1.PBXIntegration) bool {
	return mapping.Labels[v1alpha1.LabelDiscovered] != "" && metav1.IsControlledBy(mapping, p)
}

type decision struct {
	Plan
	integration *v1alpha1.PBXIntegration
	now         time.Time
	present     map[string]bool
	handWritten map[string]bool
}

// wants tells whether the spec asks for an extension.
func (d *decision) wants(number string, kind v1alpha1.ExtensionType) bool {
	asked := d.integration.Spec.Discovery
	if asked == nil || !slices.Contains(asked.Types, kind) {
		return false
	}
	return len(asked.Numbers) == 0 || slices.ContainsFunc(asked.Numbers, func(pattern string) bool { return matches(pattern, number) })
}

// matches compares with a pattern in which * stands for any characters.
func matches(pattern, number string) bool {
	ok, err := path.Match(pattern, number)
	return ok && err == nil
}

// judge says what becomes of a discovered mapping.
func (d *decision) judge(mapping *v1alpha1.ExtensionMapping) {
	since, marked := vanishedSince(mapping)
	switch {
	case d.handWritten[mapping.Spec.Extension.Number], !d.wants(mapping.Spec.Extension.Number, mapping.Spec.Extension.Type):
		d.Delete = append(d.Delete, mapping)
	case d.present[mapping.Spec.Extension.Number] && marked:
		d.Returned = append(d.Returned, mapping)
	case d.present[mapping.Spec.Extension.Number]:
	case !marked && d.grace() > 0:
		d.Vanished = append(d.Vanished, mapping)
		d.endsAt(d.now.Add(d.grace()))
	case d.now.Before(since.Add(d.grace())):
		d.endsAt(since.Add(d.grace()))
	default:
		d.Delete = append(d.Delete, mapping)
	}
}

func (d *decision) grace() time.Duration { return d.integration.Spec.Discovery.Grace() }

func (d *decision) endsAt(end time.Time) {
	if d.NextEnd.IsZero() || end.Before(d.NextEnd) {
		d.NextEnd = end
	}
}

// vanishedSince reads the mark; one that cannot be read is no mark, and is written anew.
func vanishedSince(mapping *v1alpha1.ExtensionMapping) (time.Time, bool) {
	since, err := time.Parse(time.RFC3339, mapping.Annotations[v1alpha1.AnnotationVanished])
	return since, err == nil
}

// newMapping is the mapping of a discovered extension. Users may edit it: it is not written again.
func newMapping(p *v1alpha1.PBXIntegration, extension pbxapi.Extension) *v1alpha1.ExtensionMapping {
	slug := slugOf(extension.Number)
	mapping := &v1alpha1.ExtensionMapping{
		ObjectMeta: metav1.ObjectMeta{
			Namespace:       p.Namespace,
			Name:            p.Name + "-" + slug,
			Labels:          map[string]string{v1alpha1.LabelDiscovered: "true", v1alpha1.LabelIntegration: p.Name},
			OwnerReferences: []metav1.OwnerReference{*metav1.NewControllerRef(p, v1alpha1.GroupVersion.WithKind("PBXIntegration"))},
		},
		Spec: v1alpha1.ExtensionMappingSpec{
			IntegrationRef: v1alpha1.IntegrationReference{Name: p.Name},
			Extension:      v1alpha1.Extension{Number: extension.Number, Type: extension.Type},
		},
	}
	if extension.Type == v1alpha1.ExtensionPhone {
		mapping.Spec.User = &v1alpha1.User{Name: slug, DisplayName: clip(extension.Name)}
	}
	return mapping
}

// isFor tells whether a mapping is that of an extension of this integration, whoever wrote it.
func isFor(mapping *v1alpha1.ExtensionMapping, p *v1alpha1.PBXIntegration, number string) bool {
	return mapping.Spec.IntegrationRef.Name == p.Name && mapping.Spec.Extension.Number == number
}

// slugOf makes a number fit for the name of an object: 1234*101 becomes 1234-101. What could be made of two numbers gets a hash.
func slugOf(number string) string {
	const longest = 40
	slug := strings.ReplaceAll(number, "*", "-")
	plain := strings.Trim(slug, "0123456789-") == "" && !strings.Contains(number, "-")
	if plain && len(slug) <= longest && strings.Trim(slug, "-") == slug {
		return slug
	}
	sum := sha256.Sum256([]byte(number))
	return "x" + hex.EncodeToString(sum[:5])
}

// clip cuts a name to what the schema takes.
func clip(name string) string {
	const longest = 128
	runes := []rune(strings.ToValidUTF8(name, "�"))
	return string(runes[:min(len(runes), longest)])
}
