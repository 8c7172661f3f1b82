package sources

// Minted is how many tokens the watch has made. Ask when nothing changes.
func (w *Watch) Minted() int { return w.minted.count }

// Matters reports whether a change of an object changes the table.
var Matters = matters
