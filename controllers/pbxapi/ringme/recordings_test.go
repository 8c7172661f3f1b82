package ringme_test

import (
	"errors"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/pbx-operator/pbx-operator/controllers/pbxapi"
	"github.com/pbx-operator/pbx-operator/hack/pbxsim/scenario"
	"github.com/pbx-operator/pbx-operator/hack/pbxsim/sim"
	"github.com/pbx-operator/pbx-operator/hack/pbxsim/simclient"
	"github.com/pbx-operator/pbx-operator/hack/pbxsim/simtest"
)

func place(t *testing.T, pbx *simtest.PBX, name string) simclient.Call {
	t.Helper()
	placed, err := pbx.Sim.Place(t.Context(), simclient.CallRequest{Scenario: name, Speed: 1e6, Wait: true})
	if err != nil {
		t.Fatal(err)
	}
	return placed[0]
}

func TestRecordingURL(t *testing.T) {
	pbx, api := startFull(t, sim.Config{})
	call := place(t, pbx, "S14")
	recording := "5101-" + scenario.ID(call.Seed, "R1")
	link, err := api.RecordingURL(t.Context(), recording)
	if err != nil {
		t.Fatal(err)
	}
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, link, nil)
	if err != nil {
		t.Fatal(err)
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	if err := response.Body.Close(); err != nil || response.StatusCode != http.StatusOK {
		t.Errorf("fetched without a token: %d, %v", response.StatusCode, err)
	}
	if _, err := api.RecordingURL(t.Context(), "5101-"+strings.Repeat("ab", 16)); !errors.Is(err, pbxapi.ErrNotFound) {
		t.Errorf("unknown: got %v, want ErrNotFound", err)
	}
}

func TestRecordingThatIsNotRegisteredYet(t *testing.T) {
	clock := time.Now()
	pbx, api := startFull(t, sim.Config{Now: func() time.Time { return clock }})
	recording := "5101-" + scenario.ID(place(t, pbx, "S14-late").Seed, "R1")
	if _, err := api.RecordingURL(t.Context(), recording); !errors.Is(err, pbxapi.ErrNotFound) {
		t.Errorf("got %v, want ErrNotFound", err)
	}
}

func TestRecordingIDs(t *testing.T) {
	pbx, api := startFull(t, sim.Config{})
	for _, id := range []string{"", ".", "..", "a/b", "../../extension/5101", "a?b", "a%2fb", strings.Repeat("a", 129)} {
		if _, err := api.RecordingURL(t.Context(), id); !errors.Is(err, pbxapi.ErrInvalid) {
			t.Errorf("%q: got %v, want ErrInvalid", id, err)
		}
	}
	if n := requests(t, pbx).Total; n != 0 {
		t.Errorf("%d requests, want none", n)
	}
}

func TestRecordingURLsThatAreNone(t *testing.T) {
	const good = "https://storage.example.com/a.mp3?signature=f2a8vdrfae0s1ku5d2rj3iximjf3twyz"
	for link, want := range map[string]error{
		good: nil, "": pbxapi.ErrRejected, "/relative": pbxapi.ErrRejected, "file:///etc/passwd": pbxapi.ErrRejected,
		"javascript:alert(1)": pbxapi.ErrRejected, "https://": pbxapi.ErrRejected,
		"https://app:f2a8@storage.example.com/a.mp3": pbxapi.ErrRejected,
	} {
		api := offer(t, inMemory(t, map[string]string{"/record/5101-ab/storage_url/": `{"record_url":"` + link + `"}`}))
		got, err := api.RecordingURL(t.Context(), "5101-ab")
		if !errors.Is(err, want) || err == nil && got != link {
			t.Errorf("%s: got %s, %v", link, got, err)
		}
		if err != nil && strings.Contains(err.Error(), "f2a8") {
			t.Errorf("the error gives the address away: %v", err)
		}
	}
}
