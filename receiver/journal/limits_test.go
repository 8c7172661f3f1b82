package journal_test

import (
	"errors"
	"fmt"
	"net"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/pbx-operator/pbx-operator/receiver/journal"
)

var office = journal.Owner{Namespace: "telephony", Name: "office"}

// limited is a server whose clients have an account with the given limits.
func limited(t *testing.T, limits server.JetStreamAccountLimits) *server.Server {
	t.Helper()
	account := server.NewAccount("TELEPHONY")
	s := natsServer(t, &server.Options{
		Accounts: []*server.Account{account}, Users: []*server.User{{Username: "receiver", Password: "secret", Account: account}},
	})
	granted, err := s.LookupAccount("TELEPHONY")
	if err != nil {
		t.Fatal(err)
	}
	if err := granted.EnableJetStream(map[string]server.JetStreamAccountLimits{"": limits}, nil); err != nil {
		t.Fatal(err)
	}
	return s
}

func urlAs(t *testing.T, s *server.Server, user, password string) string {
	t.Helper()
	address, err := url.Parse(s.ClientURL())
	if err != nil {
		t.Fatal(err)
	}
	address.User = url.UserPassword(user, password)
	return address.String()
}

// TestLimitsAreTold asks for more than a server or an account grants.
func TestLimitsAreTold(t *testing.T) {
	unlimited := server.JetStreamAccountLimits{MaxMemory: -1, MaxStore: -1, MaxStreams: -1, MaxConsumers: -1, MemoryMaxStreamBytes: -1, StoreMaxStreamBytes: -1}
	fewBytes, fewStreams, smallStreams := unlimited, unlimited, unlimited
	fewBytes.MaxStore, fewStreams.MaxStreams, smallStreams.StoreMaxStreamBytes = 32<<20, 3, 1<<20
	cases := map[string]struct {
		url      func() string
		replicas int
		says     []string
	}{
		"a server that stands alone": {func() string { return natsServer(t, &server.Options{}).ClientURL() }, 3,
			[]string{"3 replicas", "cluster of at least 3 servers", "journal.nats.replicas to 1"}},
		"max_payload": {func() string { return natsServer(t, &server.Options{MaxPayload: 64 << 10}).ClientURL() }, 1,
			[]string{"max_payload", "64 KiB", "256 KiB"}},
		"storage of the account": {func() string { return urlAs(t, limited(t, fewBytes), "receiver", "secret") }, 1,
			[]string{"its limit is 32 MiB", "max_storage", "storage.size"}},
		"streams of the account": {func() string { return urlAs(t, limited(t, fewStreams), "receiver", "secret") }, 1,
			[]string{"the logs need 6", "its limit is 3", "max_streams"}},
		"size of a stream": {func() string { return urlAs(t, limited(t, smallStreams), "receiver", "secret") }, 1,
			[]string{"too little storage", "storage.size"}},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			_, err := journal.Open(t.Context(), journal.Config{URL: c.url(), Replicas: c.replicas, Owner: office, Size: 64 << 20})
			limit, ok := errors.AsType[*journal.LimitError](err)
			if !ok {
				t.Fatalf("got %v", err)
			}
			for _, part := range c.says {
				if !strings.Contains(limit.Error(), part) {
					t.Errorf("%q is not in %q", part, limit)
				}
			}
			if strings.Contains(limit.Error(), "secret") || strings.Contains(limit.Error(), "127.0.0.1") {
				t.Errorf("%q holds an address or a password", limit)
			}
		})
	}
}

func TestOldServersAreRefused(t *testing.T) {
	for version, refused := range map[string]bool{"2.11.9": true, "1.4.1": true, "2.12.0": false, "2.15.2": false, "3.0.0-beta.1": false, "": false} {
		if err := journal.CheckVersion(version); (err != nil) != refused {
			t.Errorf("version %q: %v", version, err)
		}
	}
}

// TestGroupsFitTheServer has many large events wait together where the server takes small messages.
func TestGroupsFitTheServer(t *testing.T) {
	s := natsServer(t, &server.Options{MaxPayload: 256 << 10})
	j := open(t, journal.Config{URL: s.ClientURL(), Replicas: 1, Owner: office, Size: 256 << 20})
	defer j.Close()
	if told := j.Shortfalls(); len(told) != 1 || !strings.Contains(told[0], "max_payload of the log server is 256 KiB") {
		t.Errorf("shortfalls: %q", told)
	}
	const count = 64
	large := strings.Repeat("x", 60<<10)
	var senders sync.WaitGroup
	for n := range count {
		senders.Go(func() {
			e := entry(n)
			e.Request.Body = large
			if err := j.Append(journal.AppendEntry(nil, &e), journal.Decoded{}); err != nil {
				t.Error(err)
			}
		})
	}
	senders.Wait()
	if got := len(readAll(t, j)); got != count {
		t.Errorf("%d events, want %d", got, count)
	}
}

