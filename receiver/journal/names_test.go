package journal_test

import (
	"bytes"
	"context"
	"log/slog"
	"strings"
	"testing"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/pbx-operator/pbx-operator/receiver/journal"
)

// two integrations whose names became one in earlier receivers.
var (
	oneTenant   = journal.Owner{Namespace: "a-b", Name: "c"}
	otherTenant = journal.Owner{Namespace: "a", Name: "b-c"}
)

func jetStream(t *testing.T, s *server.Server) jetstream.JetStream {
	t.Helper()
	conn, err := nats.Connect(s.ClientURL())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(conn.Close)
	js, err := jetstream.New(conn)
	if err != nil {
		t.Fatal(err)
	}
	return js
}

// storeFormer puts an event and a leg where earlier receivers put them.
func storeFormer(t *testing.T, s *server.Server, owner journal.Owner, record []byte) {
	t.Helper()
	js := jetStream(t, s)
	if err := journal.UseFormerNames(t.Context(), js, owner); err != nil {
		t.Fatal(err)
	}
	subject := strings.ToLower(strings.Replace(strings.TrimSuffix(journal.FormerName(owner), "-"), "PBX-", "pbx.", 1)) + ".events"
	if _, err := js.Publish(t.Context(), subject, journal.AppendFrame(nil, record)); err != nil {
		t.Fatal(err)
	}
}

func entryOf(n int, mapping string) []byte {
	e := entry(n)
	e.Mapping = mapping
	return journal.AppendEntry(nil, &e)
}

func knows(mapping string) func(context.Context, string) bool {
	return func(_ context.Context, asked string) bool { return asked == mapping }
}

func TestTenantsDoNotMeet(t *testing.T) {
	s := natsServer(t, &server.Options{})
	pairs := [][2]journal.Owner{
		{oneTenant, otherTenant},
		{{Namespace: "a", Name: "b.c"}, {Namespace: "a-b", Name: "c.d"}},
		{{Namespace: "a", Name: "b.legs"}, {Namespace: "a", Name: "b"}},
		{{Namespace: "a-legs", Name: "legs"}, {Namespace: "a", Name: "legs.legs"}},
	}
	for _, pair := range pairs {
		first := open(t, journal.Config{URL: s.ClientURL(), Replicas: 1, Owner: pair[0], Size: 8 << 20})
		second := open(t, journal.Config{URL: s.ClientURL(), Replicas: 1, Owner: pair[1], Size: 8 << 20})
		if err := appendEntry(first, 1); err != nil {
			t.Fatal(err)
		}
		put(t, first, leg("c1", "a", 1))
		if got := readAll(t, second); len(got) > 0 {
			t.Errorf("%v reads %d events of %v", pair[1], len(got), pair[0])
		}
		if legs, err := second.LegsOfCall(t.Context(), journal.CallKey("c1")); err != nil || len(legs) > 0 {
			t.Errorf("%v has %d legs of %v, %v", pair[1], len(legs), pair[0], err)
		}
		first.Close()
		second.Close()
	}
}

func TestFormerLogsAreKept(t *testing.T) {
	s := natsServer(t, &server.Options{})
	owner := journal.Owner{Namespace: "telephony", Name: "office"}
	storeFormer(t, s, owner, entryOf(1, "unknown"))
	for n := range 2 { // that they were taken over is remembered
		j := open(t, journal.Config{URL: s.ClientURL(), Replicas: 1, Owner: owner, Size: 8 << 20})
		if err := appendEntry(j, 2+n); err != nil {
			t.Fatal(err)
		}
		if got := len(readAll(t, j)); got != 2+n {
			t.Errorf("%d events, want %d", got, 2+n)
		}
		j.Close()
	}
	stream, err := jetStream(t, s).Stream(t.Context(), journal.FormerName(owner)+"EVENTS")
	if err != nil {
		t.Fatal(err)
	}
	if got := stream.CachedInfo().Config.Metadata["pbx-operator.io/namespace"]; got != owner.Namespace {
		t.Errorf("the stream says that it belongs to namespace %q", got)
	}
}

// TestFormerLogsOfAnother gives logs whose name fits two tenants to the one whose events are in
// them, whoever comes first.
func TestFormerLogsOfAnother(t *testing.T) {
	for _, first := range []journal.Owner{oneTenant, otherTenant} {
		s := natsServer(t, &server.Options{})
		storeFormer(t, s, oneTenant, entryOf(1, "mapping of one"))
		ours := map[journal.Owner]string{oneTenant: "mapping of one", otherTenant: "mapping of the other"}
		events := map[journal.Owner]int{}
		second := oneTenant
		if first == oneTenant {
			second = otherTenant
		}
		for _, owner := range []journal.Owner{first, second} {
			var log bytes.Buffer
			j := open(t, journal.Config{
				URL: s.ClientURL(), Replicas: 1, Owner: owner, Ours: knows(ours[owner]), Size: 8 << 20, Logger: slog.New(slog.NewTextHandler(&log, nil)),
			})
			events[owner] = len(readAll(t, j))
			j.Close()
			if told := strings.Contains(log.String(), "left alone"); told != (owner == otherTenant) {
				t.Errorf("%v logs: %s", owner, log.String())
			}
		}
		if events[oneTenant] != 1 || events[otherTenant] != 0 {
			t.Errorf("with %v first: events by tenant %v", first, events)
		}
	}
}

// TestFormerLogsOfTwo gives logs that two tenants have shared to one of them.
func TestFormerLogsOfTwo(t *testing.T) {
	s := natsServer(t, &server.Options{})
	storeFormer(t, s, oneTenant, entryOf(1, "shared"))
	one := open(t, journal.Config{URL: s.ClientURL(), Replicas: 1, Owner: oneTenant, Ours: knows("shared"), Size: 8 << 20})
	defer one.Close()
	other := open(t, journal.Config{URL: s.ClientURL(), Replicas: 1, Owner: otherTenant, Ours: knows("shared"), Size: 8 << 20})
	defer other.Close()
	if err := other.Append(entryOf(2, "shared"), journal.Decoded{}); err != nil {
		t.Fatal(err)
	}
	if got := len(readAll(t, one)); got != 1 {
		t.Errorf("the first has %d events, want the one that was there", got)
	}
	if got := len(readAll(t, other)); got != 1 {
		t.Errorf("the second has %d events, want its own", got)
	}
}
