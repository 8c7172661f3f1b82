package ingest_test

import (
	"bytes"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/pbx-operator/pbx-operator/hack/pbxsim/scenario"
	"github.com/pbx-operator/pbx-operator/receiver/callhistory"
	"github.com/pbx-operator/pbx-operator/receiver/dialect/dialects"
	"github.com/pbx-operator/pbx-operator/receiver/ingest"
	"github.com/pbx-operator/pbx-operator/receiver/journal"
)

const (
	ringing = `{"parentCallSid":"p1","callSid":"b1","event":"call","status":"ringing","timestamp":1767348000000}`
	record  = `[{"id":"r1","callID":"c1","extension":"101","flow":"In","start":"2026-01-02T10:00:00Z","end":"2026-01-02T10:01:00Z","result":"Answered"}]`
)

// open is the intake of a PBX of some type.
func (d *intake) open(t *testing.T, pbx string, registry prometheus.Registerer) *ingest.Handler {
	t.Helper()
	speaks, err := dialects.New(pbx, dialects.Settings{})
	if err != nil {
		t.Fatal(err)
	}
	return ingest.New(ingest.Config{
		Resolver: d, Journal: d, Dialect: speaks, ContentTypes: dialects.ContentTypes(pbx), Metrics: ingest.NewMetrics(registry),
	})
}

