package ringme_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"regexp"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"pgregory.net/rapid"

	"github.com/pbx-operator/pbx-operator/api/v1alpha1"
	"github.com/pbx-operator/pbx-operator/controllers/pbxapi"
	"github.com/pbx-operator/pbx-operator/controllers/pbxapi/ringme"
	"github.com/pbx-operator/pbx-operator/hack/pbxsim/delivery"
	simringme "github.com/pbx-operator/pbx-operator/hack/pbxsim/ringme"
	"github.com/pbx-operator/pbx-operator/hack/pbxsim/sim"
	"github.com/pbx-operator/pbx-operator/hack/pbxsim/simclient"
	"github.com/pbx-operator/pbx-operator/hack/pbxsim/simtest"
)

const eventURL = "https://calls.example.com/ext-event/f2a8vdrfae0s1ku5d2rj3iximjf3twyz"

func settings(url, id, secret string) pbxapi.Settings {
	return pbxapi.Settings{
		PBX: v1alpha1.PBX{Type: v1alpha1.PBXTypeRingMe, RingMe: &v1alpha1.RingMe{
			URL: url, CredentialsSecretRef: v1alpha1.SecretReference{Name: "head-office-pbx"},
		}},
		Credentials: map[string][]byte{"clientID": []byte(id), "clientSecret": []byte(secret)},
		HTTP: &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error {
			return http.ErrUseLastResponse
		}},
		Timeout: 30 * time.Second,
		Turn:    func(context.Context) error { return nil },
	}
}

func connect(t *testing.T, with pbxapi.Settings) pbxapi.API {
	t.Helper()
	api, err := ringme.New(with)
	if err != nil {
		t.Fatal(err)
	}
	return api
}

func start(t *testing.T, config sim.Config) (*simtest.PBX, pbxapi.API) {
	t.Helper()
	pbx := simtest.Start(t, config)
	return pbx, connect(t, settings(pbx.URL, pbx.ClientID, pbx.ClientSecret))
}

