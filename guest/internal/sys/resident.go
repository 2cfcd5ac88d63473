package sys

import (
	"bytes"
	"os"
	"strconv"
	"strings"
	"syscall"
)

// ForgetProgram gives back the pages of this program's own file: its code and constants stay in the page cache, which all
// guests of a host share, and come back one by one as they are used. A mapping of which any page was changed stays as it is.
func ForgetProgram() {
	program, err := os.Readlink("/proc/self/exe")
	if err != nil {
		return
	}
	maps, err := os.ReadFile("/proc/self/smaps")
	if err != nil {
		return
	}
	for _, m := range unchanged(maps, program) {
		_, _, _ = syscall.RawSyscall(syscall.SYS_MADVISE, m.from, m.to-m.from, syscall.MADV_DONTNEED)
	}
}

type mapping struct{ from, to uintptr }

// unchanged finds the mappings of a file that nobody may write and of which no page is a copy of our own.
func unchanged(smaps []byte, file string) (found []mapping) {
	var m mapping
	candidate := false
	for line := range bytes.Lines(smaps) {
		// What is told of a mapping has names in capitals; a mapping begins with its place in hexadecimal.
		if line[0] >= 'A' && line[0] <= 'Z' {
			if rest, ok := bytes.CutPrefix(line, []byte("Anonymous:")); ok && candidate && bytes.HasPrefix(bytes.TrimSpace(rest), []byte("0 ")) {
				found = append(found, m)
			}
			continue
		}
		m, candidate = parseMapping(line, file)
	}
	return found
}

// parseMapping reads the first line of a mapping: `from-to rights offset device inode file`.
func parseMapping(line []byte, file string) (m mapping, ofFile bool) {
	if !bytes.HasSuffix(bytes.TrimSpace(line), []byte(" "+file)) {
		return mapping{}, false
	}
	fields := strings.Fields(string(line))
	if len(fields) != 6 || strings.Contains(fields[1], "w") {
		return mapping{}, false
	}
	from, to, _ := strings.Cut(fields[0], "-")
	begin, err1 := strconv.ParseUint(from, 16, 64)
	end, err2 := strconv.ParseUint(to, 16, 64)
	return mapping{uintptr(begin), uintptr(end)}, err1 == nil && err2 == nil
}
