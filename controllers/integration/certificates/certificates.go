// Package certificates mints the certificates by which the receivers of one integration know each
// other: an authority of their own, and one certificate that it has signed. Renew is a function of
// what there is and of the time, apart from the keys that it draws.
package certificates

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"slices"
	"time"
)

const (
	authorityLife   = 5 * 365 * 24 * time.Hour
	certificateLife = 90 * 24 * time.Hour
	// Spread is how long a new authority is only trusted before it signs, and the former one is
	// still trusted afterwards: by then all receivers have read the new files.
	Spread = 24 * time.Hour
	// skew is by how much the clocks of nodes may differ.
	skew = time.Hour
)

// Bundle is what is kept in the Secret of an integration, in PEM.
type Bundle struct {
	// Authorities are the certificates of all authorities to trust, the newest first.
	Authorities []byte
	// AuthorityKeys are their keys, in the same order.
	AuthorityKeys []byte
	// Certificate and Key are those that the receivers show each other.
	Certificate, Key []byte
}

// authority is a certificate authority with its key.
type authority struct {
	certificate *x509.Certificate
	key         *ecdsa.PrivateKey
}

// Renew returns the bundle that is due now for receivers of these host names or addresses, and when
// to ask again. It returns what was given as long as nothing is due. What cannot be read is made
// anew.
func Renew(current Bundle, hosts []string, now time.Time) (renewed Bundle, next time.Time, err error) {
	authorities := slices.DeleteFunc(parseAuthorities(current), func(a authority) bool { return now.After(a.certificate.NotAfter) })
	leaf := parseCertificate(current)
	if len(authorities) == 0 || now.After(dueFrom(authorities[0].certificate)) {
		fresh, err := newAuthority(now)
		if err != nil {
			return current, now, err
		}
		authorities = append([]authority{fresh}, authorities...)
	}
	signer := signerOf(authorities, now)
	if leaf == nil || leaf.CheckSignatureFrom(signer.certificate) != nil || !sameHosts(leaf, hosts) || now.After(dueFrom(leaf)) {
		if current.Certificate, current.Key, leaf, err = sign(signer, hosts, now); err != nil {
			return current, now, err
		}
	} else if signer == authorities[0] && now.After(leaf.NotBefore.Add(skew+Spread)) {
		authorities = authorities[:1]
	}
	if err := current.setAuthorities(authorities); err != nil {
		return current, now, err
	}
	return current, nextLook(authorities, leaf, now), nil
}

// dueFrom is when two thirds of the life of a certificate are over.
func dueFrom(certificate *x509.Certificate) time.Time {
	life := certificate.NotAfter.Sub(certificate.NotBefore)
	return certificate.NotAfter.Add(-life / 3)
}

// signerOf is the newest authority that all receivers trust by now; where there is none, the one
// that they have trusted longest.
func signerOf(authorities []authority, now time.Time) authority {
	for _, a := range authorities {
		if now.After(a.certificate.NotBefore.Add(skew + Spread)) {
			return a
		}
	}
	return authorities[len(authorities)-1]
}

// nextLook is when the next step of a change is due, or when the first of the certificates is.
func nextLook(authorities []authority, leaf *x509.Certificate, now time.Time) time.Time {
	if len(authorities) > 1 {
		return now.Add(Spread)
	}
	if due := dueFrom(authorities[0].certificate); due.Before(dueFrom(leaf)) {
		return due
	}
	return dueFrom(leaf)
}

func sameHosts(leaf *x509.Certificate, hosts []string) bool {
	names := slices.Clone(leaf.DNSNames)
	for _, address := range leaf.IPAddresses {
		names = append(names, address.String())
	}
	return slices.Equal(slices.Sorted(slices.Values(names)), slices.Sorted(slices.Values(hosts)))
}

func newAuthority(now time.Time) (authority, error) {
	template := &x509.Certificate{
		Subject: pkix.Name{CommonName: "pbx-operator receivers"}, NotBefore: now.Add(-skew), NotAfter: now.Add(authorityLife),
		IsCA: true, BasicConstraintsValid: true, MaxPathLenZero: true, KeyUsage: x509.KeyUsageCertSign,
	}
	key, certificate, err := issue(template, nil)
	return authority{certificate: certificate, key: key}, err
}

