package ingest

import (
	"encoding/json"
	"net/http"
	"time"
)

// restTime is how long a client may go on sending a request that was refused.
const restTime = time.Second

// answer is what a client gets to hear.
type answer struct {
	status int
	// detail says what is wrong; empty for a success.
	detail     string
	retryAfter string
	allow      bool
	// close ends the connection after the answer, without waiting for the rest of the request.
	close bool
}

func refuse(status int, detail string) answer { return answer{status: status, detail: detail} }

func refuseAndClose(status int, detail string) answer {
	return answer{status: status, detail: detail, close: true}
}

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
	if a.close {
		header.Set("Connection", "close")
		// The rest of the body is read for a moment only, so that the client gets to read the
		// answer.
		_ = http.NewResponseController(w).SetReadDeadline(time.Now().Add(restTime)) // none: no connection
	}
	w.WriteHeader(a.status)
	document := problem{Title: http.StatusText(a.status), Status: a.status, Detail: a.detail}
	encoder := json.NewEncoder(w)
	encoder.SetEscapeHTML(false) // people read it, browsers do not
	_ = encoder.Encode(document) // a client that has gone needs no answer
}
