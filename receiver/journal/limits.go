package journal

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// DefaultReplicas is how many servers of an external JetStream hold each log.
const DefaultReplicas = 3

const (
	// maxEntryBytes is more than an entry takes: its body, and what fits into the header of a request.
	maxEntryBytes = 128 << 10
	// minPayload is the smallest max_payload with which a receiver works.
	minPayload = 2 * maxEntryBytes
	// goodPayload is the max_payload from which on no record is refused that the embedded log takes.
	goodPayload = 2 * maxGroupBytes
)

// LimitError says that an external JetStream, or its account, grants less than the logs need, and
// what to do about it. Its text holds no address and no credentials.
type LimitError struct {
	// Need is what the logs need and do not get, and what to do.
	Need string
	// Err is the refusal of the server, if there was one.
	Err error
}

// Error implements error.
func (l *LimitError) Error() string { return l.Need }

// Unwrap returns the refusal of the server.
func (l *LimitError) Unwrap() error { return l.Err }

// shortfalls are what the logs lack although they can be used, in the order in which it was noted.
type shortfalls struct {
	mu   sync.Mutex
	list []string
}

func (s *shortfalls) note(text string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !slices.Contains(s.list, text) {
		s.list = append(s.list, text)
	}
}

// Shortfalls says what an external JetStream lacks although the logs work, and what to do about it.
// It may be called from any goroutine.
func (j *Journal) Shortfalls() []string {
	j.shortfalls.mu.Lock()
	defer j.shortfalls.mu.Unlock()
	return slices.Clone(j.shortfalls.list)
}

// The first version whose JetStream takes all records of a batch or none. Earlier ones would take
// them one by one without a word.
const leastMajor, leastMinor = 2, 12

// checkVersion refuses servers that lack what the logs are built on. A version that cannot be read
// is let pass.
func checkVersion(version string) error {
	var major, minor int
	if n, _ := fmt.Sscanf(version, "%d.%d", &major, &minor); n != 2 || major > leastMajor || major == leastMajor && minor >= leastMinor {
		return nil
	}
	return &LimitError{Need: fmt.Sprintf("the log server has version %d.%d, and a receiver needs %d.%d: upgrade it", major, minor, leastMajor, leastMinor)}
}

// checkPayload compares the largest message that the server takes with what is put into one.
func (j *Journal) checkPayload() error {
	switch granted := j.conn.MaxPayload(); {
	case granted < minPayload:
		return &LimitError{Need: fmt.Sprintf("max_payload of the log server is %s, and a receiver needs %s: raise max_payload, by default 1 MiB, "+
			"on the servers and for the account", bytesText(granted), bytesText(minPayload))}
	case granted < goodPayload:
		j.shortfalls.note(fmt.Sprintf("max_payload of the log server is %s: calls with a great many events are set aside because they do not fit; raise it to %s",
			bytesText(granted), bytesText(goodPayload)))
	}
	return nil
}

// groupLimit is from how many bytes on a group of entries is not added to.
func (j *Journal) groupLimit() int {
	return int(min(maxGroupBytes, max(j.conn.MaxPayload()-maxEntryBytes, 1)))
}

// openExternal makes or adapts a log in an external JetStream. One that exists is used with fewer replicas than it should have
// rather than not at all.
func (j *Journal) openExternal(ctx context.Context, config jetstream.StreamConfig) (jetstream.Stream, error) {
	existing, err := j.js.Stream(ctx, config.Name)
	switch {
	case errors.Is(err, jetstream.ErrStreamNotFound):
		stream, err := j.js.CreateStream(ctx, config)
		return stream, j.explain(ctx, err)
	case err != nil:
		return nil, err
	}
	before := existing.CachedInfo().Config
	stream, err := j.js.UpdateStream(ctx, config)
	if err == nil || config.Replicas <= before.Replicas {
		return stream, j.explain(ctx, err)
	}
	short := j.explain(ctx, err)
	config.Replicas = before.Replicas
	if stream, err = j.js.UpdateStream(ctx, config); err == nil {
		j.shortfalls.note(fmt.Sprintf("the logs keep %d replicas: %v", before.Replicas, short))
	}
	return stream, err
}

// Codes of the JetStream API, ADR-7, by which a server refuses a stream for what it, or the account,
// has too little of.
const (
	codeNoPeers             jetstream.ErrorCode = 10005
	codeInsufficient        jetstream.ErrorCode = 10023
	codeMaxStreams          jetstream.ErrorCode = 10027
	codeStorageExceeded     jetstream.ErrorCode = 10047
	codeReplicasUnsupported jetstream.ErrorCode = 10074
	codeMaxStreamBytes      jetstream.ErrorCode = 10122
	codeAccountExceeded     jetstream.ErrorCode = 10002
)

