// Package journal keeps the durable logs of a receiver in JetStream: requests as they came in
// (EVENTS), the newest revision of every leg (LEGS), the open calls as they were saved (CALLS), the
// newest state of every queue agent and phone (AGENTS), undecodable requests (QUARANTINE) and the
// positions of the readers (STATE). The JetStream is embedded in the process, with one fsync per
// write, or run by somebody else; the code is the same.
package journal

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/nats-io/nuid"
)

// Config says where the logs are.
type Config struct {
	// Dir holds the embedded logs. Unused with an external JetStream.
	Dir string
	// Size is the size of the volume in bytes; the logs use about nine tenths of it.
	Size int64
	// EventAge is how long events are kept after they were correlated. Default 48 hours.
	EventAge time.Duration
	// LegAge is how long legs are kept after their last change. Default 7 days.
	LegAge time.Duration
	// URL of an external JetStream. Empty: embedded.
	URL string
	// Credentials is the path of a NATS credentials file for URL.
	Credentials string
	// Authorities is the path of a file of certificate authorities, in PEM, to trust for URL.
	// Default: those of the system.
	Authorities string
	// Certificate and Key are the paths of a client certificate for URL and of its key, in PEM. Like
	// Credentials and Authorities they are read at every connection, so that they may be replaced.
	Certificate, Key string
	// Owner tells the logs of several integrations in one external JetStream apart. Unused with the
	// embedded one.
	Owner Owner
	// Ours reports whether a mapping, by its UID, is one of the owner's. It is asked once, where
	// earlier receivers left logs whose name says not clearly enough whose they are. Nil: not known.
	Ours func(ctx context.Context, mapping string) bool
	// Partitions of new logs: at most 64, by default 16. Logs keep the number that they were made
	// with.
	Partitions int
	// LegReaders are the durable names whose progress bounds what is trimmed from the LEGS log.
	// None: nobody waits for it.
	LegReaders []string
	// Replicas of each log in an external JetStream. Default DefaultReplicas.
	Replicas int
	// Cluster has several receivers keep the embedded logs together. Nil: this one is alone.
	Cluster *Cluster
	// Former is the cluster that a receiver which is alone has left, if it was in any.
	Former *Cluster
	Logger *slog.Logger
	// Observe is told of every group that was committed, or not.
	Observe func(log Log, records, bytes int, took time.Duration, err error)
}

// Log names one of the logs.
type Log string

// The logs.
const (
	Events     Log = "EVENTS"
	Legs       Log = "LEGS"
	Calls      Log = "CALLS"
	Agents     Log = "AGENTS"
	Quarantine Log = "QUARANTINE"
	State      Log = "STATE"
)

// ErrFull says that a log has reached its limit and holds nothing that may be discarded yet.
var ErrFull = errors.New("the log is full")

const (
	defaultEventAge = 48 * time.Hour
	defaultLegAge   = 7 * 24 * time.Hour
	defaultSize     = 1 << 30
	connectTimeout  = 10 * time.Second
	// syncQueue is how many answers to one read may wait; the default takes half a megabyte for
	// every read.
	syncQueue = 1024
)

// Journal is the open logs.
type Journal struct {
	config Config
	server *embedded
	conn   *nats.Conn
	js     jetstream.JetStream
	names  names
	// id tells this process from others that have the logs open.
	id string
	// moved are the streams of those logs that an earlier receiver kept in another one.
	moved map[Log]string
	// lastAtStart are the newest sequences that the logs had when they were opened.
	lastAtStart map[Log]uint64
	events      *committer
	quarantine  *committer
	changes     map[Log]*signal
	// arrivals tell of new events by partition.
	arrivals   []*signal
	legIndex   shared[[][]string]
	callIndex  shared[[][]savedCall]
	partitions partitioning
	recent     recent
	window     window
	cursors    cursors
	health     health
	volume     *volume
	timeouts   timeouts
	// writers write the logs of which every partition has one owner.
	writers map[Log]*writer
	// grown is by how much the EVENTS log has grown since it was looked at. Only its committer uses
	// it.
	grown int64
	// trimNow has the logs looked at at once.
	trimNow    chan struct{}
	fills      fills
	shortfalls shortfalls
	lastEvent  atomic.Uint64
	skipped    atomic.Uint64
	damaged    atomic.Uint64
	reconnects atomic.Uint64
	stop       context.CancelFunc
	background sync.WaitGroup
}