// requests counts what the simulator was asked.
func requests(t *testing.T, pbx *simtest.PBX) simclient.Requests {
	t.Helper()
	asked, err := pbx.Sim.Requests(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return asked
}

func hangup() pbxapi.Registration {
	return pbxapi.Registration{Event: v1alpha1.EventHangup, URL: eventURL, Method: http.MethodPost}
}

func TestRegistrationsComeAndGo(t *testing.T) {
	pbx, api := start(t, sim.Config{})
	if _, err := pbx.Sim.SetForeign(t.Context(), simclient.Foreign{Extension: "101", Count: 3}); err != nil {
		t.Fatal(err)
	}
	foreign, err := pbx.Sim.Registrations(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	made, err := api.Register(t.Context(), "5101", hangup())
	if err != nil {
		t.Fatal(err)
	}
	want := hangup()
	want.ID = made.ID
	if diff := cmp.Diff(want, made); diff != "" || made.ID == "" {
		t.Errorf("created (-want +got):\n%s", diff)
	}
	listed, err := api.Registrations(t.Context(), "5101")
	if err != nil {
		t.Fatal(err)
	}
	if len(listed) != len(foreign)+1 || !slices.Contains(listed, made) {
		t.Errorf("the list lacks something: %d entries", len(listed))
	}
	for range 2 { // the second time it is gone already
		if err := api.Unregister(t.Context(), "5101", made.ID); err != nil {
			t.Error(err)
		}
	}
	left, err := pbx.Sim.Registrations(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(foreign, left); diff != "" {
		t.Errorf("registrations of others (-before +after):\n%s", diff)
	}
}

func TestExtensionsOfAllPages(t *testing.T) {
	pbx, api := start(t, sim.Config{})
	if _, err := pbx.Sim.AddExtensions(t.Context(), simclient.NewExtension{Number: "2000", Count: 1200}); err != nil {
		t.Fatal(err)
	}
	all, err := api.Extensions(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if len(all) != 1206 {
		t.Errorf("%d extensions, want 1206", len(all))
	}
	for _, want := range []pbxapi.Extension{
		{ID: "5101", Number: "1234*101", Name: "Ann Novak", Type: v1alpha1.ExtensionPhone},
		{ID: "5099", Number: "1234*099", Name: "Main menu", Type: v1alpha1.ExtensionIVR},
		{ID: "5900", Number: "1234*900", Name: "Sales", Type: v1alpha1.ExtensionQueue},
	} {
		if !slices.Contains(all, want) {
			t.Errorf("%+v is missing", want)
		}
	}
}

// pages answers a list of extensions in pages of its own choice, whatever was asked for.
func pages(total, size int) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		if strings.HasPrefix(r.URL.Path, "/oauth/") {
			_, _ = io.WriteString(w, `{"access_token":"t","token_type":"Bearer"}`)
			return
		}
		page := 1
		_, _ = fmt.Sscan(r.URL.Query().Get("page"), &page)
		var items []string
		for i := (page - 1) * size; i < min(page*size, total); i++ {
			items = append(items, fmt.Sprintf(`{"id":%d,"name":"1234*%d@sip.example.com","type":"phone","label":null}`, i+1, i+100))
		}
		_, _ = io.WriteString(w, "["+strings.Join(items, ",")+"]")
	}
}

func TestExtensionsWhenThePBXChoosesThePageSize(t *testing.T) {
	for _, total := range []int{0, 1, 19, 20, 21, 100, 119} {
		server := httptest.NewServer(pages(total, 20))
		all, err := connect(t, settings(server.URL, "app", "secret")).Extensions(t.Context())
		server.Close()
		if err != nil {
			t.Fatal(err)
		}
		if len(all) != total {
			t.Errorf("%d extensions of %d", len(all), total)
		}
	}
}

func TestOneTokenForManyCallers(t *testing.T) {
	pbx, api := start(t, sim.Config{})
	together(t, 50, func() error { return api.Check(t.Context()) })
	if n := requests(t, pbx).Routes[simclient.TokenRoute].Count; n != 1 {
		t.Errorf("%d token requests, want 1", n)
	}
	if err := pbx.Sim.KillTokens(t.Context()); err != nil {
		t.Fatal(err)
	}
	together(t, 50, func() error { return api.Check(t.Context()) })
	if n := requests(t, pbx).Routes[simclient.TokenRoute].Count; n != 2 {
		t.Errorf("%d token requests after the token died early, want 2", n)
	}
}

func together(t *testing.T, n int, do func() error) {
	t.Helper()
	var group sync.WaitGroup
	for range n {
		group.Go(func() {
			if err := do(); err != nil {
				t.Error(err)
			}
		})
	}
	group.Wait()
}

func TestTokenIsRenewedBeforeItExpires(t *testing.T) {
	lifetime := delivery.Duration(31 * time.Second) // one second more than the margin
	pbx, api := start(t, sim.Config{Settings: simringme.Settings{TokenLifetime: lifetime}})
	for range 3 {
		if err := api.Check(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if n := requests(t, pbx).Routes[simclient.TokenRoute].Count; n != 1 {
		t.Errorf("%d token requests, want 1", n)
	}
}

// answers is a PBX in memory, for tests that do not wait in real time.
type answers func(*http.Request) (int, string)

func (a answers) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.Body != nil {
		_ = r.Body.Close()
	}
	code, body := a(r)
	return &http.Response{StatusCode: code, Body: io.NopCloser(strings.NewReader(body)), Header: http.Header{"Content-Type": {"application/json"}}, Request: r}, nil
}

func TestTokenWithoutExpiryLastsAnHour(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tokens := 0
		with := settings("https://pbx.example.com", "app", "secret")
		with.HTTP.Transport = answers(func(r *http.Request) (int, string) {
			if strings.HasPrefix(r.URL.Path, "/oauth/") {
				tokens++
				return http.StatusOK, `{"access_token":"t","token_type":"Bearer"}`
			}
			return http.StatusOK, "[]"
		})
		api := connect(t, with)
		for _, step := range []struct {
			after time.Duration
			want  int
		}{{0, 1}, {59 * time.Minute, 1}, {2 * time.Minute, 2}} {
			time.Sleep(step.after)
			if err := api.Check(t.Context()); err != nil {
				t.Fatal(err)
			}
			if tokens != step.want {
				t.Errorf("%d token requests after %s more, want %d", tokens, step.after, step.want)
			}
		}
	})
}

func TestUnauthorizedIsRepeatedExactlyOnce(t *testing.T) {
	pbx, api := start(t, sim.Config{})
	fault(t, pbx, simclient.Fault{Path: "/event/", Kind: simclient.FaultStatus, Status: http.StatusUnauthorized})
	_, err := api.Registrations(t.Context(), "5101")
	if !errors.Is(err, pbxapi.ErrUnauthorized) {
		t.Errorf("got %v, want ErrUnauthorized", err)
	}
	if n := requests(t, pbx).Routes[simclient.ListEventsRoute].Count; n != 2 {
		t.Errorf("%d requests, want 2", n)
	}
}

func TestBadCredentials(t *testing.T) {
	pbx := simtest.Start(t, sim.Config{})
	err := connect(t, settings(pbx.URL, pbx.ClientID, "wrong-secret")).Check(t.Context())
	if !errors.Is(err, pbxapi.ErrUnauthorized) {
		t.Errorf("got %v, want ErrUnauthorized", err)
	}
	if n := requests(t, pbx).Total; n != 1 {
		t.Errorf("%d requests, want 1", n)
	}
}

func fault(t *testing.T, pbx *simtest.PBX, f simclient.Fault) {
	t.Helper()
	if _, err := pbx.Sim.SetFaults(t.Context(), f); err != nil {
		t.Fatal(err)
	}
}

func TestFailures(t *testing.T) {
	status := func(code int, word string) simclient.Fault {
		return simclient.Fault{Path: "/event/", Kind: simclient.FaultStatus, Status: code, Code: word}
	}
	tests := map[string]struct {
		fault simclient.Fault
		want  error
	}{
		"forbidden":           {status(403, "access_denied"), pbxapi.ErrForbidden},
		"limit":               {status(403, "limit_exceeded"), pbxapi.ErrLimitReached},
		"limit by other code": {status(409, "limit_exceeded"), pbxapi.ErrLimitReached},
		"not found":           {status(404, ""), pbxapi.ErrNotFound},
		"bad request":         {status(400, ""), pbxapi.ErrRejected},
		"redirect":            {status(302, ""), pbxapi.ErrRejected},
		"internal error":      {status(500, ""), pbxapi.ErrUnreachable},
		"bad gateway":         {status(502, ""), pbxapi.ErrUnreachable},
		"request timeout":     {status(408, ""), pbxapi.ErrUnreachable},
		"reset":               {simclient.Fault{Path: "/event/", Kind: simclient.FaultReset}, pbxapi.ErrUnreachable},
		"reset after":         {simclient.Fault{Path: "/event/", Kind: simclient.FaultResetAfter}, pbxapi.ErrUnreachable},
		"truncated":           {simclient.Fault{Path: "/event/", Kind: simclient.FaultTruncated}, pbxapi.ErrUnreachable},
		"no answer in time":   {simclient.Fault{Path: "/event/", Kind: simclient.FaultSlow, Delay: delivery.Duration(time.Second)}, pbxapi.ErrUnreachable},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			pbx := simtest.Start(t, sim.Config{})
			with := settings(pbx.URL, pbx.ClientID, pbx.ClientSecret)
			if test.fault.Kind == simclient.FaultSlow {
				with.Timeout = 200 * time.Millisecond
			}
			api := connect(t, with)
			fault(t, pbx, test.fault)
			_, err := api.Register(t.Context(), "5101", hangup())
			if !errors.Is(err, test.want) {
				t.Errorf("got %v, want %v", err, test.want)
			}
			if leak := regexp.MustCompile(`ext-event|f2a8|tok-|secret`).FindString(fmt.Sprint(err)); leak != "" {
				t.Errorf("the error gives away %q: %v", leak, err)
			}
		})
	}
}

