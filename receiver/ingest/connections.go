package ingest

import (
	"container/list"
	"context"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
)

// connections keeps those of strangers, who have not called a valid event URL yet, from taking the
// places of PBXs. There is always room for one more: the oldest stranger has to go for it, so that
// a PBX, which sends its request at once, is heard however many others hold connections open.
type connections struct {
	limit, perSource int
	metrics          *Metrics

	mu   sync.Mutex
	open int
	// strangers by their source address, oldest first.
	strangers map[netip.Addr]*list.List
	// known have called a valid event URL, oldest first.
	known list.List
}

func newConnections(limit, perSource int, metrics *Metrics) *connections {
	return &connections{limit: limit, perSource: perSource, metrics: metrics, strangers: make(map[netip.Addr]*list.List)}
}

// connection is one that is counted.
type connection struct {
	net.Conn
	all     *connections
	source  netip.Addr
	element *list.Element // in strangers[source], or in known
	isKnown atomic.Bool
	// busy tells that a request of a known connection is being answered.
	busy   atomic.Bool
	closed sync.Once
}

// Close implements net.Conn.
func (c *connection) Close() error {
	c.closed.Do(func() { c.all.remove(c) })
	return c.Conn.Close()
}

// listener counts the connections that it accepts.
type listener struct {
	net.Listener
	all *connections
}

// Accept implements net.Listener.
func (l *listener) Accept() (net.Conn, error) {
	for {
		accepted, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		if c := l.all.admit(accepted); c != nil {
			return c, nil
		}
		_ = accepted.Close() // it was of no use yet
	}
}

// admit counts a connection, closing another one for it if there are too many; nil: all of them are
// of PBXs that are being answered.
func (cs *connections) admit(accepted net.Conn) *connection {
	c := &connection{Conn: accepted, all: cs, source: sourceOf(accepted.RemoteAddr())}
	cs.mu.Lock()
	outdone, room := cs.choose(c.source)
	cs.mu.Unlock()
	if outdone != nil {
		cs.metrics.closedEarly.Inc()
		_ = outdone.Close() // whoever reads from it gets to know
	}
	if !room {
		return nil
	}
	cs.mu.Lock()
	defer cs.mu.Unlock()
	if cs.strangers[c.source] == nil {
		cs.strangers[c.source] = list.New()
	}
	c.element = cs.strangers[c.source].PushBack(c)
	cs.open++
	cs.metrics.connections.Set(float64(cs.open))
	return c
}

// choose finds the connection that has to go so that one of the source may come; nil: none has to.
// It reports false if there is no room.
func (cs *connections) choose(source netip.Addr) (outdone *connection, room bool) {
	if mine := cs.strangers[source]; mine != nil && mine.Len() >= cs.perSource {
		return first(mine), true
	}
	if cs.open < cs.limit {
		return nil, true
	}
	var most *list.List
	for _, of := range cs.strangers {
		if most == nil || of.Len() > most.Len() {
			most = of
		}
	}
	if most != nil {
		return first(most), true
	}
	for element := cs.known.Front(); element != nil; element = element.Next() {
		if c, _ := element.Value.(*connection); !c.busy.Load() {
			return c, true
		}
	}
	return nil, false
}

func first(of *list.List) *connection {
	c, _ := of.Front().Value.(*connection)
	return c
}

func (cs *connections) remove(c *connection) {
	cs.mu.Lock()
	defer cs.mu.Unlock()
	if c.element == nil {
		return
	}
	cs.unlist(c)
	cs.open--
	cs.metrics.connections.Set(float64(cs.open))
}

// unlist takes a connection out of its list.
func (cs *connections) unlist(c *connection) {
	if c.isKnown.Load() {
		cs.known.Remove(c.element)
	} else {
		mine := cs.strangers[c.source]
		if mine.Remove(c.element); mine.Len() == 0 {
			delete(cs.strangers, c.source)
		}
	}
	c.element = nil
}

// know notes that a connection has called a valid event URL, or one that is not.
func (cs *connections) know(c *connection, valid bool) {
	if c.isKnown.Load() == valid {
		return
	}
	cs.mu.Lock()
	defer cs.mu.Unlock()
	if c.element == nil {
		return // closed meanwhile
	}
	cs.unlist(c)
	c.isKnown.Store(valid)
	if valid {
		c.element = cs.known.PushBack(c)
		return
	}
	if cs.strangers[c.source] == nil {
		cs.strangers[c.source] = list.New()
	}
	c.element = cs.strangers[c.source].PushBack(c)
}

// sourceBits is how much of an IPv6 address tells sources apart: a site has the rest to itself.
const sourceBits = 64

func sourceOf(address net.Addr) netip.Addr {
	parsed, err := netip.ParseAddrPort(address.String())
	if err != nil {
		return netip.Addr{}
	}
	source := parsed.Addr().Unmap()
	if source.Is6() {
		if prefix, err := source.WithZone("").Prefix(sourceBits); err == nil {
			return prefix.Addr()
		}
	}
	return source
}

type connectionKey struct{}

// withConnection lets a handler know the connection that a request came by.
func withConnection(ctx context.Context, c net.Conn) context.Context {
	return context.WithValue(ctx, connectionKey{}, c)
}

// greet notes whether the caller knows a valid event URL, and that it is being answered until
// answered is called.
func greet(ctx context.Context, valid bool) *connection {
	c, ok := ctx.Value(connectionKey{}).(*connection)
	if !ok {
		return nil
	}
	c.all.know(c, valid)
	c.busy.Store(valid)
	return c
}

// answered notes that a request has got its answer. A nil connection is not counted.
func (c *connection) answered() {
	if c != nil {
		c.busy.Store(false)
	}
}
