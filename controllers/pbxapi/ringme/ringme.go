// Package ringme speaks the management API of the RingMe platform, also sold as Telphin and UCom.
package ringme

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/pbx-operator/pbx-operator/api/v1alpha1"
	"github.com/pbx-operator/pbx-operator/controllers/pbxapi"
	"github.com/pbx-operator/pbx-operator/controllers/pbxapi/rest"
)

const (
	// expiryMargin renews a token before the PBX lets it die.
	expiryMargin = 30 * time.Second

	pageSize  = 500
	mostPages = 1000
)

// API is the management API of one client account. Its calls return the errors of package pbxapi.
type API struct {
	client  *rest.Client
	account string
	// history has room for the one request for statistics that the PBX takes at a time.
	history chan struct{}
}

var (
	_ pbxapi.API            = (*API)(nil)
	_ pbxapi.ExtensionPager = (*API)(nil)
)

// New makes the API of an account. It returns ErrInvalid when the URL is no URL or the Secret lacks
// clientID or clientSecret.
func New(settings pbxapi.Settings) (pbxapi.API, error) {
	ringMe := settings.PBX.RingMe
	if ringMe == nil {
		return nil, pbxapi.NewError(pbxapi.ErrInvalid, "connect to the PBX", "spec.pbx.ringMe is missing")
	}
	client, err := rest.New(rest.Config{ //nolint:gosec // a path is no token
		Settings: settings, URL: ringMe.URL, SecretName: ringMe.CredentialsSecretRef.Name, Field: "spec.pbx.ringMe.url",
		APIPath: "/api/ver1.0", TokenPath: "/oauth/token", ExpiryMargin: expiryMargin, Problem: answerError,
	})
	if err != nil {
		return nil, err
	}
	account, err := accountOf(ringMe)
	if err != nil {
		return nil, err
	}
	return &API{client: client, account: account, history: make(chan struct{}, 1)}, nil
}

const ownAccount = "@me"

// accountOf is the client account in paths. It is checked although the API server has done so,
// because paths of deletions are made of it.
func accountOf(ringMe *v1alpha1.RingMe) (string, error) {
	if ringMe.AccountID == "" || ringMe.AccountID == ownAccount {
		return ownAccount, nil
	}
	account, err := parseID("connect to the PBX", ringMe.AccountID)
	if err != nil {
		return "", err
	}
	return account.String(), nil
}

// path of a resource of the account.
func (a *API) path(resource string) string { return "/client/" + a.account + "/" + resource }

// Check lists one extension: that needs the account, the credentials and the right to see
// extensions.
func (a *API) Check(ctx context.Context) error {
	_, err := a.extensionPage(ctx, "check the PBX", 1, 1)
	return err
}

type extensionItem struct {
	ID           json.Number `json:"id"`
	Name         string      `json:"name"`
	Label        string      `json:"label"`
	CallerIDName string      `json:"caller_id_name"`
	Type         string      `json:"type"`
}

func (i extensionItem) key() string { return i.ID.String() + i.Name }

func (i extensionItem) extension() pbxapi.Extension {
	extension := pbxapi.Extension{ID: i.ID.String(), Number: withoutDomain(i.Name), Name: cmp.Or(i.Label, i.CallerIDName)}
	switch strings.ToLower(i.Type) {
	case "phone":
		extension.Type = v1alpha1.ExtensionPhone
	case "ivr":
		extension.Type = v1alpha1.ExtensionIVR
	case "queue":
		extension.Type = v1alpha1.ExtensionQueue
	}
	return extension
}

// Extensions lists all extensions of the account.
func (a *API) Extensions(ctx context.Context) ([]pbxapi.Extension, error) {
	return pbxapi.AllExtensions(ctx, a)
}

// ExtensionPage lists some of them.
func (a *API) ExtensionPage(ctx context.Context, cursor string) (page pbxapi.ExtensionPage, err error) {
	const op = "list the extensions"
	at, err := parsePosition(op, cursor)
	if err != nil {
		return page, err
	}
	items, err := a.extensionPage(ctx, op, at.page, pageSize)
	if err != nil || len(items) == 0 || at.repeats(items[0].Value.key()) {
		return page, err
	}
	for _, item := range items {
		switch extension := item.Value.extension(); {
		case item.Err != nil:
			page.Unusable.Add("extension " + extension.Number + ": " + item.Err.Error())
		default:
			page.Extensions = append(page.Extensions, extension)
		}
	}
	page.Next, err = at.after(op, len(items), items[0].Value.key())
	return page, err
}

func (a *API) extensionPage(ctx context.Context, op string, page, size int) ([]pbxapi.Item[extensionItem], error) {
	var items []pbxapi.Item[extensionItem]
	call := rest.Call{Op: op, Method: http.MethodGet, Path: a.path("extension/"), Query: pageQuery(page, size), Answer: &items}
	err := a.client.Do(ctx, call)
	return items, err
}

func withoutDomain(name string) string {
	number, _, _ := strings.Cut(name, "@")
	return number
}

func pageQuery(page, size int) url.Values {
	return url.Values{"page": {strconv.Itoa(page)}, "per_page": {strconv.Itoa(size)}}
}

// allPages reads a list that comes in pages. No total is given, and the PBX may cap the size of a
// page: the last page is the one that is shorter than the first, or brings nothing new.
func allPages[T any](op string, key func(T) string, read func(page int) ([]T, error)) ([]T, error) {
	var all []T
	seen := map[string]bool{}
	first := 0
	for page := 1; page <= mostPages; page++ {
		items, err := read(page)
		if err != nil {
			return nil, err
		}
		before := len(all)
		for _, item := range items {
			if id := key(item); !seen[id] {
				seen[id] = true
				all = append(all, item)
			}
		}
		first = max(first, len(items))
		if len(all) == before || len(items) < first {
			return all, nil
		}
	}
	return nil, pbxapi.NewError(pbxapi.ErrUnreachable, op, fmt.Sprintf("the list goes on after %d pages", mostPages))
}

// id of an extension, an agent or a registration: a positive integer. Paths are made of nothing
// else, so that no id, be it empty or "..", can turn the DELETE of one registration into that of
// the whole collection.
type id uint64

func parseID(op, text string) (id, error) {
	number, err := strconv.ParseUint(text, 10, 64)
	if err != nil || number == 0 {
		return 0, pbxapi.NewError(pbxapi.ErrInvalid, op, fmt.Sprintf("%q is no id: RingMe uses positive integers", text))
	}
	return id(number), nil
}

func (i id) String() string { return strconv.FormatUint(uint64(i), 10) }
