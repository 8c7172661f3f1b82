package pbxapi

import (
	"context"
	"encoding/json"
	"time"

	"github.com/pbx-operator/pbx-operator/receiver/callhistory"
	"github.com/pbx-operator/pbx-operator/receiver/shorten"
)

// Lists are read page by page, so that a read which meets the rate limit, or a restart of the
// manager, goes on where it stopped, and no list has to fit into memory. Cursors are text of at
// most 256 bytes whose form is the business of the PBX's package.

// ExtensionPage is a part of the list of extensions.
type ExtensionPage struct {
	Extensions []Extension
	// Unusable are items that are no extension the operator could use.
	Unusable Unusable
	// Next is the cursor of the next page; empty after the last one.
	Next string
}

// ExtensionPager is a PBX that lists its extensions in pages.
type ExtensionPager interface {
	// ExtensionPage returns the first page for an empty cursor, and otherwise the one that Next of
	// another page names.
	ExtensionPage(ctx context.Context, cursor string) (ExtensionPage, error)
}

// AllExtensions reads all pages. An extension that comes twice is returned once.
func AllExtensions(ctx context.Context, pager ExtensionPager) ([]Extension, error) {
	var all []Extension
	seen := map[Extension]bool{}
	for cursor := ""; ; {
		page, err := pager.ExtensionPage(ctx, cursor)
		if err != nil {
			return nil, err
		}
		for _, extension := range page.Extensions {
			if !seen[extension] {
				seen[extension] = true
				all = append(all, extension)
			}
		}
		if cursor = page.Next; cursor == "" {
			return all, nil
		}
	}
}

// HistoryQuery says which legs to read of a PBX's history.
type HistoryQuery struct {
	// From and To bound when the calls began: From is within, To is not.
	From, To time.Time
	// EndedFrom leaves out legs that ended before it. The zero time leaves out none.
	EndedFrom time.Time
	// Cursor is empty for the first page, or Next of another page of the same query.
	Cursor string
}

// HistoryPage tells what came of reading one page of a history.
type HistoryPage struct {
	// Unusable are records that cannot be read. They do not spoil the others.
	Unusable Unusable
	// Next is the cursor of the next page; empty after the last one.
	Next string
}

// Historian is a PBX that remembers calls.
type Historian interface {
	// ReadHistory reads one page of finished legs and hands each of them to yield. It stops at the
	// first error of yield, and returns it.
	ReadHistory(ctx context.Context, query HistoryQuery, yield func(callhistory.Record) error) (HistoryPage, error)
}

// DatabaseHistorian is a Historian that reads a database beside the management API: trouble with
// the one says nothing of the other.
type DatabaseHistorian interface {
	Historian
	// ChecksDatabase reports whether Check asks the database, for want of anything else.
	ChecksDatabase() bool
}

// CursorKey cuts the key of an item to what a cursor has room for. It is only compared.
func CursorKey(key string) string {
	const longest = 128
	return shorten.Bytes(key, longest)
}

// Unusable counts what could not be used of an answer.
type Unusable struct {
	Count int
	// First says what is wrong with the first one.
	First string
}

// Add counts one more.
func (u *Unusable) Add(problem string) {
	if u.Count++; u.Count == 1 {
		u.First = Scrub(problem)
	}
}

// Item is an item of a JSON list. One that cannot be decoded keeps its error, and does not spoil
// the list.
type Item[T any] struct {
	Value T
	Err   error
}

// UnmarshalJSON implements json.Unmarshaler. It never fails.
func (i *Item[T]) UnmarshalJSON(raw []byte) error {
	i.Err = json.Unmarshal(raw, &i.Value)
	return nil
}
