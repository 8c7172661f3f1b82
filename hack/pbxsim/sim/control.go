package sim

import (
	"cmp"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/pbx-operator/pbx-operator/hack/pbxsim/delivery"
	"github.com/pbx-operator/pbx-operator/hack/pbxsim/exchange"
	"github.com/pbx-operator/pbx-operator/hack/pbxsim/scenario"
	"github.com/pbx-operator/pbx-operator/hack/pbxsim/simclient"
)

// maxControlBody bounds the bodies of control requests.
const maxControlBody = 8 << 20

// Control is the control plane under /sim/. It is for tests: it asks for no credentials and shows
// event URLs.
func (s *Server) Control() http.Handler {
	mux := http.NewServeMux()
	handle := func(pattern string, f func(r *http.Request) (any, error)) {
		mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) {
			r.Body = http.MaxBytesReader(w, r.Body, maxControlBody)
			body, err := f(r)
			if err != nil {
				reply(w, statusOf(err), map[string]string{"message": err.Error()})
				return
			}
			reply(w, http.StatusOK, body)
		})
	}
	handle("GET /healthz", func(*http.Request) (any, error) { return "ok", nil })
	handle("GET /sim/scenarios", s.listScenarios)
	handle("POST /sim/calls", s.placeCalls)
	handle("GET /sim/calls", s.listCalls)
	handle("GET /sim/calls/{id}", s.getCall)
	handle("DELETE /sim/calls/{id}", s.dropCall)
	handle("POST /sim/load", s.startLoad)
	handle("GET /sim/load/{id}", s.getLoad)
	handle("DELETE /sim/load/{id}", s.stopLoad)
	handle("GET /sim/extensions", func(*http.Request) (any, error) { return s.x.Extensions(0), nil })
	handle("POST /sim/extensions", s.addExtensions)
	handle("DELETE /sim/extensions/{id}", s.deleteExtension)
	handle("POST /sim/extensions/{id}/renumber", s.renumber)
	handle("PUT /sim/agents", s.setAgent)
	handle("GET /sim/registrations", func(*http.Request) (any, error) { return s.x.AllRegistrations(), nil })
	handle("DELETE /sim/registrations/{id}", s.deleteRegistration)
	handle("PUT /sim/foreign", s.putForeign)
	handle("GET /sim/hooks", func(*http.Request) (any, error) { return s.hooks(), nil })
	handle("PUT /sim/hooks", s.putHook)
	handle("GET /sim/faults", func(*http.Request) (any, error) { return s.faults.snapshot(), nil })
	handle("PUT /sim/faults", s.changeFaults(s.faults.set))
	handle("POST /sim/faults", s.changeFaults(s.faults.add))
	handle("DELETE /sim/faults", func(*http.Request) (any, error) { s.faults.set(nil); return nil, nil })
	handle("GET /sim/requests", func(*http.Request) (any, error) { return s.counters.snapshot(), nil })
	handle("DELETE /sim/requests", func(*http.Request) (any, error) { s.counters.reset(); return nil, nil })
	handle("GET /sim/settings", func(*http.Request) (any, error) { return s.settings.current(), nil })
	handle("PATCH /sim/settings", s.changeSettings)
	handle("POST /sim/tokens/kill", s.killTokens)
	handle("PUT /sim/quota", s.setQuota)
	handle("PUT /sim/apps", s.setApp)
	handle("POST /sim/reset", func(*http.Request) (any, error) { return nil, s.Reset() })
	return mux
}

func statusOf(err error) int {
	switch {
	case errors.Is(err, exchange.ErrNotFound):
		return http.StatusNotFound
	case errors.Is(err, exchange.ErrExists):
		return http.StatusConflict
	default:
		return http.StatusBadRequest
	}
}

func reply(w http.ResponseWriter, status int, body any) {
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(body) // the client may be gone
}

// decode reads a body strictly, so that a misspelt switch does not silently do nothing.
func decode[T any](r *http.Request) (T, error) {
	var v T
	d := json.NewDecoder(r.Body)
	d.DisallowUnknownFields()
	if err := d.Decode(&v); err != nil {
		return v, fmt.Errorf("invalid request body: %w", err)
	}
	return v, nil
}

// account resolves 0 to the first account.
func (s *Server) account(id int) int { return cmp.Or(id, s.cfg.Accounts[0].ID) }

