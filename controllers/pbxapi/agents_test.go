package pbxapi_test

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pbx-operator/pbx-operator/api/v1alpha1"
	"github.com/pbx-operator/pbx-operator/controllers/pbxapi"
)

// fakeWithAgents is a PBX with queue agents.
type fakeWithAgents struct {
	fake
	agents []pbxapi.Agent
}

func (f *fakeWithAgents) Agents(ctx context.Context) ([]pbxapi.Agent, error) {
	return f.agents, f.do(ctx)
}

func clientWithAgents(t *testing.T, pbx *fakeWithAgents) *pbxapi.Client {
	t.Helper()
	pool := pbxapi.NewPool(map[v1alpha1.PBXType]pbxapi.Factory{
		v1alpha1.PBXTypeRingMe: func(settings pbxapi.Settings) (pbxapi.API, error) {
			pbx.turn = settings.Turn
			return pbx, nil
		},
	}, pbxapi.Options{})
	return clientOf(t, pool, integration("a", 600), "x")
}

func agentID(t *testing.T, client *pbxapi.Client, number string) string {
	t.Helper()
	agent, ok, err := client.Agent(t.Context(), number)
	if err != nil || ok != (agent.ID != "") {
		t.Fatalf("got %+v, %v, %v", agent, ok, err)
	}
	return agent.ID
}

func TestAgentsAreListedOnceForAll(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		pbx := &fakeWithAgents{agents: []pbxapi.Agent{{ID: "77", Number: "1234*101"}}, fake: fake{delay: 100 * time.Millisecond}}
		client := clientWithAgents(t, pbx)
		var group sync.WaitGroup
		for range 1000 {
			group.Go(func() {
				if agentID(t, client, "1234*101") != "77" || agentID(t, client, "1234*102") != "" {
					t.Error("the wrong extension has the agent")
				}
			})
		}
		group.Wait()
		for range 59 {
			time.Sleep(10 * time.Second)
			agentID(t, client, "1234*102")
		}
		if n := pbx.count(); n != 1 {
			t.Errorf("%d lists within ten minutes, want 1", n)
		}
		pbx.agents = append(pbx.agents, pbxapi.Agent{ID: "78", Number: "1234*102"})
		time.Sleep(10 * time.Second)
		if got := agentID(t, client, "1234*102"); got != "78" {
			t.Errorf("a new agent is not seen after ten minutes: %q", got)
		}
	})
}

func TestForgottenAgentsAreListedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		pbx := &fakeWithAgents{agents: []pbxapi.Agent{{ID: "77", Number: "1234*101"}}}
		client := clientWithAgents(t, pbx)
		agentID(t, client, "1234*101")
		pbx.agents = nil
		if client.ForgetAgents() {
			t.Error("a list that was read just now is forgotten")
		}
		time.Sleep(31 * time.Second)
		if !client.ForgetAgents() || agentID(t, client, "1234*101") != "" {
			t.Error("the list is not read again")
		}
		if n := pbx.count(); n != 2 {
			t.Errorf("%d lists, want 2", n)
		}
	})
}

func TestNoAgents(t *testing.T) {
	for _, kind := range []error{pbxapi.ErrForbidden, pbxapi.ErrNotFound, pbxapi.ErrNotSupported} {
		synctest.Test(t, func(t *testing.T) {
			pbx := &fakeWithAgents{fake: fake{err: pbxapi.NewError(kind, "list the queue agents", "")}}
			client := clientWithAgents(t, pbx)
			for range 100 {
				if got := agentID(t, client, "1234*101"); got != "" {
					t.Errorf("found %q", got)
				}
			}
			if n := pbx.count(); n != 1 {
				t.Errorf("%v: %d lists, want 1", kind, n)
			}
		})
	}
	client := clientOf(t, poolOf(&fake{}), integration("a", 600), "x")
	if got := agentID(t, client, "1234*101"); got != "" {
		t.Errorf("a PBX without agents has %q", got)
	}
}

func TestListOfAgentsThatFailsIsNotAskedForByEach(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		pbx := &fakeWithAgents{agents: []pbxapi.Agent{{ID: "77", Number: "1234*101"}}}
		pbx.err = pbxapi.NewError(pbxapi.ErrRejected, "list the queue agents", "HTTP 418")
		client := clientWithAgents(t, pbx)
		for range 100 {
			if _, _, err := client.Agent(t.Context(), "1234*101"); !errors.Is(err, pbxapi.ErrRejected) {
				t.Fatalf("got %v, want ErrRejected", err)
			}
		}
		if n := pbx.count(); n != 1 {
			t.Errorf("%d lists, want 1", n)
		}
		pbx.answer(nil)
		time.Sleep(31 * time.Second)
		if got := agentID(t, client, "1234*101"); got != "77" {
			t.Errorf("got %q after the PBX recovered", got)
		}
	})
}
