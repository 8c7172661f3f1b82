package sim_test

import (
	"bytes"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"github.com/pbx-operator/pbx-operator/hack/pbxsim/sim"
	"github.com/pbx-operator/pbx-operator/hack/pbxsim/simtest"
)

// newBench starts a simulator with phone 101 registered at a receiver that does nothing.
func newBench(b *testing.B) *simtest.PBX {
	b.Helper()
	receiver := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	b.Cleanup(receiver.Close)
	p := simtest.Start(b, sim.Config{})
	form := url.Values{"grant_type": {"client_credentials"}, "client_id": {p.ClientID}, "client_secret": {p.ClientSecret}}
	var token struct {
		AccessToken string `json:"access_token"`
	}
	post(b, p.URL+"/oauth/token", "", "application/x-www-form-urlencoded", []byte(form.Encode()), &token)
	for _, eventType := range []string{"dial-in", "answer", "hangup"} {
		body, err := json.Marshal(map[string]string{"url": receiver.URL, "event_type": eventType, "method": "POST"})
		if err != nil {
			b.Fatal(err)
		}
		post(b, p.URL+"/api/ver1.0/extension/5101/event/", token.AccessToken, "application/json", body, nil)
	}
	return p
}

func post(b *testing.B, target, token, contentType string, body []byte, into any) {
	b.Helper()
	req, err := http.NewRequestWithContext(b.Context(), http.MethodPost, target, bytes.NewReader(body))
	if err != nil {
		b.Fatal(err)
	}
	req.Header.Set("Content-Type", contentType)
	req.Header.Set("Authorization", "Bearer "+token)
	a, err := roundTrip(req)
	if err != nil || a.status >= http.StatusMultipleChoices {
		b.Fatalf("%s: %v %d %s", target, err, a.status, a.body)
	}
	if into == nil {
		return
	}
	if err := json.NewDecoder(strings.NewReader(a.body)).Decode(into); err != nil {
		b.Fatal(err)
	}
}
