package ringme

import (
	"fmt"
	"strings"

	"github.com/pbx-operator/pbx-operator/controllers/pbxapi"
)

// position is that of a page in a list: the number of the page, the size of the first one, and the
// key of the item that the page before began with. No total is given, and the PBX may cap the size
// of a page: the last page is the one that is shorter than the first, or a repetition of the one
// before.
type position struct {
	page, size int
	head       string
}

// parsePosition reads a cursor.
func parsePosition(op, cursor string) (position, error) {
	if cursor == "" {
		return position{page: 1}, nil
	}
	numbers, head, ok := strings.Cut(cursor, "/")
	var p position
	if _, err := fmt.Sscanf(numbers, "%d of %d", &p.page, &p.size); err != nil || !ok || p.page < 1 {
		return p, pbxapi.NewError(pbxapi.ErrInvalid, op, "the position in the list cannot be read")
	}
	p.head = head
	return p, nil
}

// repeats reports whether a page that begins with this item is the one before once more.
func (p position) repeats(head string) bool { return p.page > 1 && pbxapi.CursorKey(head) == p.head }

// after returns the cursor that follows a page of so many items that begins with head; empty after
// the last page.
func (p position) after(op string, items int, head string) (string, error) {
	size := max(p.size, items)
	switch {
	case items == 0, items < size:
		return "", nil
	case p.page == mostPages:
		return "", pbxapi.NewError(pbxapi.ErrUnreachable, op, fmt.Sprintf("the list goes on after %d pages", mostPages))
	}
	return fmt.Sprintf("%d of %d/%s", p.page+1, size, pbxapi.CursorKey(head)), nil
}
