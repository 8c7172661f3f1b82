package main

import (
	"context"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
)

//go:embed express/package.json express/package-lock.json express/server.js
var expressFiles embed.FS

// express is what somebody would write instead of a receiver: an Express server that inserts every event into PostgreSQL, which runs with
// its default settings, so that a committed row is on disk.
type express struct {
	*server
	postgres *process
	data     string
}

func (b *bench) startExpress(ctx context.Context) (*express, error) {
	node, err := b.require(ctx, "node", "nodejs", "npm")
	if err != nil {
		return nil, err
	}
	dir, err := b.installExpress(ctx)
	if err != nil {
		return nil, err
	}
	e := &express{}
	port, err := e.startPostgres(ctx, b)
	if err == nil {
		e.server, err = b.startNode(ctx, node, dir, port)
	}
	if err != nil {
		e.stop()
		return nil, err
	}
	return e, nil
}

// installExpress unpacks the server and installs the packages of its lockfile.
func (b *bench) installExpress(ctx context.Context) (string, error) {
	npm, err := b.require(ctx, "npm", "npm")
	if err != nil {
		return "", err
	}
	files, err := fs.Sub(expressFiles, "express")
	if err != nil {
		return "", err
	}
	dir := filepath.Join(b.dir, "express")
	if err := os.CopyFS(dir, files); err != nil {
		return "", fmt.Errorf("cannot unpack the Express server: %w", err)
	}
	b.progressf("installing Express and its packages")
	if _, err := output(ctx, npm, "ci", "--prefix", dir, "--no-audit", "--no-fund", "--loglevel=error"); err != nil {
		return "", fmt.Errorf("cannot install Express: %w", err)
	}
	return dir, nil
}

func (b *bench) startNode(ctx context.Context, node, dir, postgresPort string) (*server, error) {
	address, err := freeAddress(ctx)
	if err != nil {
		return nil, err
	}
	return b.startServer(ctx, address, address, readyPath, command{
		name: "express", path: node, args: []string{"server.js"}, dir: dir,
		env: []string{"NODE_ENV=production", "PGPORT=" + postgresPort, "PORT=" + portOf(address)},
	})
}

func portOf(address string) string { return address[strings.LastIndexByte(address, ':')+1:] }

// startPostgres makes a database cluster in a directory of its own and starts it on a loopback port.
func (e *express) startPostgres(ctx context.Context, b *bench) (port string, err error) {
	binaries, err := b.postgresBinaries(ctx)
	if err != nil {
		return "", err
	}
	owner, err := postgresOwner()
	if err != nil {
		return "", err
	}
	if e.data, err = os.MkdirTemp("", "pbx-bench-postgresql-"); err != nil {
		return "", fmt.Errorf("cannot make a directory for PostgreSQL: %w", err)
	}
	if owner != nil {
		if err := os.Chown(e.data, int(owner.Uid), int(owner.Gid)); err != nil {
			return "", fmt.Errorf("cannot make a directory for PostgreSQL: %w", err)
		}
	}
	b.progressf("starting PostgreSQL")
	if err := b.initdb(ctx, filepath.Join(binaries, "initdb"), e.data, owner); err != nil {
		return "", err
	}
	address, err := freeAddress(ctx)
	if err != nil {
		return "", err
	}
	e.postgres, err = b.start(command{
		name: "postgres", path: filepath.Join(binaries, "postgres"), dir: e.data, user: owner, stop: syscall.SIGINT,
		args: []string{"-D", e.data, "-c", "listen_addresses=127.0.0.1", "-c", "unix_socket_directories=", "-p", portOf(address)},
	})
	if err != nil {
		return "", err
	}
	return portOf(address), e.postgres.awaitPort(ctx, address)
}

// postgresBinaries is the directory of the newest PostgreSQL that Debian has installed.
func (b *bench) postgresBinaries(ctx context.Context) (string, error) {
	const pattern = "/usr/lib/postgresql/*/bin/initdb"
	found, err := filepath.Glob(pattern)
	if err == nil && len(found) == 0 {
		if err := b.install(ctx, "postgresql"); err != nil {
			return "", fmt.Errorf("PostgreSQL is missing: %w", err)
		}
		found, err = filepath.Glob(pattern)
	}
	if err != nil || len(found) == 0 {
		return "", errors.Join(fmt.Errorf("there is no %s", pattern), err)
	}
	return filepath.Dir(found[len(found)-1]), nil
}

// postgresOwner is whom PostgreSQL runs as, since it refuses to run as root: nil is the user of this process.
func postgresOwner() (*syscall.Credential, error) {
	if os.Geteuid() != 0 {
		return nil, nil //nolint:nilnil // nobody else is needed
	}
	account, err := user.Lookup("postgres")
	if err != nil {
		return nil, fmt.Errorf("PostgreSQL does not run as root: %w", err)
	}
	uid, err := strconv.ParseUint(account.Uid, 10, 32)
	gid, err2 := strconv.ParseUint(account.Gid, 10, 32)
	return &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}, errors.Join(err, err2)
}

func (b *bench) initdb(ctx context.Context, path, data string, owner *syscall.Credential) error {
	p, err := b.start(command{
		name: "initdb", path: path, dir: data, user: owner,
		args: []string{"-D", data, "-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C"},
	})
	if err != nil {
		return err
	}
	defer p.stop()
	select {
	case <-p.exited:
	case <-ctx.Done():
		return ctx.Err()
	}
	if !p.cmd.ProcessState.Success() {
		return p.alive()
	}
	return nil
}

func (e *express) stop() {
	if e.server != nil {
		e.server.stop()
	}
	if e.postgres != nil {
		e.postgres.stop()
	}
	if e.data != "" {
		_ = os.RemoveAll(e.data)
	}
}

// stored is the number of events in the table.
func (e *express) stored(ctx context.Context) (int, error) {
	page, err := fetch(ctx, "http://"+e.address+"/count")
	if err != nil {
		return 0, err
	}
	return strconv.Atoi(string(page))
}
