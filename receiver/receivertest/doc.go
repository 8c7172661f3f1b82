// Package receivertest runs the receiver's binary against a real Kubernetes API server, with the
// permissions of its Role and no others.
package receivertest
