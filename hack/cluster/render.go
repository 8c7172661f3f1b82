package main

import (
	"bytes"
	"embed"
	"encoding/base64"
	"fmt"
	"os"
	"path/filepath"
	"text/template"
)

//go:embed templates
var templateFiles embed.FS

// render returns the configuration files of a cluster by path.
func render(c config, p pki) (map[string][]byte, error) {
	templates, err := template.New("").Option("missingkey=error").ParseFS(templateFiles, "templates/*")
	if err != nil {
		return nil, err
	}
	files := map[string][]byte{}
	for name, path := range map[string]string{
		"containerd.toml": c.File("containerd.toml"),
		"cni.conflist":    c.File("cni/" + identity + ".conflist"),
		"kubelet.yaml":    c.File("kubelet.yaml"),
		"kube-proxy.yaml": c.File("kube-proxy.yaml"),
		"Corefile":        c.File("Corefile"),
		"masquerade.nft":  c.File("masquerade.nft"),
		"addons.yaml":     c.File("addons.yaml"),
		"selftest.yaml":   c.File("selftest.yaml"),
	} {
		if files[path], err = execute(templates, name, c); err != nil {
			return nil, err
		}
	}
	for user, pair := range p.clients {
		path := c.KubeconfigOf(user)
		if user == "admin" {
			path = c.Kubeconfig()
		}
		if files[path], err = execute(templates, "kubeconfig", kubeconfigOf(user, pair, p)); err != nil {
			return nil, err
		}
	}
	for name, content := range p.files() {
		files[c.PKI(name)] = content
	}
	return files, nil
}

func kubeconfigOf(user string, pair keyPair, p pki) any {
	encode := base64.StdEncoding.EncodeToString
	return struct{ Cluster, Server, Authority, User, Certificate, Key string }{
		Cluster: identity, Server: apiURL, User: user,
		Authority: encode(p.ca.cert), Certificate: encode(pair.cert), Key: encode(pair.key),
	}
}

func execute(templates *template.Template, name string, data any) ([]byte, error) {
	var out bytes.Buffer
	if err := templates.ExecuteTemplate(&out, name, data); err != nil {
		return nil, fmt.Errorf("render %s: %w", name, err)
	}
	return out.Bytes(), nil
}

// writeFiles makes the directories too. Everything is the owner's only: keys are among it.
func writeFiles(files map[string][]byte) error {
	for path, content := range files {
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			return err
		}
		if err := os.WriteFile(path, content, 0o600); err != nil {
			return err
		}
	}
	return nil
}
