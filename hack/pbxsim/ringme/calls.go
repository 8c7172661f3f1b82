package ringme

import (
	"cmp"
	"crypto/rand"
	"net/http"
	"slices"
	"strings"

	"github.com/pbx-operator/pbx-operator/hack/pbxsim/exchange"
	"github.com/pbx-operator/pbx-operator/hack/pbxsim/scenario"
)

// callbackBody is the part of a call-back request that the simulator acts on ("Callback
// (/callback/)").
type callbackBody struct {
	Sources     []string `json:"src_num"`
	Destination string   `json:"dst_num"`
}

type callbackAnswer struct {
	CallID    string `json:"call_id"`
	CallAPIID string `json:"call_api_id"`
}

// callback starts a call: the sources ring, then the destination.
func (a *API) callback(r *request) (int, any, error) {
	owner, err := a.extension(r)
	if err != nil {
		return 0, nil, err
	}
	var body callbackBody
	if err := readJSON(r, &body); err != nil {
		return 0, nil, err
	}
	sources, err := a.sources(owner.Account, body)
	if err != nil {
		return 0, nil, err
	}
	s := a.Settings()
	p := a.choose(owner, sources, body)
	sc, ok := a.scenarios[cmp.Or(s.CallbackScenario, p.scenario)]
	if !ok {
		return 0, nil, badRequest("The simulator has no scenario %s", s.CallbackScenario)
	}
	cast, err := a.x.Cast(owner.Account, sc, p.parts, p.values)
	if err != nil {
		return 0, nil, err
	}
	call := a.x.Place(r.Context(), exchange.Order{
		Account: owner.Account, Scenario: sc, Seed: rand.Text(), Cast: cast, Speed: s.CallbackSpeed, Delivery: s.Delivery,
	})
	answer := callbackAnswer{CallID: call.ID, CallAPIID: call.ID}
	if p.callback {
		answer.CallAPIID = scenario.ID(call.Seed(), "B1")
	}
	return http.StatusCreated, answer, nil
}

// sources resolves the parties that ring first; queues and IVRs cannot be among them.
func (a *API) sources(account int, body callbackBody) ([]exchange.Extension, error) {
	if len(body.Sources) == 0 || body.Destination == "" {
		return nil, badRequest("src_num and dst_num are required")
	}
	var list []exchange.Extension
	for _, number := range body.Sources {
		e, ok := a.x.ExtensionByNumber(account, number)
		if !ok {
			continue
		}
		if e.Type != scenario.Phone {
			return nil, badRequest("src_num must not name a queue or IVR")
		}
		list = append(list, e)
	}
	return list, nil
}

// part says which scenario a call-back plays, and by whom.
type part struct {
	scenario string
	callback bool // the owner is not one of the parties, so events carry CallBackID
	parts    map[string]string
	values   map[string]string
}

// choose picks the scenario: the owner calls himself (S11, or S6 towards a colleague), or two
// others are connected in his name (S12).
func (a *API) choose(owner exchange.Extension, sources []exchange.Extension, body callbackBody) part {
	p := part{
		scenario: "S11",
		parts:    map[string]string{"101": owner.Number},
		values:   map[string]string{"customer": body.Destination},
	}
	to, internal := a.x.ExtensionByNumber(owner.Account, body.Destination)
	if slices.ContainsFunc(sources, func(e exchange.Extension) bool { return e.ID == owner.ID }) {
		if internal && to.Type == scenario.Phone {
			p.scenario, p.parts["102"] = "S6", to.Number
		}
		return p
	}
	p.scenario, p.callback, p.values["customer"] = "S12c", true, body.Sources[0]
	if internal && to.Type == scenario.IVR {
		p.scenario, p.parts["099"] = "S12a", to.Number
	}
	return p
}

// currentCall is an item of the list of current calls ("Current Calls").
type currentCall struct {
	CallAPIID       string     `json:"call_api_id"`
	CallFlow        string     `json:"call_flow"`
	ExtensionID     int        `json:"extension_id"`
	CallerIDNumber  string     `json:"caller_id_number"`
	CallerIDName    string     `json:"caller_id_name"`
	CalledNumber    string     `json:"called_number"`
	CalledDID       *string    `json:"called_did"`
	CallerExtension *extension `json:"caller_extension"`
	CalledExtension *extension `json:"called_extension"`
	InitTime        string     `json:"init_time_gmt"`
	AnswerTime      *string    `json:"answer_time_gmt"`
	CallbackID      *string    `json:"callback_id"`
	RecordUUID      *string    `json:"record_uuid"`
	RealCall        bool       `json:"real_call"` // false: attributed to the extension but not spoken there
}

type callList struct {
	Calls []currentCall `json:"call_list"`
}

