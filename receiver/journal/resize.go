package journal

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// A receiver that is alone keeps its logs in storeDir below its directory, the members of a cluster
// keep theirs in storeDir below clusterDir. Where the first receiver has both, its own logs count:
// they are given up only when the cluster has all of them, and are put into place only when they
// are complete. Logs that the cluster does not keep by itself are closed: nobody can write to them.
const (
	storeDir = "jetstream"
	// arrivingDir is where logs of one's own are made from those of the cluster.
	arrivingDir = "arriving"
	// formerSuffix marks what is to be deleted.
	formerSuffix = ".former"
	// closedPrefix leads the subjects of a log that is closed.
	closedPrefix = "closed."
)

// isClosed reports whether nobody can write to a log.
func isClosed(config jetstream.StreamConfig) bool {
	return len(config.Subjects) > 0 && strings.HasPrefix(config.Subjects[0], closedPrefix)
}

// closed is the configuration of a log that nobody can write to.
func closed(config jetstream.StreamConfig) jetstream.StreamConfig {
	subjects := make([]string, len(config.Subjects))
	for i, subject := range config.Subjects {
		subjects[i] = closedPrefix + strings.TrimPrefix(subject, closedPrefix)
	}
	config.Subjects = subjects
	return config
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// giveUp deletes a directory so that either all of it is there or nothing.
func giveUp(path string) error {
	if err := os.RemoveAll(path + formerSuffix); err != nil {
		return fmt.Errorf("cannot delete former logs: %w", err)
	}
	if err := os.Rename(path, path+formerSuffix); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("cannot give up former logs: %w", err)
	}
	if err := syncDir(filepath.Dir(path)); err != nil {
		return err
	}
	if err := os.RemoveAll(path + formerSuffix); err != nil {
		return fmt.Errorf("cannot delete former logs: %w", err)
	}
	return nil
}

// syncTree makes files durable that were written without regard to that.
func syncTree(root string) error {
	return filepath.WalkDir(root, func(path string, _ fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		return syncDir(path)
	})
}

// syncDir makes a directory, or a file, durable.
func syncDir(path string) error {
	file, err := os.Open(path) //nolint:gosec // the operator names the directory
	if err != nil {
		return fmt.Errorf("cannot make logs durable: %w", err)
	}
	return errors.Join(file.Sync(), file.Close())
}

// side is a JetStream in this process, and the way to it.
type side struct {
	server *embedded
	conn   *nats.Conn
	js     jetstream.JetStream
}

// openSide starts a JetStream beside the one of the journal.
func openSide(dir string, config Config, cluster *Cluster) (*side, error) {
	s := &side{server: &embedded{dir: dir, size: config.Size, cluster: cluster, logger: config.Logger}}
	if cluster != nil {
		s.server.certificates.dir = cluster.Certificates
	}
	err := s.server.start()
	if err == nil {
		s.conn, err = nats.Connect("", nats.InProcessServer(s.server), nats.Timeout(connectTimeout))
	}
	if err == nil {
		s.js, err = jetstream.New(s.conn)
	}
	if err != nil {
		s.close()
		return nil, fmt.Errorf("cannot open the logs in %s: %w", dir, err)
	}
	return s, nil
}

func (s *side) close() {
	if s.conn != nil {
		s.conn.Close()
	}
	s.server.shutdown()
}

// allLogs are all logs of a JetStream.
func allLogs(ctx context.Context, js jetstream.JetStream) ([]*jetstream.StreamInfo, error) {
	var infos []*jetstream.StreamInfo
	lister := js.ListStreams(ctx)
	for info := range lister.Info() {
		infos = append(infos, info)
	}
	if err := lister.Err(); err != nil {
		return nil, fmt.Errorf("cannot list the logs: %w", err)
	}
	return infos, nil
}

// used are the configurations of all logs that there was ever anything in. There is no copying the
// others, and no need to.
func used(ctx context.Context, js jetstream.JetStream) ([]jetstream.StreamConfig, error) {
	infos, err := allLogs(ctx, js)
	var configs []jetstream.StreamConfig
	for _, info := range infos {
		if info.State.LastSeq > 0 {
			configs = append(configs, info.Config)
		}
	}
	return configs, err
}

// bringLogs hands the logs that this receiver kept alone to the cluster that it founds. What the
// cluster has of a former attempt is closed, and made anew.
func (j *Journal) bringLogs(ctx context.Context) error {
	own := filepath.Join(j.config.Dir, storeDir)
	if !j.config.Cluster.founder() || !exists(own) {
		return nil
	}
	j.config.Logger.Info("handing the logs over to the cluster")
	alone, err := openSide(j.config.Dir, j.config, nil)
	if err != nil {
		return err
	}
	defer alone.close()
	configs, err := j.ownLogs(ctx, alone.js)
	if err != nil {
		return err
	}
	if err := j.deleteClosed(ctx); err != nil {
		return err
	}
	hand := &copier{from: alone.conn, to: j.conn}
	for _, config := range configs {
		if err := hand.copy(ctx, closed(j.asWanted(config))); err != nil {
			return err
		}
	}
	alone.close()
	return giveUp(own)
}

