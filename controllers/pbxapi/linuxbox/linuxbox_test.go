package linuxbox_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/pbx-operator/pbx-operator/api/v1alpha1"
	"github.com/pbx-operator/pbx-operator/controllers/pbxapi"
	"github.com/pbx-operator/pbx-operator/controllers/pbxapi/linuxbox"
	"github.com/pbx-operator/pbx-operator/controllers/pbxapi/pbxapitest"
	"github.com/pbx-operator/pbx-operator/hack/pbxsim/delivery"
	simlinuxbox "github.com/pbx-operator/pbx-operator/hack/pbxsim/linuxbox"
	"github.com/pbx-operator/pbx-operator/hack/pbxsim/sim"
	"github.com/pbx-operator/pbx-operator/hack/pbxsim/simclient"
	"github.com/pbx-operator/pbx-operator/hack/pbxsim/simtest"
)

func settings(url string) pbxapi.Settings {
	return pbxapi.Settings{
		PBX:         v1alpha1.PBX{Type: v1alpha1.PBXTypeLinuxBox, LinuxBox: &v1alpha1.LinuxBox{URL: url}},
		Credentials: map[string][]byte{},
		HTTP: &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error {
			return http.ErrUseLastResponse
		}},
		Timeout: 30 * time.Second,
		Turn:    func(context.Context) error { return nil },
	}
}

// withSecret gives settings the credentials of a Secret.
func withSecret(s pbxapi.Settings, keysAndValues ...string) pbxapi.Settings {
	s.PBX.LinuxBox.CredentialsSecretRef = &v1alpha1.SecretReference{Name: "box-commands"}
	for i := 0; i+1 < len(keysAndValues); i += 2 {
		s.Credentials[keysAndValues[i]] = []byte(keysAndValues[i+1])
	}
	return s
}

func connect(t *testing.T, with pbxapi.Settings) *linuxbox.API {
	t.Helper()
	api, err := linuxbox.New(with)
	if err != nil {
		t.Fatal(err)
	}
	return api.(*linuxbox.API)
}

func start(t *testing.T, s simlinuxbox.Settings) (*simtest.PBX, *linuxbox.API) {
	t.Helper()
	pbx := simtest.Start(t, sim.Config{PBX: "linuxbox", LinuxBox: s})
	return pbx, connect(t, settings(pbx.URL))
}

func line(number string) pbxapi.Extension { return pbxapi.Extension{Number: number} }

func routes(t *testing.T, pbx *simtest.PBX) map[string]simclient.Route {
	t.Helper()
	asked, err := pbx.Sim.Requests(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return asked.Routes
}

func TestDialAndHangUp(t *testing.T) {
	pbx, api := start(t, simlinuxbox.Settings{})
	if err := api.Check(t.Context()); err != nil {
		t.Error(err)
	}
	call, err := api.Dial(t.Context(), pbxapi.Dial{Extension: line("10"), Number: "+420 225550143", Reference: "cmd-7"})
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(pbxapi.Call{}, call); diff != "" {
		t.Errorf("the PBX was not told a reference, and yet (-want +got):\n%s", diff)
	}
	_, err = api.Dial(t.Context(), pbxapi.Dial{Extension: line("10"), Number: "2025550177"})
	if !errors.Is(err, pbxapi.ErrRejected) || !strings.Contains(err.Error(), "HTTP 409: exten is busy") {
		t.Errorf("a busy line: %v", err)
	}
	if err := api.Hangup(t.Context(), pbxapi.Hangup{Extension: line("10")}); err != nil {
		t.Error(err)
	}
	if n := routes(t, pbx)[simclient.LinuxBoxDialRoute].Statuses; n[200] != 1 || n[409] != 1 {
		t.Errorf("dials: %v", n)
	}
}

func TestUnknownLines(t *testing.T) {
	_, api := start(t, simlinuxbox.Settings{})
	_, err := api.Dial(t.Context(), pbxapi.Dial{Extension: line("99"), Number: "2025550143"})
	if !errors.Is(err, pbxapi.ErrNotFound) || pbxapi.NotSent(err) || !strings.Contains(err.Error(), "unknown exten") {
		t.Errorf("dial: %v", err)
	}
	for _, number := range []string{"99", "10"} { // unknown, and known but free
		if err := api.Hangup(t.Context(), pbxapi.Hangup{Extension: line(number)}); !errors.Is(err, pbxapi.ErrNotFound) {
			t.Errorf("hang up %s: %v", number, err)
		}
	}
}

func TestTheReferenceComesBackWithTheEvents(t *testing.T) {
	got := make(chan url.Values, 100)
	receiver := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { got <- r.URL.Query() }))
	defer receiver.Close()
	pbx := simtest.Start(t, sim.Config{PBX: "linuxbox", LinuxBox: simlinuxbox.Settings{DialSpeed: 1000}})
	if _, err := pbx.Sim.SetHook(t.Context(), simclient.Hook{URL: receiver.URL, Dialect: "C"}); err != nil {
		t.Fatal(err)
	}
	with := settings(pbx.URL)
	with.PBX.LinuxBox.CustomCallID = v1alpha1.CustomCallIDAlways
	call, err := connect(t, with).Dial(t.Context(), pbxapi.Dial{Extension: line("10"), Number: "2025550143", Reference: "cmd 7/ß&x=1"})
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(pbxapi.Call{CallBackID: "cmd 7/ß&x=1"}, call); diff != "" {
		t.Error(diff)
	}
	for event := range got {
		if event.Has("custom_call_id") {
			if event.Get("custom_call_id") != call.CallBackID {
				t.Errorf("the event says %q", event.Get("custom_call_id"))
			}
			break
		}
	}
}

