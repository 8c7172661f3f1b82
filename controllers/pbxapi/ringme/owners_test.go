package ringme_test

import (
	"errors"
	"net/http"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/pbx-operator/pbx-operator/api/v1alpha1"
	"github.com/pbx-operator/pbx-operator/controllers/pbxapi"
	"github.com/pbx-operator/pbx-operator/hack/pbxsim/exchange"
	"github.com/pbx-operator/pbx-operator/hack/pbxsim/sim"
	"github.com/pbx-operator/pbx-operator/hack/pbxsim/simclient"
	"github.com/pbx-operator/pbx-operator/hack/pbxsim/simtest"
)

// held are the registrations that the PBX has.
func held(t *testing.T, pbx *simtest.PBX) []exchange.Registration {
	t.Helper()
	registrations, err := pbx.Sim.Registrations(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return registrations
}

func TestOwnersOfRegistrations(t *testing.T) {
	tests := map[string]struct {
		owner string
		scope exchange.Scope
		id    int
		wire  map[v1alpha1.EventType]string
	}{
		"extension": {"5101", exchange.OnExtension, 5101, map[v1alpha1.EventType]string{
			v1alpha1.EventDialIn: "dial-in", v1alpha1.EventDialOut: "dial-out", v1alpha1.EventAnswer: "answer", v1alpha1.EventHangup: "hangup",
		}},
		"account": {pbxapi.AccountOwner, exchange.OnAccount, 12, map[v1alpha1.EventType]string{
			v1alpha1.EventDialIn: "dial-in", v1alpha1.EventDialOut: "dial-out", v1alpha1.EventAnswer: "answer", v1alpha1.EventHangup: "hangup",
			pbxapi.EventPhoneStatus: "extension-call-status",
		}},
		"agent": {pbxapi.AgentOwner("77"), exchange.OnAgent, 77, map[v1alpha1.EventType]string{
			pbxapi.EventAgentLogin: "agent-login", pbxapi.EventAgentLogout: "agent-logout",
		}},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			pbx, api := start(t, sim.Config{})
			for event, wire := range test.wire {
				made, err := api.Register(t.Context(), test.owner, pbxapi.Registration{Event: event, URL: eventURL, Method: http.MethodPost})
				if err != nil {
					t.Fatalf("%s: %v", event, err)
				}
				made.Method = http.MethodGet
				if err := api.Update(t.Context(), test.owner, made); err != nil {
					t.Errorf("%s: %v", event, err)
				}
				has := held(t, pbx)
				want := []exchange.Registration{{
					ID: has[0].ID, Owner: exchange.Owner{Scope: test.scope, ID: test.id}, URL: eventURL, EventType: wire, Method: http.MethodGet,
				}}
				if diff := cmp.Diff(want, has, cmp.Comparer(sameRegistration)); diff != "" {
					t.Errorf("%s: held by the PBX (-want +got):\n%s", event, diff)
				}
				listed, err := api.Registrations(t.Context(), test.owner)
				if diff := cmp.Diff([]pbxapi.Registration{made}, listed); diff != "" || err != nil {
					t.Errorf("%s: %v, listed (-want +got):\n%s", event, err, diff)
				}
				if err := api.Unregister(t.Context(), test.owner, made.ID); err != nil || len(held(t, pbx)) != 0 {
					t.Errorf("%s: not deleted: %v", event, err)
				}
			}
			if n := requests(t, pbx).CollectionDeletes; n != 0 {
				t.Errorf("%d collections deleted", n)
			}
		})
	}
}

func sameRegistration(a, b exchange.Registration) bool {
	return a.ID == b.ID && a.Owner == b.Owner && a.URL == b.URL && a.EventType == b.EventType && a.Method == b.Method
}

func TestEventsThatAnOwnerLacks(t *testing.T) {
	pbx, api := start(t, sim.Config{})
	for owner, event := range map[string]v1alpha1.EventType{
		"5101":                  pbxapi.EventPhoneStatus,
		pbxapi.AccountOwner:     pbxapi.EventAgentLogin,
		pbxapi.AgentOwner("77"): v1alpha1.EventHangup,
	} {
		wrong := pbxapi.Registration{ID: "1", Event: event, URL: eventURL, Method: http.MethodPost}
		if _, err := api.Register(t.Context(), owner, wrong); !errors.Is(err, pbxapi.ErrInvalid) {
			t.Errorf("register %s on %s: got %v, want ErrInvalid", event, owner, err)
		}
		if err := api.Update(t.Context(), owner, wrong); !errors.Is(err, pbxapi.ErrInvalid) {
			t.Errorf("update to %s on %s: got %v, want ErrInvalid", event, owner, err)
		}
	}
	if n := requests(t, pbx).Total; n != 0 {
		t.Errorf("%d requests, want none", n)
	}
}

func TestOwnersThatThePBXDoesNotKnow(t *testing.T) {
	_, api := start(t, sim.Config{})
	for _, owner := range []string{"9999", pbxapi.AgentOwner("9999")} {
		if _, err := api.Registrations(t.Context(), owner); !errors.Is(err, pbxapi.ErrNotFound) {
			t.Errorf("%s: got %v, want ErrNotFound", owner, err)
		}
	}
}

func agents(t *testing.T, api pbxapi.API) []pbxapi.Agent {
	t.Helper()
	lister, ok := api.(pbxapi.AgentLister)
	if !ok {
		t.Fatal("no AgentLister")
	}
	list, err := lister.Agents(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return list
}

func TestAgents(t *testing.T) {
	pbx, api := start(t, sim.Config{})
	if diff := cmp.Diff([]pbxapi.Agent{{ID: "77", Number: "1234*101"}}, agents(t, api)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	fault(t, pbx, simclient.Fault{Path: "/agent/local", Kind: simclient.FaultStatus, Status: http.StatusForbidden, Code: "access_denied"})
	lister, _ := api.(pbxapi.AgentLister)
	if _, err := lister.Agents(t.Context()); !errors.Is(err, pbxapi.ErrForbidden) {
		t.Errorf("got %v, want ErrForbidden", err)
	}
}

// inMemory is a PBX that answers by the end of the path, 404 for all else.
func inMemory(t *testing.T, bodies map[string]string) pbxapi.API {
	t.Helper()
	with := settings("https://pbx.example.com", "app", "secret")
	with.HTTP.Transport = answers(func(r *http.Request) (int, string) {
		if strings.HasPrefix(r.URL.Path, "/oauth/") {
			return http.StatusOK, `{"access_token":"t","token_type":"Bearer"}`
		}
		for suffix, body := range bodies {
			if strings.HasSuffix(r.URL.EscapedPath(), suffix) {
				return http.StatusOK, body
			}
		}
		return http.StatusNotFound, `{"message":"Not found"}`
	})
	return connect(t, with)
}

// Which member of an agent names its extension is not documented.
func TestAgentsInOtherWords(t *testing.T) {
	api := inMemory(t, map[string]string{
		"/agent/local/": `[{"id":1,"name":"Ann","extension_name":"1234*101@sip.example.com","extension_id":5101},
			{"id":2,"name":"1234*102@sip.example.com"},{"id":"3","name":"Cleo","extension_id":"5103"},{"id":4,"name":"Dora","extension_id":null}]`,
		"/extension/": `[{"id":5103,"name":"1234*103"}]`,
	})
	want := []pbxapi.Agent{{ID: "1", Number: "1234*101"}, {ID: "2", Number: "1234*102"}, {ID: "3", Number: "1234*103"}, {ID: "4"}}
	if diff := cmp.Diff(want, agents(t, api)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}
