package ingest

import (
	"encoding/json"
	"net/http"
)

// answer is what a client gets to hear.
type answer struct {
	status int
	// detail says what is wrong; empty for a success.
	detail     string
	retryAfter string
	allow      bool
}

func refuse(status int, detail string) answer { return answer{status: status, detail: detail} }

// problem is a problem document of RFC 9457.
type problem struct {
	Title  string `json:"title"`
	Status int    `json:"status"`
	Detail string `json:"detail"`
}

func (a answer) write(w http.ResponseWriter) {
	header := w.Header()
	if a.allow {
		header.Set("Allow", allowedMethods)
	}
	if a.retryAfter != "" {
		header.Set("Retry-After", a.retryAfter)
	}
	if a.detail == "" {
		w.WriteHeader(a.status)
		return
	}
	header.Set("Content-Type", "application/problem+json")
	header.Set("Cache-Control", "no-store")
	if a.status == http.StatusRequestEntityTooLarge || a.status == http.StatusRequestTimeout {
		header.Set("Connection", "close")
	}
	w.WriteHeader(a.status)
	document := problem{Title: http.StatusText(a.status), Status: a.status, Detail: a.detail}
	encoder := json.NewEncoder(w)
	encoder.SetEscapeHTML(false) // people read it, browsers do not
	_ = encoder.Encode(document) // a client that has gone needs no answer
}
