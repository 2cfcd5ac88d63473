// Package sys holds the few Linux calls the standard library does not wrap.
package sys

import (
	"encoding/binary"
	"os"
	"syscall"
	"time"
	"unsafe"
)

const clockBoottime = 7

// Boot reads CLOCK_BOOTTIME: monotonic, and it goes on while the host is suspended, so a lease cannot be slept through.
func Boot() time.Duration {
	var ts syscall.Timespec
	syscall.RawSyscall(syscall.SYS_CLOCK_GETTIME, clockBoottime, uintptr(unsafe.Pointer(&ts)), 0)
	return time.Duration(ts.Nano())
}

// BootTimer fires at a point of CLOCK_BOOTTIME without waking the process before that.
type BootTimer struct {
	file *os.File
	wake chan struct{}
}

// NewBootTimer opens a timerfd on the boot clock; where there is none the timer rechecks the clock every 30 s at most.
func NewBootTimer() *BootTimer {
	t := &BootTimer{wake: make(chan struct{}, 1)}
	fd, _, errno := syscall.Syscall(syscall.SYS_TIMERFD_CREATE, clockBoottime, syscall.O_CLOEXEC|syscall.O_NONBLOCK, 0)
	if errno == 0 {
		t.file = os.NewFile(fd, "timerfd")
		go t.pump()
	}
	return t
}

func (t *BootTimer) pump() {
	var buf [8]byte
	for {
		if _, err := t.file.Read(buf[:]); err != nil {
			return
		}
		_ = binary.NativeEndian.Uint64(buf[:])
		t.poke()
	}
}

func (t *BootTimer) poke() {
	select {
	case t.wake <- struct{}{}:
	default:
	}
}

// C delivers one value after each expiry; a value may also come early, so the receiver rereads the clock.
func (t *BootTimer) C() <-chan struct{} { return t.wake }

// Set arms the timer for a point of the boot clock.
func (t *BootTimer) Set(at time.Duration) {
	if t.file != nil {
		spec := [2]syscall.Timespec{1: syscall.NsecToTimespec(max(1, at.Nanoseconds()))}
		const absolute = 1
		_, _, errno := syscall.Syscall6(syscall.SYS_TIMERFD_SETTIME, t.file.Fd(), absolute, uintptr(unsafe.Pointer(&spec)), 0, 0, 0)
		if errno == 0 {
			return
		}
	}
	time.AfterFunc(min(30*time.Second, max(0, at-Boot())), t.poke)
}