func TestAuthentication(t *testing.T) {
	pbx := simtest.Start(t, sim.Config{PBX: "linuxbox", LinuxBox: simlinuxbox.Settings{RequireAuth: true, AuthHeader: "X-Api-Key"}})
	tests := map[string]struct {
		keys []string
		want error
		says string
	}{
		"none":            {nil, pbxapi.ErrUnauthorized, "set spec.pbx.linuxBox.credentialsSecretRef"},
		"basic":           {[]string{"username", pbx.ClientID, "password", pbx.ClientSecret + "\n"}, pbxapi.ErrNotFound, "no call"},
		"basic, wrong":    {[]string{"username", pbx.ClientID, "password", "hunter2"}, pbxapi.ErrUnauthorized, "check the Secret box-commands"},
		"header":          {[]string{"header", "X-Api-Key", "value", pbx.ClientSecret}, pbxapi.ErrNotFound, "no call"},
		"header, wrong":   {[]string{"header", "X-Api-Key", "value", "hunter2"}, pbxapi.ErrUnauthorized, "check the Secret box-commands"},
		"both, basic won": {[]string{"username", pbx.ClientID, "password", pbx.ClientSecret, "header", "X-Api-Key", "value", "hunter2"}, pbxapi.ErrNotFound, "no call"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			with := settings(pbx.URL)
			if test.keys != nil {
				with = withSecret(with, test.keys...)
			}
			err := connect(t, with).Hangup(t.Context(), pbxapi.Hangup{Extension: line("10")})
			if !errors.Is(err, test.want) || !strings.Contains(err.Error(), test.says) || strings.Contains(err.Error(), "hunter2") {
				t.Errorf("got %v, want %v that says %q", err, test.want, test.says)
			}
		})
	}
}

func TestCheck(t *testing.T) {
	gone := httptest.NewServer(nil)
	gone.Close()
	tests := map[string]struct {
		status  int
		secret  bool
		want    error
		address string
	}{
		"there":                    {status: 404},
		"there, in trouble":        {status: 500},
		"wants credentials":        {status: 401},
		"refuses credentials":      {status: 401, secret: true, want: pbxapi.ErrUnauthorized},
		"forbids":                  {status: 403, secret: true, want: pbxapi.ErrUnauthorized},
		"redirects":                {status: 302},
		"a gateway in front of it": {status: 502, want: pbxapi.ErrUnreachable},
		"gone":                     {address: gone.URL, want: pbxapi.ErrUnreachable},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			var asked []string
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				asked = append(asked, r.Method+" "+r.URL.Path)
				w.Header().Set("Location", gone.URL)
				w.WriteHeader(test.status)
			}))
			defer server.Close()
			with := settings(server.URL + "/pbx/")
			if test.address != "" {
				with = settings(test.address)
			}
			if test.secret {
				with = withSecret(with, "username", "u", "password", "p")
			}
			if err := connect(t, with).Check(t.Context()); !errors.Is(err, test.want) {
				t.Errorf("got %v, want %v", err, test.want)
			}
			if test.address == "" && fmt.Sprint(asked) != "[GET /pbx/]" {
				t.Errorf("asked %v", asked)
			}
		})
	}
}