// explain turns the refusal of a stream into a LimitError, where it is about a limit.
func (j *Journal) explain(ctx context.Context, err error) error {
	if errors.Is(err, jetstream.ErrJetStreamNotEnabled) || errors.Is(err, jetstream.ErrJetStreamNotEnabledForAccount) {
		return &LimitError{Need: "JetStream is not enabled on the log server for this account: enable it there", Err: err}
	}
	api, ok := errors.AsType[*jetstream.APIError](err)
	if !ok {
		return err
	}
	replicas := j.config.Replicas
	switch api.ErrorCode {
	case codeReplicasUnsupported:
		return &LimitError{Err: err, Need: fmt.Sprintf("the log server stands alone and cannot keep %d replicas: make it a cluster of at least %d servers, "+
			"or set spec.receiver.journal.nats.replicas to 1", replicas, replicas)}
	case codeNoPeers, codeInsufficient:
		return &LimitError{Err: err, Need: fmt.Sprintf("fewer than %d log servers are there with %s of storage to spare for %d replicas: add servers or storage, or lower "+
			"spec.receiver.journal.nats.replicas or spec.receiver.storage.size", replicas, bytesText(j.storageNeeded()), replicas)}
	case codeStorageExceeded, codeMaxStreamBytes, codeAccountExceeded:
		return &LimitError{Err: err, Need: fmt.Sprintf("the account of the log server has too little storage: the logs need %s, %d times%s; raise its max_storage, or lower "+
			"spec.receiver.storage.size", bytesText(j.storageNeeded()), replicas, j.granted(ctx, storageGranted))}
	case codeMaxStreams:
		return &LimitError{Err: err, Need: fmt.Sprintf("the account of the log server has too few streams: the logs need %d%s; raise its max_streams",
			len(j.streamConfigs()), j.granted(ctx, streamsGranted))}
	default:
		return err
	}
}

// storageNeeded is what one replica of all logs may take.
func (j *Journal) storageNeeded() int64 {
	var sum int64
	for _, config := range j.streamConfigs() {
		sum += config.MaxBytes
	}
	return sum
}

// granted says what the account is granted, for the end of a sentence; empty where that is not
// known.
func (j *Journal) granted(ctx context.Context, tell func(jetstream.Tier) string) string {
	info, err := j.js.AccountInfo(ctx)
	if err != nil {
		return ""
	}
	tier := info.Tier
	if tiered, ok := info.Tiers[fmt.Sprintf("R%d", j.config.Replicas)]; ok {
		tier = tiered
	}
	return tell(tier)
}

func storageGranted(t jetstream.Tier) string {
	if t.Limits.MaxStore <= 0 {
		return ""
	}
	return fmt.Sprintf(", and its limit is %s, of which %s is promised to streams", bytesText(t.Limits.MaxStore), bytesText(int64(t.ReservedStore)))
}

func streamsGranted(t jetstream.Tier) string {
	if t.Limits.MaxStreams <= 0 {
		return ""
	}
	return fmt.Sprintf(", and its limit is %d, of which %d are there", t.Limits.MaxStreams, t.Streams)
}

func bytesText(bytes int64) string {
	const kibi, mebi = 1 << 10, 1 << 20
	if bytes >= 10*mebi {
		return fmt.Sprintf("%d MiB", bytes/mebi)
	}
	return fmt.Sprintf("%d KiB", bytes/kibi)
}

// Unreachable says why the logs of an external JetStream cannot be opened, as the end of a sentence:
// nothing of the error that may change from one attempt to the next, and no address.
func Unreachable(err error) string {
	var certificate *tls.CertificateVerificationError
	var authority x509.UnknownAuthorityError
	switch {
	case errors.As(err, &certificate), errors.As(err, &authority):
		return "shows a certificate that is not trusted: see spec.receiver.journal.nats.tls.caBundle"
	case errors.Is(err, nats.ErrAuthorization), errors.Is(err, nats.ErrAuthExpired), errors.Is(err, nats.ErrAuthRevoked):
		return "refuses the credentials: see spec.receiver.journal.nats.credentialsSecretRef and tls.clientCertificateSecretRef"
	case errors.Is(err, nats.ErrSecureConnWanted):
		return "speaks no TLS: see spec.receiver.journal.nats.url and tls"
	case strings.Contains(err.Error(), "tls"):
		return "refuses the client certificate, or asks for one: see spec.receiver.journal.nats.tls.clientCertificateSecretRef"
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, nats.ErrTimeout):
		return "does not answer: see whether its JetStream has a leader, and the permissions of the account ($JS.API.>, pbx.>, _INBOX.>)"
	}
	return "cannot be reached: see spec.receiver.journal.nats.url, and whether its servers run"
}
