package linuxbox

import (
	"crypto/tls"
	"crypto/x509"
	"slices"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/pbx-operator/pbx-operator/controllers/pbxapi"
)

// trust has the database identify itself with a certificate of these authorities. The name in the
// certificate counts with sslmode=verify-full only, as in PostgreSQL's own clients with
// sslrootcert. It returns ErrInvalid for an address that does not ask for encryption.
func (h *History) trust(bundle []byte) error {
	if bundle == nil {
		return nil
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(bundle) {
		return pbxapi.NewError(pbxapi.ErrInvalid, connectOp, "spec.pbx.tls.caBundle leads to no certificate in PEM")
	}
	if h.config.TLSConfig == nil {
		return pbxapi.NewError(pbxapi.ErrInvalid, connectOp,
			"spec.pbx.tls is set, but the address of the database in the Secret "+h.secret+" does not ask for encryption: use sslmode=verify-full")
	}
	verify(h.config.TLSConfig, roots)
	h.config.Fallbacks = slices.DeleteFunc(h.config.Fallbacks, func(other *pgconn.FallbackConfig) bool { return other.TLSConfig == nil })
	for _, other := range h.config.Fallbacks {
		verify(other.TLSConfig, roots)
	}
	return nil
}

// verify has a configuration check the chain of certificates, and the name unless that was turned
// off.
func verify(config *tls.Config, roots *x509.CertPool) {
	config.RootCAs = roots
	if !config.InsecureSkipVerify {
		return
	}
	config.VerifyConnection = func(state tls.ConnectionState) error {
		options := x509.VerifyOptions{Roots: roots, Intermediates: x509.NewCertPool()}
		for _, certificate := range state.PeerCertificates[1:] {
			options.Intermediates.AddCert(certificate)
		}
		_, err := state.PeerCertificates[0].Verify(options)
		return err
	}
}
