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

// appendFrame appends one record to a group.
func appendFrame(group, record []byte) []byte {
	if len(group) == 0 {
		group = append(group, groupVersion)
	}
	group = binary.AppendUvarint(group, uint64(len(record)))
	return append(group, record...)
}

// decodeGroup takes a message of the EVENTS log apart.
func decodeGroup(group []byte) ([]Entry, error) {
	if len(group) == 0 {
		return nil, nil
	}
	if group[0] != groupVersion {
		return nil, fmt.Errorf("%w: version %d", errVersion, group[0])
	}
	var entries []Entry
	for rest := group[1:]; len(rest) > 0; {
		size, n := binary.Uvarint(rest)
		if n <= 0 || size > uint64(len(rest)-n) {
			return entries, errTruncated
		}
		end := n + int(size)
		if size == 0 { // a probe
			rest = rest[end:]
			continue
		}
		entry, err := DecodeEntry(rest[n:end])
		if err != nil {
			return entries, err
		}
		entries, rest = append(entries, entry), rest[end:]
	}
	return entries, nil
}