func TestFailures(t *testing.T) {
	status := func(code int) simclient.Fault {
		return simclient.Fault{Kind: simclient.FaultStatus, Status: code}
	}
	tests := map[string]struct {
		fault simclient.Fault
		want  error
	}{
		"unauthorized":    {status(401), pbxapi.ErrUnauthorized},
		"forbidden":       {status(403), pbxapi.ErrUnauthorized},
		"not found":       {status(404), pbxapi.ErrNotFound},
		"conflict":        {status(409), pbxapi.ErrRejected},
		"bad request":     {status(400), pbxapi.ErrRejected},
		"redirect":        {status(302), pbxapi.ErrRejected},
		"request timeout": {status(408), pbxapi.ErrUnreachable},
		"internal error":  {status(500), pbxapi.ErrUnreachable},
		"bad gateway":     {status(502), pbxapi.ErrUnreachable},
		"reset":           {simclient.Fault{Kind: simclient.FaultReset}, pbxapi.ErrUnreachable},
		"reset after":     {simclient.Fault{Kind: simclient.FaultResetAfter}, pbxapi.ErrUnreachable},
		"no answer":       {simclient.Fault{Kind: simclient.FaultSlow, Delay: delivery.Duration(time.Second)}, pbxapi.ErrUnreachable},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			pbx := simtest.Start(t, sim.Config{PBX: "linuxbox"})
			with := settings(pbx.URL)
			if test.fault.Kind == simclient.FaultSlow {
				with.Timeout = 200 * time.Millisecond
			}
			api := connect(t, with)
			if _, err := pbx.Sim.SetFaults(t.Context(), test.fault); err != nil {
				t.Fatal(err)
			}
			_, err := api.Dial(t.Context(), pbxapi.Dial{Extension: line("10"), Number: "2025550143"})
			if !errors.Is(err, test.want) {
				t.Errorf("dial: got %v, want %v", err, test.want)
			}
			if pbxapi.NotSent(err) {
				t.Errorf("taken for not sent: %v", err)
			}
			if err := api.Hangup(t.Context(), pbxapi.Hangup{Extension: line("11")}); !errors.Is(err, test.want) {
				t.Errorf("hang up: got %v, want %v", err, test.want)
			}
			if strings.Contains(err.Error(), pbx.URL) {
				t.Errorf("the error holds the URL: %v", err)
			}
		})
	}
}

func TestADialThatWasNotSentIsToldApart(t *testing.T) {
	gone := httptest.NewServer(nil)
	gone.Close()
	_, err := connect(t, settings(gone.URL)).Dial(t.Context(), pbxapi.Dial{Extension: line("10"), Number: "1"})
	if !errors.Is(err, pbxapi.ErrUnreachable) || !pbxapi.NotSent(err) {
		t.Errorf("nobody listens: %v", err)
	}
	with := settings(gone.URL)
	with.Turn = func(context.Context) error { return &pbxapi.RateLimitedError{After: time.Second} }
	_, err = connect(t, with).Dial(t.Context(), pbxapi.Dial{Extension: line("10"), Number: "1"})
	if limited, ok := errors.AsType[*pbxapi.RateLimitedError](err); !ok || limited.After != time.Second {
		t.Errorf("no turn: %v", err)
	}
}

