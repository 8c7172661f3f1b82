package main

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"syscall"
)

// mount is one line of /proc/self/mountinfo.
type mount struct {
	point, kind, options string // options are those of the file system
}

func readMounts() ([]mount, error) {
	content, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return nil, err
	}
	return parseMounts(string(content))
}

// parseMounts reads the format of proc_pid_mountinfo(5): optional fields end at a lone hyphen.
func parseMounts(mountinfo string) ([]mount, error) {
	const pointField, kindAfterHyphen, optionsAfterHyphen = 4, 1, 3
	var mounts []mount
	for line := range strings.Lines(mountinfo) {
		fields := strings.Fields(line)
		hyphen := slices.Index(fields, "-")
		if hyphen <= pointField || len(fields) <= hyphen+optionsAfterHyphen {
			return nil, fmt.Errorf("malformed mountinfo line %q", line)
		}
		mounts = append(mounts, mount{
			point:   unescape(fields[pointField]),
			kind:    fields[hyphen+kindAfterHyphen],
			options: fields[hyphen+optionsAfterHyphen],
		})
	}
	return mounts, nil
}

// unescape resolves the octal escapes of blanks and backslashes.
func unescape(s string) string {
	var out strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '\\' && i+3 < len(s) {
			if code, err := strconv.ParseUint(s[i+1:i+4], 8, 8); err == nil {
				out.WriteByte(byte(code))
				i += 3
				continue
			}
		}
		out.WriteByte(s[i])
	}
	return out.String()
}

// below selects the mount points inside the directories, in the order to unmount
// them: what was mounted last, and so may be on top of others, first.
func below(mounts []mount, dirs ...string) []string {
	var points []string
	for _, m := range slices.Backward(mounts) {
		if slices.ContainsFunc(dirs, func(dir string) bool { return strings.HasPrefix(m.point, dir+"/") }) {
			points = append(points, m.point)
		}
	}
	return points
}

// unmountBelow detaches every mount in the directories. It fails if one is left,
// as deleting the directories would then delete somebody else's files.
func unmountBelow(dirs ...string) error {
	mounts, err := readMounts()
	if err != nil {
		return err
	}
	for _, point := range below(mounts, dirs...) {
		if err := syscall.Unmount(point, syscall.MNT_DETACH); err != nil && !errors.Is(err, syscall.EINVAL) && !errors.Is(err, syscall.ENOENT) {
			return fmt.Errorf("unmount %s: %w", point, err)
		}
	}
	if mounts, err = readMounts(); err != nil {
		return err
	}
	if left := below(mounts, dirs...); len(left) > 0 {
		return fmt.Errorf("still mounted: %s", strings.Join(left, ", "))
	}
	return nil
}
