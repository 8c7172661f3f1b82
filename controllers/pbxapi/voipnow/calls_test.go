package voipnow_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/pbx-operator/pbx-operator/controllers/pbxapi"
	"github.com/pbx-operator/pbx-operator/hack/pbxsim/simclient"
	"github.com/pbx-operator/pbx-operator/hack/pbxsim/simtest"
	simvoipnow "github.com/pbx-operator/pbx-operator/hack/pbxsim/voipnow"
)

func extension() pbxapi.Extension { return pbxapi.Extension{ID: phone, Number: phone} }

func clickToCall(reference string) pbxapi.Dial {
	return pbxapi.Dial{Extension: extension(), Number: "12025550143", Reference: reference}
}

const (
	hangUpRoute    = "DELETE /phoneCalls/{user}/{extension}/{call}"
	hangUpAllRoute = "DELETE /phoneCalls/{user}/{extension}"
)

// running counts the calls that the simulator has not ended.
func running(t *testing.T, pbx *simtest.PBX) int {
	t.Helper()
	calls, err := pbx.Sim.Calls(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for _, call := range calls {
		if !call.Done {
			n++
		}
	}
	return n
}

func eventually(t *testing.T, what string, holds func() bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for !holds() {
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Fatalf("not in time: %s", what)
		}
	}
}

func TestDialAndHangUp(t *testing.T) {
	pbx, api := start(t, simvoipnow.Settings{})
	call, err := api.Dial(t.Context(), clickToCall("n-1"))
	if err != nil {
		t.Fatal(err)
	}
	if call.CallBackID == "" || running(t, pbx) != 1 {
		t.Fatalf("%+v, %d calls", call, running(t, pbx))
	}
	end := pbxapi.Hangup{Extension: extension(), CallBackID: call.CallBackID}
	if err := api.Hangup(t.Context(), end); err != nil {
		t.Error(err)
	}
	eventually(t, "the call is over", func() bool { return running(t, pbx) == 0 })
	if err := api.Hangup(t.Context(), end); !errors.Is(err, pbxapi.ErrNotFound) {
		t.Errorf("a call that is over: %v, want ErrNotFound", err)
	}
}

func TestDialBody(t *testing.T) {
	var sent string
	api := connectTo(t, func(r *http.Request) (int, string) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			t.Error(err)
		}
		sent = r.Method + " " + r.URL.RequestURI() + " " + string(body)
		return http.StatusOK, `[{"id":17,"nonce":"n-1"}]`
	})
	call, err := api.Dial(t.Context(), clickToCall("n-1"))
	if err != nil || call.CallBackID != "17" {
		t.Errorf("%+v, %v", call, err)
	}
	want := `POST /uapi/phoneCalls/@me/simple {"extension":"0007*101","nonce":"n-1",` +
		`"phoneCallView":[{"source":["0007*101"],"destination":["12025550143"]}]}`
	if diff := cmp.Diff(want, sent); diff != "" {
		t.Errorf("(-want +sent):\n%s", diff)
	}
}

// The PBX has started the call, but nobody heard it say so: the call is found by its reference, and
// not started again.
func TestLostAnswerToDial(t *testing.T) {
	for _, kind := range []simclient.FaultKind{simclient.FaultResetAfter, simclient.FaultTruncated} {
		t.Run(string(kind), func(t *testing.T) {
			pbx, api := start(t, simvoipnow.Settings{})
			if _, err := api.Dial(t.Context(), clickToCall("another")); err != nil {
				t.Fatal(err)
			}
			fault(t, pbx, simclient.Fault{Path: "/simple", Kind: kind})
			call, err := api.Dial(t.Context(), clickToCall("n-1"))
			if err != nil || call.CallBackID == "" {
				t.Errorf("%+v, %v", call, err)
			}
			if _, err := api.Dial(t.Context(), clickToCall("")); !errors.Is(err, pbxapi.ErrUnreachable) || pbxapi.NotSent(err) {
				t.Errorf("without a reference: %v, want ErrUnreachable", err)
			}
			if n := running(t, pbx); n != 3 {
				t.Errorf("%d calls, want one for each request", n)
			}
		})
	}
}

func TestDialThatThePBXDidNotGet(t *testing.T) {
	pbx, api := start(t, simvoipnow.Settings{})
	fault(t, pbx, simclient.Fault{Path: "/simple", Kind: simclient.FaultReset})
	if call, err := api.Dial(t.Context(), clickToCall("n-1")); !errors.Is(err, pbxapi.ErrUnreachable) {
		t.Errorf("got %+v, %v, want ErrUnreachable", call, err)
	}
	if n := running(t, pbx); n != 0 {
		t.Errorf("%d calls", n)
	}
}

// Where nothing was sent there is nothing to look for.
func TestDialWithoutAConnection(t *testing.T) {
	asked := 0
	with := settings("https://pbx.example.com", "app", "secret")
	with.HTTP.Transport = transport(func(r *http.Request) (*http.Response, error) {
		if strings.HasPrefix(r.URL.Path, "/oauth/") {
			return answerOf(r, http.StatusOK, `{"access_token":"t"}`), nil
		}
		asked++
		return nil, &net.OpError{Op: "dial", Net: "tcp", Err: errors.New("connection refused")}
	})
	_, err := connect(t, with).Dial(t.Context(), clickToCall("n-1"))
	if !errors.Is(err, pbxapi.ErrUnreachable) || !pbxapi.NotSent(err) || asked != 1 {
		t.Errorf("got %v after %d requests, want ErrUnreachable after one", err, asked)
	}
}

