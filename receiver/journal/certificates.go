package journal

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"
)

const (
	// tlsTimeout is how long two members may take to greet each other.
	tlsTimeout = 5 * time.Second
	// Names of the files with certificates and keys, as in Secrets of Kubernetes.
	authorityFile   = "ca.crt"
	certificateFile = "tls.crt"
	keyFile         = "tls.key"
)

// certificates are the files that members of a cluster know each other by.
type certificates struct {
	dir string
	// last is what was read last.
	last []byte
}

// config reads the files. Both sides of a connection have to show a certificate of the authorities.
func (c *certificates) config() (*tls.Config, error) {
	authorities, pair, err := c.read()
	if err != nil {
		return nil, err
	}
	trusted := x509.NewCertPool()
	if !trusted.AppendCertsFromPEM(authorities) {
		return nil, errors.New("cannot read the authorities of the cluster: " + authorityFile + " holds no certificate")
	}
	certificate, err := tls.X509KeyPair(pair[0], pair[1])
	if err != nil {
		return nil, fmt.Errorf("cannot read the certificate of the cluster: %w", err)
	}
	c.last = bytes.Join([][]byte{authorities, pair[0], pair[1]}, nil)
	return &tls.Config{
		MinVersion: tls.VersionTLS13, Certificates: []tls.Certificate{certificate},
		RootCAs: trusted, ClientCAs: trusted, ClientAuth: tls.RequireAndVerifyClientCert,
	}, nil
}

// changed reports whether the files are others than those that were read last.
func (c *certificates) changed() bool {
	authorities, pair, err := c.read()
	return err == nil && !bytes.Equal(c.last, bytes.Join([][]byte{authorities, pair[0], pair[1]}, nil))
}

func (c *certificates) read() (authorities []byte, pair [2][]byte, err error) {
	var files [3][]byte
	for i, name := range []string{authorityFile, certificateFile, keyFile} {
		if files[i], err = os.ReadFile(filepath.Join(c.dir, name)); err != nil { //nolint:gosec // the operator names the directory
			return nil, pair, fmt.Errorf("cannot read the certificates of the cluster: %w", err)
		}
	}
	return files[0], [2][]byte{files[1], files[2]}, nil
}
