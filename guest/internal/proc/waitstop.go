package proc

import (
	"syscall"
	"unsafe"
)

// siginfo is the part of siginfo_t that waitid fills for a child, padded to its size.
type siginfo struct {
	signo, errno, code, _ int32
	pid, uid              int32
	status                int32
	_                     [100]byte
}

const (
	pPid       = 1
	wNoWait    = 0x01000000
	wExited    = 4
	wStopped   = 2
	cldTrapped = 4
)

// waitStop waits until the traced child has stopped, without consuming its end if it was killed before.
func waitStop(pid int) bool {
	for {
		var info siginfo
		_, _, errno := syscall.Syscall6(syscall.SYS_WAITID, pPid, uintptr(pid), uintptr(unsafe.Pointer(&info)),
			wExited|wStopped|wNoWait, 0, 0)
		if errno == syscall.EINTR {
			continue
		}
		return errno == 0 && info.code == cldTrapped
	}
}
