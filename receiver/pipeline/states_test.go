package pipeline

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pbx-operator/pbx-operator/receiver/callevent"
	"github.com/pbx-operator/pbx-operator/receiver/journal"
)

var errAgentsLog = errors.New("the AGENTS log takes nothing")

func TestStatesOfAgentsDoNotDelayCalls(t *testing.T) {
	b := newBench(t)
	b.pipeline.states.put = func(context.Context, []journal.AgentRecord) error { return errAgentsLog }
	b.arrive(
		journal.Entry{Mapping: "uid", Request: callevent.Request{
			Method: "POST", Body: "agent_id=77&agent_status=available&agent_type=local&extension_name=1234*101&event_source=api",
		}},
		journal.Entry{Request: callevent.Request{
			Method: "POST", Body: "EventType=dial-in&CallID=c&SubCallID=s&CallerIDNum=%2B12025550143&EventTime=1767348000000000",
		}},
	)
	b.pass()
	if len(b.log.legs) == 0 {
		t.Error("a call waits until the state of an agent is kept")
	}
}

func TestOnlyTheNewestStatesAreWrittenAfterTrouble(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var groups [][]journal.AgentRecord
		trouble := true
		s := newStates(func(_ context.Context, records []journal.AgentRecord) error {
			if trouble {
				return errAgentsLog
			}
			groups = append(groups, records)
			return nil
		}, func(error, time.Duration) {})
		ctx, cancel := context.WithCancel(t.Context())
		go s.run(ctx)
		for second := range 60 {
			for agent := range 10 {
				s.add([]journal.AgentRecord{{Mapping: fmt.Sprint(agent), State: fmt.Sprint(second), Since: epoch.Add(time.Duration(second) * time.Second)}})
			}
		}
		synctest.Wait()
		trouble = false
		time.Sleep(10 * time.Second)
		cancel()
		synctest.Wait()
		written := 0
		for _, group := range groups {
			for _, record := range group {
				written++
				if record.State != "59" {
					t.Errorf("an old state was written: %s", record.State)
				}
			}
		}
		if written != 10 {
			t.Errorf("%d states were written, want the newest of each of 10 agents", written)
		}
	})
}
