package sys

import (
	"fmt"
	"os"
	"syscall"
	"unsafe"
)

// OpenPty makes a pseudo terminal whose slave belongs to the given user, so that programs can reopen it by name.
func OpenPty(uid, gid int, rows, cols uint16) (master *os.File, slave int, err error) {
	fd, err := syscall.Open("/dev/ptmx", syscall.O_RDWR|syscall.O_NOCTTY|syscall.O_CLOEXEC, 0)
	if err != nil {
		return nil, -1, fmt.Errorf("open /dev/ptmx: %w", err)
	}
	fail := func(step string, err error) (*os.File, int, error) {
		syscall.Close(fd)
		return nil, -1, fmt.Errorf("%s: %w", step, err)
	}
	var unlock, number int32
	if err := Ioctl(uintptr(fd), syscall.TIOCSPTLCK, unsafe.Pointer(&unlock)); err != nil {
		return fail("unlock the terminal", err)
	}
	if err := Ioctl(uintptr(fd), syscall.TIOCGPTN, unsafe.Pointer(&number)); err != nil {
		return fail("name the terminal", err)
	}
	slave, err = syscall.Open(fmt.Sprintf("/dev/pts/%d", number), syscall.O_RDWR|syscall.O_NOCTTY|syscall.O_CLOEXEC, 0)
	if err != nil {
		return fail("open the terminal", err)
	}
	// A devpts that refuses the owner only costs reopening by name.
	_ = syscall.Fchown(slave, uid, gid)
	if err := SetWindow(uintptr(fd), rows, cols); err != nil {
		syscall.Close(slave)
		return fail("size the terminal", err)
	}
	if err := syscall.SetNonblock(fd, true); err != nil {
		syscall.Close(slave)
		return fail("unblock the terminal", err)
	}
	return os.NewFile(uintptr(fd), "pty"), slave, nil
}

// SetWindow tells the terminal its size; the foreground processes get SIGWINCH.
func SetWindow(fd uintptr, rows, cols uint16) error {
	size := [4]uint16{rows, cols}
	return Ioctl(fd, syscall.TIOCSWINSZ, unsafe.Pointer(&size))
}
