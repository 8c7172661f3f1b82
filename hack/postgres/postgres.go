// Package postgres runs a PostgreSQL server, as Debian packages it, for as long as a test or a
// benchmark lasts. The server listens on a loopback port and keeps its data in a directory of its
// own.
package postgres

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"
)

const (
	startTime     = 30 * time.Second
	startInterval = 50 * time.Millisecond
	stopTime      = 15 * time.Second
)

// access lets the superuser in without a password, and everybody else with theirs.
const access = `host all postgres 127.0.0.1/32 trust
host all all 127.0.0.1/32 scram-sha-256
`

// Options adjust a server.
type Options struct {
	// Settings are those of postgresql.conf that differ from the defaults, such as fsync=off.
	Settings []string
	// Progress, which may be nil, is told of what takes long.
	Progress func(format string, args ...any)
}

// Server is a running PostgreSQL.
type Server struct {
	address string
	data    string
	log     *os.File
	owner   *syscall.Credential
	cmd     *exec.Cmd
	exited  chan struct{}
}

// Start makes an empty database cluster and starts a server for it. Root runs it as the user
// postgres, and installs PostgreSQL where it is missing.
func Start(ctx context.Context, options Options) (*Server, error) {
	if options.Progress == nil {
		options.Progress = func(string, ...any) {}
	}
	binaries, err := findBinaries(ctx, options)
	if err != nil {
		return nil, err
	}
	options.Progress("starting PostgreSQL")
	s := &Server{}
	if err := s.start(ctx, binaries, options.Settings); err != nil {
		return nil, errors.Join(err, s.Stop())
	}
	return s, nil
}

// Port is where the server listens on 127.0.0.1.
func (s *Server) Port() string {
	_, port, _ := net.SplitHostPort(s.address) // as it was put together
	return port
}

// URL is the address of a database for a user. The superuser is postgres, without a password.
func (s *Server) URL(database, name, password string) string {
	address := url.URL{Scheme: "postgres", Host: s.address, Path: "/" + database, User: url.User(name), RawQuery: "sslmode=disable"}
	if password != "" {
		address.User = url.UserPassword(name, password)
	}
	return address.String()
}

// Create makes an empty database and returns its address for the superuser.
func (s *Server) Create(ctx context.Context, database string) (string, error) {
	name := pgx.Identifier{database}.Sanitize()
	if err := Execute(ctx, s.URL("postgres", "postgres", ""), "CREATE DATABASE "+name); err != nil {
		return "", err
	}
	return s.URL(database, "postgres", ""), nil
}

// Execute runs SQL statements in the database at an address.
func Execute(ctx context.Context, address, statements string) error {
	connection, err := pgx.Connect(ctx, address)
	if err != nil {
		return err
	}
	_, err = connection.PgConn().Exec(ctx, statements).ReadAll()
	return errors.Join(err, connection.Close(ctx))
}

// Stop ends the server, whoever is connected, and removes its data.
func (s *Server) Stop() error {
	if s.cmd != nil {
		_ = s.cmd.Process.Signal(syscall.SIGINT) // it may have ended
		select {
		case <-s.exited:
		case <-time.After(stopTime):
			_ = syscall.Kill(-s.cmd.Process.Pid, syscall.SIGKILL)
			<-s.exited
		}
	}
	var err error
	if s.log != nil {
		err = errors.Join(s.log.Close(), os.Remove(s.log.Name()))
	}
	if s.data != "" {
		err = errors.Join(err, os.RemoveAll(s.data))
	}
	return err
}

func (s *Server) start(ctx context.Context, binaries string, settings []string) error {
	if err := s.prepare(); err != nil {
		return fmt.Errorf("cannot make a place for PostgreSQL: %w", err)
	}
	initdb := exec.CommandContext(ctx, filepath.Join(binaries, "initdb"),
		"-D", s.data, "-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync")
	s.attach(initdb)
	if err := initdb.Run(); err != nil {
		return s.failed("initdb", err)
	}
	if err := os.WriteFile(filepath.Join(s.data, "pg_hba.conf"), []byte(access), 0o600); err != nil {
		return err
	}
	args := []string{"-D", s.data, "-c", "listen_addresses=127.0.0.1", "-c", "unix_socket_directories=", "-p", s.Port()}
	for _, setting := range settings {
		args = append(args, "-c", setting)
	}
	cmd := exec.Command(filepath.Join(binaries, "postgres"), args...) //nolint:noctx // Stop ends it, in good order
	s.attach(cmd)
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("cannot start postgres: %w", err)
	}
	s.cmd, s.exited = cmd, make(chan struct{})
	go func() {
		_ = cmd.Wait() // whoever waits for it looks at the log
		close(s.exited)
	}()
	return s.await(ctx)
}

