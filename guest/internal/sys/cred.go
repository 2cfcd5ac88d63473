package sys

import (
	"runtime"
	"syscall"
	"unsafe"
)

const keep = ^uintptr(0)

// SetEffective changes the effective uid and gid of the calling thread alone (syscall.Setresuid would change every
// thread). Real and saved ids stay, so the kernel still refuses signals and ptrace from processes of that uid.
// The caller must have locked its goroutine to the thread.
func SetEffective(uid, gid int) error {
	if _, _, e := syscall.RawSyscall(syscall.SYS_SETRESGID, keep, uintptr(gid), keep); e != 0 {
		return e
	}
	if _, _, e := syscall.RawSyscall(syscall.SYS_SETRESUID, keep, uintptr(uid), keep); e != 0 {
		return e
	}
	return nil
}

// DropGroups empties the supplementary groups of the calling thread alone.
func DropGroups() error {
	if _, _, e := syscall.RawSyscall(syscall.SYS_SETGROUPS, 0, 0, 0); e != 0 {
		return e
	}
	return nil
}

// AsUser runs f with the effective uid and gid of the commands and returns the thread to the guest's own.
// A thread that cannot return is never used again: the goroutine stays locked to it and ends with it.
func AsUser(uid, gid int, f func()) error {
	euid, egid := syscall.Geteuid(), syscall.Getegid()
	if uid == euid {
		f()
		return nil
	}
	runtime.LockOSThread()
	// uid last on the way in, first on the way out: changing the gid needs the capability that goes with uid 0.
	if err := SetEffective(uid, gid); err != nil {
		runtime.UnlockOSThread()
		return err
	}
	f()
	_, _, e := syscall.RawSyscall(syscall.SYS_SETRESUID, keep, uintptr(euid), keep)
	if e == 0 {
		_, _, e = syscall.RawSyscall(syscall.SYS_SETRESGID, keep, uintptr(egid), keep)
	}
	if e != 0 {
		return e
	}
	runtime.UnlockOSThread()
	return nil
}

// WithRealIds runs f with the real uid and gid of the commands, by which the kernel lets their limits be changed. Effective
// and saved ids stay, so nobody else may change anything of this process but how its one thread is scheduled meanwhile.
func WithRealIds(uid, gid int, f func()) error {
	ruid, rgid := syscall.Getuid(), syscall.Getgid()
	runtime.LockOSThread()
	if _, _, e := syscall.RawSyscall(syscall.SYS_SETRESGID, uintptr(gid), keep, keep); e != 0 {
		runtime.UnlockOSThread()
		return e
	}
	_, _, e := syscall.RawSyscall(syscall.SYS_SETRESUID, uintptr(uid), keep, keep)
	if e == 0 {
		f()
		_, _, e = syscall.RawSyscall(syscall.SYS_SETRESUID, uintptr(ruid), keep, keep)
	}
	if _, _, back := syscall.RawSyscall(syscall.SYS_SETRESGID, uintptr(rgid), keep, keep); e != 0 || back != 0 {
		// A thread that cannot return is never used again: the goroutine stays locked to it and ends with it.
		return max(e, back)
	}
	runtime.UnlockOSThread()
	return nil
}

const (
	prSetDumpable       = 4
	prSetChildSubreaper = 36
)

// Undumpable keeps every other process from reading the guest through /proc or ptrace.
func Undumpable() error { return prctl(prSetDumpable, 0) }

// BecomeSubreaper makes orphans of our children come to us where we are not PID 1.
func BecomeSubreaper() error { return prctl(prSetChildSubreaper, 1) }

func prctl(option, value uintptr) error {
	if _, _, e := syscall.Syscall6(syscall.SYS_PRCTL, option, value, 0, 0, 0, 0); e != 0 {
		return e
	}
	return nil
}

// RlimitNproc is the resource number of the limit of processes per uid.
const RlimitNproc = 6

// Ioctl runs an ioctl with a pointer argument.
func Ioctl(fd uintptr, request uintptr, arg unsafe.Pointer) error {
	if _, _, e := syscall.Syscall(syscall.SYS_IOCTL, fd, request, uintptr(arg)); e != 0 {
		return e
	}
	return nil
}

// Euid is the effective uid of the guest.
func Euid() int { return syscall.Geteuid() }