func (s *Server) extension(account int, number string) (exchange.Extension, error) {
	e, ok := s.x.ExtensionByNumber(s.account(account), number)
	if !ok {
		return e, fmt.Errorf("extension %q: %w", number, exchange.ErrNotFound)
	}
	return e, nil
}

// scenario finds a scenario as the installation of an account plays it.
func (s *Server) scenario(name string, account int) (scenario.Scenario, error) {
	i := slices.IndexFunc(s.scenarios, func(sc scenario.Scenario) bool { return strings.EqualFold(sc.Name, name) })
	if i < 0 {
		return scenario.Scenario{}, fmt.Errorf("scenario %q: %w: GET /sim/scenarios lists them", name, exchange.ErrNotFound)
	}
	return s.scenarios[i].As(s.pbx.Profile(s.account(account)))
}

func (s *Server) listScenarios(*http.Request) (any, error) {
	list := make([]simclient.Scenario, 0, len(s.scenarios))
	for _, sc := range s.scenarios {
		list = append(list, simclient.Scenario{
			Name: sc.Name, Title: sc.Title, Duration: simclient.Duration(sc.Duration()), Parties: sc.Parties(),
		})
	}
	return list, nil
}

func (s *Server) options(o *delivery.Options) delivery.Options {
	if o == nil {
		return s.pbx.Delivery()
	}
	return *o
}

func (s *Server) placeCalls(r *http.Request) (any, error) {
	req, err := decode[simclient.CallRequest](r)
	if err != nil {
		return nil, err
	}
	sc, err := s.scenario(req.Scenario, req.Account)
	if err != nil {
		return nil, err
	}
	if req.Count = cmp.Or(req.Count, 1); req.Count < 1 || req.Count > 1000 || req.Speed < 0 {
		return nil, errors.New("count must be between 1 and 1000, and speed positive")
	}
	account := s.account(req.Account)
	cast, err := s.x.Cast(account, sc, req.Extensions, req.Values)
	if err != nil {
		return nil, err
	}
	seed := cmp.Or(req.Seed, rand.Text())
	calls := make([]*exchange.Call, 0, req.Count)
	for i := range req.Count {
		calls = append(calls, s.x.Place(r.Context(), exchange.Order{
			Account: account, Scenario: sc, Seed: numbered(seed, i, req.Count), Cast: cast, Speed: req.Speed,
			Delivery: s.options(req.Delivery),
		}))
	}
	s.log.InfoContext(r.Context(), "placed calls", "scenario", sc.Name, "count", req.Count)
	return s.settle(r, calls, req.Wait)
}

// numbered gives each of several calls a seed of its own; a single call keeps the seed as it is.
func numbered(seed string, i, count int) string {
	if count == 1 {
		return seed
	}
	return seed + "-" + strconv.Itoa(i)
}

// settle describes calls, after their end if asked to wait.
func (s *Server) settle(r *http.Request, calls []*exchange.Call, wait bool) (any, error) {
	list := make([]simclient.Call, 0, len(calls))
	for _, c := range calls {
		if wait {
			select {
			case <-r.Context().Done():
				return nil, r.Context().Err()
			case <-c.Done():
			}
		}
		list = append(list, describe(c, wait))
	}
	return list, nil
}

func describe(c *exchange.Call, detail bool) simclient.Call {
	d := simclient.Call{
		ID: c.ID, CallIDs: c.CallIDs(), Scenario: c.Scenario(), Seed: c.Seed(), Account: c.Account, Done: c.Ended(),
	}
	for _, n := range c.Emitted() {
		if !n.Silent {
			d.Emitted++
		}
	}
	if detail {
		d.Records = c.Records()
	}
	return d
}

func (s *Server) listCalls(*http.Request) (any, error) {
	calls := s.x.Calls(0)
	list := make([]simclient.Call, 0, len(calls))
	for _, c := range calls {
		list = append(list, describe(c, false))
	}
	return list, nil
}

func (s *Server) call(r *http.Request) (*exchange.Call, error) {
	c, ok := s.x.Call(r.PathValue("id"))
	if !ok {
		return nil, fmt.Errorf("call %q: %w", r.PathValue("id"), exchange.ErrNotFound)
	}
	return c, nil
}

func (s *Server) getCall(r *http.Request) (any, error) {
	c, err := s.call(r)
	if err != nil {
		return nil, err
	}
	return describe(c, true), nil
}

