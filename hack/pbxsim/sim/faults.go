package sim

import (
	"bytes"
	"cmp"
	"fmt"
	"maps"
	"net"
	"net/http"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/pbx-operator/pbx-operator/hack/pbxsim/exchange"
	"github.com/pbx-operator/pbx-operator/hack/pbxsim/simclient"
)

// fault is a fault in force.
type fault struct {
	simclient.Fault
	path *regexp.Regexp
	seen int
}

// faults decide which requests go wrong.
type faults struct {
	mu   sync.Mutex
	next int
	list []*fault
}

// compile checks faults as they were asked for.
func compile(list []simclient.Fault) ([]*fault, error) {
	out := make([]*fault, 0, len(list))
	for i, f := range list {
		re, err := regexp.Compile(f.Path)
		if err != nil {
			return nil, fmt.Errorf("fault %d: path: %w", i, err)
		}
		switch f.Kind {
		case simclient.FaultStatus, simclient.FaultSlow, simclient.FaultTruncated, simclient.FaultReset,
			simclient.FaultResetAfter, simclient.FaultVanished:
		default:
			return nil, fmt.Errorf("fault %d: unknown kind %q", i, f.Kind)
		}
		f.Hits = 0
		out = append(out, &fault{Fault: f, path: re})
	}
	return out, nil
}

func (f *faults) set(list []*fault) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.list = nil
	f.append(list)
}

func (f *faults) add(list []*fault) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.append(list)
}

func (f *faults) append(list []*fault) {
	for _, n := range list {
		f.next++
		n.ID = f.next
		f.list = append(f.list, n)
	}
}

func (f *faults) snapshot() []simclient.Fault {
	f.mu.Lock()
	defer f.mu.Unlock()
	out := make([]simclient.Fault, 0, len(f.list))
	for _, x := range f.list {
		out = append(out, x.Fault)
	}
	return out
}

// match returns the first fault in force for a request and counts the hit.
func (f *faults) match(r *http.Request) (simclient.Fault, bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, x := range f.list {
		if x.Method != "" && !strings.EqualFold(x.Method, r.Method) || !x.path.MatchString(r.URL.Path) {
			continue
		}
		if x.seen++; x.seen <= x.Skip || x.Count > 0 && x.Hits >= x.Count {
			continue
		}
		x.Hits++
		return x.Fault, true
	}
	return simclient.Fault{}, false
}

// failer is what faults have to know of a PBX.
type failer interface {
	http.Handler
	// WriteError answers with an error in the PBX's own shape.
	WriteError(w http.ResponseWriter, r *http.Request, status int, code string)
	// Named returns the registration that the path of a request names.
	Named(r *http.Request) (id int, ok bool)
}

// around lets requests pass to next or go wrong.
func (f *faults) around(x *exchange.Exchange, next failer) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		hit, ok := f.match(r)
		if !ok {
			next.ServeHTTP(w, r)
			return
		}
		if hit.Delay > 0 {
			select {
			case <-r.Context().Done():
				return
			case <-time.After(time.Duration(hit.Delay)):
			}
		}
		wrong(hit, x, next, w, r)
	})
}

func wrong(hit simclient.Fault, x *exchange.Exchange, next failer, w http.ResponseWriter, r *http.Request) {
	switch hit.Kind {
	case simclient.FaultStatus:
		answer(hit, next, w, r)
	case simclient.FaultReset:
		reset(w)
	case simclient.FaultResetAfter:
		next.ServeHTTP(newBuffer(), r)
		reset(w)
	case simclient.FaultTruncated:
		truncate(w, r, next)
	case simclient.FaultVanished:
		vanish(x, w, r, next)
	case simclient.FaultSlow:
		next.ServeHTTP(w, r)
	}
}

func answer(hit simclient.Fault, pbx failer, w http.ResponseWriter, r *http.Request) {
	for name, value := range hit.Headers {
		w.Header().Set(name, value)
	}
	pbx.WriteError(w, r, cmp.Or(hit.Status, http.StatusInternalServerError), hit.Code)
}