func (a *API) currentCalls(r *request) (int, any, error) {
	return http.StatusOK, a.callsOf(r, func(int) bool { return true }), a.client(r)
}

func (a *API) extensionCalls(r *request) (int, any, error) {
	e, err := a.extension(r)
	return http.StatusOK, a.callsOf(r, func(id int) bool { return id == e.ID }), err
}

// callsOf lists the open legs of phones; IVRs and queues are not covered.
func (a *API) callsOf(r *request, wanted func(extension int) bool) callList {
	list := callList{Calls: []currentCall{}}
	for _, c := range a.x.Calls(r.account.ID) {
		for _, l := range scenario.Legs(c.Emitted()) {
			if l.Hangup != nil || l.Sender.Type != scenario.Phone {
				continue
			}
			if item := a.wireLeg(r, l); wanted(item.ExtensionID) {
				list.Calls = append(list.Calls, item)
			}
		}
	}
	return list
}

func (a *API) wireLeg(r *request, l scenario.Leg) currentCall {
	p := l.Dial.Params
	item := currentCall{
		CallAPIID: p.Get("CallAPIID"), CallFlow: p.Get("CallFlow"),
		CallerIDNumber: p.Get("CallerIDNum"), CallerIDName: p.Get("CallerIDName"), CalledNumber: p.Get("CalledNumber"),
		CalledDID: optional(p.Get("CalledDID")), CallbackID: optional(p.Get("CallBackID")),
		CallerExtension: a.reference(r, p.Get("CallerExtensionID")), CalledExtension: a.reference(r, p.Get("CalledExtensionID")),
		InitTime: gmt(l.Dial.At), RealCall: p.Get("Transfered") != "yes", //nolint:misspell // spelt so on the wire
	}
	if e, ok := a.x.ExtensionByNumber(r.account.ID, l.Sender.Number); ok {
		item.ExtensionID = e.ID
	}
	if l.Answer != nil {
		item.AnswerTime = optional(gmt(l.Answer.At))
	}
	return item
}

func optional(s string) *string {
	if s == "" {
		return nil
	}
	return &s
}

func (a *API) reference(r *request, id string) *extension {
	e, err := a.extensionByID(r, id)
	if err != nil {
		return nil
	}
	w := wireExtension(e)
	return &w
}

// actions of call control. The simulator acknowledges them; only dropping a call changes what
// happens.
var actions = []string{
	"transfer", "attended_transfer", "eavesdrop", "whisper", "conference", "hold", "offhold", "park", "pickup",
}

func (a *API) controlCall(r *request) (int, any, error) {
	if _, err := a.findCall(r); err != nil {
		return 0, nil, err
	}
	var body struct {
		Action string `json:"action"`
	}
	if err := readJSON(r, &body); err != nil {
		return 0, nil, err
	}
	if !slices.Contains(actions, body.Action) {
		return 0, nil, badRequest("action must be one of %s", strings.Join(actions, ", "))
	}
	return http.StatusOK, struct{}{}, nil
}

// dropCall interrupts a call: every open leg hangs up.
func (a *API) dropCall(r *request) (int, any, error) {
	c, err := a.findCall(r)
	if err != nil {
		return 0, nil, err
	}
	c.Drop()
	return http.StatusNoContent, nil, nil
}

// findCall resolves the handle of a call on an extension. It may be the CallAPIID or the CallBackID
// of its events, or what the call-back answered.
func (a *API) findCall(r *request) (*exchange.Call, error) {
	e, err := a.extension(r)
	if err != nil {
		return nil, err
	}
	handle := plainID(r.PathValue("call"))
	for _, c := range a.x.Calls(r.account.ID) {
		select {
		case <-c.Done():
			continue
		default:
		}
		if has(c, e, handle) {
			return c, nil
		}
	}
	return nil, errNotFound
}

func has(c *exchange.Call, e exchange.Extension, handle string) bool {
	emitted := c.Emitted()
	if len(emitted) == 0 {
		// The source of a call-back still rings: the call exists, but nobody was told.
		return handle == c.ID || handle == scenario.ID(c.Seed(), "B1")
	}
	return slices.ContainsFunc(scenario.Legs(emitted), func(l scenario.Leg) bool {
		p := l.Dial.Params
		return l.Hangup == nil && l.Sender.Number == e.Name &&
			(handle == plainID(p.Get("CallAPIID")) || handle == plainID(p.Get("CallBackID")))
	})
}

// plainID reduces a handle to its hex digits: the node prefix and the dashes of a UUID are
// decoration.
func plainID(id string) string {
	id = strings.ToLower(strings.ReplaceAll(id, "-", ""))
	return id[max(0, len(id)-32):]
}
