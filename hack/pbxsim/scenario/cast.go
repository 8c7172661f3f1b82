package scenario

import (
	"crypto/sha256"
	"encoding/hex"
	"maps"
	"os"
	"regexp"
	"strings"
	"time"
)

// Cast says who plays the parts of a scenario.
type Cast struct {
	// Extensions by the short number that scenario files use: 101, 102, 103, 099, 900, 901.
	Extensions map[string]Extension
	// Values by name: customer and other (outside numbers; nothing or anonymous hides them), did,
	// agent (id of the queue agent), client (id of the account) and node (prefix of CallAPIID).
	// Installations have of their own: domain (RingMe: of CallerExtension and CalledExtension), api
	// (VoipNow: symbol in CallAPIID of every call, such as A1) and separator (VoipNow: what stands
	// in place of the asterisk of extensions; may be empty).
	Values map[string]string
}

// DefaultCast is the cast of the RingMe reference: phones 101 to 103, IVR 099, queues 900 and 901.
func DefaultCast() Cast {
	ext := func(number, id string, t ExtensionType, label string) Extension {
		return Extension{Number: "1234*" + number, ID: id, Type: t, Domain: "sip.example.com", Label: label}
	}
	return Cast{
		Extensions: map[string]Extension{
			"101": ext("101", "5101", Phone, "Ann Novak"),
			"102": ext("102", "5102", Phone, "Ben Costa"),
			"103": ext("103", "5103", Phone, "Cleo Marsh"),
			"099": ext("099", "5099", IVR, "Main menu"),
			"900": ext("900", "5900", Queue, "Sales"),
			"901": ext("901", "5901", Queue, "Support"),
		},
		Values: map[string]string{
			"customer": "+12025550143", "other": "+12025550177", "did": "12025550100",
			"agent": "77", "client": "12", "node": "1000000001",
		},
	}
}

func (c Cast) over(base Cast) Cast {
	out := Cast{Extensions: maps.Clone(base.Extensions), Values: maps.Clone(base.Values)}
	maps.Copy(out.Extensions, c.Extensions)
	maps.Copy(out.Values, c.Values)
	return out
}

// identifier matches the symbols that stand for generated ids.
var identifier = regexp.MustCompile(`^[ABCLPRX][0-9]+$`)

// symbols resolves the names in a scenario for one call.
type symbols struct {
	seed     string
	cast     Cast
	form     func(symbol string, sum [sha256.Size]byte) string
	ids      map[string]string
	start    time.Time // of the call
	now      time.Time // of the event
	position int       // of the event in the call, from 1
	skew     time.Duration
}

func newSymbols(of *system, seed string, opts ...Option) *symbols {
	y := &symbols{seed: seed, cast: of.cast(), form: of.id, ids: map[string]string{}}
	for _, o := range opts {
		o(y)
	}
	return y
}

// id returns what stands for a symbol such as C1.
func (y *symbols) id(symbol string) string {
	id, ok := y.ids[symbol]
	if !ok {
		id = y.form(symbol, y.sum(symbol))
		y.ids[symbol] = id
	}
	return id
}

func (y *symbols) sum(symbol string) [sha256.Size]byte { return digest(y.seed, symbol) }

func digest(seed, symbol string) [sha256.Size]byte {
	return sha256.Sum256([]byte(seed + "\x00" + symbol))
}

// hexID is the form of RingMe's ids: 32 lower-case hex digits.
func hexID(_ string, sum [sha256.Size]byte) string { return hex.EncodeToString(sum[:16]) }

// uuidID is the same value as a dashed UUID.
func uuidID(symbol string, sum [sha256.Size]byte) string { return dashed(hexID(symbol, sum)) }

func dashed(id string) string {
	return strings.Join([]string{id[:8], id[8:12], id[12:16], id[16:20], id[20:]}, "-")
}

func (y *symbols) legID(l leg) string { return y.extension(l.Sender).ID + "-" + y.id(l.ID) }

func (y *symbols) extension(number string) Extension { return y.cast.Extensions[number] }

// expand replaces $customer, $C1, $now, ${101.id}, ${101.name}, ${101.short} and ${101.sip} in a
// parameter value.
func (y *symbols) expand(s string) string {
	if !strings.Contains(s, "$") {
		return s
	}
	return os.Expand(s, func(name string) string {
		v, _ := y.lookup(name)
		return v
	})
}

func (y *symbols) lookup(name string) (string, bool) {
	if identifier.MatchString(name) {
		return y.id(name), true
	}
	if name == "now" {
		return y.now.UTC().Format(time.DateTime), true
	}
	if number, attr, ok := strings.Cut(name, "."); ok {
		return attribute(y.extension(number), attr)
	}
	v, ok := y.cast.Values[name]
	return v, ok
}

func attribute(x Extension, attr string) (string, bool) {
	switch attr {
	case "id":
		return x.ID, x.ID != ""
	case "name":
		return x.Number, x.Number != ""
	case "short":
		return x.Short(), x.Number != ""
	case "sip":
		return x.SIP(), x.Number != ""
	default:
		return "", false
	}
}

// stamp sets the time of an event by the clock of the node that stamps it.
func (y *symbols) stamp(at time.Time) {
	y.now = at
	if y.position%2 == 0 {
		y.now = at.Add(y.skew)
	}
}

// SIP is the name with the domain, the form of CallerExtension and CalledExtension.
func (x Extension) SIP() string { return x.Number + "@" + x.Domain }

// Short is the number without the client prefix.
func (x Extension) Short() string {
	_, short, ok := strings.Cut(x.Number, "*")
	if !ok {
		return x.Number
	}
	return short
}
