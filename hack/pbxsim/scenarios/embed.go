// Package scenarios holds the call scenarios of every simulated PBX as YAML, one folder per PBX and
// one file per scenario. Package scenario reads them; its documentation describes the format.
package scenarios

import "embed"

// FS contains {pbx}/{scenario}.yaml.
//
//go:embed */*.yaml
var FS embed.FS
