package voipnow

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/pbx-operator/pbx-operator/hack/pbxsim/exchange"
)

// eventTypes by their number; those beyond the hangup came later ("PhoneCallEvents Resource").
var eventTypes = []string{"dial-in", "dial-out", "hangup", "answer-in", "answer-out"}

// methods by their number.
var methods = []string{http.MethodGet, http.MethodPost}

// eventScope is where an event id is unique.
type eventScope struct {
	owner     exchange.Owner
	eventType string
}

// event is a PhoneCallEvent on the wire. Numbers are documented and text is sent, so they may be
// either.
type event struct {
	Type     any    `json:"type"`
	ID       string `json:"id"`
	Method   any    `json:"method"`
	Note     string `json:"note"`
	URL      string `json:"url"`
	Status   any    `json:"status"`
	Modified string `json:"modified"`
	Links    links  `json:"links"`
}

// eventBody is what a client sends; nil is left out.
type eventBody struct {
	Type   *text   `json:"type"`
	ID     *string `json:"id"`
	Method *text   `json:"method"`
	Note   *string `json:"note"`
	URL    *string `json:"url"`
	Status *text   `json:"status"`
}

func (a *API) wire(r *request, e exchange.Extension, reg exchange.Registration) event {
	number := func(n int) any {
		if a.Settings().NumericTypes {
			return n
		}
		return strconv.Itoa(n)
	}
	kind, status := slices.Index(eventTypes, reg.EventType), 1
	if reg.Disabled {
		status = 0
	}
	return event{
		Type: number(kind), ID: reg.Key, Method: number(slices.Index(methods, reg.Method)), Note: reg.Note, URL: reg.URL,
		Status: number(status), Modified: wireTime(reg.Modified),
		Links: links{self(r, "extensions", e.Name, "phoneCallEvents", strconv.Itoa(kind), reg.Key)},
	}
}

// eventType reads a number that this installation knows.
func (a *API) eventType(number, code string) (string, error) {
	known := eventTypes
	if a.Settings().Profile == Early {
		known = eventTypes[:3]
	}
	n, err := strconv.Atoi(number)
	if err != nil || n < 0 || n >= len(known) {
		// The text speaks of three types on newer installations too.
		return "", invalid(code, "The event type must be 0, 1 or 2")
	}
	return known[n], nil
}

func (a *API) createEvent(r *request) (int, any, error) {
	e, err := a.extension(r)
	if err != nil {
		return 0, nil, err
	}
	var body eventBody
	if err := readJSON(r, &body); err != nil {
		return 0, nil, err
	}
	reg, err := a.newEvent(r, e, body)
	if err != nil {
		return 0, nil, err
	}
	item := a.wire(r, e, reg)
	switch form := a.Settings().CreateAnswer; form {
	case AnswerNone:
		return http.StatusNoContent, nil, nil
	case AnswerID:
		return http.StatusOK, map[string]string{"id": reg.Key}, nil
	case AnswerArray:
		return http.StatusOK, []event{item}, nil
	case AnswerEntry:
		return http.StatusOK, envelope([]event{item}), nil
	default:
		return http.StatusOK, item, nil
	}
}

// newEvent registers what a body asks for. The type may be in the path (v5) or in the body.
func (a *API) newEvent(r *request, e exchange.Extension, body eventBody) (exchange.Registration, error) {
	reg := exchange.Registration{Owner: owner(e), Modified: a.now()}
	number := r.PathValue("type")
	if body.Type != nil {
		if number != "" && number != string(*body.Type) {
			return reg, invalid("pcet_type_invalid", "The event types of path and body differ")
		}
		number = string(*body.Type)
	}
	var err error
	if reg.EventType, err = a.eventType(number, "pcet_type_invalid"); err != nil {
		return reg, err
	}
	if body.Method == nil {
		return reg, invalid("pce_method_invalid", "The method must be 0 or 1")
	}
	if body.URL == nil {
		return reg, invalid("pce_url_invalid", "The URL is missing")
	}
	if err := body.apply(&reg); err != nil {
		return reg, err
	}
	if reg.Key, err = a.key(reg, body.ID); err != nil {
		return reg, err
	}
	return a.x.Register(reg, 1<<20)
}

// apply changes what a body names of a registration.
func (b eventBody) apply(reg *exchange.Registration) error {
	if b.Method != nil {
		n, err := strconv.Atoi(string(*b.Method))
		if err != nil || n < 0 || n >= len(methods) {
			return invalid("pce_method_invalid", "The method must be 0 or 1")
		}
		reg.Method = methods[n]
	}
	if b.URL != nil {
		u, err := url.Parse(*b.URL)
		if err != nil || u.Host == "" || (u.Scheme != "http" && u.Scheme != "https") {
			return invalid("pce_url_invalid", "The URL must be absolute")
		}
		reg.URL = *b.URL
	}
	if b.Status != nil {
		if *b.Status != "0" && *b.Status != "1" {
			return invalid("pce_status_invalid", "The status must be 0 or 1")
		}
		reg.Disabled = *b.Status == "0"
	}
	if b.Note != nil {
		reg.Note = *b.Note
	}
	return nil
}

