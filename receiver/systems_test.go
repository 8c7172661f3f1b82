package main

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/pbx-operator/pbx-operator/hack/pbxsim/scenario"
	"github.com/pbx-operator/pbx-operator/receiver/correlation"
)

// office is a receiver of one PBX, whose mappings are the cast of its scenarios; the phones have
// users.
type office struct {
	*child
	pbx string
}

// accounts are the PBXs whose events all come by one URL.
var accounts = map[string]string{
	"Callable": `callable: {ownNumbers: ["+4420794609*"], ownDomains: [tenant.example.com]}`, "LinuxBox": "",
}

func newOffice(t *testing.T, pbx string) *office {
	t.Helper()
	table := &strings.Builder{}
	fmt.Fprintf(table, "pbx: %s\nscope: All\n%s\nsources:\n- {token: %s}\n", pbx, accounts[pbx], tokenOf(pbx, "account"))
	for _, x := range scenario.CastOf(strings.ToLower(pbx)).Extensions {
		user := ""
		if x.Type == scenario.Phone {
			user = ", user: user-" + x.Short()
		}
		fmt.Fprintf(table, "- {token: %s, source: {type: %s, number: %q, id: %q%s}}\n", tokenOf(pbx, x.Number), x.Type, x.Number, x.ID, user)
	}
	return &office{child: newChildOf(t, table.String()), pbx: pbx}
}

func tokenOf(pbx, source string) string {
	sum := sha256.Sum256([]byte(pbx + source))
	return hex.EncodeToString(sum[:16])
}

// play returns the notifications of a scenario that somebody registered for.
func (o *office) play(t *testing.T, name string) []scenario.Notification {
	t.Helper()
	s, err := scenario.Find(strings.ToLower(o.pbx), name)
	if err != nil {
		t.Fatal(err)
	}
	return slices.DeleteFunc(s.Play(name, time.Date(2026, 1, 2, 10, 0, 0, 0, time.UTC)), func(n scenario.Notification) bool {
		return n.Sender.Type != scenario.Phone && n.Sender.Type != "" && n.EventType != "hangup"
	})
}

// send sends a notification as the PBX does: LinuxBox by GET, the others by POST.
func (o *office) send(t *testing.T, n scenario.Notification) {
	t.Helper()
	source, method := n.Sender.Number, http.MethodPost
	if _, ok := accounts[o.pbx]; ok {
		source = "account"
	}
	if o.pbx == "LinuxBox" {
		method = http.MethodGet
	}
	if status := o.request(t, tokenOf(o.pbx, source), n.Request(method)); status != http.StatusOK {
		t.Errorf("%s %s: status %d", o.pbx, n.EventType, status)
	}
}

func (o *office) request(t *testing.T, token string, wire scenario.Request) int {
	t.Helper()
	url := "http://" + o.address + "/ext-event/" + token + wire.Path + "?" + wire.Query
	request, err := http.NewRequestWithContext(t.Context(), wire.Method, url, strings.NewReader(wire.Body))
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("Content-Type", wire.ContentType)
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	_ = response.Body.Close()
	return response.StatusCode
}

// legs ends the receiver when nothing waits any more, and describes the recorded legs in its log.
func (o *office) legs(t *testing.T) []string {
	t.Helper()
	o.awaitCorrelation(t)
	waitUntil(t, func() bool { return o.metric(t, "pbx_receiver_open_calls") == 0 })
	o.stop(t)
	var found []string
	for _, leg := range readLegs(t, filepath.Join(o.dir, "data")) {
		if leg.Phase != correlation.Completed {
			t.Errorf("%s: a leg is open: %+v", o.pbx, leg)
		}
		if leg.Logged {
			found = append(found, fmt.Sprintf("%s %s > %s at %s of %s: %s", leg.Direction, leg.From, leg.To, leg.Extension, leg.User, leg.Result))
		}
	}
	slices.Sort(found)
	return found
}

