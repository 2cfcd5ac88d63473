package sys

import (
	"syscall"
	"time"
	"unsafe"
)

const (
	// OPath opens a name only to work with it: no right to read it is needed.
	OPath       = 0x200000
	noFollow    = 0x100
	removeDir   = 0x200
	noReplace   = 1
	maxLinkSize = 4096
)

// Fstatat describes a name in an open directory without following a link.
func Fstatat(dir int, name string, st *syscall.Stat_t) error { return fstatat(dir, name, st, noFollow) }

// FstatatFollow describes what a name in an open directory leads to.
func FstatatFollow(dir int, name string, st *syscall.Stat_t) error { return fstatat(dir, name, st, 0) }

func fstatat(dir int, name string, st *syscall.Stat_t, flags uintptr) error {
	p, err := syscall.BytePtrFromString(name)
	if err != nil {
		return err
	}
	return failed(syscall.Syscall6(sysFstatat, uintptr(dir), uintptr(unsafe.Pointer(p)), uintptr(unsafe.Pointer(st)), flags, 0, 0))
}

// Readlinkat reads a link in an open directory.
func Readlinkat(dir int, name string) (string, error) {
	p, err := syscall.BytePtrFromString(name)
	if err != nil {
		return "", err
	}
	buf := make([]byte, maxLinkSize)
	n, _, errno := syscall.Syscall6(syscall.SYS_READLINKAT, uintptr(dir), uintptr(unsafe.Pointer(p)),
		uintptr(unsafe.Pointer(&buf[0])), uintptr(len(buf)), 0, 0)
	if errno != 0 {
		return "", errno
	}
	return string(buf[:n]), nil
}

// Unlinkat removes a name that is not a directory, or an empty directory.
func Unlinkat(dir int, name string, isDir bool) error {
	p, err := syscall.BytePtrFromString(name)
	if err != nil {
		return err
	}
	var flags uintptr
	if isDir {
		flags = removeDir
	}
	return failed(syscall.Syscall(syscall.SYS_UNLINKAT, uintptr(dir), uintptr(unsafe.Pointer(p)), flags))
}

// Symlinkat makes a link in an open directory.
func Symlinkat(target string, dir int, name string) error {
	t, err := syscall.BytePtrFromString(target)
	if err != nil {
		return err
	}
	p, err := syscall.BytePtrFromString(name)
	if err != nil {
		return err
	}
	return failed(syscall.Syscall(syscall.SYS_SYMLINKAT, uintptr(unsafe.Pointer(t)), uintptr(dir), uintptr(unsafe.Pointer(p))))
}

// RenameNew renames and fails with EEXIST where something has the new name already. Kernels without that choice
// replace what rename replaces: a directory takes the place of an empty one only.
func RenameNew(dir int, name string, toDir int, to string) error {
	p, err := syscall.BytePtrFromString(name)
	if err != nil {
		return err
	}
	q, err := syscall.BytePtrFromString(to)
	if err != nil {
		return err
	}
	err = failed(syscall.Syscall6(sysRenameat2, uintptr(dir), uintptr(unsafe.Pointer(p)), uintptr(toDir), uintptr(unsafe.Pointer(q)), noReplace, 0))
	if err == syscall.ENOSYS || err == syscall.EINVAL {
		return syscall.Renameat(dir, name, toDir, to)
	}
	return err
}

// SetModified sets the times of an open file.
func SetModified(fd int, at time.Time) error { return utimensat(fd, nil, at, 0) }

// SetModifiedAt sets the times of a name in an open directory without following a link.
func SetModifiedAt(dir int, name string, at time.Time) error {
	p, err := syscall.BytePtrFromString(name)
	if err != nil {
		return err
	}
	return utimensat(dir, p, at, noFollow)
}

func utimensat(fd int, name *byte, at time.Time, flags uintptr) error {
	one := syscall.Timespec{}
	one.Sec, one.Nsec = at.Unix(), int64(at.Nanosecond())
	times := [2]syscall.Timespec{one, one}
	return failed(syscall.Syscall6(syscall.SYS_UTIMENSAT, uintptr(fd), uintptr(unsafe.Pointer(name)), uintptr(unsafe.Pointer(&times)), flags, 0, 0))
}

func failed(_, _ uintptr, errno syscall.Errno) error {
	if errno != 0 {
		return errno
	}
	return nil
}

// Dup makes another descriptor of the same open file, which commands do not inherit.
func Dup(fd int) (int, error) {
	n, _, errno := syscall.Syscall(syscall.SYS_FCNTL, uintptr(fd), syscall.F_DUPFD_CLOEXEC, 0)
	if errno != 0 {
		return -1, errno
	}
	return int(n), nil
}
