// Package voipnow speaks the UnifiedAPI of 4PSA VoipNow.
package voipnow

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"time"

	"github.com/pbx-operator/pbx-operator/api/v1alpha1"
	"github.com/pbx-operator/pbx-operator/controllers/pbxapi"
	"github.com/pbx-operator/pbx-operator/controllers/pbxapi/rest"
)

// expiryMargin renews a token before the PBX lets it die, as the vendor's own client does.
const expiryMargin = 5 * time.Minute

// API is the UnifiedAPI as one user sees it. The id of an extension is its number, in the extended
// form (0007*101) or the short one (101). Its calls return the errors of package pbxapi.
type API struct {
	client *rest.Client
	user   string
	// zone is that of all times: they have no offset.
	zone *time.Location
}

var (
	_ pbxapi.API            = (*API)(nil)
	_ pbxapi.ExtensionPager = (*API)(nil)
)

// users are the forms of a user in a path (Create PhoneCallEvents).
var users = regexp.MustCompile(`^(@me|@viewer|@owner|[0-9]{1,20})$`)

// New makes the API of a user. It returns ErrInvalid when the URL is no URL, userID no user,
// timeZone no time zone, or the Secret lacks clientID or clientSecret.
func New(settings pbxapi.Settings) (pbxapi.API, error) {
	const op = "connect to the PBX"
	voipNow := settings.PBX.VoipNow
	if voipNow == nil {
		return nil, pbxapi.NewError(pbxapi.ErrInvalid, op, "spec.pbx.voipNow is missing")
	}
	user := userOf(voipNow)
	if !users.MatchString(user) {
		return nil, pbxapi.NewError(pbxapi.ErrInvalid, op, "spec.pbx.voipNow.userID must be @me, @viewer, @owner or a number")
	}
	zone, err := pbxapi.TimeZone("spec.pbx.voipNow.timeZone", voipNow.TimeZone)
	if err != nil {
		return nil, err
	}
	client, err := rest.New(rest.Config{ //nolint:gosec // a path to a token, and none itself
		Settings: settings, URL: voipNow.URL, SecretName: voipNow.CredentialsSecretRef.Name, Field: "spec.pbx.voipNow.url",
		APIPath: "/uapi", TokenPath: "/oauth/token.php", TokenParameters: url.Values{"type": {"unifiedapi"}},
		ExpiryMargin: expiryMargin, Problem: answerError,
	})
	if err != nil {
		return nil, err
	}
	return &API{client: client, user: user, zone: zone}, nil
}

func userOf(voipNow *v1alpha1.VoipNow) string {
	if voipNow.UserID == "" {
		return "@me"
	}
	return voipNow.UserID
}

// Check asks for the call records of one second of yesterday. Call records are the one resource of
// the UnifiedAPI whose path needs no extension, and a second costs the PBX next to nothing; it is
// one of yesterday because the PBX's clock may be slow, and its time zone another than
// spec.pbx.voipNow.timeZone: none may lie in its future.
func (a *API) Check(ctx context.Context) error {
	const op = "check the PBX"
	from := time.Now().Add(-24 * time.Hour)
	query := a.cdrQuery(from, from.Add(time.Second))
	query.Set("count", "1")
	err := a.client.Do(ctx, rest.Call{Op: op, Method: http.MethodGet, Path: a.cdrPath(), Query: query})
	if isAboutCallRecords(op, err) {
		return nil
	}
	return err
}

// isAboutCallRecords reports whether the PBX forbids call records, or dislikes the question, but
// not the token: registrations do not need them.
func isAboutCallRecords(op string, err error) bool {
	known, ok := errors.AsType[*pbxapi.Error](err)
	return ok && known.Op == op && (errors.Is(known, pbxapi.ErrForbidden) || strings.HasPrefix(codeOf(err), "cdr_"))
}

// number of an extension, in the extended or the short form. How many digits the parts have differs
// between installations. Paths are made of nothing else, so that no id can lead to all extensions
// (@self) or to another resource.
type number string

var numbers = regexp.MustCompile(`^[0-9]{1,32}(\*[0-9]{1,32})?$`)

func parseNumber(op, id string) (number, error) {
	if !numbers.MatchString(id) {
		detail := fmt.Sprintf("%q is no extension: VoipNow uses numbers such as 0007*101", id)
		return "", pbxapi.NewError(pbxapi.ErrInvalid, op, detail)
	}
	return number(id), nil
}

// extensionItem is an extension on the wire.
type extensionItem struct {
	Number text `json:"extendedNumber"`
	Type   text `json:"type"`
	Label  text `json:"label"`
}

func (i extensionItem) key() string { return string(i.Number) }

func (i extensionItem) extension() pbxapi.Extension {
	extension := pbxapi.Extension{ID: string(i.Number), Number: string(i.Number), Name: string(i.Label)}
	switch strings.ToLower(string(i.Type)) {
	case "phoneterminal", "phone":
		extension.Type = v1alpha1.ExtensionPhone
	case "ivr":
		extension.Type = v1alpha1.ExtensionIVR
	case "queue":
		extension.Type = v1alpha1.ExtensionQueue
	}
	return extension
}

// Extensions lists all extensions of the user.
func (a *API) Extensions(ctx context.Context) ([]pbxapi.Extension, error) {
	return pbxapi.AllExtensions(ctx, a)
}

// ExtensionPage lists some of the extensions of the user. The documents that the operator was made
// from name no such resource: path and members are an assumption, and a PBX that does not have it
// makes an ErrNotSupported. Nothing but discovery depends on it.
func (a *API) ExtensionPage(ctx context.Context, cursor string) (page pbxapi.ExtensionPage, err error) {
	const op = "list the extensions"
	call := rest.Call{Op: op, Method: http.MethodGet, Path: "/extensions/" + a.user}
	items, next, err := readPage(ctx, a.client, call, largestPage, cursor, extensionItem.key)
	if errors.Is(err, pbxapi.ErrRejected) || errors.Is(err, pbxapi.ErrForbidden) || errors.Is(err, pbxapi.ErrNotFound) {
		return page, notListed(op, err)
	}
	if err != nil {
		return page, err
	}
	for _, item := range items {
		extension := item.Value.extension()
		if _, err := parseNumber(op, extension.Number); item.Err != nil || err != nil {
			page.Unusable.Add(fmt.Sprintf("the PBX lists an extension without a usable extendedNumber: %q", extension.Number))
			continue
		}
		page.Extensions = append(page.Extensions, extension)
	}
	if len(items) > 0 && len(page.Extensions) == 0 {
		return page, pbxapi.NewError(pbxapi.ErrNotSupported, op, "the PBX lists extensions without an extendedNumber; write the mappings by hand")
	}
	page.Next = next
	return page, nil
}

func notListed(op string, err error) error {
	said := err.Error()
	if known, ok := errors.AsType[*pbxapi.Error](err); ok {
		said = known.Detail
	}
	return pbxapi.NewError(pbxapi.ErrNotSupported, op, "the PBX does not list them to this app; write the mappings by hand: "+said)
}
