package journal_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"

	"github.com/pbx-operator/pbx-operator/receiver/journal"
)

// authority signs certificates for tests.
type authority struct {
	t           *testing.T
	key         *ecdsa.PrivateKey
	certificate *x509.Certificate
}

func newAuthority(t *testing.T) authority {
	t.Helper()
	a := authority{t: t, key: newKey(t)}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: t.Name()}, NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &a.key.PublicKey, a.key)
	if err != nil {
		t.Fatal(err)
	}
	if a.certificate, err = x509.ParseCertificate(der); err != nil {
		t.Fatal(err)
	}
	return a
}

func newKey(t *testing.T) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// sign returns a certificate for 127.0.0.1 and its key, in PEM.
func (a authority) sign() (certificate, key []byte) {
	a.t.Helper()
	own := newKey(a.t)
	der, err := x509.CreateCertificate(rand.Reader, &x509.Certificate{
		SerialNumber: big.NewInt(2), NotAfter: time.Now().Add(time.Hour), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}, a.certificate, &own.PublicKey, a.key)
	if err != nil {
		a.t.Fatal(err)
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(own)
	if err != nil {
		a.t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: pkcs8})
}

func (a authority) bundle() []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: a.certificate.Raw})
}

// serverOptions are those of a server with a certificate of this authority, which asks clients for
// one of it.
func (a authority) serverOptions() *server.Options {
	a.t.Helper()
	pair, err := tls.X509KeyPair(a.sign())
	if err != nil {
		a.t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AddCert(a.certificate)
	config := &tls.Config{Certificates: []tls.Certificate{pair}, ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: pool, MinVersion: tls.VersionTLS12}
	return &server.Options{TLSConfig: config, TLSVerify: true, TLSTimeout: 5}
}

// writeFiles puts a bundle and a client certificate where a receiver reads them.
func (a authority) writeFiles(config journal.Config) {
	a.t.Helper()
	certificate, key := a.sign()
	for path, text := range map[string][]byte{config.Authorities: a.bundle(), config.Certificate: certificate, config.Key: key} {
		if err := os.WriteFile(path, text, 0o600); err != nil {
			a.t.Fatal(err)
		}
	}
}

func TestClientCertificate(t *testing.T) {
	first := newAuthority(t)
	s := natsServer(t, first.serverOptions())
	dir := t.TempDir()
	config := journal.Config{
		URL: s.ClientURL(), Replicas: 1, Owner: office, Size: 8 << 20,
		Authorities: filepath.Join(dir, "ca.crt"), Certificate: filepath.Join(dir, "tls.crt"), Key: filepath.Join(dir, "tls.key"),
	}
	first.writeFiles(config)
	j := open(t, config)
	defer j.Close()
	if err := appendEntry(j, 1); err != nil {
		t.Fatal(err)
	}

	without := config
	without.Certificate, without.Key = "", ""
	if _, err := journal.Open(t.Context(), without); err == nil || !strings.Contains(journal.Unreachable(err), "client certificate") {
		t.Errorf("without a client certificate: %v", err)
	}
	distrusting := config
	distrusting.Authorities = ""
	if _, err := journal.Open(t.Context(), distrusting); err == nil || !strings.Contains(journal.Unreachable(err), "not trusted") {
		t.Errorf("without a bundle: %v", err)
	}

	// Both ends get certificates of another authority, as at a rotation.
	second := newAuthority(t)
	second.writeFiles(config)
	port, dataDir := s.Addr().(*net.TCPAddr).Port, s.StoreDir()
	s.Shutdown()
	s.WaitForShutdown()
	restartNATS(t, second.serverOptions(), port, filepath.Dir(dataDir))
	eventually(t, "the receiver is connected with its new certificate", func() bool { return appendEntry(j, 2) == nil })
	if got := len(readAll(t, j)); got < 2 {
		t.Errorf("%d events", got)
	}
}