func owner(e exchange.Extension) exchange.Owner {
	return exchange.Owner{Scope: exchange.OnExtension, ID: e.ID}
}

// key is the id of a new event. It is unique for its extension and type only: another type may have
// the same.
func (a *API) key(reg exchange.Registration, wanted *string) (string, error) {
	if wanted != nil && *wanted != "" {
		if slices.ContainsFunc(a.x.Registrations(reg.Owner), func(o exchange.Registration) bool {
			return o.EventType == reg.EventType && o.Key == *wanted
		}) {
			return "", invalid("pce_id_invalid", "The event id %s is taken", *wanted)
		}
		return *wanted, nil
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	scope := eventScope{reg.Owner, reg.EventType}
	a.keys[scope]++
	return fmt.Sprintf("Ev%04d", a.keys[scope]), nil
}

// selected returns the registrations that a path names: all of the extension, those of a type, or
// one.
func (a *API) selected(r *request) (exchange.Extension, []exchange.Registration, error) {
	e, err := a.extension(r)
	if err != nil {
		return e, nil, err
	}
	list := a.x.Registrations(owner(e))
	if number := r.PathValue("type"); number != "" {
		eventType, err := a.eventType(number, "pce_type_invalid")
		if err != nil {
			return e, nil, err
		}
		list = slices.DeleteFunc(list, func(reg exchange.Registration) bool { return reg.EventType != eventType })
	}
	if id := r.PathValue("id"); id != "" {
		list = slices.DeleteFunc(list, func(reg exchange.Registration) bool { return reg.Key != id })
		if len(list) == 0 {
			return e, nil, invalid("pce_id_invalid", "The event %s is unknown", id)
		}
	}
	return e, list, nil
}

func (a *API) listEvents(r *request) (int, any, error) {
	e, registrations, err := a.selected(r)
	if err != nil {
		return 0, nil, err
	}
	list := make([]event, 0, len(registrations))
	for _, reg := range registrations {
		list = append(list, a.wire(r, e, reg))
	}
	if r.PathValue("id") != "" && a.Settings().ListAnswer == AnswerObject {
		return http.StatusOK, list[0], nil
	}
	return a.page(r, list)
}

func (a *API) updateEvent(r *request) (int, any, error) {
	e, list, err := a.selected(r)
	if err != nil {
		return 0, nil, err
	}
	var body eventBody
	if err := readJSON(r, &body); err != nil {
		return 0, nil, err
	}
	reg := list[0]
	if err := body.apply(&reg); err != nil {
		return 0, nil, err
	}
	reg.Modified = a.now()
	if reg, err = a.x.Change(reg); err != nil {
		return 0, nil, err
	}
	if a.Settings().UpdateAnswer == AnswerNone {
		return http.StatusNoContent, nil, nil
	}
	return http.StatusOK, a.wire(r, e, reg), nil
}

// deleteEvents removes what the path names. Without an id these are the events of every
// integration: a client must never ask for it.
func (a *API) deleteEvents(r *request) (int, any, error) {
	e, list, err := a.selected(r)
	if err != nil {
		return 0, nil, err
	}
	deleted := make([]event, 0, len(list))
	for _, reg := range list {
		if err := a.x.Unregister(reg.Owner, reg.ID); err == nil {
			deleted = append(deleted, a.wire(r, e, reg))
		}
	}
	switch a.Settings().DeleteAnswer {
	case AnswerNone:
		return http.StatusNoContent, nil, nil
	case AnswerEntry:
		return http.StatusOK, envelope(deleted), nil
	default:
		return http.StatusOK, deleted, nil
	}
}

// Named returns the registration that the path of a request names.
func (a *API) Named(r *http.Request) (int, bool) {
	parts := strings.Split(strings.Trim(r.URL.Path, "/"), "/")
	if len(parts) != 7 || parts[4] != "phoneCallEvents" {
		return 0, false
	}
	kind, err := strconv.Atoi(parts[5])
	if err != nil || kind < 0 || kind >= len(eventTypes) {
		return 0, false
	}
	for _, reg := range a.x.AllRegistrations() {
		if reg.Key == parts[6] && reg.EventType == eventTypes[kind] && strings.HasSuffix("*"+reg.Number, "*"+parts[3]) {
			return reg.ID, true
		}
	}
	return 0, false
}

// Foreign invents the i-th registration of another integration.
func (a *API) Foreign(r exchange.Registration, i int) exchange.Registration {
	r.EventType = eventTypes[i%3]
	r.Note = "another integration"
	r.Modified = a.now()
	// An id is always found for a registration that asks for none.
	r.Key, _ = a.key(r, nil)
	return r
}

// collection is the envelope of lists; the items are in a member that nobody would guess.
type collection[T any] struct {
	Entry        []T `json:"entry"`
	TotalResults int `json:"totalResults"`
	ItemsPerPage int `json:"itemsPerPage"`
	StartIndex   int `json:"startIndex"`
}

func envelope[T any](list []T) collection[T] {
	return collection[T]{Entry: list, TotalResults: len(list), ItemsPerPage: len(list)}
}

// maxCount is the largest page.
const maxCount = 4999

// page answers with the part of a list that the query asks for, in the order of the members' URLs.
// What it does not know in the query it ignores, as the PBX must: the vendor's own client misspells
// sortOrder.
func (a *API) page(r *request, list any) (int, any, error) {
	q := r.URL.Query()
	items, err := objects(list)
	if err != nil {
		return 0, nil, err
	}
	count, err := bounded(q, "count", a.Settings().PageSize, 1, maxCount+1)
	if err != nil {
		return 0, nil, err
	}
	start, err := bounded(q, "startIndex", 0, 0, maxCount)
	if err != nil {
		return 0, nil, err
	}
	if items, err = filtered(items, q); err != nil {
		return 0, nil, err
	}
	if err := ordered(items, q.Get("sortOrder")); err != nil {
		return 0, nil, err
	}
	total := len(items)
	from := min(start, total)
	items = items[from:min(from+count, total)]
	if err := reduced(items, q.Get("fields")); err != nil {
		return 0, nil, err
	}
	if a.Settings().ListAnswer == AnswerArray {
		return http.StatusOK, items, nil
	}
	return http.StatusOK, collection[map[string]any]{items, total, count, start}, nil
}

// objects turns a list into what its members look like on the wire.
func objects(list any) ([]map[string]any, error) {
	raw, err := json.Marshal(list)
	if err != nil {
		return nil, err
	}
	items := []map[string]any{}
	return items, json.Unmarshal(raw, &items)
}

func bounded(q url.Values, name string, standard, low, high int) (int, error) {
	if !q.Has(name) {
		return standard, nil
	}
	n, err := strconv.Atoi(q.Get(name))
	if err != nil || n < low || n > high {
		return 0, invalid(strings.ToLower(name)+"_invalid", "%s must be a number from %d to %d", name, low, high)
	}
	return n, nil
}

// operators of filterOp.
var operators = map[string]func(value, wanted string) bool{
	"contains":    strings.Contains,
	"equals":      func(v, w string) bool { return v == w },
	"greaterThan": func(v, w string) bool { return v > w },
	"lessThan":    func(v, w string) bool { return v < w },
	"inArray":     func(v, w string) bool { return slices.Contains(strings.Split(w, ","), v) },
	"present":     func(v, _ string) bool { return v != "" },
	"startsWith":  strings.HasPrefix,
}

func filtered(items []map[string]any, q url.Values) ([]map[string]any, error) {
	by, operator := q.Get("filterBy"), q.Get("filterOp")
	if by == "" {
		return items, nil
	}
	if operator == "" {
		operator = "equals"
	}
	match, ok := operators[operator]
	if !ok {
		return nil, invalid("filterop_invalid", "filterOp is unknown")
	}
	if len(items) > 0 && items[0][by] == nil {
		return nil, invalid("filterby_invalid", "filterBy names no member")
	}
	wanted := q.Get("filterValue")
	return slices.DeleteFunc(items, func(item map[string]any) bool { return !match(fmt.Sprint(item[by]), wanted) }), nil
}

func ordered(items []map[string]any, order string) error {
	compare := func(a, b map[string]any) int { return strings.Compare(fmt.Sprint(a["url"]), fmt.Sprint(b["url"])) }
	slices.SortStableFunc(items, compare)
	switch order {
	case "", "ascending":
	case "descending":
		slices.Reverse(items)
	default:
		return invalid("sortorder_invalid", "sortOrder must be ascending or descending")
	}
	return nil
}

// reduced leaves the members that fields names.
func reduced(items []map[string]any, fields string) error {
	if fields == "" {
		return nil
	}
	wanted := strings.Split(fields, ",")
	for _, item := range items {
		for _, f := range wanted {
			if _, ok := item[f]; !ok {
				return invalid("fields_invalid", "There is no member %s", f)
			}
		}
		for name := range item {
			if !slices.Contains(wanted, name) {
				delete(item, name)
			}
		}
	}
	return nil
}

// wireTime is a time with an offset.
func wireTime(t time.Time) string { return t.UTC().Format("2006-01-02T15:04:05-07:00") }