// ownLogs are the configurations of all logs in use that this receiver kept alone. A server passes
// over those whose configuration it was writing when it was killed, or when the volume was full: they
// are there again when they are made.
func (j *Journal) ownLogs(ctx context.Context, alone jetstream.JetStream) ([]jetstream.StreamConfig, error) {
	for _, config := range j.streamConfigs() {
		_, err := alone.Stream(ctx, config.Name)
		if errors.Is(err, jetstream.ErrStreamNotFound) {
			config.Replicas = 1
			_, err = alone.CreateStream(ctx, config)
		}
		if err != nil {
			return nil, fmt.Errorf("cannot open the log %s: %w", config.Name, err)
		}
	}
	return used(ctx, alone)
}

// deleteClosed deletes what the cluster has. Logs that are open it keeps by itself.
func (j *Journal) deleteClosed(ctx context.Context) error {
	infos, err := allLogs(ctx, j.js)
	if err != nil {
		return err
	}
	for _, info := range infos {
		if !isClosed(info.Config) {
			return fmt.Errorf("cannot hand the log %s over: the cluster keeps one already", info.Config.Name)
		}
		if err := j.js.DeleteStream(ctx, info.Config.Name); err != nil {
			return fmt.Errorf("cannot replace the log %s: %w", info.Config.Name, err)
		}
	}
	return nil
}

// takeLogs takes the logs from the cluster that this receiver leaves behind.
func (j *Journal) takeLogs(ctx context.Context) error {
	own, former := filepath.Join(j.config.Dir, storeDir), filepath.Join(j.config.Dir, clusterDir)
	if j.config.Former == nil {
		return nil
	}
	if exists(own) || !exists(former) {
		return errors.Join(os.RemoveAll(former), os.RemoveAll(former+formerSuffix), os.RemoveAll(own+formerSuffix))
	}
	j.config.Logger.Info("taking the logs from the cluster")
	arriving := filepath.Join(j.config.Dir, arrivingDir)
	if err := os.RemoveAll(arriving); err != nil {
		return fmt.Errorf("cannot take the logs: %w", err)
	}
	if err := j.copyFormer(ctx, former, arriving); err != nil {
		return err
	}
	if err := syncTree(arriving); err != nil {
		return err
	}
	if err := os.Rename(filepath.Join(arriving, storeDir), own); err != nil {
		return fmt.Errorf("cannot take the logs: %w", err)
	}
	if err := syncDir(j.config.Dir); err != nil {
		return err
	}
	return errors.Join(os.RemoveAll(arriving), giveUp(former))
}

// copyFormer closes the logs of the cluster, so that nothing is added to them any more, and copies
// them.
func (j *Journal) copyFormer(ctx context.Context, former, arriving string) error {
	cluster, err := openSide(former, j.config, j.config.Former)
	if err != nil {
		return err
	}
	defer cluster.close()
	configs, err := cluster.closeLogs(ctx, j.config)
	if err != nil {
		return err
	}
	alone, err := openSide(arriving, j.config, nil)
	if err != nil {
		return err
	}
	defer alone.close()
	hand := &copier{from: cluster.conn, to: alone.conn}
	for _, config := range configs {
		if err := hand.copy(ctx, j.asWanted(config)); err != nil {
			return err
		}
	}
	return nil
}

// asWanted is the configuration that a log is to have here, whatever it was elsewhere.
func (j *Journal) asWanted(config jetstream.StreamConfig) jetstream.StreamConfig {
	for _, wanted := range j.streamConfigs() {
		if wanted.Name == config.Name {
			return wanted
		}
	}
	config.Replicas, config.PersistMode = j.config.Replicas, jetstream.DefaultPersistMode
	return config
}

// closeLogs waits for a majority of the members, closes all logs and returns what they are.
func (s *side) closeLogs(ctx context.Context, config Config) ([]jetstream.StreamConfig, error) {
	told := time.Now()
	for {
		configs, err := s.tryCloseLogs(ctx)
		if err == nil {
			return configs, nil
		}
		if time.Since(told) > joinWarning {
			told = time.Now()
			config.Logger.Warn("waiting for the other receivers, whose logs are to be taken", "error", err)
		}
		if !waitFor(ctx, nil, joinPause) {
			return nil, fmt.Errorf("cannot take the logs: %w", errors.Join(err, context.Cause(ctx)))
		}
	}
}

func (s *side) tryCloseLogs(ctx context.Context) ([]jetstream.StreamConfig, error) {
	if server := s.server.running(); server == nil || !server.JetStreamIsCurrent() {
		return nil, errNoMajority
	}
	ctx, cancel := context.WithTimeout(ctx, connectTimeout)
	defer cancel()
	infos, err := allLogs(ctx, s.js)
	if err != nil {
		return nil, err
	}
	for _, info := range infos {
		if isClosed(info.Config) {
			continue
		}
		if _, err := s.js.UpdateStream(ctx, closed(info.Config)); err != nil {
			return nil, fmt.Errorf("cannot close the log %s: %w", info.Config.Name, err)
		}
	}
	return used(ctx, s.js)
}
