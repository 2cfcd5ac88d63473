package files

import (
	"encoding/base64"
	"fmt"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
	"unicode/utf8"

	"chorus-sandbox/guest/internal/facts"
	"chorus-sandbox/guest/internal/fault"
)

// Stat is the wire form of a file's metadata.
type Stat struct {
	Path       string `json:"path"`
	PathBase64 string `json:"path_base64,omitempty"`
	Type       string `json:"type"`
	SizeBytes  int64  `json:"size_bytes"`
	Mode       string `json:"mode"`
	ModifiedAt string `json:"modified_at"`
	Etag       string `json:"etag"`
	Target     string `json:"target,omitempty"`
}

func kindOf(mode uint32) string {
	switch mode & syscall.S_IFMT {
	case syscall.S_IFREG:
		return "file"
	case syscall.S_IFDIR:
		return "dir"
	case syscall.S_IFLNK:
		return "symlink"
	case syscall.S_IFIFO:
		return "fifo"
	case syscall.S_IFSOCK:
		return "socket"
	}
	return "device"
}

func etagOf(st *syscall.Stat_t) string {
	return fmt.Sprintf("%x-%x-%x-%x", st.Ino, st.Size, st.Mtim.Nano(), st.Ctim.Nano())
}

func modeOf(mode uint32) string { return fmt.Sprintf("%04o", mode&0o7777) }

func describe(path string, st *syscall.Stat_t) Stat {
	s := Stat{
		Path: path, Type: kindOf(st.Mode), SizeBytes: st.Size, Mode: modeOf(st.Mode),
		ModifiedAt: facts.Stamp(time.Unix(st.Mtim.Unix())), Etag: etagOf(st),
	}
	if !utf8.ValidString(path) {
		s.Path, s.PathBase64 = strings.ToValidUTF8(path, "\uFFFD"), base64.StdEncoding.EncodeToString([]byte(path))
	}
	return s
}

const maxPath = 4096

// resolve makes a path absolute. It does not look at the file system.
func (f *Files) resolve(path string) (string, error) {
	switch {
	case path == "":
		return "", fault.New(fault.InvalidArgument, "path is empty")
	case len(path) > maxPath:
		return "", fault.New(fault.InvalidArgument, "path is longer than %d bytes", maxPath)
	case strings.ContainsRune(path, 0):
		return "", fault.New(fault.InvalidArgument, "path contains a NUL character")
	}
	if !filepath.IsAbs(path) {
		// Not cleaned: what a/../b means depends on where a leads, and the kernel knows.
		path = f.workdir + "/" + path
	}
	return path, nil
}

// parseMode reads an octal mode, which may have a leading zero or 0o.
func parseMode(text string) (uint32, error) {
	n, err := strconv.ParseUint(strings.TrimPrefix(text, "0o"), 8, 32)
	if err != nil || n > 0o7777 {
		return 0, fault.New(fault.InvalidArgument, "mode %q is not octal like 0644", fault.Clip(text, 16))
	}
	return uint32(n), nil
}

// guestOnly refuses what shows or changes the guest itself through /proc: its threads may follow /proc/self where a
// command would see only its own.
func (f *Files) guestOnly(fd int) error {
	if !onProc(fd) {
		return nil
	}
	buf := make([]byte, maxPath)
	n, err := syscall.Readlink("/proc/self/fd/"+strconv.Itoa(fd), buf)
	if err != nil {
		return syscall.EACCES
	}
	own := "/proc/" + strconv.Itoa(syscall.Getpid())
	if name := string(buf[:n]); name == own || strings.HasPrefix(name, own+"/") {
		return syscall.EACCES
	}
	return nil
}

func onProc(fd int) bool {
	const procMagic = 0x9fa0
	var fs syscall.Statfs_t
	return syscall.Fstatfs(fd, &fs) == nil && int64(fs.Type) == procMagic
}
