package voipnow

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/url"
	"strconv"
	"strings"

	"github.com/pbx-operator/pbx-operator/controllers/pbxapi"
	"github.com/pbx-operator/pbx-operator/controllers/pbxapi/rest"
)

const (
	// defaultPage is the size of a page on a PBX that is not told any, or does not listen (List
	// PhoneCallEvents).
	defaultPage = 20
	// largestPage and lastIndex bound count and startIndex (List PhoneCallEvents).
	largestPage = 4999
	lastIndex   = 4999
)

// text is a value that the documents call a number and the PBX sends as a string, or the other way
// round.
type text string

// UnmarshalJSON implements json.Unmarshaler.
func (t *text) UnmarshalJSON(raw []byte) error {
	var written string
	if json.Unmarshal(raw, &written) == nil {
		*t = text(written)
		return nil
	}
	var number json.Number
	if err := json.Unmarshal(raw, &number); err != nil {
		return err
	}
	*t = text(number)
	return nil
}

// collection is a list in any of its forms: the items in the member entry of an object, a bare
// array, or a single item.
type collection[T any] struct {
	items []T
	// total over all pages; negative where the PBX does not say.
	total int
}

var errNoList = errors.New("neither a list nor an item of one")

// UnmarshalJSON implements json.Unmarshaler.
func (c *collection[T]) UnmarshalJSON(raw []byte) error {
	c.items, c.total = nil, -1
	if isArray(raw) {
		return json.Unmarshal(raw, &c.items)
	}
	var envelope struct {
		Entry        json.RawMessage `json:"entry"`
		TotalResults text            `json:"totalResults"`
		ID           json.RawMessage `json:"id"`
	}
	if err := json.Unmarshal(raw, &envelope); err != nil {
		return err
	}
	if total, err := strconv.Atoi(string(envelope.TotalResults)); err == nil {
		c.total = total
	}
	switch {
	case isArray(envelope.Entry):
		return json.Unmarshal(envelope.Entry, &c.items)
	case isGiven(envelope.Entry):
		return c.single(envelope.Entry)
	case isGiven(envelope.ID):
		return c.single(raw)
	case c.total == 0:
		return nil
	default:
		return errNoList
	}
}

func (c *collection[T]) single(raw []byte) error {
	var item T
	if err := json.Unmarshal(raw, &item); err != nil {
		return err
	}
	c.items = []T{item}
	return nil
}

func isGiven(raw json.RawMessage) bool { return len(raw) > 0 && string(raw) != "null" }

func isArray(raw []byte) bool { return bytes.HasPrefix(bytes.TrimSpace(raw), []byte("[")) }

// readAll reads a list page by page. The PBX may choose smaller pages than those asked for. A list
// that says it has more items than it shows is an error: what looks missing would be made again.
func readAll[T comparable](ctx context.Context, client *rest.Client, call rest.Call, size int) ([]T, error) {
	query := url.Values{"count": {strconv.Itoa(size)}}
	maps.Copy(query, call.Query)
	call.Query = query
	var all []T
	seen := map[T]bool{}
	for start := 0; start <= lastIndex; {
		query.Set("startIndex", strconv.Itoa(start))
		var page collection[T]
		call.Answer = &page
		if err := client.Do(ctx, call); err != nil {
			return nil, err
		}
		if page.total > lastIndex+size {
			return nil, tooLong(call.Op)
		}
		before := len(all)
		for _, item := range page.items {
			if !seen[item] {
				seen[item] = true
				all = append(all, item)
			}
		}
		start += len(page.items)
		if done, err := page.last(call.Op, len(all), len(all)-before); done || err != nil {
			return all, err
		}
	}
	return nil, tooLong(call.Op)
}

// last reports whether a list ends with this page, of which so many items are new, so that there
// are now so many altogether. Without a total, a page shorter than any that a PBX would choose is
// the last.
func (c *collection[T]) last(op string, altogether, fresh int) (bool, error) {
	switch {
	case c.total < 0:
		return fresh == 0 || len(c.items) < defaultPage, nil
	case altogether >= c.total:
		return true, nil
	case fresh == 0:
		return false, pbxapi.NewError(pbxapi.ErrUnreachable, op, fmt.Sprintf("the PBX shows %d of %d items", altogether, c.total))
	default:
		return false, nil
	}
}

// readPage reads one page of a list. A cursor is the index of the first item and, to notice a PBX
// that shows the same page for ever, the key of the item that the page before began with. It is
// empty for the first page, and after the last one.
func readPage[T any](
	ctx context.Context, client *rest.Client, call rest.Call, size int, cursor string, key func(T) string,
) (items []pbxapi.Item[T], next string, err error) {
	start, head := 0, ""
	if cursor != "" {
		index, before, _ := strings.Cut(cursor, "/")
		if start, err = strconv.Atoi(index); err != nil {
			return nil, "", pbxapi.NewError(pbxapi.ErrInvalid, call.Op, "the position in the list cannot be read")
		}
		head = before
	}
	query := url.Values{"count": {strconv.Itoa(size)}, "startIndex": {strconv.Itoa(start)}}
	maps.Copy(query, call.Query)
	call.Query = query
	var page collection[pbxapi.Item[T]]
	call.Answer = &page
	if err := client.Do(ctx, call); err != nil {
		return nil, "", err
	}
	first := ""
	if len(page.items) > 0 {
		first = pbxapi.CursorKey(key(page.items[0].Value))
	}
	repeated := start > 0 && first == head
	index, err := page.next(call.Op, start, repeated)
	if index > 0 {
		next = strconv.Itoa(index) + "/" + first
	}
	if repeated {
		return nil, next, err
	}
	return page.items, next, err
}

// next returns the index that follows a page, or 0 after the last one. A list that says it has more
// items than it shows is an error: what looks missing would be made again.
func (c *collection[T]) next(op string, start int, repeated bool) (int, error) {
	end := start + len(c.items)
	switch {
	case c.total < 0 && (repeated || len(c.items) < defaultPage), c.total >= 0 && !repeated && end >= c.total:
		return 0, nil
	case repeated, len(c.items) == 0:
		return 0, pbxapi.NewError(pbxapi.ErrUnreachable, op, fmt.Sprintf("the PBX shows %d of %d items", start, c.total))
	case end > lastIndex, c.total > (lastIndex/len(c.items)+1)*len(c.items): // which is how far pages of this size reach
		return 0, tooLong(op)
	}
	return end, nil
}

// codeTooLong marks a list of which the PBX does not show all.
const codeTooLong = "too long"

func tooLong(op string) error {
	detail := fmt.Sprintf("there are more items than VoipNow shows: startIndex ends at %d", lastIndex)
	return refusal{pbxapi.NewError(pbxapi.ErrRejected, op, detail), codeTooLong}
}

// first is the first item of a list in whatever form; false for an answer without any.
func first[T any](answer json.RawMessage) (item T, ok bool) {
	var list collection[T]
	if len(answer) == 0 || json.Unmarshal(answer, &list) != nil || len(list.items) == 0 {
		return item, false
	}
	return list.items[0], true
}
