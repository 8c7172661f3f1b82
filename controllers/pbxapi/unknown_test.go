package pbxapi_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/pbx-operator/pbx-operator/api/v1alpha1"
	"github.com/pbx-operator/pbx-operator/controllers/pbxapi"
	"github.com/pbx-operator/pbx-operator/controllers/pbxapi/linuxbox"
	"github.com/pbx-operator/pbx-operator/controllers/pbxapi/ringme"
	"github.com/pbx-operator/pbx-operator/controllers/pbxapi/voipnow"
)

// dialers are the PBXs that take commands, each at a URL.
func dialers(t *testing.T, url string, client *http.Client) map[string]pbxapi.Commander {
	t.Helper()
	ref := v1alpha1.SecretReference{Name: "pbx"}
	made := map[string]pbxapi.Commander{}
	for name, kind := range map[string]struct {
		factory pbxapi.Factory
		pbx     v1alpha1.PBX
	}{
		"RingMe":   {ringme.New, v1alpha1.PBX{RingMe: &v1alpha1.RingMe{URL: url, CredentialsSecretRef: ref}}},
		"VoipNow":  {voipnow.New, v1alpha1.PBX{VoipNow: &v1alpha1.VoipNow{URL: url, CredentialsSecretRef: ref}}},
		"LinuxBox": {linuxbox.New, v1alpha1.PBX{LinuxBox: &v1alpha1.LinuxBox{URL: url}}},
	} {
		api, err := kind.factory(pbxapi.Settings{
			PBX: kind.pbx, HTTP: client, Timeout: 5 * time.Second, Turn: func(context.Context) error { return nil },
			Credentials: map[string][]byte{"clientID": []byte("a"), "clientSecret": []byte("b")},
		})
		if err != nil {
			t.Fatal(err)
		}
		commander, ok := api.(pbxapi.Commander)
		if !ok {
			t.Fatalf("%s takes no commands", name)
		}
		made[name] = commander
	}
	return made
}

// onDial is a PBX that gives tokens and lists no calls; what it does about a dial, the test says.
func onDial(dials http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		switch {
		case strings.HasPrefix(r.URL.Path, "/oauth/"):
			w.Header().Set("Content-Type", "application/json")
			_, _ = fmt.Fprint(w, `{"access_token":"t","token_type":"Bearer","expires_in":3600}`)
		case r.Method == http.MethodPost, strings.HasPrefix(r.URL.Path, "/dial"):
			dials(w, r)
		default:
			_, _ = fmt.Fprint(w, `{"entry":[],"totalResults":0}`)
		}
	}
}

func answering(status int, body string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(status)
		_, _ = fmt.Fprint(w, body)
	}
}

// breaking sends so much of an answer and closes the connection.
func breaking(answer string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		connection, _, err := http.NewResponseController(w).Hijack()
		if err != nil {
			return
		}
		_, _ = fmt.Fprint(connection, answer)
		_ = connection.Close()
	}
}

// repeated reports whether the controller of CallCommands would send a dial that failed like this
// once more.
func repeated(err error) bool { return err != nil && pbxapi.NotSent(err) }

var dial = pbxapi.Dial{Extension: pbxapi.Extension{ID: "5101", Number: "0007*101"}, Number: "12025550143", Reference: "r"}

func TestADialThatMayHaveBeenCarriedOutIsNotRepeated(t *testing.T) {
	tests := map[string]http.HandlerFunc{
		"broken before the answer": breaking(""),
		"broken in the head":       breaking("HTTP/1.1 200 OK\r\nContent-Le"),
		"broken in the body":       breaking("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n{\"call_id\":"),
		"no JSON":                  answering(http.StatusOK, "<html>"),
		"empty":                    answering(http.StatusOK, ""),
		"503 with Retry-After": func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Retry-After", "1")
			w.WriteHeader(http.StatusServiceUnavailable)
		},
		"500 that speaks of a limit": answering(http.StatusInternalServerError, `{"status":"limit_exceeded"}`),
	}
	for _, status := range []int{301, 302, 307, 308, 400, 401, 403, 404, 405, 408, 409, 410, 418, 425, 500, 501, 502, 503, 504, 507, 520, 524, 599} {
		tests[fmt.Sprint(status)] = answering(status, "")
	}
	for name, handler := range tests {
		t.Run(name, func(t *testing.T) {
			server := httptest.NewServer(onDial(handler))
			defer server.Close()
			for pbx, commander := range dialers(t, server.URL, server.Client()) {
				if _, err := commander.Dial(t.Context(), dial); repeated(err) {
					t.Errorf("%s would be asked to dial twice: %v", pbx, err)
				}
			}
		})
	}
}

func TestADialThatWasNotCarriedOutMayBeRepeated(t *testing.T) {
	server := httptest.NewServer(onDial(answering(http.StatusTooManyRequests, "")))
	defer server.Close()
	for pbx, commander := range dialers(t, server.URL, server.Client()) {
		if _, err := commander.Dial(t.Context(), dial); !repeated(err) {
			t.Errorf("%s has refused it for now, but it is not repeated: %v", pbx, err)
		}
	}
	nobody := &http.Client{Transport: &http.Transport{DialContext: func(context.Context, string, string) (net.Conn, error) {
		return nil, &net.OpError{Op: "dial", Net: "tcp", Err: errors.New("connection refused")}
	}}}
	for pbx, commander := range dialers(t, "http://pbx.example.com", nobody) {
		if _, err := commander.Dial(t.Context(), dial); !repeated(err) {
			t.Errorf("%s was not even connected to, but it is not repeated: %v", pbx, err)
		}
	}
}

// The dial comes after the access token: without one nothing was sent, whatever happened to that
// request.
func TestADialWithoutAnAccessTokenMayBeRepeated(t *testing.T) {
	server := httptest.NewServer(breaking("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{"))
	defer server.Close()
	made := dialers(t, server.URL, server.Client())
	for _, pbx := range []string{"RingMe", "VoipNow"} {
		if _, err := made[pbx].Dial(t.Context(), dial); !repeated(err) {
			t.Errorf("%s: got %v", pbx, err)
		}
	}
}
