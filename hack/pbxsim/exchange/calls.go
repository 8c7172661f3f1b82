package exchange

import (
	"context"
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/pbx-operator/pbx-operator/hack/pbxsim/delivery"
	"github.com/pbx-operator/pbx-operator/hack/pbxsim/scenario"
)

// keptCalls bounds how many finished calls the PBX remembers.
const keptCalls = 10_000

// Outcome says what became of one notification towards one registration.
type Outcome string

// The outcomes of a notification.
const (
	Delivered Outcome = "delivered" // answered 2xx
	Failed    Outcome = "failed"    // any other answer, or none
	Lost      Outcome = "lost"      // never sent, because the options say so
)

// Record is what became of one copy of a notification towards one registration.
type Record struct {
	CallID       string    `json:"callID,omitempty"`
	LegID        string    `json:"legID,omitempty"`
	EventType    string    `json:"eventType"`
	Extension    string    `json:"extension"`
	Registration int       `json:"registration"`
	Outcome      Outcome   `json:"outcome"`
	Status       int       `json:"status,omitempty"`
	Attempts     int       `json:"attempts,omitempty"`
	Error        string    `json:"error,omitempty"`
	Time         time.Time `json:"time"` // of the outcome
}

// Order says which call to place.
type Order struct {
	Account  int
	Scenario scenario.Scenario
	Seed     string
	Cast     scenario.Cast
	Speed    float64 // of the delivery against the scenario's own time; default 1
	Delivery delivery.Options
}

// Cast gives the parts of a scenario to extensions of an account: those that parts names (scenario
// number to number on the account), else those with the scenario's own numbers. Values override
// outside numbers.
func (x *Exchange) Cast(account int, s scenario.Scenario, parts, values map[string]string) (scenario.Cast, error) {
	c := scenario.Cast{Extensions: map[string]scenario.Extension{}, Values: map[string]string{}}
	c.Values["client"] = strconv.Itoa(account)
	for _, part := range s.Parties() {
		number := part
		if n, ok := parts[part]; ok {
			number = n
		}
		e, ok := x.ExtensionByNumber(account, number)
		if !ok {
			return c, fmt.Errorf("account %d has no extension %q to play %s in scenario %s: map one with extensions",
				account, number, part, s.Name)
		}
		c.Extensions[part] = e.Party()
		if g, ok := x.AgentOf(e.ID); ok {
			c.Values["agent"] = strconv.Itoa(g.ID)
		}
	}
	maps.Copy(c.Values, values)
	return c, nil
}

// Call is a call that was placed.
type Call struct {
	ID      string // first CallID
	Account int
	order   Order
	start   time.Time // event time of offset zero
	placed  time.Time

	stop context.CancelFunc
	drop chan struct{}
	done chan struct{}

	mu      sync.Mutex
	dropped bool
	emitted []scenario.Notification
	records []Record
}

// CallIDs returns every CallID that the call uses.
func (c *Call) CallIDs() []string { return c.order.Scenario.CallIDs(c.order.Seed) }

// Scenario returns the name of the scenario that is played.
func (c *Call) Scenario() string { return c.order.Scenario.Name }

// Ended reports whether the last notification was delivered or given up.
func (c *Call) Ended() bool {
	select {
	case <-c.done:
		return true
	default:
		return false
	}
}

// Placed is when the call was placed.
func (c *Call) Placed() time.Time { return c.placed }

// Seed returns the seed of the call's identifiers.
func (c *Call) Seed() string { return c.order.Seed }

// Done is closed after the last notification was delivered or given up.
func (c *Call) Done() <-chan struct{} { return c.done }

// Emitted returns the events that happened so far, registered or not, silent ones included.
func (c *Call) Emitted() []scenario.Notification {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.emitted)
}

// Records returns what became of the notifications so far.
func (c *Call) Records() []Record {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.records)
}

// Drop ends the call at once: its open legs hang up, the rest of the scenario does not happen.
func (c *Call) Drop() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.dropped {
		c.dropped = true
		close(c.drop)
	}
}

// callList is the PBX's memory of calls.
type callList struct {
	mu   sync.Mutex
	list []*Call
}

func (l *callList) add(c *Call) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.list) >= keptCalls {
		l.list = slices.Delete(l.list, 0, keptCalls/10)
	}
	l.list = append(l.list, c)
}

// stop abandons all calls and forgets them.
func (l *callList) stop() {
	l.mu.Lock()
	list := l.list
	l.list = nil
	l.mu.Unlock()
	for _, c := range list {
		c.stop()
		<-c.done
	}
}

