package main

import (
	"context"
	"embed"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/pbx-operator/pbx-operator/hack/postgres"
)

//go:embed express/package.json express/package-lock.json express/server.js
var expressFiles embed.FS

// express is what somebody would write instead of a receiver: an Express server that inserts every
// event into PostgreSQL, which runs with its default settings, so that a committed row is on disk.
type express struct {
	*server
	postgres *postgres.Server
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
	database, err := postgres.Start(ctx, postgres.Options{Progress: b.progressf})
	if err != nil {
		return nil, err
	}
	e := &express{postgres: database}
	if e.server, err = b.startNode(ctx, node, dir, database.Port()); err != nil {
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

func (e *express) stop() {
	if e.server != nil {
		e.server.stop()
	}
	_ = e.postgres.Stop() // at worst its data stay in the directory for temporary files
}

// stored is the number of events in the table.
func (e *express) stored(ctx context.Context) (int, error) {
	page, err := fetch(ctx, "http://"+e.address+"/count")
	if err != nil {
		return 0, err
	}
	return strconv.Atoi(string(page))
}
