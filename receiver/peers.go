package main

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/pbx-operator/pbx-operator/receiver/journal"
)

// peers are all receivers that may form a cluster, in the order of their numbers. They are a flag.
type peers []journal.Member

// String implements flag.Value.
func (p *peers) String() string {
	parts := make([]string, len(*p))
	for i, member := range *p {
		parts[i] = member.Name + "=" + member.Address
	}
	return strings.Join(parts, ",")
}

// Set implements flag.Value.
func (p *peers) Set(text string) error {
	*p = nil
	for part := range strings.SplitSeq(text, ",") {
		name, address, found := strings.Cut(part, "=")
		if !found || name == "" || address == "" {
			return fmt.Errorf("%q is not of the form NAME=HOST:PORT", part)
		}
		*p = append(*p, journal.Member{Name: name, Address: address})
	}
	return nil
}

// checkCluster refuses flags that make no cluster.
func (o *options) checkCluster() error {
	switch {
	case o.replicas == 1:
		return nil
	case o.natsURL != "":
		return errors.New("--replicas is for the embedded logs, which --nats-url replaces")
	case o.replicas == 0 && o.sourcesFile != "":
		return errors.New("--replicas must be given together with --sources-file")
	case o.replicas != 0 && o.replicas != 3 && o.replicas != 5:
		return errors.New("--replicas must be 0, 1, 3 or 5")
	case o.replicas > len(o.peers):
		return fmt.Errorf("--peers names %d receivers, and --replicas asks for %d", len(o.peers), o.replicas)
	case !slices.ContainsFunc(o.peers, func(m journal.Member) bool { return m.Name == o.pod }):
		return fmt.Errorf("--peers does not name this receiver, %q by $POD_NAME", o.pod)
	default:
		return nil
	}
}

// leastMembers is how many receivers a cluster has at least.
const leastMembers = 3

// cluster is that of the embedded logs, or nil where this receiver keeps them alone. Only the first
// one ever does.
func (o *options) cluster() *journal.Cluster {
	if o.natsURL != "" || o.replicas == 1 && (len(o.peers) == 0 || o.pod == o.peers[0].Name) {
		return nil
	}
	return &journal.Cluster{
		Name: o.integration, Member: o.pod, Members: o.peers[:min(max(o.replicas, leastMembers), len(o.peers))],
		Listen: o.clusterListen, Certificates: o.clusterCerts,
	}
}

// former is the cluster that a receiver which is alone may have left.
func (o *options) former() *journal.Cluster {
	if o.natsURL != "" || o.cluster() != nil || len(o.peers) == 0 {
		return nil
	}
	return &journal.Cluster{Name: o.integration, Member: o.pod, Members: o.peers, Listen: o.clusterListen, Certificates: o.clusterCerts}
}
