package voipnow_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/pbx-operator/pbx-operator/api/v1alpha1"
	"github.com/pbx-operator/pbx-operator/controllers/pbxapi"
	"github.com/pbx-operator/pbx-operator/hack/pbxsim/delivery"
	"github.com/pbx-operator/pbx-operator/hack/pbxsim/exchange"
	"github.com/pbx-operator/pbx-operator/hack/pbxsim/sim"
	"github.com/pbx-operator/pbx-operator/hack/pbxsim/simclient"
	"github.com/pbx-operator/pbx-operator/hack/pbxsim/simtest"
	simvoipnow "github.com/pbx-operator/pbx-operator/hack/pbxsim/voipnow"
)

var allEvents = []v1alpha1.EventType{
	v1alpha1.EventDialIn, v1alpha1.EventDialOut, v1alpha1.EventHangup, pbxapi.EventAnswerIn, pbxapi.EventAnswerOut,
}

func hangup() pbxapi.Registration {
	return pbxapi.Registration{Event: v1alpha1.EventHangup, URL: eventURL, Method: http.MethodPost}
}

// held is everything registered on the simulator.
func held(t *testing.T, pbx *simtest.PBX) []exchange.Registration {
	t.Helper()
	list, err := pbx.Sim.Registrations(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return list
}

func listed(t *testing.T, api pbxapi.API) []pbxapi.Registration {
	t.Helper()
	list, err := api.Registrations(t.Context(), phone)
	if err != nil {
		t.Fatal(err)
	}
	return list
}

// Whatever form an installation gives its answers, the same happens.
func TestRegistrationsComeAndGo(t *testing.T) {
	for name, like := range map[string]simvoipnow.Settings{
		"documented":      {},
		"numbers":         {NumericTypes: true},
		"id only":         {CreateAnswer: simvoipnow.AnswerID, UpdateAnswer: simvoipnow.AnswerNone, DeleteAnswer: simvoipnow.AnswerEntry},
		"no answers":      {CreateAnswer: simvoipnow.AnswerNone, DeleteAnswer: simvoipnow.AnswerNone},
		"arrays":          {CreateAnswer: simvoipnow.AnswerArray, ListAnswer: simvoipnow.AnswerArray},
		"entry":           {CreateAnswer: simvoipnow.AnswerEntry, ListAnswer: simvoipnow.AnswerObject},
		"numbers, arrays": {NumericTypes: true, CreateAnswer: simvoipnow.AnswerNone, ListAnswer: simvoipnow.AnswerArray},
	} {
		t.Run(name, func(t *testing.T) {
			pbx, api := start(t, like)
			if _, err := pbx.Sim.SetForeign(t.Context(), simclient.Foreign{Extension: "101", Count: 45}); err != nil {
				t.Fatal(err)
			}
			foreign := held(t, pbx)
			comeAndGo(t, api)
			if diff := cmp.Diff(foreign, held(t, pbx)); diff != "" {
				t.Errorf("registrations of others (-before +after):\n%s", diff)
			}
			if n := requests(t, pbx).CollectionDeletes; n != 0 {
				t.Errorf("%d DELETEs of whole collections", n)
			}
		})
	}
}

func comeAndGo(t *testing.T, api pbxapi.API) {
	t.Helper()
	for _, event := range allEvents {
		wanted := pbxapi.Registration{Event: event, URL: eventURL + "/" + string(event), Method: http.MethodPost}
		made, err := api.Register(t.Context(), phone, wanted)
		if err != nil {
			t.Fatal(err)
		}
		wanted.ID = made.ID
		if diff := cmp.Diff(wanted, made); diff != "" || !regexp.MustCompile(`^[0-4]/\w+$`).MatchString(made.ID) {
			t.Errorf("created %s (-want +got):\n%s", made.ID, diff)
		}
		if !slices.Contains(listed(t, api), made) {
			t.Errorf("%s is not in the list", made.ID)
		}
		made.URL, made.Method = made.URL+"/moved", http.MethodGet
		if err := api.Update(t.Context(), phone, made); err != nil {
			t.Error(err)
		}
		if !slices.Contains(listed(t, api), made) {
			t.Errorf("the change of %s is not in the list", made.ID)
		}
		for range 2 { // the second time it is gone already
			if err := api.Unregister(t.Context(), phone, made.ID); err != nil {
				t.Error(err)
			}
		}
		if err := api.Update(t.Context(), phone, made); !errors.Is(err, pbxapi.ErrNotFound) {
			t.Errorf("update of what is gone: %v, want ErrNotFound", err)
		}
	}
}

// An id means something only together with its type.
func TestTheSameIDUnderTwoTypes(t *testing.T) {
	pbx, api := start(t, simvoipnow.Settings{})
	in, err := api.Register(t.Context(), phone, pbxapi.Registration{Event: v1alpha1.EventDialIn, URL: eventURL, Method: http.MethodGet})
	if err != nil {
		t.Fatal(err)
	}
	out, err := api.Register(t.Context(), phone, pbxapi.Registration{Event: v1alpha1.EventDialOut, URL: eventURL, Method: http.MethodGet})
	if err != nil {
		t.Fatal(err)
	}
	if strings.TrimPrefix(in.ID, "0/") != strings.TrimPrefix(out.ID, "1/") {
		t.Fatalf("the simulator gave %s and %s", in.ID, out.ID)
	}
	if err := api.Unregister(t.Context(), phone, in.ID); err != nil {
		t.Error(err)
	}
	if left := held(t, pbx); len(left) != 1 || left[0].EventType != "dial-out" {
		t.Errorf("left: %+v", left)
	}
}

func TestOneRequestPerList(t *testing.T) {
	for form, count := range map[string]int{simvoipnow.AnswerEntry: 300, simvoipnow.AnswerArray: 15} {
		pbx, api := start(t, simvoipnow.Settings{ListAnswer: form})
		if _, err := pbx.Sim.SetForeign(t.Context(), simclient.Foreign{Extension: "101", Count: count}); err != nil {
			t.Fatal(err)
		}
		if n := len(listed(t, api)); n != count {
			t.Errorf("%s: %d registrations, want %d", form, n, count)
		}
		if n := requests(t, pbx).Routes[simclient.VoipNowListEventsRoute].Count; n != 1 {
			t.Errorf("%s: %d requests, want 1", form, n)
		}
	}
}

// pages shows a list in pages of its own choice, whatever was asked for.
func pages(total, size int, form string) answers {
	return func(r *http.Request) (int, string) {
		from := 0
		_, _ = fmt.Sscan(r.URL.Query().Get("startIndex"), &from)
		var items []string
		for i := from; i < min(from+size, total); i++ {
			items = append(items, fmt.Sprintf(`{"type":%d,"id":"Ev%d","method":"1","url":"https://r.example.com/","note":null}`, i%5, i))
		}
		return http.StatusOK, fmt.Sprintf(form, strings.Join(items, ","), total)
	}
}

func TestAllPagesAreRead(t *testing.T) {
	for _, form := range []string{
		`{"entry":[%s],"totalResults":"%d"}`, `{"itemsPerPage":20,"entry":[%s],"totalResults":%d}`, `[%[1]s]`, `{"entry":[%[1]s]}`,
	} {
		for _, total := range []int{0, 1, 19, 20, 21, 100, 119} {
			if n := len(listed(t, connectTo(t, pages(total, 20, form)))); n != total {
				t.Errorf("%s: %d registrations of %d", form, n, total)
			}
		}
	}
}

func TestListsInOtherForms(t *testing.T) {
	one := `{"type":0,"id":7,"method":1,"url":"https://r.example.com","status":0}`
	want := []pbxapi.Registration{{
		ID: "0/7", Event: v1alpha1.EventDialIn, URL: "https://r.example.com", Method: http.MethodPost, Disabled: true,
	}}
	tests := map[string]struct {
		body string
		want []pbxapi.Registration
		fail bool
	}{
		"single object":   {body: one, want: want},
		"array":           {body: "[" + one + "]", want: want},
		"object in entry": {body: `{"entry":` + one + `}`, want: want},
		"nothing":         {body: `{"totalResults":0}`},
		"null":            {body: `{"entry":null,"totalResults":"0"}`},
		"incomplete":      {body: `{"entry":[` + one + `],"totalResults":2}`, fail: true},
		"empty object":    {body: `{}`, fail: true},
		"empty":           {body: ``, fail: true},
		"error with 200":  {body: `{"error":{"code":"x","message":"y"}}`, fail: true},
		"page of HTML":    {body: `<html>`, fail: true},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			api := connectTo(t, func(*http.Request) (int, string) { return http.StatusOK, test.body })
			got, err := api.Registrations(t.Context(), phone)
			if test.fail != errors.Is(err, pbxapi.ErrUnreachable) || !test.fail && err != nil {
				t.Fatalf("got %v", err)
			}
			if len(got) != len(test.want) || len(got) > 0 && !cmp.Equal(test.want, got) {
				t.Errorf("(-want +got):\n%s", cmp.Diff(test.want, got))
			}
		})
	}
}