func TestRateLimits(t *testing.T) {
	tests := map[string]struct {
		code    string
		headers map[string]string
		want    time.Duration
	}{
		"quota":                   {"rate_limit_exceeded", map[string]string{"X-RateLimit-Reset": "1234"}, 1234 * time.Second},
		"quota, absurd reset":     {"rate_limit_exceeded", map[string]string{"X-RateLimit-Reset": "4000000000"}, time.Hour},
		"quota without reset":     {"rate_limit_exceeded", map[string]string{"X-RateLimit-Reset": "soon"}, time.Minute},
		"concurrent request":      {"", map[string]string{"X-RateLimit-Reset": "1234"}, 5 * time.Second},
		"concurrent, retry after": {"", map[string]string{"Retry-After": "9"}, 9 * time.Second},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			pbx, api := start(t, sim.Config{})
			fault(t, pbx, simclient.Fault{Path: "/event/", Kind: simclient.FaultStatus, Status: 429, Code: test.code, Headers: test.headers})
			_, err := api.Registrations(t.Context(), "5101")
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

func TestCredentialsAreNotCarriedToAnotherHost(t *testing.T) {
	var asked atomic.Bool
	other := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { asked.Store(true) }))
	defer other.Close()
	server := httptest.NewServer(http.RedirectHandler(other.URL, http.StatusTemporaryRedirect))
	defer server.Close()
	if err := connect(t, settings(server.URL, "app", "secret")).Check(t.Context()); err == nil {
		t.Error("a redirect was taken for an answer")
	}
	if asked.Load() {
		t.Error("the redirect was followed")
	}
}

