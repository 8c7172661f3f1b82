package pbxapi_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"io"
	"log"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/pbx-operator/pbx-operator/api/v1alpha1"
	"github.com/pbx-operator/pbx-operator/controllers/pbxapi"
)

// certificate makes one that has signed itself, for 127.0.0.1.
func certificate(t *testing.T, name string) ([]byte, tls.Certificate) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

// prober asks an address for anything.
type prober struct {
	pbxapi.API
	http *http.Client
	url  string
}

func (p prober) Check(ctx context.Context) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, p.url, http.NoBody)
	if err != nil {
		return err
	}
	response, err := p.http.Do(request)
	if err != nil {
		return err
	}
	return response.Body.Close()
}

func TestCertificatesToTrust(t *testing.T) {
	bundle, own := certificate(t, "pbx")
	other, _ := certificate(t, "other")
	server := httptest.NewUnstartedServer(http.NotFoundHandler())
	server.TLS = &tls.Config{Certificates: []tls.Certificate{own}, MinVersion: tls.VersionTLS12}
	server.Config.ErrorLog = log.New(io.Discard, "", 0)
	server.StartTLS()
	defer server.Close()
	pool := pbxapi.NewPool(map[v1alpha1.PBXType]pbxapi.Factory{
		v1alpha1.PBXTypeLinuxBox: func(settings pbxapi.Settings) (pbxapi.API, error) {
			return prober{http: settings.HTTP, url: server.URL}, nil
		},
	}, pbxapi.Options{})
	for name, tc := range map[string]struct {
		bundle  []byte
		trusted bool
	}{
		"those of the system":  {nil, false},
		"that of the PBX":      {bundle, true},
		"that of another":      {other, false},
		"several, one of them": {append(append([]byte{}, other...), bundle...), true},
	} {
		t.Run(name, func(t *testing.T) {
			var credentials map[string][]byte
			if tc.bundle != nil {
				credentials = map[string][]byte{pbxapi.KeyCABundle: tc.bundle}
			}
			integration := &v1alpha1.PBXIntegration{Spec: v1alpha1.PBXIntegrationSpec{PBX: v1alpha1.PBX{Type: v1alpha1.PBXTypeLinuxBox}}}
			integration.UID = "one" // the same one: a change of the bundle is taken up
			client, err := pool.Client(integration, credentials)
			if err != nil {
				t.Fatal(err)
			}
			if err := client.Check(t.Context()); (err == nil) != tc.trusted {
				t.Errorf("asking the PBX: %v", err)
			}
		})
	}
}
