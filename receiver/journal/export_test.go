package journal

// BreakServer stops JetStream under the journal, as a full disk does.
func BreakServer(j *Journal) {
	j.server.running().ShutdownJetStream()
}

// DecodeGroup takes a message of the EVENTS log apart.
var DecodeGroup = decodeGroup

// AppendFrame appends a record to a message of the EVENTS log.
var AppendFrame = appendFrame

// AllRead reports whether the readers of the LEGS log have finished with everything in it.
func (j *Journal) AllRead() bool {
	lowest, ok := j.cursors.lowest(Legs)
	return ok && lowest == j.lastPut[Legs]
}