// Four PBXs at once, each with its receiver. In the middle of all calls the receivers are killed.
func TestEverySystemFromRequestToLeg(t *testing.T) {
	for _, c := range []struct {
		pbx       string
		scenarios []string
		want      []string
	}{
		{"RingMe", []string{"S1", "S3", "S4", "S6", "S7"}, []string{
			"Inbound +12025550143 > 1234*101 at 1234*101 of user-101: Answered",
			"Inbound +12025550143 > 1234*101 at 1234*101 of user-101: Answered",
			"Inbound +12025550143 > 1234*102 at 1234*102 of user-102: Answered",
			"Inbound +12025550143 > 1234*900 at 1234*900 of : Missed",
			"Internal 1234*101 > 1234*102 at 1234*101 of user-101: Answered",
			"Internal 1234*101 > 1234*102 at 1234*102 of user-102: Answered",
			"Outbound 1234*101 > +12025550143 at 1234*101 of user-101: Answered",
		}},
		{"VoipNow", []string{"V1", "V3", "V4", "V11"}, []string{
			"Inbound 12025550143 > 0007*101 at 0007*101 of user-101: Answered",
			"Inbound 12025550143 > 0007*900 at 0007*900 of : Missed",
			"Outbound 12025550100 > 12025550143 at 0007*101 of user-101: Answered",
			"Outbound 12025550100 > 12025550143 at 0007*101 of user-101: Answered",
		}},
		{"Callable", []string{"C1", "C2", "C3", "C6", "C8", "C11"}, []string{
			"Inbound 442079460123 > 201 at 201 of user-201: Answered",
			"Inbound 442079460123 > 201 at 201 of user-201: Answered",
			"Inbound 442079460123 > 201 at 201 of user-201: Answered",
			"Inbound 442079460123 > 202 at 202 of user-202: Answered",
			"Inbound 442079460123 > 202@tenant.example.com at 202 of user-202: Answered",
			"Inbound 442079460123 > 442079460900 at  of : Missed",
			"Outbound 442079460900 > 442079460123 at 201 of user-201: Answered",
		}},
		{"LinuxBox", []string{"L1", "L1-b", "L2", "L3", "L6", "L10"}, []string{
			"Inbound 2025550143 > 10 at 10 of user-10: Answered",
			"Inbound 2025550143 > 10 at 10 of user-10: Answered",
			"Inbound 2025550143 > 10 at 10 of user-10: Answered",
			"Inbound 2025550143 > 11 at 11 of user-11: Answered",
			"Inbound 2025550143 > 2025550100 at 11 of : Missed",
			"Outbound 10 > 2025550143 at 10 of user-10: Answered",
			"Outbound 10 > 2025550143 at 10 of user-10: Answered",
		}},
	} {
		t.Run(c.pbx, func(t *testing.T) {
			t.Parallel()
			o := newOffice(t, c.pbx)
			o.start(t)
			o.everyone(t, c.scenarios, 0, 2)
			o.kill()
			o.start(t)
			o.everyone(t, c.scenarios, 1, 2)
			for other := range accounts {
				if token := tokenOf(other, "account"); other != c.pbx && o.request(t, token, scenario.Request{Method: http.MethodPost}) != http.StatusNotFound {
					t.Errorf("the event URL of %s is served", other)
				}
			}
			if diff := cmp.Diff(c.want, o.legs(t)); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

// everyone plays a part of all scenarios at the same time.
func (o *office) everyone(t *testing.T, scenarios []string, part, parts int) {
	t.Helper()
	var callers sync.WaitGroup
	for _, name := range scenarios {
		notifications := o.play(t, name)
		from, to := len(notifications)*part/parts, len(notifications)*(part+1)/parts
		callers.Go(func() {
			for _, n := range notifications[from:to] {
				o.send(t, n)
			}
		})
	}
	callers.Wait()
}
