package ringme

import (
	"strings"

	"github.com/pbx-operator/pbx-operator/receiver/callevent"
	"github.com/pbx-operator/pbx-operator/receiver/dialect/number"
)

// isExtension reports whether a number is an extension: [0-9]{3,6}*[0-9]{2,4} with a literal
// asterisk.
func isExtension(s string) bool {
	client, short, ok := number.Split(s)
	return ok && 3 <= len(client) && len(client) <= 6 && 2 <= len(short) && len(short) <= 4
}

// plain is a number as it should have been sent: an extension without its domain.
func plain(sent string) string {
	cleaned := number.Clean(sent)
	if local := number.WithoutDomain(cleaned); isExtension(local) {
		return local
	}
	return cleaned
}

// trunk reports whether an extension is the one that direct calls from outside show as their
// caller: 0000*000@sip.example.com.
func trunk(extension string) bool {
	client, short, ok := number.Split(extension)
	return ok && strings.Trim(client+short, "0") == ""
}

// sides says what the numbers of a call's event are, taken together.
func (f *form) sides(e *callevent.Event) {
	if trunk(e.Caller.Extension) {
		e.Caller.Extension, e.Caller.ExtensionID = "", ""
	}
	switch own := e.Flow == callevent.FlowOut && !e.Transferred && e.Source.Type != callevent.Queue; {
	case own && number.Withheld(e.Caller.Number): // from the other side
		e.Caller.Number, e.Caller.Local = e.Caller.Extension, e.Caller.Extension != ""
	case own && e.Source.Type == callevent.Phone && e.Called.Extension != "":
		e.Caller.Local = true // whatever number the extension shows to the other one
	case own:
	case e.Remote == "" && f.withheld(e):
		if e.Caller.Local { // so is the name
			e.Caller.Name = ""
		}
		e.Caller.Number, e.Caller.Local, e.Caller.Withheld = "", false, true
	}
}

// withheld reports whether the event shows no number of the caller: the PBX says so, or puts a
// number of its own in the place, such as that of the queue. Of calls that came through a public
// number, no extension is the caller.
func (f *form) withheld(e *callevent.Event) bool {
	shown := e.Caller.Number
	switch {
	case f.sent(remoteNumber) && number.Withheld(f.values[remoteNumber]) && f.values[remoteNumber] != "":
		return true
	case shown != "" && number.Withheld(shown):
		return true
	case e.Flow == callevent.FlowOut:
		return shown == ""
	case shown == "":
		return e.DID != "" || f.sent(callerIDNum) || f.sent(callerNum)
	default:
		return e.Caller.Local && (e.DID != "" || shown == e.Called.Number || number.Names(shown, e.Source.Number))
	}
}
