package voipnow_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/pbx-operator/pbx-operator/api/v1alpha1"
	"github.com/pbx-operator/pbx-operator/controllers/pbxapi"
	"github.com/pbx-operator/pbx-operator/controllers/pbxapi/voipnow"
	"github.com/pbx-operator/pbx-operator/hack/pbxsim/delivery"
	"github.com/pbx-operator/pbx-operator/hack/pbxsim/sim"
	"github.com/pbx-operator/pbx-operator/hack/pbxsim/simclient"
	"github.com/pbx-operator/pbx-operator/hack/pbxsim/simtest"
	simvoipnow "github.com/pbx-operator/pbx-operator/hack/pbxsim/voipnow"
)

const (
	eventURL = "https://calls.example.com/ext-event/f2a8vdrfae0s1ku5d2rj3iximjf3twyz/hangup"
	phone    = "0007*101"
)

// leaks finds what no error may repeat.
var leaks = regexp.MustCompile(`ext-event|f2a8|tok-|secret|Bearer|://`)

func settings(url, id, secret string) pbxapi.Settings {
	return pbxapi.Settings{
		PBX: v1alpha1.PBX{Type: v1alpha1.PBXTypeVoipNow, VoipNow: &v1alpha1.VoipNow{
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

func connect(t *testing.T, with pbxapi.Settings) *voipnow.API {
	t.Helper()
	api, err := voipnow.New(with)
	if err != nil {
		t.Fatal(err)
	}
	return api.(*voipnow.API)
}

func start(t *testing.T, like simvoipnow.Settings) (*simtest.PBX, *voipnow.API) {
	t.Helper()
	pbx := simtest.Start(t, sim.Config{PBX: "voipnow", VoipNow: like})
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

func fault(t *testing.T, pbx *simtest.PBX, f simclient.Fault) {
	t.Helper()
	if _, err := pbx.Sim.SetFaults(t.Context(), f); err != nil {
		t.Fatal(err)
	}
}

// answers is a PBX in memory that grants every token.
type answers func(*http.Request) (int, string)

func (a answers) RoundTrip(r *http.Request) (*http.Response, error) {
	code, body := http.StatusOK, `{"access_token":"t","token_type":"Bearer"}`
	if !strings.HasPrefix(r.URL.Path, "/oauth/") {
		code, body = a(r)
	}
	if r.Body != nil {
		_ = r.Body.Close()
	}
	return answerOf(r, code, body), nil
}

func answerOf(r *http.Request, code int, body string) *http.Response {
	header := http.Header{"Content-Type": {"application/json"}}
	return &http.Response{StatusCode: code, Body: io.NopCloser(strings.NewReader(body)), Header: header, Request: r}
}

func connectTo(t *testing.T, pbx answers) *voipnow.API {
	t.Helper()
	with := settings("https://pbx.example.com", "app", "secret")
	with.HTTP.Transport = pbx
	return connect(t, with)
}

func TestCheckNeedsNoExtension(t *testing.T) {
	pbx, api := start(t, simvoipnow.Settings{})
	if err := api.Check(t.Context()); err != nil {
		t.Error(err)
	}
	if asked := requests(t, pbx); asked.Total != 2 || asked.Routes[simclient.VoipNowCDRRoute].Count != 1 {
		t.Errorf("want a token and one request: %+v", asked)
	}
}

func TestCheckWithoutTheRightToCallRecords(t *testing.T) {
	refused := func(path string, status int, code string) error {
		pbx, api := start(t, simvoipnow.Settings{})
		fault(t, pbx, simclient.Fault{Path: path, Kind: simclient.FaultStatus, Status: status, Code: code})
		return api.Check(t.Context())
	}
	for what, test := range map[string]struct{ got, want error }{
		"forbidden":       {refused("/cdr", 403, ""), nil}, // registrations do not need them
		"other dates":     {refused("/cdr", 400, "cdr_start_date_invalid"), nil},
		"another address": {refused("/cdr", 404, ""), pbxapi.ErrNotFound},
		"no app":          {refused("/oauth", 403, ""), pbxapi.ErrForbidden},
		"in trouble":      {refused("/cdr", 500, ""), pbxapi.ErrUnreachable},
	} {
		if !errors.Is(test.got, test.want) {
			t.Errorf("%s: got %v, want %v", what, test.got, test.want)
		}
	}
}

func TestCheckOfAnotherUser(t *testing.T) {
	pbx := simtest.Start(t, sim.Config{PBX: "voipnow"})
	for user, want := range map[string]error{"7": nil, "8": pbxapi.ErrRejected, "@owner": nil} {
		with := settings(pbx.URL, pbx.ClientID, pbx.ClientSecret)
		with.PBX.VoipNow.UserID = user
		if err := connect(t, with).Check(t.Context()); !errors.Is(err, want) {
			t.Errorf("user %s: got %v, want %v", user, err, want)
		}
	}
}

func TestExtensions(t *testing.T) {
	pbx, api := start(t, simvoipnow.Settings{})
	if _, err := pbx.Sim.AddExtensions(t.Context(), simclient.NewExtension{Number: "2000", Count: 5200}); err != nil {
		t.Fatal(err)
	}
	all, err := api.Extensions(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if len(all) != 5205 {
		t.Errorf("%d extensions, want 5205", len(all))
	}
	for number, want := range map[string]v1alpha1.ExtensionType{
		phone: v1alpha1.ExtensionPhone, "0007*099": v1alpha1.ExtensionIVR, "0007*900": v1alpha1.ExtensionQueue,
	} {
		if !slices.ContainsFunc(all, func(e pbxapi.Extension) bool { return e.Number == number && e.ID == number && e.Type == want }) {
			t.Errorf("%s %s is missing", want, number)
		}
	}
}

func TestExtensionsThatThePBXDoesNotList(t *testing.T) {
	tests := map[string]struct {
		code int
		body string
		want error
	}{
		"bad request":  {400, `{"error":{"code":"resource_invalid","message":"No such thing"}}`, pbxapi.ErrNotSupported},
		"forbidden":    {403, "", pbxapi.ErrNotSupported},
		"not found":    {404, "<html>", pbxapi.ErrNotSupported},
		"other names":  {200, `{"entry":[{"number":"0007*101"}],"totalResults":"1"}`, pbxapi.ErrNotSupported},
		"server error": {500, "", pbxapi.ErrUnreachable},
		"unauthorized": {401, "", pbxapi.ErrUnauthorized},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			api := connectTo(t, func(*http.Request) (int, string) { return test.code, test.body })
			if _, err := api.Extensions(t.Context()); !errors.Is(err, test.want) {
				t.Errorf("got %v, want %v", err, test.want)
			}
		})
	}
}

func TestPathsKeepTheStar(t *testing.T) {
	var sent []string
	api := connectTo(t, func(r *http.Request) (int, string) {
		sent = append(sent, r.Method+" "+r.URL.RequestURI())
		return http.StatusNoContent, ""
	})
	if _, err := api.Registrations(t.Context(), phone); err != nil {
		t.Error(err)
	}
	if err := api.Unregister(t.Context(), phone, "3/Ev1"); err != nil {
		t.Error(err)
	}
	want := []string{
		"GET /uapi/extensions/@me/0007*101/phoneCallEvents?count=1000&startIndex=0",
		"DELETE /uapi/extensions/@me/0007*101/phoneCallEvents/3/Ev1",
	}
	if diff := cmp.Diff(want, sent); diff != "" {
		t.Errorf("(-want +sent):\n%s", diff)
	}
}

type transport func(*http.Request) (*http.Response, error)

func (f transport) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// TestTokenRequest is what the vendor's own client sends for a trusted app.
func TestTokenRequest(t *testing.T) {
	var form url.Values
	with := settings("https://pbx.example.com/", "app", "secret")
	with.HTTP.Transport = transport(func(r *http.Request) (*http.Response, error) {
		if r.URL.Path != "/oauth/token.php" {
			return answerOf(r, 200, `{"entry":[],"totalResults":0}`), nil
		}
		if err := r.ParseForm(); err != nil {
			return nil, err
		}
		form = r.PostForm
		return answerOf(r, 200, `{"access_token":"t","expires_in":"3600"}`), nil
	})
	if err := connect(t, with).Check(t.Context()); err != nil {
		t.Error(err)
	}
	want := url.Values{"grant_type": {"client_credentials"}, "type": {"unifiedapi"}, "client_id": {"app"}, "client_secret": {"secret"}}
	if diff := cmp.Diff(want, form); diff != "" {
		t.Errorf("(-want +sent):\n%s", diff)
	}
}

func TestTokenIsRenewedFiveMinutesEarly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tokens := 0
		with := settings("https://pbx.example.com", "app", "secret")
		with.HTTP.Transport = transport(func(r *http.Request) (*http.Response, error) {
			if strings.HasPrefix(r.URL.Path, "/oauth/") {
				tokens++
				return answerOf(r, 200, `{"access_token":"t","expires_in":7200}`), nil
			}
			return answerOf(r, 200, "[]"), nil
		})
		api := connect(t, with)
		for _, step := range []struct {
			after time.Duration
			want  int
		}{{0, 1}, {114 * time.Minute, 1}, {2 * time.Minute, 2}} {
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

func TestShortLivedTokenIsUsedMoreThanOnce(t *testing.T) {
	pbx, api := start(t, simvoipnow.Settings{TokenLifetime: delivery.Duration(time.Minute)})
	for range 3 {
		if err := api.Check(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if n := requests(t, pbx).Routes[simclient.VoipNowTokenRoute].Count; n != 1 {
		t.Errorf("%d token requests, want 1", n)
	}
}

func TestOneTokenForManyCallers(t *testing.T) {
	pbx, api := start(t, simvoipnow.Settings{OmitExpiresIn: true})
	for want := 1; want <= 2; want++ {
		var group sync.WaitGroup
		for range 20 {
			group.Go(func() {
				if err := api.Check(t.Context()); err != nil {
					t.Error(err)
				}
			})
		}
		group.Wait()
		if n := requests(t, pbx).Routes[simclient.VoipNowTokenRoute].Count; n != want {
			t.Errorf("%d token requests, want %d", n, want)
		}
		if err := pbx.Sim.KillTokens(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
}

func TestBadCredentials(t *testing.T) {
	pbx := simtest.Start(t, sim.Config{PBX: "voipnow"})
	err := connect(t, settings(pbx.URL, pbx.ClientID, "wrong-secret")).Check(t.Context())
	if !errors.Is(err, pbxapi.ErrUnauthorized) {
		t.Errorf("got %v, want ErrUnauthorized", err)
	}
	if n := requests(t, pbx).Total; n != 1 {
		t.Errorf("%d requests, want 1", n)
	}
}

// The token endpoint may answer in either shape of errors, also where it is not up to date with its
// own status codes.
func TestTokenErrors(t *testing.T) {
	tests := map[string]struct {
		code int
		body string
		want error
	}{
		"OAuth shape":          {400, `{"error":"invalid_client"}`, pbxapi.ErrUnauthorized},
		"API shape":            {401, `{"error":{"code":"unauthorized","message":"no"}}`, pbxapi.ErrUnauthorized},
		"forbidden":            {403, `{"error":"access_denied","error_description":"no"}`, pbxapi.ErrForbidden},
		"OAuth shape with 200": {200, `{"error":"invalid_client"}`, pbxapi.ErrUnauthorized},
		"API shape with 200":   {200, `{"error":{"code":"x"}}`, pbxapi.ErrUnreachable},
		"server error":         {500, `{"error":"server_error"}`, pbxapi.ErrUnreachable},
		"page":                 {200, `<html>f2a8vdrfae0s1ku5d2rj3iximjf3twyz</html>`, pbxapi.ErrUnreachable},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			with := settings("https://pbx.example.com", "app", "secret")
			with.HTTP.Transport = transport(func(r *http.Request) (*http.Response, error) { return answerOf(r, test.code, test.body), nil })
			err := connect(t, with).Check(t.Context())
			if !errors.Is(err, test.want) {
				t.Errorf("got %v, want %v", err, test.want)
			}
			if leak := regexp.MustCompile(`f2a8|secret_|=secret`).FindString(fmt.Sprint(err)); leak != "" {
				t.Errorf("the error gives away %q: %v", leak, err)
			}
		})
	}
}

func TestRedirectsAreNotFollowed(t *testing.T) {
	var asked atomic.Bool
	other := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { asked.Store(true) }))
	defer other.Close()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasPrefix(r.URL.Path, "/oauth/") {
			w.Header().Set("Content-Type", "application/json")
			_, _ = io.WriteString(w, `{"access_token":"t"}`)
			return
		}
		http.Redirect(w, r, other.URL, http.StatusTemporaryRedirect)
	}))
	defer server.Close()
	err := connect(t, settings(server.URL, "app", "secret")).Check(t.Context())
	if !errors.Is(err, pbxapi.ErrRejected) || !strings.Contains(err.Error(), "spec.pbx.voipNow.url") {
		t.Errorf("got %v, want ErrRejected that names the URL's field", err)
	}
	if asked.Load() {
		t.Error("the redirect was followed")
	}
}

func TestUnusableSettings(t *testing.T) {
	tests := map[string]struct {
		change func(*pbxapi.Settings)
		says   string
	}{
		"no secret":   {func(s *pbxapi.Settings) { delete(s.Credentials, "clientSecret") }, "head-office-pbx has no key clientSecret"},
		"no host":     {func(s *pbxapi.Settings) { s.PBX.VoipNow.URL = "pbx" }, "spec.pbx.voipNow.url"},
		"no user":     {func(s *pbxapi.Settings) { s.PBX.VoipNow.UserID = "../@me" }, "spec.pbx.voipNow.userID"},
		"no settings": {func(s *pbxapi.Settings) { s.PBX.VoipNow = nil }, "spec.pbx.voipNow is missing"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			with := settings("https://pbx.example.com", "app", "secret")
			test.change(&with)
			_, err := voipnow.New(with)
			if !errors.Is(err, pbxapi.ErrInvalid) || !strings.Contains(err.Error(), test.says) {
				t.Errorf("got %v, want ErrInvalid that says %q", err, test.says)
			}
		})
	}
}
