package files

import (
	"syscall"
	"unsafe"
)

// fstatat describes a name in an open directory without following a link.
func fstatat(fd int, name string, st *syscall.Stat_t) error {
	p, err := syscall.BytePtrFromString(name)
	if err != nil {
		return err
	}
	const noFollow = 0x100
	if _, _, errno := syscall.Syscall6(sysFstatat, uintptr(fd), uintptr(unsafe.Pointer(p)), uintptr(unsafe.Pointer(st)), noFollow, 0, 0); errno != 0 {
		return errno
	}
	return nil
}
