package certificates

import (
	"crypto/tls"
	"crypto/x509"
	"net"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

var (
	start = time.Date(2026, 1, 2, 10, 0, 0, 0, time.UTC)
	hosts = []string{"*.office-receiver-headless", "127.0.0.1"}
)

func renew(t *testing.T, current Bundle, now time.Time) (Bundle, time.Time) {
	t.Helper()
	renewed, next, err := Renew(current, hosts, now)
	if err != nil {
		t.Fatal(err)
	}
	return renewed, next
}

// greet has a member with one bundle connect to a member with another.
func greet(from, to Bundle, host string, now time.Time) error {
	config := func(b Bundle) *tls.Config {
		pool := x509.NewCertPool()
		pool.AppendCertsFromPEM(b.Authorities)
		pair, _ := tls.X509KeyPair(b.Certificate, b.Key)
		return &tls.Config{
			Certificates: []tls.Certificate{pair}, RootCAs: pool, ClientCAs: pool, ClientAuth: tls.RequireAndVerifyClientCert,
			ServerName: host, Time: func() time.Time { return now },
		}
	}
	near, far := net.Pipe()
	served := make(chan error, 1)
	go func() {
		server := tls.Server(far, config(to))
		served <- server.Handshake()
		_ = far.Close()
	}()
	err := tls.Client(near, config(from)).Handshake()
	_ = near.Close()
	if refused := <-served; refused != nil {
		return refused
	}
	return err
}

func TestNothingIsRenewedBeforeItIsDue(t *testing.T) {
	first, next := renew(t, Bundle{}, start)
	if life := next.Sub(start); life < 50*24*time.Hour || life > 70*24*time.Hour {
		t.Errorf("the next look is after %v", life)
	}
	second, _ := renew(t, first, next.Add(-time.Minute))
	if diff := cmp.Diff(first, second); diff != "" {
		t.Error(diff)
	}
	third, _ := renew(t, first, next.Add(time.Minute))
	if cmp.Equal(first.Certificate, third.Certificate) {
		t.Error("the certificate was not renewed when it was due")
	}
	if diff := cmp.Diff(first.Authorities, third.Authorities); diff != "" {
		t.Errorf("the authority has changed with the certificate: %s", diff)
	}
}

// TestMembersUnderstandEachOtherAtAllTimes lets one member have the files of a day ago, over the
// lives of two authorities.
func TestMembersUnderstandEachOtherAtAllTimes(t *testing.T) {
	const step = 20 * time.Hour
	slow, _ := renew(t, Bundle{}, start)
	quick, authorities := slow, 0
	for now := start; now.Before(start.Add(2 * authorityLife)); now = now.Add(step) {
		renewed, _ := renew(t, quick, now)
		if !cmp.Equal(renewed, quick) {
			if !cmp.Equal(renewed.Authorities, quick.Authorities) {
				authorities++
			}
			for _, host := range []string{"office-receiver-1.office-receiver-headless", "127.0.0.1"} {
				if err := greet(slow, renewed, host, now); err != nil {
					t.Fatalf("after %v: the slow member cannot reach the quick one: %v", now.Sub(start), err)
				}
				if err := greet(renewed, slow, host, now); err != nil {
					t.Fatalf("after %v: the quick member cannot reach the slow one: %v", now.Sub(start), err)
				}
			}
		}
		slow, quick = quick, renewed
	}
	if authorities < 4 { // two new ones, and two former ones that are dropped
		t.Errorf("the authorities have changed %d times", authorities)
	}
}

func TestStrangersAreRefused(t *testing.T) {
	ours, _ := renew(t, Bundle{}, start)
	theirs, _ := renew(t, Bundle{}, start)
	theirs.Authorities = ours.Authorities
	if err := greet(theirs, ours, "127.0.0.1", start); err == nil {
		t.Error("a member of another cluster was let in")
	}
	if err := greet(ours, ours, "elsewhere", start); err == nil {
		t.Error("a host of another name was believed")
	}
}

func TestWhatCannotBeReadIsMadeAnew(t *testing.T) {
	ours, _ := renew(t, Bundle{}, start)
	theirs, _ := renew(t, Bundle{}, start)
	for name, broken := range map[string]Bundle{
		"garbage":                    {Authorities: []byte("x"), AuthorityKeys: []byte("x"), Certificate: []byte("x"), Key: []byte("x")},
		"a foreign key of authority": {Authorities: ours.Authorities, AuthorityKeys: theirs.AuthorityKeys, Certificate: ours.Certificate, Key: ours.Key},
		"a foreign key":              {Authorities: ours.Authorities, AuthorityKeys: ours.AuthorityKeys, Certificate: ours.Certificate, Key: theirs.Key},
		"expired":                    {Authorities: ours.Authorities, AuthorityKeys: ours.AuthorityKeys},
	} {
		now := start
		if name == "expired" {
			now = start.Add(2 * authorityLife)
		}
		mended, _ := renew(t, broken, now)
		if err := greet(mended, mended, "127.0.0.1", now); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestOtherHostsNeedANewCertificate(t *testing.T) {
	first, _ := renew(t, Bundle{}, start)
	other, _, err := Renew(first, []string{"127.0.0.2"}, start)
	if err != nil {
		t.Fatal(err)
	}
	if err := greet(first, other, "127.0.0.2", start); err != nil {
		t.Error(err)
	}
}