// Open opens the logs, making or adapting them as needed, and starts their upkeep.
func Open(ctx context.Context, config Config) (*Journal, error) {
	j := &Journal{
		config: config.withDefaults(), id: nuid.Next(), volume: &volume{},
		changes: map[Log]*signal{Events: newSignal(), Legs: newSignal(), Calls: newSignal(), Agents: newSignal(), Quarantine: newSignal(), State: newSignal()},
	}
	if err := j.connect(ctx); err != nil {
		return nil, err
	}
	err := j.findLogs(ctx)
	if err == nil {
		err = j.openLogs(ctx)
	}
	if err != nil {
		j.disconnect()
		return nil, err
	}
	if err := j.awaitPartitions(ctx); err != nil {
		j.disconnect()
		return nil, fmt.Errorf("cannot learn how the logs are divided: %w", err)
	}
	j.recent.start(j.partitions, j.lastAtStart[Events])
	for range j.partitions {
		j.arrivals = append(j.arrivals, newSignal())
	}
	if err := j.listenToOthers(); err != nil {
		j.disconnect()
		return nil, err
	}
	for _, reader := range j.config.LegReaders {
		j.cursors.set(Legs, reader, 0)
	}
	j.events = newCommitter(ctx, j.groupLimit, j.patient(j.publisher(Events)), j.observer(Events))
	j.quarantine = newCommitter(ctx, j.groupLimit, j.publisher(Quarantine), j.observer(Quarantine))
	j.trimNow = make(chan struct{}, 1)
	upkeep, stop := context.WithCancel(context.WithoutCancel(ctx))
	j.stop = stop
	j.background.Go(func() { j.trimLoop(upkeep) })
	return j, nil
}

