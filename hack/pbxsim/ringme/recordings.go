package ringme

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"net/http"

	"github.com/pbx-operator/pbx-operator/hack/pbxsim/scenario"
)

// storage is where recordings are fetched, without a bearer token ("Conversation Records
// (/record/)").
const storage = "/storage/"

var errNoRecord = apiError{code: http.StatusNotFound, Message: "Record not found"}

type storedRecord struct {
	URL string `json:"record_url"`
}

// storageURL tells where a recording is. It is the same host, while the platform has one of its
// own.
func (a *API) storageURL(r *request) (int, any, error) {
	if err := a.client(r); err != nil {
		return 0, nil, err
	}
	id := r.PathValue("record")
	if !a.hasRecording(r.account.ID, id) {
		return 0, nil, errNoRecord
	}
	return http.StatusOK, storedRecord{"http://" + r.Host + storage + id + "?signature=" + a.signature(id)}, nil
}

func (a *API) hasRecording(account int, id string) bool {
	for _, c := range a.x.Calls(account) {
		for _, l := range scenario.Legs(c.Emitted()) {
			if a.recorded(l) && l.Hangup.RecordingID == id {
				return true
			}
		}
	}
	return false
}

// signature makes the address of a recording unguessable.
func (a *API) signature(id string) string {
	mac := hmac.New(sha256.New, a.storageKey)
	mac.Write([]byte(id))
	return hex.EncodeToString(mac.Sum(nil))
}

// silence is a WAV file without a sample: 8 kHz, 8 bits, mono.
const silence = "RIFF\x24\x00\x00\x00WAVE" +
	"fmt \x10\x00\x00\x00\x01\x00\x01\x00\x40\x1f\x00\x00\x40\x1f\x00\x00\x01\x00\x08\x00" +
	"data\x00\x00\x00\x00"

// recording serves a recording to whoever has its address.
func (a *API) recording(w http.ResponseWriter, r *http.Request) {
	id := r.PathValue("record")
	if !hmac.Equal([]byte(r.URL.Query().Get("signature")), []byte(a.signature(id))) {
		writeError(w, errNotFound)
		return
	}
	w.Header().Set("Content-Type", "audio/x-wav")
	_, _ = w.Write([]byte(silence)) // the client may be gone
}