// Calls lists the calls of an account, or of all with account 0, oldest first.
func (x *Exchange) Calls(account int) []*Call {
	x.calls.mu.Lock()
	defer x.calls.mu.Unlock()
	return slices.DeleteFunc(slices.Clone(x.calls.list), func(c *Call) bool { return account != 0 && c.Account != account })
}

// Call finds a call by any of its CallIDs, in any case.
func (x *Exchange) Call(id string) (*Call, bool) {
	for _, c := range x.Calls(0) {
		if strings.EqualFold(c.ID, id) || slices.ContainsFunc(c.CallIDs(), func(i string) bool { return strings.EqualFold(i, id) }) {
			return c, true
		}
	}
	return nil, false
}

// Place starts a call and returns at once; the call outlives the context. Event times keep the
// distances of the scenario; with a speed above 1 they begin in the past, so that the last event is
// as old as its delivery.
func (x *Exchange) Place(ctx context.Context, o Order) *Call {
	if o.Speed <= 0 {
		o.Speed = 1
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	now := x.now()
	c := &Call{
		ID: o.Scenario.ID(o.Seed, "C1"), Account: o.Account, order: o, placed: now,
		start: now.Add(-ahead(o.Scenario.Duration(), o.Speed)),
		stop:  cancel, drop: make(chan struct{}), done: make(chan struct{}),
	}
	if ids := c.CallIDs(); len(ids) > 0 {
		c.ID = ids[0]
	}
	x.calls.add(c)
	go func() {
		defer close(c.done)
		defer cancel()
		x.play(ctx, c)
	}()
	return c
}

// ahead is by how much event times would run ahead of the clock at the end of a call played at this
// speed.
func ahead(d time.Duration, speed float64) time.Duration {
	return d - time.Duration(float64(d)/speed)
}

// OnEnd sets what the PBX does when the last event of a call has happened, whatever becomes of its
// notifications. A failure is shown among the call's records. It must be set before the first call.
func (x *Exchange) OnEnd(do func(ctx context.Context, c *Call) error) { x.ended = do }

// play plays the call, and returns when every notification was delivered or given up.
func (x *Exchange) play(ctx context.Context, c *Call) {
	l := newLanes(ctx, x, c)
	defer l.wait()
	x.walk(ctx, c, l)
	if x.ended == nil || ctx.Err() != nil {
		return
	}
	if err := x.ended(ctx, c); err != nil {
		l.keep(Record{CallID: c.ID, EventType: "end", Outcome: Failed, Error: err.Error(), Time: x.now()})
	}
}

// walk goes through the scenario in time and hands each event to the lanes of the registrations it
// fires.
func (x *Exchange) walk(ctx context.Context, c *Call, l *lanes) {
	cast, skew := scenario.WithCast(c.order.Cast), scenario.WithSkew(time.Duration(c.order.Delivery.ClockSkew))
	for i, n := range c.order.Scenario.Timeline(c.order.Seed, c.start, cast, skew) {
		due := c.placed.Add(time.Duration(float64(n.Offset) / c.order.Speed))
		select {
		case <-ctx.Done():
			return
		case <-c.drop:
			at := c.start.Add(time.Duration(float64(x.now().Sub(c.placed)) * c.order.Speed))
			for _, h := range c.order.Scenario.Drop(c.order.Seed, c.start, i, at, cast, skew) {
				l.emit(h)
			}
			return
		case <-time.After(due.Sub(x.now())):
			l.emit(n)
		}
	}
}

// Run plays a call without regard to its timeline, one notification after the other in order, and
// returns what became of them. Event times end now. The call is not remembered: it serves load
// tests.
func (x *Exchange) Run(ctx context.Context, o Order) []Record {
	start := x.now().Add(-o.Scenario.Duration())
	var records []Record
	for i, n := range o.Scenario.Play(o.Seed, start, scenario.WithCast(o.Cast), scenario.WithSkew(time.Duration(o.Delivery.ClockSkew))) {
		for _, r := range x.targets(o.Account, n) {
			for _, delay := range o.Delivery.Copies(o.Seed, i) {
				records = append(records, x.send(ctx, n, r, o.Delivery, delay))
			}
		}
		if ctx.Err() != nil {
			break
		}
	}
	return records
}

func (x *Exchange) send(ctx context.Context, n scenario.Notification, r Registration, o delivery.Options, delay time.Duration) Record {
	if delay > 0 {
		select {
		case <-ctx.Done():
		case <-time.After(delay):
		}
	}
	res := x.sender.Send(ctx, message(n, r), o)
	rec := record(n, r)
	rec.Outcome, rec.Status, rec.Attempts, rec.Time = Failed, res.Status, res.Attempts, x.now()
	if res.Delivered() {
		rec.Outcome = Delivered
	}
	if res.Err != nil {
		rec.Error = res.Err.Error()
	}
	return rec
}

// message addresses a notification. A hook gets the path that the PBX appends to its URL; a
// registration of one type of event is called as it is.
func message(n scenario.Notification, r Registration) delivery.Message {
	m := delivery.Message{
		Method: r.Method, URL: r.URL, Params: n.Params, RawPlus: n.RawPlus, Body: n.Body, ContentType: n.ContentType,
	}
	if r.EventType == AnyEvent && n.Path != "" {
		base, query, asked := strings.Cut(r.URL, "?")
		m.URL = strings.TrimSuffix(base, "/") + n.Path
		if asked {
			m.URL += "?" + query
		}
	}
	return m
}

func record(n scenario.Notification, r Registration) Record {
	return Record{
		CallID: n.CallID, LegID: n.LegID, EventType: n.EventType, Extension: n.Sender.Number, Registration: r.ID,
	}
}

// lanes keep the order of one sender's events towards one receiver, while different senders and
// receivers do not wait for each other: the PBX promises no order between senders.
type lanes struct {
	ctx      context.Context //nolint:containedctx // lives exactly as long as play
	x        *Exchange
	call     *Call
	position int
	lanes    map[lane]chan job
	pending  sync.WaitGroup
}

type lane struct {
	sender   string // id
	receiver string // host of the registered URL
}

type job struct {
	n     scenario.Notification
	r     Registration
	delay time.Duration
}

func newLanes(ctx context.Context, x *Exchange, c *Call) *lanes {
	return &lanes{ctx: ctx, x: x, call: c, lanes: map[lane]chan job{}}
}

// wait returns when every notification was delivered or given up.
func (l *lanes) wait() {
	for _, ch := range l.lanes {
		close(ch)
	}
	l.pending.Wait()
}

// emit makes an event happen.
func (l *lanes) emit(n scenario.Notification) {
	l.call.mu.Lock()
	l.call.emitted = append(l.call.emitted, n)
	l.call.mu.Unlock()
	if n.Silent {
		return
	}
	l.x.observe(n)
	l.position++
	for _, r := range l.x.targets(l.call.Account, n) {
		l.dispatch(n, r)
	}
}

func (l *lanes) dispatch(n scenario.Notification, r Registration) {
	copies := l.call.order.Delivery.Copies(l.call.order.Seed, l.position)
	if len(copies) == 0 {
		rec := record(n, r)
		rec.Outcome, rec.Time = Lost, l.x.now()
		l.keep(rec)
	}
	for _, delay := range copies {
		j := job{n, r, delay}
		if l.call.order.Delivery.Unordered() {
			l.pending.Go(func() { l.run(j) })
			continue
		}
		l.lane(lane{n.Sender.ID, host(r.URL)}) <- j
	}
}

func host(registered string) string {
	u, err := url.Parse(registered)
	if err != nil {
		return ""
	}
	return u.Host
}

func (l *lanes) lane(key lane) chan job {
	ch, ok := l.lanes[key]
	if !ok {
		// Never blocks the timeline: a scenario has far fewer events.
		ch = make(chan job, 256)
		l.lanes[key] = ch
		l.pending.Go(func() {
			for j := range ch {
				l.run(j)
			}
		})
	}
	return ch
}

func (l *lanes) run(j job) { l.keep(l.x.send(l.ctx, j.n, j.r, l.call.order.Delivery, j.delay)) }

func (l *lanes) keep(r Record) {
	l.call.mu.Lock()
	defer l.call.mu.Unlock()
	l.call.records = append(l.call.records, r)
}

// observe keeps the state of the PBX in step with what a scenario says: an agent's login or logout.
func (x *Exchange) observe(n scenario.Notification) {
	if !isAgentEvent(n.EventType) {
		return
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	id, err := strconv.Atoi(n.Params.Get("agent_id"))
	if err != nil {
		return
	}
	if g, ok := x.agents[id]; ok {
		g.Status = n.Params.Get("agent_status")
		x.agents[id] = g
	}
}

// Announce delivers an event outside any call, such as the login of an agent by the management API.
func (x *Exchange) Announce(ctx context.Context, n scenario.Notification, o delivery.Options) []Record {
	targets := x.targets(0, n)
	records := make([]Record, 0, len(targets))
	for _, r := range targets {
		records = append(records, x.send(ctx, n, r, o, time.Duration(o.Delay)))
	}
	return records
}

// Close abandons all calls.
func (x *Exchange) Close() { x.calls.stop() }