func (s *Server) dropCall(r *http.Request) (any, error) {
	c, err := s.call(r)
	if err != nil {
		return nil, err
	}
	c.Drop()
	return nil, nil
}

func (s *Server) startLoad(r *http.Request) (any, error) {
	req, err := decode[simclient.LoadRequest](r)
	if err != nil {
		return nil, err
	}
	sc, err := s.scenario(req.Scenario, req.Account)
	if err != nil {
		return nil, err
	}
	req.Concurrency = cmp.Or(req.Concurrency, 16)
	if req.Calls < 1 || req.Calls > maxLoadCalls || req.Concurrency < 1 || req.Concurrency > maxLoadConcurrency {
		return nil, fmt.Errorf("calls must be between 1 and %d, and concurrency at most %d", maxLoadCalls, maxLoadConcurrency)
	}
	casts, err := s.casts(req, sc)
	if err != nil {
		return nil, err
	}
	seed, options := cmp.Or(req.Seed, rand.Text()), s.options(req.Delivery)
	run := s.loads.start(r.Context(), s.x, req, func(i int) exchange.Order {
		return exchange.Order{
			Account: s.account(req.Account), Scenario: sc, Seed: numbered(seed, i, req.Calls), Cast: casts[i%len(casts)], Delivery: options,
		}
	})
	s.log.InfoContext(r.Context(), "load started", "scenario", sc.Name, "calls", req.Calls, "concurrency", req.Concurrency)
	if req.Wait {
		select {
		case <-r.Context().Done():
			run.stop()
			return nil, r.Context().Err()
		case <-run.done:
		}
	}
	return run.snapshot(), nil
}

// casts prepares one cast per turn of the longest list of extensions.
func (s *Server) casts(req simclient.LoadRequest, sc scenario.Scenario) ([]scenario.Cast, error) {
	turns := 1
	for part, numbers := range req.Extensions {
		if len(numbers) == 0 {
			return nil, fmt.Errorf("extensions: no number for %s", part)
		}
		turns = max(turns, len(numbers))
	}
	casts := make([]scenario.Cast, 0, turns)
	for i := range turns {
		parts := map[string]string{}
		for part, numbers := range req.Extensions {
			parts[part] = numbers[i%len(numbers)]
		}
		cast, err := s.x.Cast(s.account(req.Account), sc, parts, req.Values)
		if err != nil {
			return nil, err
		}
		casts = append(casts, cast)
	}
	return casts, nil
}

func (s *Server) load(r *http.Request) (*load, error) {
	run, ok := s.loads.find(r.PathValue("id"))
	if !ok {
		return nil, fmt.Errorf("load %q: %w", r.PathValue("id"), exchange.ErrNotFound)
	}
	return run, nil
}

func (s *Server) getLoad(r *http.Request) (any, error) {
	run, err := s.load(r)
	if err != nil {
		return nil, err
	}
	return run.snapshot(), nil
}

func (s *Server) stopLoad(r *http.Request) (any, error) {
	run, err := s.load(r)
	if err != nil {
		return nil, err
	}
	run.stop()
	<-run.done
	return run.snapshot(), nil
}

func (s *Server) addExtensions(r *http.Request) (any, error) {
	req, err := decode[simclient.NewExtension](r)
	if err != nil {
		return nil, err
	}
	count := cmp.Or(req.Count, 1)
	first, err := strconv.Atoi(req.Number)
	if err != nil || count < 1 || count > 100_000 || count > 1 && req.ID != 0 {
		return nil, errors.New("number must be digits, count at most 100000, and id is for a single extension only")
	}
	list := make([]exchange.Extension, 0, count)
	for i := range count {
		e, err := s.x.AddExtension(exchange.Extension{
			ID: req.ID, Account: s.account(req.Account), Type: req.Type, Label: req.Label,
			Number: fmt.Sprintf("%0*d", len(req.Number), first+i),
		})
		if err != nil {
			return nil, err
		}
		list = append(list, e)
	}
	return list, nil
}

func pathID(r *http.Request) (int, error) {
	id, err := strconv.Atoi(r.PathValue("id"))
	if err != nil {
		return 0, fmt.Errorf("id %q: %w", r.PathValue("id"), exchange.ErrNotFound)
	}
	return id, nil
}

func (s *Server) deleteExtension(r *http.Request) (any, error) {
	id, err := pathID(r)
	if err != nil {
		return nil, err
	}
	return nil, s.x.DeleteExtension(id)
}