func sign(by authority, hosts []string, now time.Time) (certificate, key []byte, leaf *x509.Certificate, err error) {
	template := &x509.Certificate{
		Subject: pkix.Name{CommonName: "receiver"}, NotBefore: now.Add(-skew), NotAfter: now.Add(certificateLife),
		KeyUsage:    x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	for _, host := range hosts {
		if address := net.ParseIP(host); address != nil {
			template.IPAddresses = append(template.IPAddresses, address)
		} else {
			template.DNSNames = append(template.DNSNames, host)
		}
	}
	secret, leaf, err := issue(template, &by)
	if err != nil {
		return nil, nil, nil, err
	}
	if key, err = encodeKey(secret); err != nil {
		return nil, nil, nil, err
	}
	return encodeCertificate(leaf), key, leaf, nil
}

// issue draws a key and has the certificate for it signed, by itself if by nobody else.
func issue(template *x509.Certificate, by *authority) (*ecdsa.PrivateKey, *x509.Certificate, error) {
	const serialBits = 128
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, fmt.Errorf("cannot draw a key: %w", err)
	}
	if template.SerialNumber, err = rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), serialBits)); err != nil {
		return nil, nil, fmt.Errorf("cannot draw a serial number: %w", err)
	}
	parent, signer := template, key
	if by != nil {
		parent, signer = by.certificate, by.key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, &key.PublicKey, signer)
	if err != nil {
		return nil, nil, fmt.Errorf("cannot sign a certificate: %w", err)
	}
	certificate, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, nil, fmt.Errorf("cannot read a new certificate: %w", err)
	}
	return key, certificate, nil
}

const (
	certificateBlock = "CERTIFICATE"
	keyBlock         = "PRIVATE KEY"
)

func encodeCertificate(certificate *x509.Certificate) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: certificateBlock, Bytes: certificate.Raw})
}

func encodeKey(key *ecdsa.PrivateKey) ([]byte, error) {
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, fmt.Errorf("cannot write a key: %w", err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: keyBlock, Bytes: der}), nil
}

func (b *Bundle) setAuthorities(authorities []authority) error {
	b.Authorities, b.AuthorityKeys = nil, nil
	for _, a := range authorities {
		key, err := encodeKey(a.key)
		if err != nil {
			return err
		}
		b.Authorities = append(b.Authorities, encodeCertificate(a.certificate)...)
		b.AuthorityKeys = append(b.AuthorityKeys, key...)
	}
	return nil
}

// parseAuthorities returns none where one of them cannot be read: a key that does not belong to its
// certificate would sign what nobody trusts.
func parseAuthorities(b Bundle) []authority {
	certificates, keys := blocks(b.Authorities), blocks(b.AuthorityKeys)
	if len(certificates) != len(keys) {
		return nil
	}
	authorities := make([]authority, len(certificates))
	for i := range certificates {
		certificate, err := x509.ParseCertificate(certificates[i])
		if err != nil {
			return nil
		}
		key, err := parseKey(keys[i])
		if err != nil || !key.PublicKey.Equal(certificate.PublicKey) {
			return nil
		}
		authorities[i] = authority{certificate: certificate, key: key}
	}
	return authorities
}

func parseCertificate(b Bundle) *x509.Certificate {
	certificates, keys := blocks(b.Certificate), blocks(b.Key)
	if len(certificates) != 1 || len(keys) != 1 {
		return nil
	}
	certificate, err := x509.ParseCertificate(certificates[0])
	if err != nil {
		return nil
	}
	if key, err := parseKey(keys[0]); err != nil || !key.PublicKey.Equal(certificate.PublicKey) {
		return nil
	}
	return certificate
}

func parseKey(der []byte) (*ecdsa.PrivateKey, error) {
	parsed, err := x509.ParsePKCS8PrivateKey(der)
	if err != nil {
		return nil, err
	}
	key, ok := parsed.(*ecdsa.PrivateKey)
	if !ok {
		return nil, errors.New("no key of an elliptic curve")
	}
	return key, nil
}

func blocks(text []byte) [][]byte {
	var found [][]byte
	for block, rest := pem.Decode(text); block != nil; block, rest = pem.Decode(rest) {
		found = append(found, block.Bytes)
	}
	return found
}
