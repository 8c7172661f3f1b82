package linuxbox_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/pbx-operator/pbx-operator/controllers/pbxapi"
	"github.com/pbx-operator/pbx-operator/controllers/pbxapi/pbxapitest"
	simlinuxbox "github.com/pbx-operator/pbx-operator/hack/pbxsim/linuxbox"
	"github.com/pbx-operator/pbx-operator/hack/pbxsim/sim"
	"github.com/pbx-operator/pbx-operator/hack/pbxsim/simclient"
	"github.com/pbx-operator/pbx-operator/hack/pbxsim/simtest"
)

// All calls are found in the PBX's database, though not one of the notifications arrived.
func TestHistoryOfTheSimulatedPBX(t *testing.T) {
	deaf := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusBadGateway) }))
	defer deaf.Close()
	address := database(t, "")
	pbx := simtest.Start(t, sim.Config{PBX: "linuxbox", LinuxBox: simlinuxbox.Settings{Database: address}})
	if _, err := pbx.Sim.SetHook(t.Context(), simclient.Hook{URL: deaf.URL}); err != nil {
		t.Fatal(err)
	}
	with := settings(pbx.URL)
	with.PBX.LinuxBox.Database = new(configured(""))
	with.Credentials[pbxapi.KeyDatabaseURL] = []byte(address)
	api := connect(t, with)
	const caller = " 2025550143 2025550100 "
	for scenario, want := range map[string][]string{
		"L1":             {"10 In" + caller + "Answered 60 of 65"},
		"L1-b":           {"10 In" + caller + "Answered 60 of 65"},
		"L1-cancel":      {"10 In" + caller + "NoAnswer 11"},
		"L2":             {"10 In" + caller + "NoAnswer 40", "11 In" + caller + "NoAnswer 20"},
		"L2b":            {" In" + caller + "Answered 45 of 45"},
		"L2-same-line-c": {"10 In" + caller + "NoAnswer 20", "10 In" + caller + "NoAnswer 20"},
		"L2-answered":    {"10 In" + caller + "NoAnswer 26", "11 In" + caller + "Answered 60 of 66"},
		"L3":             {"10 Out 10 2025550143 Answered 60 of 71"},
		"L4":             {"10 Out 10 2025550143 Busy 3"},
		"L4-cancel":      {"10 Out 10 2025550143 NoAnswer 9"},
		"L5":             {"10 Out 10 11 Answered 30 of 34", "11 In 10 11 Answered 30 of 34"},
		"L6":             {"10 In" + caller + "Answered 24 of 29", "11 In 2025550143 11 Answered 60 of 64"},
		"L6-new-id":      {"10 In" + caller + "Answered 24 of 29", "11 In 2025550143 11 Answered 60 of 64"},
		"L7": {
			"10 In" + caller + "Answered 38 of 43", "10 Out 10 11 Answered 10 of 13", "11 In 10 11 Answered 10 of 13",
			"11 In 2025550143 11 Answered 60 of 60",
		},
		"L8":             {"10 In" + caller + "NoAnswer 4", "11 In" + caller + "Answered 60 of 64", "12 In" + caller + "NoAnswer 4"},
		"L9":             {"10 In" + caller + "NoAnswer 19", " Out 2025550143 2025550177 Answered 60 of 66"},
		"L10":            {"10 Out 10 2025550143 Answered 60 of 75"},
		"L10-unanswered": {"10 Out 10 2025550143 NoAnswer 45"},
		"L11":            {"10 In" + caller + "NoAnswer 7", "11 In" + caller + "Answered 60 of 60"},
		"L11-no-answer":  {"10 In" + caller + "NoAnswer 7", "11 In" + caller + "Answered 60 of 60"},
	} {
		t.Run(scenario, func(t *testing.T) {
			calls, err := pbx.Sim.Place(t.Context(), simclient.CallRequest{Scenario: scenario, Speed: 1e6, Wait: true})
			if err != nil {
				t.Fatal(err)
			}
			if calls[0].Delivered() > 0 {
				t.Fatalf("delivered: %+v", calls[0].Records)
			}
			records, err := pbxapitest.History(t.Context(), api, time.Now().Add(-time.Hour), time.Now().Add(time.Hour))
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, r := range records {
				if !strings.Contains(strings.Join(calls[0].CallIDs, " "), r.CallID) {
					continue
				}
				to := r.To
				if r.DID != "" {
					to = r.DID
				}
				text := fmt.Sprintf("%s %s %s %s %s ", r.Extension, r.Flow, r.From, to, r.Result)
				if r.TalkSeconds != nil {
					text += fmt.Sprintf("%g of ", *r.TalkSeconds)
				}
				got = append(got, text+fmt.Sprint(r.End.Sub(r.Start).Seconds()))
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func TestASimulatedPBXTellsOfItsDatabasesTrouble(t *testing.T) {
	pbx := simtest.Start(t, sim.Config{PBX: "linuxbox", LinuxBox: simlinuxbox.Settings{Database: "postgres://u@127.0.0.1:1/x"}})
	calls, err := pbx.Sim.Place(t.Context(), simclient.CallRequest{Scenario: "L1", Speed: 1e6, Wait: true})
	if err != nil {
		t.Fatal(err)
	}
	if len(calls[0].Records) != 1 || !strings.Contains(calls[0].Records[0].Error, "connection refused") {
		t.Errorf("records: %+v", calls[0].Records)
	}
}