func TestRegistrationsOfOthersAreKept(t *testing.T) {
	api := connectTo(t, func(*http.Request) (int, string) {
		return http.StatusOK, `[{"type":"5","id":"crm-in","method":"2","url":"https://crm.example.net/","status":"1"},{"type":"0","id":"x"}]`
	})
	want := []pbxapi.Registration{{ID: "5/crm-in", URL: "https://crm.example.net/"}, {ID: "0/x", Event: v1alpha1.EventDialIn, Method: ""}}
	if diff := cmp.Diff(want, listed(t, api)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestDisabledRegistrationIsEnabledAgain(t *testing.T) {
	pbx, api := start(t, simvoipnow.Settings{})
	off := hangup()
	off.Disabled = true
	made, err := api.Register(t.Context(), phone, off)
	if err != nil {
		t.Fatal(err)
	}
	if list := listed(t, api); len(list) != 1 || !list[0].Disabled || !held(t, pbx)[0].Disabled {
		t.Fatalf("listed: %+v", list)
	}
	made.Disabled = false
	if err := api.Update(t.Context(), phone, made); err != nil {
		t.Fatal(err)
	}
	if list := listed(t, api); len(list) != 1 || list[0] != made {
		t.Errorf("listed: %+v", list)
	}
}

func TestEarlyInstallationKnowsThreeTypes(t *testing.T) {
	_, api := start(t, simvoipnow.Settings{Profile: simvoipnow.Early})
	for _, event := range allEvents {
		_, err := api.Register(t.Context(), phone, pbxapi.Registration{Event: event, URL: eventURL, Method: http.MethodPost})
		if event != pbxapi.EventAnswerIn && event != pbxapi.EventAnswerOut {
			if err != nil {
				t.Error(err)
			}
			continue
		}
		text := fmt.Sprint(err)
		if !errors.Is(err, pbxapi.ErrRejected) || !strings.Contains(text, string(event)) || !strings.Contains(text, "leave Answer out") {
			t.Errorf("got %v, want ErrRejected that names %s and says what to do", err, event)
		}
	}
	if n := len(listed(t, api)); n != 3 {
		t.Errorf("%d registrations, want 3", n)
	}
}

// After an answer that was lost the registration is there, and the next pass must be able to tell
// that it is ours.
func TestLostAnswerToCreate(t *testing.T) {
	for _, kind := range []simclient.FaultKind{simclient.FaultResetAfter, simclient.FaultTruncated} {
		t.Run(string(kind), func(t *testing.T) {
			pbx, api := start(t, simvoipnow.Settings{})
			fault(t, pbx, simclient.Fault{Method: http.MethodPost, Path: "phoneCallEvents", Kind: kind, Count: 1})
			if _, err := api.Register(t.Context(), phone, hangup()); !errors.Is(err, pbxapi.ErrUnreachable) {
				t.Errorf("got %v, want ErrUnreachable", err)
			}
			want := hangup()
			want.ID = "2/Ev0001"
			if diff := cmp.Diff([]pbxapi.Registration{want}, listed(t, api)); diff != "" {
				t.Errorf("(-want +listed):\n%s", diff)
			}
			if n := len(held(t, pbx)); n != 1 {
				t.Errorf("%d registrations on the PBX, want 1", n)
			}
		})
	}
}

// Among registrations that look alike the one just made is told by type and URL.
func TestCreatedWithoutAnIDAmongOthers(t *testing.T) {
	_, api := start(t, simvoipnow.Settings{CreateAnswer: simvoipnow.AnswerNone})
	for _, other := range []pbxapi.Registration{
		{Event: v1alpha1.EventDialIn, URL: eventURL, Method: http.MethodPost},
		{Event: v1alpha1.EventHangup, URL: "https://a.example.com/", Method: http.MethodPost}, // lists are ordered by URL
	} {
		if _, err := api.Register(t.Context(), phone, other); err != nil {
			t.Fatal(err)
		}
	}
	made, err := api.Register(t.Context(), phone, hangup())
	if err != nil {
		t.Fatal(err)
	}
	want := hangup()
	want.ID = "2/Ev0002"
	if diff := cmp.Diff(want, made); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestCreatedWithoutAnIDAndGone(t *testing.T) {
	pbx, api := start(t, simvoipnow.Settings{CreateAnswer: simvoipnow.AnswerNone})
	fault(t, pbx, simclient.Fault{Method: http.MethodPost, Path: "phoneCallEvents", Kind: simclient.FaultVanished})
	if _, err := api.Register(t.Context(), phone, hangup()); !errors.Is(err, pbxapi.ErrUnreachable) {
		t.Errorf("got %v, want ErrUnreachable", err)
	}
	if n := requests(t, pbx).Routes[simclient.VoipNowCreateEventRoute].Count; n != 1 {
		t.Errorf("%d create requests, want 1", n)
	}
}

func TestUnauthorizedIsRepeatedExactlyOnce(t *testing.T) {
	pbx, api := start(t, simvoipnow.Settings{})
	once := simclient.Fault{Path: "/phoneCallEvents", Kind: simclient.FaultStatus, Status: http.StatusUnauthorized, Count: 1}
	fault(t, pbx, once)
	if _, err := api.Registrations(t.Context(), phone); err != nil {
		t.Error(err)
	}
	once.Count = 0
	fault(t, pbx, once)
	if _, err := api.Registrations(t.Context(), phone); !errors.Is(err, pbxapi.ErrUnauthorized) {
		t.Errorf("got %v, want ErrUnauthorized", err)
	}
	if n := requests(t, pbx).Routes[simclient.VoipNowListEventsRoute].Count; n != 4 {
		t.Errorf("%d requests, want 4", n)
	}
}

func TestFailures(t *testing.T) {
	status := func(code int, word string) simclient.Fault {
		return simclient.Fault{Path: "/phoneCallEvents", Kind: simclient.FaultStatus, Status: code, Code: word}
	}
	broken := func(kind simclient.FaultKind, delay time.Duration) simclient.Fault {
		return simclient.Fault{Path: "/phoneCallEvents", Kind: kind, Delay: delivery.Duration(delay)}
	}
	tests := map[string]struct {
		fault simclient.Fault
		want  error
	}{
		"forbidden":         {status(403, ""), pbxapi.ErrForbidden},
		"extension":         {status(400, "extension_invalid"), pbxapi.ErrNotFound},
		"type":              {status(400, "pcet_type_invalid"), pbxapi.ErrRejected},
		"unknown code":      {status(400, "tea_invalid"), pbxapi.ErrRejected},
		"conflict":          {status(409, ""), pbxapi.ErrRejected},
		"redirect":          {status(302, ""), pbxapi.ErrRejected},
		"internal error":    {status(500, "extension_invalid"), pbxapi.ErrUnreachable},
		"bad gateway":       {status(502, ""), pbxapi.ErrUnreachable},
		"request timeout":   {status(408, ""), pbxapi.ErrUnreachable},
		"reset":             {broken(simclient.FaultReset, 0), pbxapi.ErrUnreachable},
		"reset after":       {broken(simclient.FaultResetAfter, 0), pbxapi.ErrUnreachable},
		"truncated":         {broken(simclient.FaultTruncated, 0), pbxapi.ErrUnreachable},
		"no answer in time": {broken(simclient.FaultSlow, time.Second), pbxapi.ErrUnreachable},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			pbx := simtest.Start(t, sim.Config{PBX: "voipnow"})
			with := settings(pbx.URL, pbx.ClientID, pbx.ClientSecret)
			if test.fault.Kind == simclient.FaultSlow {
				with.Timeout = 200 * time.Millisecond
			}
			api := connect(t, with)
			fault(t, pbx, test.fault)
			_, err := api.Register(t.Context(), phone, hangup())
			if !errors.Is(err, test.want) {
				t.Errorf("got %v, want %v", err, test.want)
			}
			if leak := leaks.FindString(fmt.Sprint(err)); leak != "" {
				t.Errorf("the error gives away %q: %v", leak, err)
			}
		})
	}
}

func TestUnknownExtension(t *testing.T) {
	_, api := start(t, simvoipnow.Settings{})
	if _, err := api.Registrations(t.Context(), "0007*555"); !errors.Is(err, pbxapi.ErrNotFound) {
		t.Errorf("got %v, want ErrNotFound", err)
	}
	if _, err := api.Registrations(t.Context(), "101"); err != nil {
		t.Errorf("the short form: %v", err)
	}
}

// A 404 that is not the PBX's own does not mean that a registration is gone.
func TestStrangersDoNotDecideThatARegistrationIsGone(t *testing.T) {
	for body, want := range map[string]error{
		`<html>not here</html>`:                                   pbxapi.ErrRejected,
		`{"error":{"code":"pce_id_invalid","message":"unknown"}}`: nil,
	} {
		api := connectTo(t, func(*http.Request) (int, string) { return http.StatusNotFound, body })
		if err := api.Unregister(t.Context(), phone, "0/Ev1"); !errors.Is(err, want) {
			t.Errorf("%s: got %v, want %v", body, err, want)
		}
	}
}

func TestRateLimits(t *testing.T) {
	tests := map[string]struct {
		status int
		after  string
		want   time.Duration
	}{
		"too many requests":   {429, "9", 9 * time.Second},
		"without a time":      {429, "", 5 * time.Second},
		"not a time":          {429, "soon", 5 * time.Second},
		"absurd":              {429, "4000000000", time.Hour},
		"a date that is past": {429, "Fri, 02 Jan 2026 10:00:00 GMT", 5 * time.Second},
		"a date far off":      {429, "Fri, 02 Jan 2126 10:00:00 GMT", time.Hour},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			pbx, api := start(t, simvoipnow.Settings{})
			headers := map[string]string{}
			if test.after != "" {
				headers["Retry-After"] = test.after
			}
			fault(t, pbx, simclient.Fault{Path: "/phoneCallEvents", Kind: simclient.FaultStatus, Status: test.status, Headers: headers})
			_, err := api.Register(t.Context(), phone, hangup())
			limited, ok := errors.AsType[*pbxapi.RateLimitedError](err)
			if !ok {
				t.Fatalf("got %v, want a RateLimitedError", err)
			}
			if diff := cmp.Diff(&pbxapi.RateLimitedError{After: test.want, ByPBX: true}, limited); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func TestErrorsDoNotRepeatWhatThePBXEchoes(t *testing.T) {
	api := connectTo(t, func(*http.Request) (int, string) {
		return http.StatusBadRequest, `{"error":{"code":"pce_url_invalid","message":"Cannot use ` + eventURL +
			`\nor f2a8vdrfae0s1ku5d2rj3iximjf3twyz ` + strings.Repeat("long ", 200) + `"}}`
	})
	_, err := api.Register(t.Context(), phone, hangup())
	if !errors.Is(err, pbxapi.ErrRejected) {
		t.Fatalf("got %v, want ErrRejected", err)
	}
	text := err.Error()
	if leaks.MatchString(text) || strings.Contains(text, "\n") || len(text) > 400 || !strings.Contains(text, "HTTP 400: Cannot use") {
		t.Errorf("not fit for a condition: %s", text)
	}
}

func TestWhatCannotBeRegistered(t *testing.T) {
	api := connectTo(t, func(r *http.Request) (int, string) {
		t.Errorf("sent %s %s", r.Method, r.URL.Path)
		return http.StatusNoContent, ""
	})
	for _, change := range []func(*pbxapi.Registration){
		func(r *pbxapi.Registration) { r.Event = v1alpha1.EventAnswer }, // VoipNow has two of it
		func(r *pbxapi.Registration) { r.Event = pbxapi.EventPhoneStatus },
		func(r *pbxapi.Registration) { r.Method = http.MethodPut },
		func(r *pbxapi.Registration) { r.URL = "" },
	} {
		registration := hangup()
		change(&registration)
		if _, err := api.Register(t.Context(), phone, registration); !errors.Is(err, pbxapi.ErrInvalid) {
			t.Errorf("%s %s: got %v, want ErrInvalid", registration.Method, registration.Event, err)
		}
	}
}

func TestRegistrationBody(t *testing.T) {
	var sent []string
	api := connectTo(t, func(r *http.Request) (int, string) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			t.Error(err)
		}
		sent = append(sent, r.Method+" "+r.URL.EscapedPath()+" "+string(body))
		return http.StatusOK, `{"id":"Ev9"}`
	})
	if _, err := api.Register(t.Context(), phone, hangup()); err != nil {
		t.Fatal(err)
	}
	changed := hangup()
	changed.ID = "2/Ev9"
	if err := api.Update(t.Context(), phone, changed); err != nil {
		t.Fatal(err)
	}
	want := []string{
		`POST /uapi/extensions/@me/0007*101/phoneCallEvents/ ` +
			`{"type":"2","method":"1","url":"` + eventURL + `","status":"1","note":"pbx-operator"}`,
		`PUT /uapi/extensions/@me/0007*101/phoneCallEvents/2/Ev9 {"method":"1","url":"` + eventURL + `","status":"1"}`,
	}
	if diff := cmp.Diff(want, sent); diff != "" {
		t.Errorf("(-want +sent):\n%s", diff)
	}
}

// No id whatever leads to a DELETE of a whole collection, or to a path of something else.
func TestOnlySingleRegistrationsAreDeleted(t *testing.T) {
	var sent []string
	api := connectTo(t, func(r *http.Request) (int, string) {
		sent = append(sent, r.Method+" "+r.URL.RequestURI())
		return http.StatusNoContent, ""
	})
	oddExtensions := []string{
		"", "@self", "@me", "*", "7*", "*7", "7*7*7", "..", "7/..", "%2e%2e", "7?", "7#", " 7", "7\n",
		pbxapi.AccountOwner, pbxapi.AgentOwner("7"),
	}
	oddIDs := []string{
		"", "/", "0", "0/", "/Ev1", "0/.", "0/..", "0//", "0/Ev1/", "0/Ev1/..",
		"../Ev1", "0/%2e%2e", "0/Ev1?", "0/Ev1#", "0/Ev 1", "0/Ev1\n", "-1/Ev1",
	}
	for _, odd := range oddExtensions {
		if err := api.Unregister(t.Context(), odd, "0/Ev1"); !errors.Is(err, pbxapi.ErrInvalid) {
			t.Errorf("extension %q: got %v, want ErrInvalid", odd, err)
		}
	}
	for _, odd := range oddIDs {
		if err := api.Unregister(t.Context(), phone, odd); !errors.Is(err, pbxapi.ErrInvalid) {
			t.Errorf("registration %q: got %v, want ErrInvalid", odd, err)
		}
	}
	extensions := rapid.OneOf(rapid.SampledFrom(oddExtensions), rapid.String(), rapid.StringMatching(`[0-9]{1,6}(\*[0-9]{1,6})?`))
	ids := rapid.OneOf(
		rapid.SampledFrom(oddIDs), rapid.String(), rapid.StringMatching(`[0-9]/.{0,5}`), rapid.StringMatching(`[0-9]/[0-9A-Za-z]{1,255}`),
	)
	single := regexp.MustCompile(`^DELETE /uapi/extensions/@me/[0-9]+(\*[0-9]+)?/phoneCallEvents/[0-9]+/[0-9A-Za-z][\w.~-]*$`)
	rapid.Check(t, func(t *rapid.T) {
		sent = nil
		extension, id := extensions.Draw(t, "extension"), ids.Draw(t, "registration")
		err := api.Unregister(context.Background(), extension, id)
		if err != nil && !errors.Is(err, pbxapi.ErrInvalid) {
			t.Fatal(err)
		}
		for _, request := range sent {
			if !single.MatchString(request) {
				t.Fatalf("sent %s", request)
			}
		}
	})
}
