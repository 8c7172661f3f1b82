package dialects

import "strings"

// The content types of notifications.
const (
	formType = "application/x-www-form-urlencoded"
	jsonType = "application/json"
)

// ContentTypes are those of the bodies that a type of PBX sends: JSON ("The Generic Event"), or
// forms.
func ContentTypes(pbx string) []string {
	if strings.EqualFold(pbx, "callable") {
		return []string{jsonType}
	}
	return []string{formType}
}
