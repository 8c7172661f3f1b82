package sources

import (
	"bytes"
	"maps"

	"k8s.io/apimachinery/pkg/api/equality"

	corev1 "k8s.io/api/core/v1"

	"github.com/pbx-operator/pbx-operator/api/v1alpha1"
)

// minted remembers the digests of tokens, so that a change of one mapping costs the tokens of that
// one.
type minted struct {
	keys    map[string][]byte
	digests map[mintedFor][]digest
	// count is how many tokens were made.
	count int
}

// mintedFor is whom tokens were made for.
type mintedFor struct{ mapping, name string }

// use forgets all digests if the keys are not those that they were made with.
func (m *minted) use(keys map[string][]byte) {
	if m.digests == nil || !maps.EqualFunc(m.keys, keys, bytes.Equal) {
		m.keys, m.digests = keys, make(map[mintedFor][]digest)
	}
}

// of returns the digests of the tokens of a target, making those that are not known.
func (m *minted) of(target *Target, tokens func() []string) []digest {
	key := mintedFor{target.Mapping, target.Name}
	known, ok := m.digests[key]
	if !ok {
		for _, token := range tokens() {
			known = append(known, digestOf(token))
			m.count++
		}
		m.digests[key] = known
	}
	return known
}

// keep forgets the digests of targets that are no more.
func (m *minted) keep(next *table) {
	if len(m.digests) == 0 {
		return
	}
	present := make(map[mintedFor]struct{}, len(m.digests))
	for _, target := range next.Targets {
		present[mintedFor{target.Mapping, target.Name}] = struct{}{}
	}
	maps.DeleteFunc(m.digests, func(key mintedFor, _ []digest) bool {
		_, ok := present[key]
		return !ok
	})
}

// matters reports whether a change of an object changes the table. That of a status, such as the
// state of an agent, mostly does not.
func matters(before, after any) bool {
	switch now := after.(type) {
	case *v1alpha1.ExtensionMapping:
		was, ok := before.(*v1alpha1.ExtensionMapping)
		return !ok || *targetOf(was) != *targetOf(now)
	case *v1alpha1.PBXIntegration:
		was, ok := before.(*v1alpha1.PBXIntegration)
		return !ok || was.UID != now.UID || !equality.Semantic.DeepEqual(was.Spec, now.Spec)
	case *corev1.Secret:
		was, ok := before.(*corev1.Secret)
		return !ok || !maps.EqualFunc(was.Data, now.Data, bytes.Equal)
	default:
		return true
	}
}
