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
	"github.com/pbx-operator/pbx-operator/receiver/shorten"
)

const (
	// fewest and share bound how many mappings may lose their extension at once: more than both, or
	// all that the PBX lists, is more likely to be an answer that is wrong than an office that
	// closed.
	fewest = 5
	share  = 5 // a fifth
	// confirmations is how many lists in a row must lack the same extensions before as many are
	// believed to be gone.
	confirmations = 3
	// shortestAbsence is how long after the list that first lacked an extension another one must
	// lack it too.
	shortestAbsence = 30 * time.Second
)

// Plan says what becomes of the discovered mappings whose extensions a complete list does, or does
// not, have.
type Plan struct {
	// Delete are those whose extension has been gone for the grace period.
	Delete []*v1alpha1.ExtensionMapping
	// Vanished and Returned are those whose extension has gone from the PBX, or come back to it.
	Vanished, Returned []*v1alpha1.ExtensionMapping
	// Missing is set while more are missing than may go at once.
	Missing *v1alpha1.MissingExtensions
	// Limit is how many may go at once.
	Limit int
	// NextEnd is when the next grace period is over; zero where none runs.
	NextEnd time.Time
}

// Decide compares the numbers that a complete list has with the discovered mappings that the spec
// still asks for. It is a pure function; the mappings are not changed. Before is what the list
// before lacked, if that was too much.
func Decide(
	p *v1alpha1.PBXIntegration, listed map[string]bool, mappings []v1alpha1.ExtensionMapping, before *v1alpha1.MissingExtensions, now time.Time,
) Plan {
	var plan Plan
	var missing []*v1alpha1.ExtensionMapping
	discovered := 0
	for i := range mappings {
		mapping := &mappings[i]
		if !isDiscovered(mapping, p) || !mapping.DeletionTimestamp.IsZero() {
			continue
		}
		discovered++
		if _, found := listed[mapping.Spec.Extension.Number]; !found {
			missing = append(missing, mapping)
		} else if _, marked := vanishedSince(mapping); marked {
			plan.Returned = append(plan.Returned, mapping)
		}
	}
	plan.Limit = max(fewest, discovered/share)
	believed := true
	if len(missing) > plan.Limit || len(listed) == 0 && len(missing) > 0 {
		plan.Missing = count(missing, before)
		believed = plan.Missing.Lists >= confirmations
	}
	for _, mapping := range missing {
		plan.decide(mapping, max(p.Spec.Discovery.Grace(), shortestAbsence), believed, now)
	}
	return plan
}

// count tells how often the same extensions have been missing.
func count(missing []*v1alpha1.ExtensionMapping, before *v1alpha1.MissingExtensions) *v1alpha1.MissingExtensions {
	numbers := make([]string, len(missing))
	for i, mapping := range missing {
		numbers[i] = mapping.Spec.Extension.Number
	}
	slices.Sort(numbers)
	sum := sha256.Sum256([]byte(strings.Join(numbers, "\n")))
	now := &v1alpha1.MissingExtensions{Extensions: int32(min(len(missing), 1<<30)), Lists: 1, Digest: hex.EncodeToString(sum[:8])}
	if before != nil && before.Digest == now.Digest {
		now.Lists = min(before.Lists+1, confirmations)
	}
	return now
}

// decide says what becomes of a mapping whose extension is missing.
func (p *Plan) decide(mapping *v1alpha1.ExtensionMapping, grace time.Duration, believed bool, now time.Time) {
	since, marked := vanishedSince(mapping)
	switch {
	case !marked && !believed:
	case !marked:
		p.Vanished = append(p.Vanished, mapping)
		p.endsAt(now.Add(grace))
	case now.Before(since.Add(grace)):
		p.endsAt(since.Add(grace))
	default:
		p.Delete = append(p.Delete, mapping)
	}
}

func (p *Plan) endsAt(end time.Time) {
	if p.NextEnd.IsZero() || end.Before(p.NextEnd) {
		p.NextEnd = end
	}
}

// superseded are the discovered mappings that hand-written ones replace, or that the spec does not
// ask for any more.
func superseded(p *v1alpha1.PBXIntegration, mappings []v1alpha1.ExtensionMapping) []*v1alpha1.ExtensionMapping {
	handWritten := map[string]bool{}
	for i := range mappings {
		if !isDiscovered(&mappings[i], p) && mappings[i].DeletionTimestamp.IsZero() {
			handWritten[mappings[i].Spec.Extension.Number] = true
		}
	}
	var replaced []*v1alpha1.ExtensionMapping
	for i := range mappings {
		mapping := &mappings[i]
		if !isDiscovered(mapping, p) || !mapping.DeletionTimestamp.IsZero() {
			continue
		}
		if extension := mapping.Spec.Extension; handWritten[extension.Number] || !wants(p.Spec.Discovery, extension.Number, extension.Type) {
			replaced = append(replaced, mapping)
		}
	}
	return replaced
}

// isDiscovered reports whether discovery made a mapping for this integration. One whose label was
// taken off counts as hand-written.
func isDiscovered(mapping *v1alpha1.ExtensionMapping, p *v1alpha1.PBXIntegration) bool {
	return mapping.Labels[v1alpha1.LabelDiscovered] != "" && metav1.IsControlledBy(mapping, p)
}

// wants reports whether the spec asks for an extension.
func wants(asked *v1alpha1.Discovery, number string, kind v1alpha1.ExtensionType) bool {
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

// vanishedSince reads the mark; one that cannot be read is no mark, and is written anew.
func vanishedSince(mapping *v1alpha1.ExtensionMapping) (time.Time, bool) {
	since, err := time.Parse(time.RFC3339, mapping.Annotations[v1alpha1.AnnotationVanished])
	return since, err == nil
}

// newMapping returns the mapping of a discovered extension. Users may edit it: it is not written
// again.
func newMapping(p *v1alpha1.PBXIntegration, extension pbxapi.Extension, inherited []string) *v1alpha1.ExtensionMapping {
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
		mapping.Spec.User = &v1alpha1.User{Name: slug, DisplayName: shorten.Characters(extension.Name, 128)}
	}
	for _, label := range inherited {
		if value, ok := p.Labels[label]; ok {
			mapping.Labels[label] = value
		}
	}
	return mapping
}

// isFor reports whether a mapping is that of an extension of this integration, whoever wrote it.
func isFor(mapping *v1alpha1.ExtensionMapping, p *v1alpha1.PBXIntegration, number string) bool {
	return mapping.Spec.IntegrationRef.Name == p.Name && mapping.Spec.Extension.Number == number
}

// slugOf makes a number fit for the name of an object: 1234*101 becomes 1234-101. What could be
// made of two numbers gets a hash.
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
