// Package pbxapitest reads whole lists for tests. The operator itself never does.
package pbxapitest

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/pbx-operator/pbx-operator/controllers/pbxapi"
	"github.com/pbx-operator/pbx-operator/receiver/callhistory"
)

// ErrUnusable comes together with the records that are good.
var ErrUnusable = errors.New("some of it is of no use")

// History reads all pages of the legs of calls that began at from or later, and before to.
func History(ctx context.Context, pbx pbxapi.Historian, from, to time.Time) ([]callhistory.Record, error) {
	var records []callhistory.Record
	var unusable pbxapi.Unusable
	query := pbxapi.HistoryQuery{From: from, To: to}
	for {
		page, err := pbx.ReadHistory(ctx, query, func(r callhistory.Record) error {
			records = append(records, r)
			return nil
		})
		if err != nil {
			return nil, err
		}
		if unusable.Count += page.Unusable.Count; unusable.First == "" {
			unusable.First = page.Unusable.First
		}
		if query.Cursor = page.Next; query.Cursor == "" {
			break
		}
	}
	if unusable.Count > 0 {
		return records, fmt.Errorf("%w: %d records, the first of them: %s", ErrUnusable, unusable.Count, unusable.First)
	}
	return records, nil
}
