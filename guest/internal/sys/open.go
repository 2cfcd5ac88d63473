package sys

import (
	"sync"
	"syscall"
	"unsafe"
)

// sysOpenat2 has one number on all architectures.
const (
	sysOpenat2     = 437
	resolveNoMagic = 0x02
	atFdcwd        = -100
)

type openHow struct{ flags, mode, resolve uint64 }

var canResolve = sync.OnceValue(func() bool {
	fd, err := openat2("/", syscall.O_RDONLY|syscall.O_DIRECTORY)
	if err == nil {
		syscall.Close(fd)
	}
	return err == nil
})

// OpenPlain opens a path without passing through the links in /proc that lead to what a process has open: for the
// guest's threads these are the guest's. Kernels without that choice open as usual.
func OpenPlain(path string, flags int) (int, error) {
	if canResolve() {
		return openat2(path, flags)
	}
	return syscall.Open(path, flags|syscall.O_CLOEXEC, 0)
}

// ReadPlain reads the beginning of a file that may be anybody's: only a regular one, and no more of it than max.
func ReadPlain(path string, max int) ([]byte, error) {
	// Without it the kernel waits for a writer of a FIFO here.
	fd, err := OpenPlain(path, syscall.O_RDONLY|syscall.O_NONBLOCK|syscall.O_NOCTTY)
	if err != nil {
		return nil, err
	}
	defer syscall.Close(fd)
	var st syscall.Stat_t
	if err := syscall.Fstat(fd, &st); err != nil {
		return nil, err
	}
	if st.Mode&syscall.S_IFMT != syscall.S_IFREG {
		return nil, syscall.EINVAL
	}
	text := make([]byte, min(max, int(st.Size)))
	n, err := ReadFull(fd, text, 0)
	if err != nil {
		return nil, err
	}
	return text[:n], nil
}

// ReadFull fills buf from an offset of a file; fewer bytes without an error are the end of the file.
func ReadFull(fd int, buf []byte, offset int64) (n int, err error) {
	for n < len(buf) {
		m, err := syscall.Pread(fd, buf[n:], offset+int64(n))
		if err == syscall.EINTR {
			continue
		}
		if err != nil {
			return n, err
		}
		if m == 0 {
			break
		}
		n += m
	}
	return n, nil
}

func openat2(path string, flags int) (int, error) {
	name, err := syscall.BytePtrFromString(path)
	if err != nil {
		return -1, err
	}
	how := openHow{flags: uint64(flags | syscall.O_CLOEXEC), resolve: resolveNoMagic}
	for {
		dir := atFdcwd
		fd, _, errno := syscall.Syscall6(sysOpenat2, uintptr(dir), uintptr(unsafe.Pointer(name)), uintptr(unsafe.Pointer(&how)), unsafe.Sizeof(how), 0, 0)
		if errno == syscall.EINTR {
			continue
		}
		if errno != 0 {
			return -1, errno
		}
		return int(fd), nil
	}
}