func (s *Server) renumber(r *http.Request) (any, error) {
	id, err := pathID(r)
	if err != nil {
		return nil, err
	}
	req, err := decode[simclient.NewExtension](r)
	if err != nil {
		return nil, err
	}
	return s.x.Renumber(id, req.Number)
}

func (s *Server) setAgent(r *http.Request) (any, error) {
	req, err := decode[simclient.AgentState](r)
	if err != nil {
		return nil, err
	}
	e, err := s.extension(req.Account, req.Extension)
	if err != nil {
		return nil, err
	}
	a, ok := s.pbx.(agentSetter)
	if !ok {
		return nil, s.lacking("agents that can be set")
	}
	return a.SetAgent(r.Context(), e.ID, e.Label, req.Status)
}

func (s *Server) deleteRegistration(r *http.Request) (any, error) {
	id, err := pathID(r)
	if err != nil {
		return nil, err
	}
	return nil, s.x.Vanish(id)
}

func (s *Server) putForeign(r *http.Request) (any, error) {
	req, err := decode[simclient.Foreign](r)
	if err != nil {
		return nil, err
	}
	e, err := s.extension(req.Account, req.Extension)
	if err != nil {
		return nil, err
	}
	return setForeign(s.x, s.pbx, e, req.Count)
}

func (s *Server) changeFaults(apply func([]*fault)) func(r *http.Request) (any, error) {
	return func(r *http.Request) (any, error) {
		req, err := decode[[]simclient.Fault](r)
		if err != nil {
			return nil, err
		}
		list, err := compile(req)
		if err != nil {
			return nil, err
		}
		apply(list)
		return s.faults.snapshot(), nil
	}
}

// changeSettings merges the body into the settings in force.
func (s *Server) changeSettings(r *http.Request) (any, error) {
	patch, err := decode[json.RawMessage](r)
	if err != nil {
		return nil, err
	}
	return s.settings.patch(patch)
}

// lacking is the answer to a request for something that the simulated PBX does not have.
func (s *Server) lacking(what string) error { return fmt.Errorf("%s has no %s", s.cfg.PBX, what) }

func (s *Server) killTokens(*http.Request) (any, error) {
	k, ok := s.pbx.(tokenKiller)
	if !ok {
		return nil, s.lacking("tokens")
	}
	return map[string]int{"killed": k.KillTokens("")}, nil
}

func (s *Server) setQuota(r *http.Request) (any, error) {
	req, err := decode[simclient.Quota](r)
	if err != nil {
		return nil, err
	}
	q, ok := s.pbx.(quotaSetter)
	if !ok {
		return nil, s.lacking("quota")
	}
	q.SetQuotaUsed(s.account(req.Account), req.Used)
	return req, nil
}

// putHook types an event URL into the PBX, or takes it out.
func (s *Server) putHook(r *http.Request) (any, error) {
	req, err := decode[simclient.Hook](r)
	if err != nil {
		return nil, err
	}
	h, ok := s.pbx.(hooked)
	if !ok {
		return nil, s.lacking("hooks: register events with its API")
	}
	account := s.account(req.Account)
	if u, err := url.Parse(req.URL); req.URL != "" && (err != nil || u.Host == "") {
		return nil, errors.New("url must be absolute")
	}
	methods, ok := h.Hook(account, req.Dialect)
	if !ok {
		return nil, fmt.Errorf("%s has no dialect %q", s.cfg.PBX, req.Dialect)
	}
	method := strings.ToUpper(cmp.Or(req.Method, methods[0]))
	if !slices.Contains(methods, method) {
		return nil, fmt.Errorf("method must be one of %s", strings.Join(methods, ", "))
	}
	if err := s.x.SetHook(account, req.Name, req.URL, method); err != nil {
		return nil, err
	}
	return s.hooks(), nil
}

// hooks lists the event URLs that were typed in.
func (s *Server) hooks() []exchange.Registration {
	return slices.DeleteFunc(s.x.AllRegistrations(), func(r exchange.Registration) bool { return r.EventType != exchange.AnyEvent })
}

func (s *Server) setApp(r *http.Request) (any, error) {
	req, err := decode[simclient.App](r)
	if err != nil {
		return nil, err
	}
	return nil, s.x.SetSecret(req.ClientID, req.ClientSecret)
}