func TestDialWithoutAnIDInTheAnswer(t *testing.T) {
	for reference, want := range map[string]string{"n-1": "pc1", "n-2": ""} {
		api := connectTo(t, func(r *http.Request) (int, string) {
			if r.Method == http.MethodGet {
				return http.StatusOK, `{"entry":[{"id":"pc0"},{"id":"pc1","nonce":"n-1"}],"totalResults":2}`
			}
			return http.StatusNoContent, ""
		})
		call, err := api.Dial(t.Context(), clickToCall(reference))
		if diff := cmp.Diff(pbxapi.Call{CallBackID: want}, call); diff != "" || err != nil {
			t.Errorf("%v (-want +got):\n%s", err, diff)
		}
	}
}

func TestDialRefused(t *testing.T) {
	_, api := start(t, simvoipnow.Settings{})
	queue := clickToCall("n-1")
	queue.Extension.Number = "0007*900"
	if _, err := api.Dial(t.Context(), queue); !errors.Is(err, pbxapi.ErrNotFound) { // extension_invalid
		t.Errorf("a queue: %v, want ErrNotFound", err)
	}
	for _, change := range []func(*pbxapi.Dial){
		func(d *pbxapi.Dial) { d.Extension.Number = "@self" },
		func(d *pbxapi.Dial) { d.Number = "" },
	} {
		dial := clickToCall("n-1")
		change(&dial)
		if _, err := api.Dial(t.Context(), dial); !errors.Is(err, pbxapi.ErrInvalid) {
			t.Errorf("got %v, want ErrInvalid", err)
		}
	}
}

func TestHangUpTheWholeExtension(t *testing.T) {
	pbx, api := start(t, simvoipnow.Settings{})
	if err := api.Hangup(t.Context(), pbxapi.Hangup{Extension: extension()}); !errors.Is(err, pbxapi.ErrNotFound) {
		t.Errorf("without calls: %v, want ErrNotFound", err)
	}
	for i := range 3 {
		if _, err := api.Dial(t.Context(), clickToCall(fmt.Sprint(i))); err != nil {
			t.Fatal(err)
		}
	}
	if err := api.Hangup(t.Context(), pbxapi.Hangup{Extension: extension()}); err != nil {
		t.Error(err)
	}
	eventually(t, "all calls are over", func() bool { return running(t, pbx) == 0 })
	routes := requests(t, pbx).Routes
	if routes[hangUpRoute].Count != 3 || routes[hangUpAllRoute].Count != 0 {
		t.Errorf("%d calls ended one by one, %d at once", routes[hangUpRoute].Count, routes[hangUpAllRoute].Count)
	}
}

func TestHangUpByCallID(t *testing.T) {
	pbx, api := start(t, simvoipnow.Settings{})
	call, err := api.Dial(t.Context(), clickToCall("n-1"))
	if err != nil {
		t.Fatal(err)
	}
	err = api.Hangup(t.Context(), pbxapi.Hangup{Extension: extension(), CallID: "V1"})
	if !errors.Is(err, pbxapi.ErrNotSupported) || !strings.Contains(err.Error(), "hang up the whole extension instead") {
		t.Errorf("got %v, want ErrNotSupported that says what to do", err)
	}
	if n := running(t, pbx); n != 1 {
		t.Errorf("%d calls: another call was ended", n)
	}
	if err := api.Hangup(t.Context(), pbxapi.Hangup{Extension: extension(), CallID: call.CallBackID}); err != nil {
		t.Errorf("ids that are the same: %v", err)
	}
}

func TestHangUpRefused(t *testing.T) {
	list := `{"entry":[{"id":"pc1"},{"id":"pc2"}],"totalResults":2}`
	api := connectTo(t, func(r *http.Request) (int, string) {
		switch {
		case r.Method == http.MethodGet:
			return http.StatusOK, list
		case strings.HasSuffix(r.URL.Path, "/pc2"):
			return http.StatusNoContent, ""
		default:
			return http.StatusBadRequest, `{"error":{"code":"tea_invalid"}}`
		}
	})
	for id, want := range map[string]error{"pc1": pbxapi.ErrRejected, "pc2": nil, "pc3": pbxapi.ErrNotFound} {
		if err := api.Hangup(t.Context(), pbxapi.Hangup{Extension: extension(), CallBackID: id}); !errors.Is(err, want) {
			t.Errorf("%s: got %v, want %v", id, err, want)
		}
	}
	if err := api.Hangup(t.Context(), pbxapi.Hangup{Extension: extension()}); !errors.Is(err, pbxapi.ErrRejected) {
		t.Errorf("one of two refused: %v, want ErrRejected", err)
	}
}

// An id that the PBX gave, or an event, must not lead to the DELETE of all calls.
func TestOnlySingleCallsAreEnded(t *testing.T) {
	for _, id := range []string{"/", ".", "..", "../@self", "a/b", "%2e", "a?b", "a#b", "a b", "a\n"} {
		api := connectTo(t, func(r *http.Request) (int, string) {
			if r.Method == http.MethodDelete {
				t.Errorf("%q: sent DELETE %s", id, r.URL.RequestURI())
			}
			return http.StatusOK, fmt.Sprintf(`[{"id":%q}]`, id)
		})
		for _, hangup := range []pbxapi.Hangup{{Extension: extension(), CallBackID: id}, {Extension: extension()}} {
			if err := api.Hangup(t.Context(), hangup); !errors.Is(err, pbxapi.ErrInvalid) {
				t.Errorf("%q: got %v, want ErrInvalid", id, err)
			}
		}
	}
}