func (c Config) withDefaults() Config {
	if c.URL == "" {
		c.Owner = Owner{}
	}
	if c.Size == 0 {
		c.Size = defaultSize
	}
	if c.EventAge == 0 {
		c.EventAge = defaultEventAge
	}
	if c.LegAge == 0 {
		c.LegAge = defaultLegAge
	}
	if c.Cluster != nil {
		c.Replicas = min(clusterReplicas, len(c.Cluster.Members))
	}
	if c.Replicas == 0 && c.URL == "" {
		c.Replicas = 1
	}
	if c.Replicas == 0 {
		c.Replicas = DefaultReplicas
	}
	if c.Partitions == 0 {
		c.Partitions = DefaultPartitions
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	if c.Observe == nil {
		c.Observe = func(Log, int, int, time.Duration, error) {}
	}
	return c
}

func (j *Journal) connect(ctx context.Context) error {
	options := []nats.Option{
		nats.Name("receiver"), nats.MaxReconnects(-1), nats.ReconnectWait(100 * time.Millisecond), nats.ReconnectJitter(0, 0),
		nats.ReconnectBufSize(-1), nats.SyncQueueLen(syncQueue), nats.Timeout(connectTimeout), nats.ErrorHandler(j.connectionError),
		nats.ReconnectHandler(j.reconnected),
	}
	if j.config.URL == "" {
		server, err := j.startEmbedded(ctx)
		if err != nil {
			return err
		}
		j.server, j.volume = server, newVolume(j.config.Dir, j.config.Size)
		options = append(options, nats.InProcessServer(server))
	}
	if j.config.Credentials != "" {
		options = append(options, nats.UserCredentials(j.config.Credentials))
	}
	if j.config.Authorities != "" {
		options = append(options, nats.RootCAs(j.config.Authorities))
	}
	if j.config.Certificate != "" {
		options = append(options, nats.ClientCert(j.config.Certificate, j.config.Key))
	}
	conn, err := nats.Connect(j.config.URL, options...)
	if err != nil {
		j.disconnect()
		return fmt.Errorf("cannot connect to the log server: %w", err)
	}
	j.conn = conn
	j.js, err = jetstream.New(conn)
	if err != nil {
		j.disconnect()
		return fmt.Errorf("cannot use the log server: %w", err)
	}
	return nil
}

func (j *Journal) connectionError(_ *nats.Conn, _ *nats.Subscription, err error) {
	j.config.Logger.Warn("the connection to the log reports an error", "error", err)
}

func (j *Journal) reconnected(*nats.Conn) {
	j.reconnects.Add(1)
	j.window.forget()
}

// alone reports whether no other process can open the logs.
func (j *Journal) alone() bool { return j.config.URL == "" && j.config.Cluster == nil }

// Generation changes when the log server was lost. Records of the LEGS log that were written
// shortly before may be gone.
func (j *Journal) Generation() uint64 { return j.reconnects.Load() }

func (j *Journal) disconnect() {
	if j.conn != nil {
		j.conn.Close()
	}
	if j.server != nil {
		j.server.close()
	}
}

// Close makes what was taken durable and closes the logs. Readers must have stopped.
func (j *Journal) Close() {
	j.events.close()
	j.quarantine.close()
	j.stop()
	j.background.Wait()
	j.disconnect()
}

// Append makes an encoded Entry durable. It returns nil only then; the record may be reused
// afterwards. What it decodes to, if given, must not change any more: ReadEvents may hand it out in
// place of the entry.
func (j *Journal) Append(record []byte, decoded Decoded) error {
	if j.volume.low.Load() {
		return fmt.Errorf("%w: the volume has no free space", ErrFull)
	}
	return j.events.append(record, decoded, j.partitions.touched(decoded))
}

// AppendQuarantine keeps an encoded Entry that could not be understood. The oldest ones give way to
// new ones.
func (j *Journal) AppendQuarantine(record []byte) error {
	if j.volume.low.Load() {
		return fmt.Errorf("%w: the volume has no free space", ErrFull)
	}
	return j.quarantine.append(record, Decoded{}, 0)
}

func (j *Journal) publisher(log Log) func(context.Context, []byte) (uint64, error) {
	subject := j.names.subject(log)
	return func(ctx context.Context, group []byte) (uint64, error) {
		ack, err := j.js.Publish(ctx, subject, group, jetstream.WithRetryAttempts(0))
		if err = j.storeError(log, err); err != nil {
			return 0, err
		}
		return ack.Sequence, nil
	}
}

const (
	// roomWait is how long a commit waits for room in a full log. After a restart under load, what
	// may be discarded is known a few seconds later; a PBX that is told 503 may not send again.
	roomWait = 4 * time.Second
	roomPoll = 50 * time.Millisecond
)

// patient waits for room where the log is full. Once that was in vain, commits are refused at once
// until one succeeds.
func (j *Journal) patient(publish func(context.Context, []byte) (uint64, error)) func(context.Context, []byte) (uint64, error) {
	inVain := false
	return func(ctx context.Context, group []byte) (uint64, error) {
		for start := time.Now(); ; {
			sequence, err := publish(ctx, group)
			if !errors.Is(err, ErrFull) {
				inVain = false
				return sequence, err
			}
			if inVain || time.Since(start) >= roomWait || !waitFor(ctx, nil, roomPoll) {
				inVain = true
				return 0, err
			}
		}
	}
}

// maxTimeouts is after how many unanswered writes in a row to one log the embedded server counts as
// broken.
const maxTimeouts = 2

// timeouts counts the writes in a row that were not answered, by log: those to one log say nothing
// of another.
type timeouts struct {
	mu    sync.Mutex
	byLog map[Log]int
}

// note counts one more, or that a write was answered, and reports whether the log counts as broken.
func (t *timeouts) note(log Log, unanswered bool) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if !unanswered {
		delete(t.byLog, log)
		return false
	}
	if t.byLog == nil {
		t.byLog = make(map[Log]int)
	}
	t.byLog[log]++
	if t.byLog[log] < maxTimeouts {
		return false
	}
	delete(t.byLog, log)
	return true
}