// Go's HTTP client repeats a GET when a connection breaks that it had used before.
func TestABrokenConnectionNeverDialsTwice(t *testing.T) {
	var dials atomic.Int32
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/dial" {
			return
		}
		if dials.Add(1) > 1 { // the first one warms the connection up
			connection, _, err := http.NewResponseController(w).Hijack()
			if err == nil {
				_ = connection.Close()
			}
		}
	}))
	defer server.Close()
	api := connect(t, settings(server.URL))
	dial := pbxapi.Dial{Extension: line("10"), Number: "2025550143"}
	if _, err := api.Dial(t.Context(), dial); err != nil {
		t.Fatal(err)
	}
	if _, err := api.Dial(t.Context(), dial); !errors.Is(err, pbxapi.ErrUnreachable) || pbxapi.NotSent(err) {
		t.Errorf("got %v, want an unknown outcome", err)
	}
	if n := dials.Load(); n != 2 {
		t.Errorf("the PBX got %d dials for two", n)
	}
}

func TestTooManyRequests(t *testing.T) {
	for header, want := range map[string]time.Duration{"": 5 * time.Second, "30": 30 * time.Second, "soon": 5 * time.Second, "2000000000": time.Hour} {
		pbx, api := start(t, simlinuxbox.Settings{})
		fault := simclient.Fault{Kind: simclient.FaultStatus, Status: 429, Headers: map[string]string{"Retry-After": header}}
		if _, err := pbx.Sim.SetFaults(t.Context(), fault); err != nil {
			t.Fatal(err)
		}
		_, err := api.Dial(t.Context(), pbxapi.Dial{Extension: line("10"), Number: "1"})
		limited, ok := errors.AsType[*pbxapi.RateLimitedError](err)
		if !ok || !limited.ByPBX || limited.After != want {
			t.Errorf("Retry-After %q: %+v, %v", header, limited, err)
		}
	}
}

func TestCredentialsAreNotCarriedToAnotherHost(t *testing.T) {
	var asked atomic.Bool
	other := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { asked.Store(true) }))
	defer other.Close()
	server := httptest.NewServer(http.RedirectHandler(other.URL, http.StatusTemporaryRedirect))
	defer server.Close()
	err := connect(t, settings(server.URL)).Hangup(t.Context(), pbxapi.Hangup{Extension: line("10")})
	if !errors.Is(err, pbxapi.ErrRejected) || !strings.Contains(err.Error(), "set spec.pbx.linuxBox.url") || asked.Load() {
		t.Errorf("got %v; followed: %t", err, asked.Load())
	}
}

func TestErrorsDoNotRepeatSecrets(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		http.Error(w, "no such user: u with hunter2\nsecond line", http.StatusBadRequest)
	}))
	defer server.Close()
	err := connect(t, withSecret(settings(server.URL), "username", "u", "password", "hunter2")).Hangup(t.Context(), pbxapi.Hangup{Extension: line("10")})
	if text := err.Error(); strings.Contains(text, "hunter2") || strings.Contains(text, "second") || !strings.Contains(text, "HTTP 400: no such user") {
		t.Errorf("not fit for a condition: %s", text)
	}
}

// Whatever the numbers are, they reach the PBX as they are, and nothing else does.
func TestNumbersSurviveTheURL(t *testing.T) {
	var got *http.Request
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { got = r }))
	defer server.Close()
	with := settings(server.URL + "/is2pbx")
	with.PBX.LinuxBox.CustomCallID = v1alpha1.CustomCallIDAlways
	api := connect(t, with)
	rapid.Check(t, func(t *rapid.T) {
		dial := pbxapi.Dial{
			Extension: line(rapid.String().Draw(t, "extension")), Number: rapid.String().Draw(t, "number"),
			Reference: rapid.StringN(1, -1, -1).Draw(t, "reference"),
		}
		if _, err := api.Dial(context.Background(), dial); err != nil {
			t.Fatal(err)
		}
		want := url.Values{"number": {dial.Number}, "exten": {dial.Extension.Number}, "custom_call_id": {dial.Reference}}
		if diff := cmp.Diff(want, got.URL.Query()); diff != "" || got.URL.Path != "/is2pbx/dial" || strings.Contains(got.URL.RawQuery, "+") {
			t.Fatalf("%s (-want +got):\n%s", got.URL, diff)
		}
	})
}