// prepare makes the directory, the log and the port.
func (s *Server) prepare() (err error) {
	if s.owner, err = owner(); err != nil {
		return err
	}
	if s.data, err = os.MkdirTemp("", "postgresql-"); err != nil {
		return err
	}
	if s.owner != nil {
		if err := os.Chown(s.data, int(s.owner.Uid), int(s.owner.Gid)); err != nil {
			return err
		}
	}
	if s.log, err = os.CreateTemp("", "postgresql-*.log"); err != nil {
		return err
	}
	s.address, err = freeAddress()
	return err
}

// attach gives a command its place. It dies with this process, and an interrupt at the terminal
// does not reach it.
func (s *Server) attach(cmd *exec.Cmd) {
	cmd.Dir, cmd.Stdout, cmd.Stderr = s.data, s.log, s.log
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGINT, Credential: s.owner}
}

// await waits until the server takes connections.
func (s *Server) await(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, startTime)
	defer cancel()
	tick := time.NewTicker(startInterval)
	defer tick.Stop()
	for {
		err := Execute(ctx, s.URL("postgres", "postgres", ""), "SELECT 1")
		if err == nil {
			return nil
		}
		select {
		case <-s.exited:
			return s.failed("postgres", errors.New("it has ended"))
		case <-ctx.Done():
			return s.failed("postgres", err)
		case <-tick.C:
		}
	}
}

// failed adds the end of the log to an error.
func (s *Server) failed(program string, err error) error {
	const lastLines = 10
	text, _ := os.ReadFile(s.log.Name()) // the error is what counts
	lines := bytes.Split(bytes.TrimSpace(text), []byte{'\n'})
	lines = lines[max(0, len(lines)-lastLines):]
	return fmt.Errorf("%s failed: %w\n%s", program, err, bytes.Join(lines, []byte{'\n'}))
}

func freeAddress() (string, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0") //nolint:noctx // takes no time
	if err != nil {
		return "", err
	}
	return listener.Addr().String(), listener.Close()
}

// owner is whom PostgreSQL runs as, since it refuses to run as root: nil is the user of this
// process.
func owner() (*syscall.Credential, error) {
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

// findBinaries is the directory of the newest PostgreSQL that Debian has installed.
func findBinaries(ctx context.Context, options Options) (string, error) {
	const pattern = "/usr/lib/postgresql/*/bin/initdb"
	found, err := filepath.Glob(pattern)
	if err == nil && len(found) == 0 {
		if err := install(ctx, options); err != nil {
			return "", fmt.Errorf("PostgreSQL is missing, install the Debian package postgresql by hand: %w", err)
		}
		found, err = filepath.Glob(pattern)
	}
	if err != nil || len(found) == 0 {
		return "", errors.Join(fmt.Errorf("there is no %s", pattern), err)
	}
	return filepath.Dir(found[len(found)-1]), nil
}

func install(ctx context.Context, options Options) error {
	if os.Geteuid() != 0 {
		return errors.New("only root can install packages")
	}
	options.Progress("installing postgresql")
	if aptGet(ctx, "install", "-y", "postgresql") == nil {
		return nil
	}
	if err := aptGet(ctx, "update"); err != nil { // the lists may be older than the packages they name
		return err
	}
	return aptGet(ctx, "install", "-y", "postgresql")
}

func aptGet(ctx context.Context, args ...string) error {
	cmd := exec.CommandContext(ctx, "apt-get", append([]string{"-q"}, args...)...)
	cmd.Env = append(os.Environ(), "DEBIAN_FRONTEND=noninteractive")
	said, err := cmd.CombinedOutput()
	if err != nil {
		return fmt.Errorf("apt-get %s: %w\n%s", strings.Join(args, " "), err, said)
	}
	return nil
}
