package journal

import (
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"github.com/pbx-operator/pbx-operator/receiver/callevent"
)

// Entry is one notification as it stands in the EVENTS log.
type Entry struct {
	// Mapping is the UID of the ExtensionMapping (or PBXIntegration) whose event URL was called.
	Mapping string
	Request callevent.Request
}

// groupVersion leads every message of the EVENTS log, so that a later form can be told apart.
const groupVersion = 1

var (
	errTruncated = errors.New("the record is cut short")
	errVersion   = errors.New("the record was written by a newer receiver")
)

// AppendEntry appends the binary form of an entry to buffer: a varint of microseconds, then its
// strings, each with its length.
func AppendEntry(buffer []byte, entry *Entry) []byte {
	request := &entry.Request
	buffer = binary.AppendVarint(buffer, request.ReceivedAt.UnixMicro())
	for _, field := range entryFields(entry) {
		buffer = binary.AppendUvarint(buffer, uint64(len(*field)))
		buffer = append(buffer, *field...)
	}
	return buffer
}

// entryFields are the strings of an entry in the order in which they are stored. New ones go to the
// end.
func entryFields(entry *Entry) [10]*string {
	request := &entry.Request
	return [...]*string{
		(*string)(&request.Source.Type), &request.Source.Number, &request.Source.ID, &request.Source.User,
		&entry.Mapping, &request.Method, &request.Path, &request.Query, &request.ContentType, &request.Body,
	}
}

// DecodeEntry is the inverse of AppendEntry. The strings of the entry share one copy of record.
func DecodeEntry(record []byte) (Entry, error) {
	micros, n := binary.Varint(record)
	if n <= 0 {
		return Entry{}, errTruncated
	}
	entry := Entry{Request: callevent.Request{ReceivedAt: time.UnixMicro(micros).UTC()}}
	rest := string(record[n:])
	for _, field := range entryFields(&entry) {
		size, n := uvarint(rest)
		if n <= 0 || size > uint64(len(rest)-n) {
			return Entry{}, errTruncated
		}
		*field, rest = rest[n:n+int(size)], rest[n+int(size):]
	}
	return entry, nil
}

// uvarint is binary.Uvarint for a string.
func uvarint(s string) (value uint64, n int) {
	var shift uint
	for i := 0; i < len(s) && i < binary.MaxVarintLen64; i++ {
		value |= uint64(s[i]&0x7f) << shift
		if s[i] < 0x80 {
			return value, i + 1
		}
		shift += 7
	}
	return 0, 0
}

// appendFrame appends one record to a group. The partitions that it belongs to are stored behind
// it, where earlier receivers do not look; they are not told of a record whose contents are not
// known.
func appendFrame(group []byte, w *waiting) []byte {
	if len(group) == 0 {
		group = append(group, groupVersion)
	}
	var suffix []byte
	if len(w.decoded.Events) > 0 {
		var buffer [binary.MaxVarintLen64]byte
		suffix = binary.AppendUvarint(buffer[:0], uint64(w.touched))
	}
	group = binary.AppendUvarint(group, uint64(len(w.record)+len(suffix)))
	return append(append(group, w.record...), suffix...)
}

// frame is one record of a group that has not been decoded.
type frame []byte

// partitions returns those that the record belongs to, and whether it says so.
func (f frame) partitions() (set PartitionSet, told bool) {
	_, n := binary.Varint(f)
	rest := f[max(n, 0):]
	for range entryFields(&Entry{}) {
		size, n := binary.Uvarint(rest)
		if n <= 0 || size > uint64(len(rest)-n) {
			return 0, false
		}
		rest = rest[n+int(size):]
	}
	value, n := binary.Uvarint(rest)
	return PartitionSet(value), n > 0
}

// splitGroup takes a message of the EVENTS log apart.
func splitGroup(group []byte) ([]frame, error) {
	if len(group) == 0 {
		return nil, nil
	}
	if group[0] != groupVersion {
		return nil, fmt.Errorf("%w: version %d", errVersion, group[0])
	}
	var frames []frame
	for rest := group[1:]; len(rest) > 0; {
		size, n := binary.Uvarint(rest)
		if n <= 0 || size > uint64(len(rest)-n) {
			return frames, errTruncated
		}
		end := n + int(size)
		if size > 0 { // else a probe
			frames = append(frames, frame(rest[n:end]))
		}
		rest = rest[end:]
	}
	return frames, nil
}

// decodeFrames decodes those of the records that are wanted.
func decodeFrames(frames []frame, wanted func(frame) bool) ([]Entry, error) {
	var entries []Entry
	for _, f := range frames {
		if !wanted(f) {
			continue
		}
		entry, err := DecodeEntry(f)
		if err != nil {
			return entries, err
		}
		entries = append(entries, entry)
	}
	return entries, nil
}
