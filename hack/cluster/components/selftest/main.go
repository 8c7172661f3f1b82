// Command selftest runs in pods of the cluster to prove that it works. As "serve"
// it is a web server that tells its pod's name; as "check" it tries what a pod
// may expect, prints each finding and stops at the first failure; as
// "ping" it only answers, for an exec.
package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

const accountDir = "/var/run/secrets/kubernetes.io/serviceaccount"

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: selftest serve|check|ping")
		os.Exit(2)
	}
	if err := run(os.Args[1]); err != nil {
		fmt.Fprintln(os.Stderr, "error:", err)
		os.Exit(1)
	}
}

func run(mode string) error {
	switch mode {
	case "serve":
		return serve()
	case "check":
		ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
		defer cancel()
		return check(ctx)
	case "ping":
		fmt.Println("pong")
		return nil
	default:
		return fmt.Errorf("unknown mode %q", mode)
	}
}

// serve ends at SIGTERM, which the first process of a container must handle itself.
func serve() error {
	host, err := os.Hostname()
	if err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	server := &http.Server{Addr: ":8080", ReadHeaderTimeout: time.Second}
	server.SetKeepAlivesEnabled(false) // each request chooses a pod anew
	server.Handler = http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, host)
	})
	context.AfterFunc(ctx, func() { _ = server.Close() })
	if err := server.ListenAndServe(); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

func check(ctx context.Context) error {
	namespace, err := os.ReadFile(filepath.Join(accountDir, "namespace"))
	if err != nil {
		return err
	}
	for _, step := range []struct {
		what string
		do   func(context.Context, string) error
	}{
		{"runs as an ordinary user on a read-only root file system", confined},
		{"writes to its volume", writesVolume},
		{"resolves Services by short and full name", resolves},
		{"reaches both pods through the Service", balances},
		{"may list pods, but not secrets", authorized},
	} {
		if err := step.do(ctx, string(namespace)); err != nil {
			return fmt.Errorf("a pod %s: %w", step.what, err)
		}
		fmt.Println("ok: a pod", step.what)
	}
	return nil
}

func confined(context.Context, string) error {
	if os.Getuid() == 0 {
		return errors.New("it runs as root")
	}
	if err := os.WriteFile("/written", nil, 0o600); err == nil {
		return errors.New("the root file system is writable")
	}
	return nil
}

func writesVolume(context.Context, string) error {
	const path, text = "/data/file", "kept"
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		return err
	}
	content, err := os.ReadFile(path)
	if err == nil && string(content) != text {
		err = fmt.Errorf("read %q instead of %q", content, text)
	}
	return err
}

func resolves(ctx context.Context, namespace string) error {
	for name, want := range map[string]int{
		"web": 1, "web." + namespace + ".svc.cluster.local": 1, "headless": 2, "kubernetes.default": 1,
	} {
		err := retry(ctx, func() error {
			addresses, err := net.DefaultResolver.LookupHost(ctx, name)
			if err == nil && len(addresses) != want {
				err = fmt.Errorf("%s resolves to %v: expected %d addresses", name, addresses, want)
			}
			return err
		})
		if err != nil {
			return err
		}
	}
	return nil
}

func balances(ctx context.Context, _ string) error {
	seen := map[string]bool{}
	return retry(ctx, func() error {
		body, status, err := get(ctx, http.DefaultClient, "http://web/", "")
		if err != nil || status != http.StatusOK {
			return errors.Join(err, fmt.Errorf("status %d", status))
		}
		if seen[body] = true; len(seen) < 2 {
			return fmt.Errorf("answered only by %v", seen)
		}
		return nil
	})
}

func authorized(ctx context.Context, namespace string) error {
	token, err := os.ReadFile(filepath.Join(accountDir, "token"))
	if err != nil {
		return err
	}
	ca, err := os.ReadFile(filepath.Join(accountDir, "ca.crt"))
	if err != nil {
		return err
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(ca)
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12}}}
	for resource, want := range map[string]int{"pods": http.StatusOK, "secrets": http.StatusForbidden} {
		url := "https://kubernetes.default.svc/api/v1/namespaces/" + namespace + "/" + resource
		_, status, err := get(ctx, client, url, strings.TrimSpace(string(token)))
		if err != nil {
			return err
		}
		if status != want {
			return fmt.Errorf("listing %s answers %d instead of %d", resource, status, want)
		}
	}
	return nil
}

func get(ctx context.Context, client *http.Client, url, token string) (body string, status int, err error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, http.NoBody)
	if err != nil {
		return "", 0, err
	}
	if token != "" {
		request.Header.Set("Authorization", "Bearer "+token)
	}
	response, err := client.Do(request)
	if err != nil {
		return "", 0, err
	}
	defer func() { err = errors.Join(err, response.Body.Close()) }()
	content, err := io.ReadAll(response.Body)
	return string(content), response.StatusCode, err
}

// retry repeats what may not have settled yet.
func retry(ctx context.Context, do func() error) error {
	for {
		err := do()
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return err
		case <-time.After(100 * time.Millisecond):
		}
	}
}
