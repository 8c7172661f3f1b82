package main

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"time"
)

// lifetime of all certificates. A cluster that is meant to be thrown away needs no renewal.
const lifetime = 10 * 365 * 24 * time.Hour

// users are the cluster's built-in identities and their groups. The names are
// those that Kubernetes' own RBAC bootstrap policy and Node authorizer expect.
var users = map[string]pkix.Name{
	"admin":                   {CommonName: "admin", Organization: []string{"system:masters"}},
	"kube-apiserver":          {CommonName: "kube-apiserver", Organization: []string{"system:masters"}},
	"kube-controller-manager": {CommonName: "system:kube-controller-manager"},
	"kube-scheduler":          {CommonName: "system:kube-scheduler"},
	"kube-proxy":              {CommonName: "system:kube-proxy"},
	"kubelet":                 {CommonName: "system:node:" + nodeName, Organization: []string{"system:nodes"}},
	"coredns":                 {CommonName: "coredns"},
	"provisioner":             {CommonName: "provisioner"},
}

// keyPair is a certificate and its key, in PEM.
type keyPair struct {
	cert, key []byte
}

// authority signs certificates.
type authority struct {
	keyPair
	parent *x509.Certificate
	signer crypto.Signer
}

func newAuthority(name string, now time.Time) (authority, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return authority{}, err
	}
	template := certificate(pkix.Name{CommonName: name}, now)
	template.IsCA = true
	template.BasicConstraintsValid = true
	template.KeyUsage = x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature
	pair, err := sign(template, template, key, key)
	if err != nil {
		return authority{}, fmt.Errorf("make certificate authority %s: %w", name, err)
	}
	block, _ := pem.Decode(pair.cert)
	parent, err := x509.ParseCertificate(block.Bytes)
	return authority{keyPair: pair, parent: parent, signer: key}, err
}

// client issues a certificate that authenticates subject.
func (a authority) client(subject pkix.Name, now time.Time) (keyPair, error) {
	template := certificate(subject, now)
	template.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}
	return a.issue(template)
}

// node issues the certificate of everything that listens on the node. etcd's
// peer and health connections use it as a client certificate too.
func (a authority) node(now time.Time) (keyPair, error) {
	template := certificate(pkix.Name{CommonName: nodeName}, now)
	template.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}
	template.IPAddresses = []net.IP{net.ParseIP("127.0.0.1"), net.ParseIP(nodeAddress), net.ParseIP(serviceAddress)}
	template.DNSNames = []string{
		"localhost", nodeName, "kubernetes", "kubernetes.default", "kubernetes.default.svc", "kubernetes.default.svc.cluster.local",
	}
	return a.issue(template)
}

func (a authority) issue(template *x509.Certificate) (keyPair, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return keyPair{}, err
	}
	return sign(template, a.parent, key, a.signer)
}

func certificate(subject pkix.Name, now time.Time) *x509.Certificate {
	return &x509.Certificate{
		SerialNumber: new(big.Int).SetInt64(now.UnixNano()),
		Subject:      subject,
		NotBefore:    now.Add(-time.Hour),
		NotAfter:     now.Add(lifetime),
		KeyUsage:     x509.KeyUsageDigitalSignature,
	}
}

func sign(template, parent *x509.Certificate, key, signer crypto.Signer) (keyPair, error) {
	der, err := x509.CreateCertificate(rand.Reader, template, parent, key.Public(), signer)
	if err != nil {
		return keyPair{}, err
	}
	encoded, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return keyPair{}, err
	}
	return keyPair{cert: encodePEM("CERTIFICATE", der), key: encodePEM("PRIVATE KEY", encoded)}, nil
}

func encodePEM(kind string, der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der})
}

// pki is every key and certificate of a new cluster.
type pki struct {
	ca, frontProxyCA           authority
	node, frontProxy, accounts keyPair // accounts.cert is a public key
	clients                    map[string]keyPair
}

func newPKI(now time.Time) (p pki, err error) {
	if p.ca, err = newAuthority(identity, now); err != nil {
		return pki{}, err
	}
	if p.frontProxyCA, err = newAuthority(identity+"-front-proxy", now); err != nil {
		return pki{}, err
	}
	if p.node, err = p.ca.node(now); err != nil {
		return pki{}, err
	}
	if p.frontProxy, err = p.frontProxyCA.client(pkix.Name{CommonName: "front-proxy"}, now); err != nil {
		return pki{}, err
	}
	if p.accounts, err = signingKey(); err != nil {
		return pki{}, err
	}
	p.clients = make(map[string]keyPair, len(users))
	for user, subject := range users {
		if p.clients[user], err = p.ca.client(subject, now); err != nil {
			return pki{}, err
		}
	}
	return p, nil
}

// signingKey makes the pair that signs and verifies service account tokens.
func signingKey() (keyPair, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return keyPair{}, err
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return keyPair{}, err
	}
	public, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		return keyPair{}, err
	}
	return keyPair{cert: encodePEM("PUBLIC KEY", public), key: encodePEM("PRIVATE KEY", private)}, nil
}

// files are what components read from the PKI directory.
func (p pki) files() map[string][]byte {
	return map[string][]byte{
		"ca.crt": p.ca.cert, "ca.key": p.ca.key,
		"front-proxy-ca.crt": p.frontProxyCA.cert,
		"front-proxy.crt":    p.frontProxy.cert, "front-proxy.key": p.frontProxy.key,
		"node.crt": p.node.cert, "node.key": p.node.key,
		"accounts.pub": p.accounts.cert, "accounts.key": p.accounts.key,
		"kube-apiserver.crt": p.clients["kube-apiserver"].cert, "kube-apiserver.key": p.clients["kube-apiserver"].key,
	}
}
