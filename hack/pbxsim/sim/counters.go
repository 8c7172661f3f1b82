package sim

import (
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/pbx-operator/pbx-operator/hack/pbxsim/simclient"
)

// window finds the most events in any 60 consecutive seconds, at a resolution of one second.
type window struct {
	counts [60]int
	second int64 // of the latest event
	sum    int
	max    int
}

func (w *window) add(second int64) {
	for s := max(w.second+1, second-59); s <= second; s++ {
		w.sum -= w.counts[s%60]
		w.counts[s%60] = 0
	}
	if second-w.second >= 60 {
		w.sum = 0
	}
	w.second = max(w.second, second)
	w.counts[w.second%60]++
	w.sum++
	w.max = max(w.max, w.sum)
}

type routeCounter struct {
	window
	count    int
	statuses map[int]int
}

// counters remember what the PBX was asked.
type counters struct {
	now func() time.Time

	mu     sync.Mutex
	all    window
	total  int
	wipes  int
	routes map[string]*routeCounter
	apps   map[string]int
}

func newCounters(now func() time.Time) *counters {
	c := &counters{now: now}
	c.reset()
	return c
}

func (c *counters) reset() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.all, c.total, c.wipes = window{}, 0, 0
	c.routes, c.apps = map[string]*routeCounter{}, map[string]int{}
}

// router names the route that a PBX serves a request by, and the application that asks.
type router interface {
	Match(r *http.Request) string
	ClientID(r *http.Request) string
}

// around counts every request by its route.
func (c *counters) around(pbx router, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		route, app := pbx.Match(r), pbx.ClientID(r)
		if route == "/" {
			route = r.Method + " (unknown)"
		}
		seen := &statusWriter{ResponseWriter: w}
		// Deferred, because a fault may end the handler by a panic.
		defer func() { c.count(route, app, seen.status) }()
		next.ServeHTTP(seen, r)
	})
}

func (c *counters) count(route, app string, status int) {
	second := c.now().Unix()
	c.mu.Lock()
	defer c.mu.Unlock()
	r, ok := c.routes[route]
	if !ok {
		r = &routeCounter{statuses: map[int]int{}}
		c.routes[route] = r
	}
	r.count++
	r.statuses[status]++
	r.add(second)
	c.total++
	c.all.add(second)
	if isWipe(route) {
		c.wipes++
	}
	if app != "" {
		c.apps[app]++
	}
}

// collections end the routes of whole collections of registrations.
var collections = []string{"/event", "/phone_events", "/phoneCallEvents", "/phoneCallEvents/{type}"}

// isWipe recognises the DELETE of a whole collection of registrations.
func isWipe(route string) bool {
	return strings.HasPrefix(route, http.MethodDelete) &&
		slices.ContainsFunc(collections, func(end string) bool { return strings.HasSuffix(route, end) })
}

func (c *counters) snapshot() simclient.Requests {
	c.mu.Lock()
	defer c.mu.Unlock()
	out := simclient.Requests{
		Total: c.total, MaxPerMinute: c.all.max, CollectionDeletes: c.wipes,
		Routes: map[string]simclient.Route{}, Apps: map[string]int{},
	}
	for name, r := range c.routes {
		route := simclient.Route{Count: r.count, MaxPerMinute: r.max, Statuses: map[int]int{}}
		maps.Copy(route.Statuses, r.statuses)
		out.Routes[name] = route
	}
	maps.Copy(out.Apps, c.apps)
	return out
}

// statusWriter remembers the status; it stays 0 when the connection breaks before an answer.
type statusWriter struct {
	http.ResponseWriter
	status int
}

func (w *statusWriter) WriteHeader(status int) {
	w.status = status
	w.ResponseWriter.WriteHeader(status)
}

// Unwrap lets http.ResponseController reach the connection.
func (w *statusWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }
