package ringme

import (
	"context"
	"net/http"
	"net/url"

	"github.com/pbx-operator/pbx-operator/controllers/pbxapi"
	"github.com/pbx-operator/pbx-operator/controllers/pbxapi/rest"
)

var _ pbxapi.Recordings = (*API)(nil)

// RecordingURL is where the PBX stores a recording. Whoever has it can listen (RingMe: Conversation
// Records).
func (a *API) RecordingURL(ctx context.Context, recordingID string) (string, error) {
	const op = "find the recording"
	recording, ok := parseHandle(recordingID)
	if !ok {
		return "", pbxapi.NewError(pbxapi.ErrInvalid, op, "the id of the recording is none that RingMe gives")
	}
	var answer struct {
		URL string `json:"record_url"`
	}
	path := a.path("record/" + string(recording) + "/storage_url/")
	if err := a.client.Do(ctx, rest.Call{Op: op, Method: http.MethodGet, Path: path, Answer: &answer}); err != nil {
		return "", err
	}
	if !isLink(answer.URL) {
		return "", pbxapi.NewError(pbxapi.ErrRejected, op, "the answer has no address that works without credentials")
	}
	return answer.URL, nil
}

func isLink(text string) bool {
	link, err := url.Parse(text)
	return err == nil && (link.Scheme == "http" || link.Scheme == "https") && link.Hostname() != "" && link.User == nil
}