func TestWhatIsNotSupported(t *testing.T) {
	api := connect(t, settings(""))
	if err := api.Check(t.Context()); err != nil {
		t.Errorf("nothing to check: %v", err)
	}
	_, extensions := api.Extensions(t.Context())
	_, registrations := api.Registrations(t.Context(), "10")
	_, register := api.Register(t.Context(), "10", pbxapi.Registration{})
	_, dial := api.Dial(t.Context(), pbxapi.Dial{Extension: line("10"), Number: "1"})
	_, recording := api.RecordingURL(t.Context(), "r")
	_, history := pbxapitest.History(t.Context(), api, time.Time{}, time.Now())
	for what, test := range map[string]struct {
		err  error
		says string
	}{
		"extensions": {extensions, "vendor"}, "registrations": {registrations, "vendor"}, "register": {register, "vendor"},
		"update":     {api.Update(t.Context(), "10", pbxapi.Registration{}), "vendor"},
		"unregister": {api.Unregister(t.Context(), "10", "1"), "vendor"},
		"dial":       {dial, "spec.pbx.linuxBox.url"},
		"hang up":    {api.Hangup(t.Context(), pbxapi.Hangup{Extension: line("10")}), "spec.pbx.linuxBox.url"},
		"recording":  {recording, "spec.pbx.linuxBox.recordingURL"},
		"history":    {history, "spec.pbx.linuxBox.database"},
	} {
		if !errors.Is(test.err, pbxapi.ErrNotSupported) || !strings.Contains(test.err.Error(), test.says) {
			t.Errorf("%s: got %v, want ErrNotSupported that says %q", what, test.err, test.says)
		}
	}
}

func TestRecordingURL(t *testing.T) {
	const name = "20260102-100000-+420225550143-10/11 a&b"
	const escaped = "20260102-100000-%2B420225550143-10%2F11%20a%26b"
	for template, want := range map[string]string{
		"https://rec.example.com/{record_name}.wav":                    "https://rec.example.com/" + escaped + ".wav",
		"https://rec.example.com/{record_name}/a?file={record_name}&x": "https://rec.example.com/" + escaped + "/a?file=" + escaped + "&x",
	} {
		with := settings("")
		with.PBX.LinuxBox.RecordingURL = template
		got, err := connect(t, with).RecordingURL(t.Context(), name)
		if err != nil || got != want {
			t.Errorf("got %s, %v, want %s", got, err, want)
		}
		for _, none := range []string{"", ".", ".."} {
			if got, err := connect(t, with).RecordingURL(t.Context(), none); !errors.Is(err, pbxapi.ErrNotFound) {
				t.Errorf("%q: got %s, %v", none, got, err)
			}
		}
	}
}

func TestUnusableSettings(t *testing.T) {
	database := func(s *pbxapi.Settings) {
		s.PBX.LinuxBox.Database = &v1alpha1.LinuxBoxDatabase{CredentialsSecretRef: v1alpha1.SecretReference{Name: "box-database"}}
	}
	tests := map[string]struct {
		change func(*pbxapi.Settings)
		says   string
	}{
		"no settings":      {func(s *pbxapi.Settings) { s.PBX.LinuxBox = nil }, "spec.pbx.linuxBox is missing"},
		"no host":          {func(s *pbxapi.Settings) { s.PBX.LinuxBox.URL = "pbx" }, "spec.pbx.linuxBox.url"},
		"empty secret":     {func(s *pbxapi.Settings) { *s = withSecret(*s) }, "box-commands has neither username and password nor header and value"},
		"half a secret":    {func(s *pbxapi.Settings) { *s = withSecret(*s, "username", "u", "value", "v") }, "has neither"},
		"no header's name": {func(s *pbxapi.Settings) { *s = withSecret(*s, "header", "X Y", "value", "v") }, "key header"},
		"header's value":   {func(s *pbxapi.Settings) { *s = withSecret(*s, "header", "X", "value", "hunter2\nv") }, "key value"},
		"no database URL":  {database, "the key url of the Secret box-database is no URL that begins with postgres://"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			with := settings("https://pbx.example.com")
			test.change(&with)
			_, err := linuxbox.New(with)
			if !errors.Is(err, pbxapi.ErrInvalid) || !strings.Contains(err.Error(), test.says) || strings.Contains(err.Error(), "hunter2") {
				t.Errorf("got %v, want ErrInvalid that says %q", err, test.says)
			}
		})
	}
}