// codeStoreFailed is the JetStream API's code of a write that its store did not take.
const codeStoreFailed = 10077

// storeError makes the causes that callers treat differently recognisable, and has a server
// restarted that does not answer, or that cannot write: JetStream keeps a log closed after a failed
// write.
func (j *Journal) storeError(log Log, err error) error {
	broken := j.timeouts.note(log, errors.Is(err, context.DeadlineExceeded) && !j.unavailable(err))
	if err == nil {
		return nil
	}
	if text := err.Error(); strings.Contains(text, "maximum bytes exceeded") || strings.Contains(text, "maximum messages exceeded") {
		j.hurryTrim()
		return fmt.Errorf("%w: %w", ErrFull, err)
	}
	var api *jetstream.APIError
	if errors.As(err, &api) && api.ErrorCode == codeStoreFailed && !permanent(err) {
		broken = true
	}
	if broken && j.server != nil {
		j.config.Logger.Warn("a log cannot be written to; its server is restarted", "log", log, "error", err)
		j.server.distrust()
	}
	return fmt.Errorf("cannot make the record durable: %w", err)
}

func (j *Journal) observer(log Log) func(commit) {
	return func(c commit) {
		if log == Events {
			j.health.note(c.err)
			j.recent.note(c, j.partitions)
			j.sawEvent(c.sequence)
			j.grow(c.bytes)
		}
		if c.err == nil {
			j.changes[log].notify()
			j.wake(log, c)
		}
		j.config.Observe(log, len(c.members), c.bytes, c.took, c.err)
	}
}

// wake tells the partitions of a commit that may have something for them.
func (j *Journal) wake(log Log, c commit) {
	if log != Events {
		return
	}
	var touched PartitionSet
	for _, w := range c.members {
		if touched |= w.touched; len(w.record) > 0 && len(w.decoded.Events) == 0 {
			touched = ^PartitionSet(0)
		}
	}
	j.wakePartitions(touched)
	j.tellOthers(touched)
}

func (j *Journal) wakePartitions(touched PartitionSet) {
	touched.each(func(partition int) {
		if partition < len(j.arrivals) {
			j.arrivals[partition].notify()
		}
	})
}

// grow has the EVENTS log looked at when it has grown by a few percent.
func (j *Journal) grow(bytes int) {
	const few = 4
	if j.grown += int64(bytes); j.grown > j.config.Size*eventsShare/percent*few/percent {
		j.grown = 0
		j.hurryTrim()
	}
}

// sawEvent notes a sequence of the EVENTS log.
func (j *Journal) sawEvent(sequence uint64) {
	for last := j.lastEvent.Load(); sequence > last; last = j.lastEvent.Load() {
		if j.lastEvent.CompareAndSwap(last, sequence) {
			return
		}
	}
}

// health remembers how the last commit went.
type health struct {
	mu   sync.Mutex
	last time.Time
	err  error
}

func (h *health) note(err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.err = err
	if err == nil {
		h.last = time.Now()
	}
}

// recent reports whether the last commit succeeded within the given time.
func (h *health) recent(within time.Duration) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.err == nil && time.Since(h.last) < within
}

// Check returns nil if an event can be made durable right now. Without recent traffic it tries with
// an empty group.
func (j *Journal) Check() error {
	const fresh = time.Second
	if !j.volume.low.Load() && j.health.recent(fresh) {
		return nil
	}
	return j.Append(nil, Decoded{})
}

// signal wakes whoever waits for a change.
type signal struct {
	mu sync.Mutex
	ch chan struct{}
}

func newSignal() *signal { return &signal{} }

// changed is closed at the next change. Ask for it before looking at what may change.
func (s *signal) changed() <-chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ch == nil {
		s.ch = make(chan struct{})
	}
	return s.ch
}

func (s *signal) notify() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ch != nil {
		close(s.ch)
		s.ch = nil
	}
}

// Changed is closed when something new is in the log. Ask for it before reading.
func (j *Journal) Changed(log Log) <-chan struct{} { return j.changes[log].changed() }