func TestAnswersOfEverySystem(t *testing.T) {
	const form, inJSON = ingest.FormType, "application/json"
	for name, c := range map[string]struct {
		pbx, method, path, query, contentType, authorization, body string
		chunked                                                    bool
		status                                                     int
		detail                                                     string
	}{
		"Callable, one event":             {pbx: "Callable", contentType: inJSON, body: ringing, status: 200},
		"Callable, charset":               {pbx: "Callable", contentType: inJSON + "; charset=utf-8", body: ringing, status: 200},
		"Callable, no type":               {pbx: "Callable", body: ringing, status: 200},
		"Callable, several events":        {pbx: "Callable", contentType: inJSON, body: "[" + ringing + "," + ringing + "]", status: 200},
		"Callable, basic authentication":  {pbx: "Callable", contentType: inJSON, authorization: "Basic dTpw", body: ringing, status: 200},
		"Callable, bearer":                {pbx: "Callable", contentType: inJSON, authorization: "Bearer xyz", body: ringing, status: 200},
		"Callable, a form":                {pbx: "Callable", contentType: form, body: "event=call", status: 415, detail: inJSON},
		"Callable, no JSON":               {pbx: "Callable", contentType: inJSON, body: "event=call", status: 422, detail: "JSON"},
		"Callable, empty":                 {pbx: "Callable", contentType: inJSON, status: 422, detail: "empty"},
		"Callable, empty array":           {pbx: "Callable", contentType: inJSON, body: "[]", status: 422, detail: "empty"},
		"Callable, one of two is nothing": {pbx: "Callable", contentType: inJSON, body: "[" + ringing + ",{}]", status: 422, detail: "event 2 of 2"},
		"VoipNow, POST":                   {pbx: "VoipNow", path: "/dial-in", contentType: form, body: "CallID=c1", status: 200},
		"VoipNow, GET":                    {pbx: "VoipNow", method: "GET", path: "/answer-out", query: "CallID=c1", status: 200},
		"VoipNow, no suffix":              {pbx: "VoipNow", contentType: form, body: "CallID=c1", status: 422, detail: "/dial-in"},
		"VoipNow, JSON":                   {pbx: "VoipNow", path: "/dial-in", contentType: inJSON, body: "{}", status: 415, detail: form},
		"LinuxBox, GET with an event":     {pbx: "LinuxBox", method: "GET", query: "event=dial&call_id=c1", status: 200},
		"LinuxBox, POST with an event":    {pbx: "LinuxBox", contentType: form, body: "event=dial&call_id=c1", status: 200},
		"LinuxBox, POST with a query":     {pbx: "LinuxBox", query: "event=dial&call_id=c1", status: 200},
		"LinuxBox, GET with a path":       {pbx: "LinuxBox", method: "GET", path: "/start_call", query: "call_id=c1", status: 200},
		"LinuxBox, nothing":               {pbx: "LinuxBox", method: "GET", query: "call_id=c1", status: 422, detail: "event=dial"},
		"RingMe, in the query":            {pbx: "RingMe", query: "EventType=dial-in&CallID=c1", contentType: inJSON, body: "{}", status: 200},
		"RingMe, in the query, no body":   {pbx: "RingMe", query: "EventType=dial-in&CallID=c1", contentType: inJSON, status: 200},
		"VoipNow, in the query":           {pbx: "VoipNow", path: "/hangup", query: "CallID=c1", contentType: "text/plain", body: "{}\n", status: 200},
		"VoipNow, half in the query":      {pbx: "VoipNow", path: "/hangup", query: "CallID=c1", contentType: form, body: "CallStatus=BUSY", status: 200},
		"VoipNow, one URL":                {pbx: "VoipNow", contentType: form, body: "CallID=c1&CallStatus=CALLING&CallFlow=in", status: 200},
		"LinuxBox, in the query":          {pbx: "LinuxBox", query: "event=dial&call_id=c1", contentType: inJSON, body: "{}", status: 200},
		"LinuxBox, a body that says more": {pbx: "LinuxBox", query: "event=dial&call_id=c1", contentType: inJSON, body: `{"a":1}`, status: 415, detail: form},
		"LinuxBox, a body of two letters": {pbx: "LinuxBox", query: "event=dial&call_id=c1", contentType: inJSON, body: "[]", status: 422, detail: form},
		"LinuxBox, chunked {}":            {pbx: "LinuxBox", query: "event=dial&call_id=c1", contentType: inJSON, body: "{}", chunked: true, status: 200},
		"LinuxBox, chunked and more":      {pbx: "LinuxBox", query: "event=dial&call_id=c1", contentType: inJSON, body: `{"a":1}`, chunked: true, status: 415, detail: form},
		"VoipNow, chunked JSON":           {pbx: "VoipNow", path: "/dial-in", contentType: inJSON, body: "{}", chunked: true, status: 415, detail: form},
		"Callable, in the query":          {pbx: "Callable", query: "parentCallSid=p1&event=call&status=trying", contentType: inJSON, body: "{}", status: 200},
		"RingMe, Latin-1":                 {pbx: "RingMe", contentType: form + "; charset=iso-8859-1", body: "EventType=dial-in&CallID=c1&CallerIDName=Ren\xe9", status: 200},
		"RingMe, history":                 {pbx: "RingMe", path: callhistory.Path, contentType: inJSON, body: record, status: 200},
		"VoipNow, history":                {pbx: "VoipNow", path: callhistory.Path, contentType: inJSON, body: record, status: 200},
		"LinuxBox, history":               {pbx: "LinuxBox", path: callhistory.Path, contentType: inJSON, body: record, status: 200},
		"history in a form":               {pbx: "VoipNow", path: callhistory.Path, contentType: form, body: "CallID=c1", status: 415, detail: inJSON},
		"history without records":         {pbx: "LinuxBox", path: callhistory.Path, contentType: inJSON, body: "[]", status: 422, detail: "empty"},
	} {
		t.Run(name, func(t *testing.T) {
			if c.method == "" {
				c.method = http.MethodPost
			}
			d := &intake{}
			request := httptest.NewRequest(c.method, "/ext-event/"+token+c.path+"?"+c.query, strings.NewReader(c.body))
			if c.chunked {
				request.ContentLength = -1
			}
			request.Header.Set("Content-Type", c.contentType)
			request.Header.Set("Authorization", c.authorization)
			response := httptest.NewRecorder()
			d.open(t, c.pbx, nil).ServeHTTP(response, request)
			if response.Code != c.status || (c.status == http.StatusOK) != (len(d.stored) == 1) || (c.status == 422) != (len(d.quarantined) == 1) {
				t.Errorf("got %d with %d stored and %d quarantined; body %s", response.Code, len(d.stored), len(d.quarantined), response.Body)
			}
			checkProblem(t, response, c.status, c.detail)
			for _, stored := range slices.Concat(d.stored, d.quarantined) {
				if c.authorization != "" && bytes.Contains(stored, []byte(c.authorization)) {
					t.Error("a credential is stored")
				}
			}
		})
	}
}