// cluster starts three servers that form one JetStream.
func cluster(t *testing.T) []*server.Server {
	t.Helper()
	ports := make([]int, 3)
	routes := make([]*url.URL, len(ports))
	for i := range ports {
		listener, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		ports[i] = listener.Addr().(*net.TCPAddr).Port
		routes[i] = &url.URL{Scheme: "nats", Host: listener.Addr().String()}
		_ = listener.Close()
	}
	servers := make([]*server.Server, len(ports))
	for i, port := range ports {
		servers[i] = startNATS(t, &server.Options{
			ServerName: fmt.Sprint("n", i), Routes: routes, Cluster: server.ClusterOpts{Name: "test", Host: "127.0.0.1", Port: port},
		})
	}
	eventually(t, "the cluster has a leader and three members", func() bool {
		return slices.ContainsFunc(servers, func(s *server.Server) bool { return s.JetStreamIsLeader() && len(s.JetStreamClusterPeers()) == 3 })
	})
	return servers
}

func TestThreeReplicas(t *testing.T) {
	servers := cluster(t)
	urls := make([]string, len(servers))
	for i, s := range servers {
		urls[i] = s.ClientURL()
	}
	config := journal.Config{URL: strings.Join(urls, ","), Owner: office, Size: 64 << 20}
	config.Replicas = 5
	_, err := journal.Open(t.Context(), config)
	if _, ok := errors.AsType[*journal.LimitError](err); !ok || !strings.Contains(err.Error(), "fewer than 5 log servers") {
		t.Fatalf("five replicas on three servers: %v", err)
	}
	config.Replicas = 0
	j := open(t, config)
	defer j.Close()
	if err := appendEntry(j, 1); err != nil {
		t.Fatal(err)
	}
	put(t, j, leg("c1", "a", 1))
	for _, log := range []string{"EVENTS", "LEGS", "STATE"} {
		stream, err := jetStream(t, servers[0]).Stream(t.Context(), "PBX_telephony_office_"+log)
		if err != nil {
			t.Fatal(err)
		}
		if got := stream.CachedInfo().Config.Replicas; got != 3 {
			t.Errorf("%s has %d replicas", log, got)
		}
	}
	servers[0].Shutdown()
	servers[0].WaitForShutdown()
	eventually(t, "two of three servers take events", func() bool { return appendEntry(j, 2) == nil })
	eventually(t, "they have all events", func() bool { return len(readAll(t, j)) >= 2 })
	eventually(t, "they have the leg", func() bool {
		records, err := j.LegsOfCall(t.Context(), journal.CallKey("c1"))
		return err == nil && len(records) == 1
	})
}

// TestFormerLogsGoOnWithOneReplica opens logs of an earlier receiver, which had one replica by
// default, where three are wanted and cannot be had.
func TestFormerLogsGoOnWithOneReplica(t *testing.T) {
	s := natsServer(t, &server.Options{})
	storeFormer(t, s, office, entryOf(1, "m"))
	j := open(t, journal.Config{URL: s.ClientURL(), Owner: office, Size: 8 << 20})
	defer j.Close()
	if err := appendEntry(j, 2); err != nil {
		t.Fatal(err)
	}
	if got := len(readAll(t, j)); got != 2 {
		t.Errorf("%d events", got)
	}
	told := strings.Join(j.Shortfalls(), "; ")
	if !strings.Contains(told, "the logs keep 1 replica") || !strings.Contains(told, "cluster of at least 3 servers") {
		t.Errorf("shortfalls: %s", told)
	}
	if _, err := jetStream(t, s).Stream(t.Context(), journal.FormerName(office)+"LEGS"); !errors.Is(err, jetstream.ErrStreamNotFound) {
		t.Errorf("a log that can have no replicas is still there: %v", err)
	}
}

func TestReasonsWhyAServerCannotBeReached(t *testing.T) {
	account := server.NewAccount("TELEPHONY")
	secured := natsServer(t, &server.Options{
		Accounts: []*server.Account{account}, Users: []*server.User{{Username: "receiver", Password: "secret", Account: account}},
	})
	down := natsServer(t, &server.Options{})
	down.Shutdown()
	for name, c := range map[string]struct{ url, says string }{
		"a wrong password": {urlAs(t, secured, "receiver", "guess"), "refuses the credentials"},
		"no server":        {down.ClientURL(), "cannot be reached"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := journal.Open(t.Context(), journal.Config{URL: c.url, Owner: office, Size: 8 << 20})
			if err == nil {
				t.Fatal("opened")
			}
			if got := journal.Unreachable(err); !strings.Contains(got, c.says) || strings.Contains(got, "guess") || strings.Contains(got, "127.0.0.1") {
				t.Errorf("%q for %v", got, err)
			}
		})
	}
}
