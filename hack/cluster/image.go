package main

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"debug/elf"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"runtime"
	"strings"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
)

const (
	nonRoot    = 65532
	hostCAs    = "/etc/ssl/certs/ca-certificates.crt"
	scratchDir = "tmp/"
)

// imageFile is a file to be put into an image.
type imageFile struct {
	path    string // absolute, in the image
	mode    int64
	content []byte
}

// staticImage makes an image of one layer: the files, a /tmp that anybody may
// write, users root and nonroot. It runs entrypoint as nonroot. The same files
// always give the same image.
func staticImage(entrypoint string, files []imageFile) (v1.Image, error) {
	content, err := layerTar(files)
	if err != nil {
		return nil, err
	}
	layer, err := tarball.LayerFromOpener(
		func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(content)), nil },
		tarball.WithCompressionLevel(gzip.BestSpeed), // it only travels to this machine's containerd
	)
	if err != nil {
		return nil, err
	}
	image, err := mutate.AppendLayers(empty.Image, layer)
	if err != nil {
		return nil, err
	}
	settings, err := image.ConfigFile()
	if err != nil {
		return nil, err
	}
	settings = settings.DeepCopy()
	settings.OS, settings.Architecture = "linux", runtime.GOARCH
	settings.Config.Entrypoint = []string{entrypoint}
	settings.Config.User = fmt.Sprintf("%d:%d", nonRoot, nonRoot)
	settings.Config.WorkingDir = "/"
	settings.Config.Env = []string{"PATH=/", "HOME=/tmp", "SSL_CERT_FILE=" + hostCAs}
	return mutate.ConfigFile(image, settings)
}

func layerTar(files []imageFile) ([]byte, error) {
	files = append([]imageFile{
		{path: "/etc/passwd", mode: 0o644, content: fmt.Appendf(nil, "root:x:0:0:root:/:/none\nnonroot:x:%d:%d:nonroot:/tmp:/none\n", nonRoot, nonRoot)},
		{path: "/etc/group", mode: 0o644, content: fmt.Appendf(nil, "root:x:0:\nnonroot:x:%d:\n", nonRoot)},
	}, files...)
	var buffer bytes.Buffer
	w := tar.NewWriter(&buffer)
	if err := w.WriteHeader(&tar.Header{Typeflag: tar.TypeDir, Name: scratchDir, Mode: 0o1777}); err != nil {
		return nil, err
	}
	made := map[string]bool{"tmp": true}
	for _, file := range files {
		inImage := strings.TrimPrefix(path.Clean(file.path), "/")
		if err := writeParents(w, path.Dir(inImage), made); err != nil {
			return nil, err
		}
		header := &tar.Header{Typeflag: tar.TypeReg, Name: inImage, Mode: file.mode, Size: int64(len(file.content))}
		if err := w.WriteHeader(header); err != nil {
			return nil, err
		}
		if _, err := w.Write(file.content); err != nil {
			return nil, err
		}
	}
	return buffer.Bytes(), w.Close()
}

func writeParents(w *tar.Writer, dir string, made map[string]bool) error {
	if dir == "." || made[dir] {
		return nil
	}
	if err := writeParents(w, path.Dir(dir), made); err != nil {
		return err
	}
	made[dir] = true
	return w.WriteHeader(&tar.Header{Typeflag: tar.TypeDir, Name: dir + "/", Mode: 0o755})
}

// readImageFiles reads the binary and the extra files, each "SOURCE" or
// "SOURCE=PATH-IN-IMAGE", and adds the machine's certificate authorities.
func readImageFiles(binary string, extra []string) (entrypoint string, files []imageFile, err error) {
	if err := requireStatic(binary); err != nil {
		return "", nil, err
	}
	entrypoint = "/" + filepath.Base(binary)
	sources := append([]string{binary + "=" + entrypoint}, extra...)
	if exists(hostCAs) {
		sources = append(sources, hostCAs+"="+hostCAs)
	}
	for _, source := range sources {
		from, to, given := strings.Cut(source, "=")
		if !given {
			to = "/" + filepath.Base(from)
		}
		file, err := readImageFile(from, to)
		if err != nil {
			return "", nil, err
		}
		files = append(files, file)
	}
	return entrypoint, files, nil
}

func readImageFile(from, to string) (imageFile, error) {
	if !path.IsAbs(to) {
		return imageFile{}, fmt.Errorf("%s=%s: the path in the image must be absolute", from, to)
	}
	info, err := os.Stat(from)
	if err != nil {
		return imageFile{}, err
	}
	mode := int64(0o644)
	if info.Mode()&0o111 != 0 {
		mode = 0o755
	}
	content, err := os.ReadFile(from)
	return imageFile{path: to, mode: mode, content: content}, err
}

// requireStatic refuses a binary that would fail in an image without libraries
// with the puzzling message "no such file or directory".
func requireStatic(binary string) error {
	file, err := elf.Open(binary)
	if err != nil {
		return fmt.Errorf("%s is no Linux binary: %w", binary, err)
	}
	defer file.Close() //nolint:errcheck // only read
	for _, segment := range file.Progs {
		if segment.Type == elf.PT_INTERP {
			return fmt.Errorf("%s needs shared libraries, which the image has not: build it with CGO_ENABLED=0", binary)
		}
	}
	return nil
}

// writeImage writes the image to path in the format of "docker save".
func writeImage(tag, binary string, extra []string, path string) error {
	reference, err := name.NewTag(tag)
	if err != nil {
		return fmt.Errorf("image name %q: %w", tag, err)
	}
	entrypoint, files, err := readImageFiles(binary, extra)
	if err != nil {
		return err
	}
	image, err := staticImage(entrypoint, files)
	if err != nil {
		return fmt.Errorf("make image: %w", err)
	}
	return tarball.WriteToFile(path, reference, image)
}

// load makes an image and puts it where the kubelet looks for images.
func (cl cluster) load(ctx context.Context, tag, binary string, extra []string) error {
	if err := requireRoot(); err != nil {
		return err
	}
	if pid, err := cl.processes.find("containerd"); err != nil || pid == 0 {
		return errors.Join(err, errNoCluster)
	}
	file, err := os.CreateTemp("", "image-*.tar")
	if err != nil {
		return err
	}
	defer os.Remove(file.Name()) //nolint:errcheck // a temporary file
	if err := errors.Join(file.Close(), writeImage(tag, binary, extra, file.Name())); err != nil {
		return err
	}
	if err := runQuietly(ctx, "ctr", "--address", cl.config.Socket(), "--namespace", "k8s.io", "images", "import", file.Name()); err != nil {
		return fmt.Errorf("import %s into containerd: %w", tag, err)
	}
	cl.progress.sayf("loaded %s", tag)
	return nil
}

// importPause loads the image that every pod's sandbox runs.
func (cl cluster) importPause(ctx context.Context) error {
	if exists(cl.config.state("pause-loaded")) {
		return nil
	}
	if err := cl.load(ctx, pauseImage, cl.config.binary("pause"), nil); err != nil {
		return err
	}
	return os.WriteFile(cl.config.state("pause-loaded"), nil, 0o600)
}