// Every notification of every scenario is taken, with either method, and stored as it came.
func TestEveryScenarioIsTaken(t *testing.T) {
	for pbx, all := range scenarios(t) {
		for _, method := range []string{http.MethodGet, http.MethodPost} {
			d := &intake{}
			handler := d.open(t, pbx, nil)
			for _, s := range all {
				for _, n := range s.Play("seed", received) {
					wire := n.Request(method)
					request := httptest.NewRequest(wire.Method, "/ext-event/"+token+wire.Path+"?"+wire.Query, strings.NewReader(wire.Body))
					request.Header.Set("Content-Type", wire.ContentType)
					response := httptest.NewRecorder()
					handler.ServeHTTP(response, request)
					if response.Code != http.StatusOK {
						t.Fatalf("%s %s: %s %s%s: %d %s", pbx, s.Name, method, wire.Path, n.EventType, response.Code, response.Body)
					}
					entry, err := journal.DecodeEntry(d.stored[len(d.stored)-1])
					if err != nil || entry.Request.Path != wire.Path || entry.Request.Body != wire.Body || entry.Request.Query != wire.Query {
						t.Fatalf("%s %s: stored as %+v, %v", pbx, s.Name, entry, err)
					}
				}
			}
		}
	}
}

func scenarios(t *testing.T) map[string][]scenario.Scenario {
	t.Helper()
	found := map[string][]scenario.Scenario{}
	for _, pbx := range []string{"ringme", "voipnow", "callable", "linuxbox"} {
		all, err := scenario.All(pbx)
		if err != nil || len(all) == 0 {
			t.Fatal(len(all), err)
		}
		found[pbx] = slices.DeleteFunc(all, func(s scenario.Scenario) bool { return strings.Contains(s.Name, "other-names") })
	}
	return found
}

func TestEventsAreCountedByType(t *testing.T) {
	registry := prometheus.NewRegistry()
	handler := (&intake{}).open(t, "LinuxBox", registry)
	for _, query := range []string{
		"event=dial&call_id=c1&caller_type=external&caller_num=2025550143&called_num=2025550100", "event=call_pickup&call_id=c1",
		"event=endcall&call_id=c1&caller_type=external&call_answered=t&answering_exten=10", "event=whatever&call_id=c1",
	} {
		handler.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest(http.MethodGet, "/ext-event/"+token+"?"+query, http.NoBody))
	}
	request := httptest.NewRequest(http.MethodPost, "/ext-event/"+token+callhistory.Path, strings.NewReader(record))
	request.Header.Set("Content-Type", callhistory.ContentType)
	handler.ServeHTTP(httptest.NewRecorder(), request)
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]float64{}
	for _, family := range families {
		if family.GetName() == "pbx_receiver_events_total" {
			for _, metric := range family.GetMetric() {
				got[metric.GetLabel()[0].GetValue()] = metric.GetCounter().GetValue()
			}
		}
	}
	want := map[string]float64{
		"Agent": 0, "Answer": 0, "CallEnd": 1, "CallStart": 1, "DialIn": 0, "DialOut": 0, "Hangup": 0, "HasAnswered": 1, "History": 1, "Message": 0,
		"Other": 0, "PhoneStatus": 0, "Pickup": 1, "Progress": 1,
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}
