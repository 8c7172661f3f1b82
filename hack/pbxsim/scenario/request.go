package scenario

import (
	"net/http"
	"strings"
)

// Request is a notification as an HTTP request carries it.
type Request struct {
	Method      string
	Path        string // what follows the token in the event URL
	Query       string
	ContentType string
	Body        string
}

// Request returns what a receiver gets when the PBX uses this method, GET or POST. Where the PBX
// sends no form (Callable) it is always a POST.
func (n Notification) Request(method string) Request {
	switch {
	case n.ContentType != "":
		return Request{Method: http.MethodPost, Path: n.Path, ContentType: n.ContentType, Body: string(n.Body)}
	case method == http.MethodPost:
		return Request{Method: method, Path: n.Path, ContentType: FormType, Body: n.Form()}
	default:
		return Request{Method: http.MethodGet, Path: n.Path, Query: n.Form()}
	}
}

// FormType is the content type of parameters in a body.
const FormType = "application/x-www-form-urlencoded"

// Form is the parameters in their encoded form.
func (n Notification) Form() string {
	form := n.Params.Encode()
	if n.RawPlus {
		form = strings.ReplaceAll(form, "%2B", "+")
	}
	return form
}
