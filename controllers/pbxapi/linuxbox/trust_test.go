package linuxbox_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/binary"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"testing"
	"time"

	"github.com/pbx-operator/pbx-operator/api/v1alpha1"
	"github.com/pbx-operator/pbx-operator/controllers/pbxapi"
	"github.com/pbx-operator/pbx-operator/controllers/pbxapi/linuxbox"
)

// encrypted is a database that ends each connection after the handshake of TLS, the outcome of
// which it tells.
func encrypted(t *testing.T, certificate tls.Certificate) (port int, handshakes <-chan error) {
	t.Helper()
	listener, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = listener.Close() })
	outcomes := make(chan error, 16)
	go func() {
		for {
			connection, err := listener.Accept()
			if err != nil {
				return
			}
			outcomes <- handshake(connection, certificate)
			_ = connection.Close() // the client goes on only when the outcome is told
		}
	}()
	return listener.Addr().(*net.TCPAddr).Port, outcomes
}

var errPlain = errors.New("the client would speak without encryption")

// handshake answers a request for encryption (PostgreSQL: SSL Session Encryption).
func handshake(connection net.Conn, certificate tls.Certificate) error {
	const encrypt = 80877103
	request := make([]byte, 8)
	if _, err := io.ReadFull(connection, request); err != nil {
		return err
	}
	if binary.BigEndian.Uint32(request[4:]) != encrypt {
		return errPlain
	}
	if _, err := connection.Write([]byte("S")); err != nil {
		return err
	}
	// With TLS 1.2 a client that does not trust the server says so before the handshake is over.
	secure := tls.Server(connection, &tls.Config{Certificates: []tls.Certificate{certificate}, MaxVersion: tls.VersionTLS12})
	return secure.Handshake()
}

func selfSigned(t *testing.T, name string) ([]byte, tls.Certificate) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), DNSNames: []string{name}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

func TestCertificatesOfTheDatabase(t *testing.T) {
	named, namedCertificate := selfSigned(t, "localhost")
	foreign, _ := selfSigned(t, "localhost")
	nameless, namelessCertificate := selfSigned(t, "database.example.com")
	for name, tc := range map[string]struct {
		certificate tls.Certificate
		bundle      []byte
		mode        string
		trusted     bool
	}{
		"the whole of it":         {namedCertificate, named, "verify-full", true},
		"its name is another":     {namelessCertificate, nameless, "verify-full", false},
		"its name does not count": {namelessCertificate, nameless, "verify-ca", true},
		"required, and trusted":   {namelessCertificate, nameless, "require", true},
		"required, not trusted":   {namedCertificate, foreign, "require", false},
		"preferred, not trusted":  {namedCertificate, foreign, "prefer", false},
		"signed by another":       {namedCertificate, foreign, "verify-ca", false},
	} {
		t.Run(name, func(t *testing.T) {
			port, handshakes := encrypted(t, tc.certificate)
			pbx, err := withDatabase(fmt.Sprintf("postgres://reader:secret@localhost:%d/asterisk?sslmode=%s", port, tc.mode), tc.bundle)
			if err != nil {
				t.Fatal(err)
			}
			if err := pbx.Check(t.Context()); err == nil {
				t.Error("the database is none, and yet was read")
			}
			for attempt := 0; attempt == 0 || len(handshakes) > 0; attempt++ {
				if outcome := <-handshakes; (outcome == nil) != tc.trusted || errors.Is(outcome, errPlain) {
					t.Errorf("handshake: %v", outcome)
				}
			}
		})
	}
	for _, mode := range []string{"disable", "allow"} {
		if _, err := withDatabase("postgres://reader@localhost/asterisk?sslmode="+mode, named); !errors.Is(err, pbxapi.ErrInvalid) {
			t.Errorf("sslmode=%s with a bundle: %v", mode, err)
		}
	}
}

func withDatabase(address string, bundle []byte) (pbxapi.API, error) {
	return linuxbox.New(pbxapi.Settings{
		PBX: v1alpha1.PBX{Type: v1alpha1.PBXTypeLinuxBox, LinuxBox: &v1alpha1.LinuxBox{Database: &v1alpha1.LinuxBoxDatabase{
			CredentialsSecretRef: v1alpha1.SecretReference{Name: "database"},
		}}},
		Credentials: map[string][]byte{pbxapi.KeyDatabaseURL: []byte(address), pbxapi.KeyCABundle: bundle},
		HTTP:        http.DefaultClient, Timeout: 5 * time.Second, Turn: func(context.Context) error { return nil },
	})
}