func TestErrorsDoNotRepeatWhatThePBXEchoes(t *testing.T) {
	with := settings("https://pbx.example.com", "app", "secret")
	with.HTTP.Transport = answers(func(r *http.Request) (int, string) {
		if strings.HasPrefix(r.URL.Path, "/oauth/") {
			return http.StatusOK, `{"access_token":"t","token_type":"Bearer"}`
		}
		return http.StatusBadRequest, `{"message":"Cannot use ` + eventURL + `\nor f2a8vdrfae0s1ku5d2rj3iximjf3twyz ` + strings.Repeat("long ", 200) + `"}`
	})
	_, err := connect(t, with).Register(t.Context(), "5101", hangup())
	if !errors.Is(err, pbxapi.ErrRejected) {
		t.Fatalf("got %v, want ErrRejected", err)
	}
	text := err.Error()
	if strings.Contains(text, "f2a8") || strings.Contains(text, "\n") || len(text) > 400 || !strings.Contains(text, "HTTP 400: Cannot use") {
		t.Errorf("not fit for a condition: %s", text)
	}
}

// No owner and no id whatever lead to a DELETE of a whole collection.
func TestOnlySingleRegistrationsAreDeleted(t *testing.T) {
	var deleted []string
	with := settings("https://pbx.example.com", "app", "secret")
	with.HTTP.Transport = answers(func(r *http.Request) (int, string) {
		if strings.HasPrefix(r.URL.Path, "/oauth/") {
			return http.StatusOK, `{"access_token":"t","token_type":"Bearer"}`
		}
		deleted = append(deleted, r.Method+" "+r.URL.EscapedPath())
		return http.StatusNoContent, ""
	})
	api := connect(t, with)
	ids := rapid.OneOf(rapid.SampledFrom([]string{"", "0", ".", "..", "/", "7/", "7/..", "%2e%2e", "-1", "+7", "7?", "7#", " 7", "@101"}), rapid.String(), rapid.StringMatching(`[0-9]{1,25}`))
	owners := rapid.OneOf(ids, rapid.Map(ids, pbxapi.AgentOwner), rapid.Map(ids, func(id string) string { return pbxapi.AccountOwner + id }))
	single := regexp.MustCompile(`^DELETE /api/ver1\.0/(extension/[1-9][0-9]*/event|client/@me/phone_events|client/@me/agent/local/[1-9][0-9]*/event)/[1-9][0-9]*$`)
	rapid.Check(t, func(t *rapid.T) {
		deleted = nil
		err := api.Unregister(context.Background(), owners.Draw(t, "owner"), ids.Draw(t, "registration"))
		if err != nil && !errors.Is(err, pbxapi.ErrInvalid) {
			t.Fatal(err)
		}
		for _, request := range deleted {
			if !single.MatchString(request) {
				t.Fatalf("sent %s", request)
			}
		}
	})
}

func TestUnusableSettings(t *testing.T) {
	tests := map[string]struct {
		change func(*pbxapi.Settings)
		says   string
	}{
		"no secret":   {func(s *pbxapi.Settings) { delete(s.Credentials, "clientSecret") }, "head-office-pbx has no key clientSecret"},
		"empty id":    {func(s *pbxapi.Settings) { s.Credentials["clientID"] = []byte("\n") }, "head-office-pbx has no key clientID"},
		"no host":     {func(s *pbxapi.Settings) { s.PBX.RingMe.URL = "pbx" }, "spec.pbx.ringMe.url"},
		"no account":  {func(s *pbxapi.Settings) { s.PBX.RingMe.AccountID = "12/phone_events" }, `"12/phone_events" is no id`},
		"no settings": {func(s *pbxapi.Settings) { s.PBX.RingMe = nil }, "spec.pbx.ringMe is missing"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			with := settings("https://pbx.example.com", "app", "secret")
			test.change(&with)
			_, err := ringme.New(with)
			if !errors.Is(err, pbxapi.ErrInvalid) || !strings.Contains(err.Error(), test.says) {
				t.Errorf("got %v, want ErrInvalid that says %q", err, test.says)
			}
		})
	}
}

func TestTypesOfOthersAreKept(t *testing.T) {
	pbx, api := start(t, sim.Config{})
	if _, err := pbx.Sim.SetForeign(t.Context(), simclient.Foreign{Extension: "101", Count: 16}); err != nil {
		t.Fatal(err)
	}
	listed, err := api.Registrations(t.Context(), "5101")
	if err != nil {
		t.Fatal(err)
	}
	held, err := pbx.Sim.Registrations(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	want := make([]pbxapi.Registration, len(held))
	for i, r := range held {
		want[i] = pbxapi.Registration{ID: fmt.Sprint(r.ID), URL: r.URL, Method: r.Method}
	}
	if diff := cmp.Diff(want, listed, cmpopts.IgnoreFields(pbxapi.Registration{}, "Event")); diff != "" {
		t.Errorf("(-held +listed):\n%s", diff)
	}
}