// reset breaks the connection with a TCP reset where the transport allows it.
func reset(w http.ResponseWriter) {
	conn, _, err := http.NewResponseController(w).Hijack()
	if err != nil {
		panic(http.ErrAbortHandler) // ends the connection all the same, without a log line
	}
	if tcp, ok := conn.(*net.TCPConn); ok {
		_ = tcp.SetLinger(0) // at worst an ordinary close
	}
	_ = conn.Close() // nobody is left to tell
}

func truncate(w http.ResponseWriter, r *http.Request, next http.Handler) {
	b := newBuffer()
	next.ServeHTTP(b, r)
	if b.body.Len() < 2 {
		reset(w)
		return
	}
	maps.Copy(w.Header(), b.header)
	w.Header().Set("Content-Length", strconv.Itoa(b.body.Len()))
	w.WriteHeader(b.status)
	_, _ = w.Write(b.body.Bytes()[:b.body.Len()/2]) // the connection breaks next anyway
	_ = http.NewResponseController(w).Flush()
	panic(http.ErrAbortHandler)
}

// vanish removes the registration that the path names, or the one that the request creates.
func vanish(x *exchange.Exchange, w http.ResponseWriter, r *http.Request, next failer) {
	if id, ok := next.Named(r); ok {
		_ = x.Vanish(id) // already gone is as good
	}
	before := x.AllRegistrations()
	b := newBuffer()
	next.ServeHTTP(b, r)
	if id, ok := created(r, b, before, x.AllRegistrations()); ok {
		_ = x.Vanish(id)
	}
	maps.Copy(w.Header(), b.header)
	w.WriteHeader(b.status)
	_, _ = w.Write(b.body.Bytes()) // the client may be gone
}

// created finds the registration that a request made: it is new, and the answer, if there is one,
// has its id.
func created(r *http.Request, b *buffer, before, after []exchange.Registration) (int, bool) {
	if r.Method != http.MethodPost || b.status >= http.StatusMultipleChoices {
		return 0, false
	}
	for _, reg := range after {
		known := slices.ContainsFunc(before, func(o exchange.Registration) bool { return o.ID == reg.ID })
		named := bytes.Contains(b.body.Bytes(), []byte(cmp.Or(reg.Key, strconv.Itoa(reg.ID))))
		if !known && (b.body.Len() == 0 || named) {
			return reg.ID, true
		}
	}
	return 0, false
}

// buffer keeps an answer back.
type buffer struct {
	header http.Header
	status int
	body   bytes.Buffer
}

func newBuffer() *buffer { return &buffer{header: http.Header{}, status: http.StatusOK} }

func (b *buffer) Header() http.Header         { return b.header }
func (b *buffer) WriteHeader(status int)      { b.status = status }
func (b *buffer) Write(p []byte) (int, error) { return b.body.Write(p) }

// setForeign brings the foreign registrations of an extension to a number, the newest ones going
// first.
func setForeign(x *exchange.Exchange, pbx system, e exchange.Extension, count int) ([]exchange.Registration, error) {
	owner := exchange.Owner{Scope: exchange.OnExtension, ID: e.ID}
	isForeign := func(r exchange.Registration) bool { return r.Foreign }
	list := slices.DeleteFunc(x.Registrations(owner), func(r exchange.Registration) bool { return !isForeign(r) })
	for len(list) > count {
		last := list[len(list)-1]
		if err := x.Unregister(owner, last.ID); err != nil {
			return nil, err
		}
		list = list[:len(list)-1]
	}
	for i := len(list); i < count; i++ {
		r, err := x.Register(pbx.Foreign(exchange.Registration{
			Owner: owner, Foreign: true, Method: []string{http.MethodGet, http.MethodPost}[i%2],
			URL: fmt.Sprintf("https://crm.example.net/hook/%s/%d", e.Number, i+1),
		}, i), 1<<20)
		if err != nil {
			return nil, err
		}
		list = append(list, r)
	}
	return list, nil
}
