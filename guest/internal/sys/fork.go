package sys

import (
	"runtime"
	"syscall"
	"unsafe" // for the system calls, and go:linkname
)

// Child says what a child becomes before it executes its program.
type Child struct {
	Path, Dir string
	Argv, Env []string
	Files     [3]uintptr // its descriptors 0, 1 and 2; none of them is one of these here
	Identity  *Identity  // nil keeps the guest's
	Tty       bool       // descriptor 0 is a terminal, and becomes its own
	Nice      int        // its niceness; 0 keeps the guest's
}

// Identity is who a child runs as.
type Identity struct{ Uid, Gid, Group int }

// plan is all that the child needs, in a form that it needs no memory for.
type plan struct {
	path, dir *byte
	score     *byte // where its OOM score is written
	argv, env []*byte
	child     *Child
	group     uint32
	signals   uint64 // those that were blocked here
	failed    syscall.Errno
}

// Start starts a child and returns when it has executed its program, or is dead: nil for both. The error is the errno of the
// step that failed. The child's pid is in pid as soon as there is one. The child borrows the memory of this process and the
// thread waits for it, as with the standard library; but here the Go runtime knows that the thread waits. Otherwise a child
// that stands still on the way, which a program inside can make it do, would stop the whole guest.
func Start(c *Child, pid *int32) error {
	p := plan{child: c}
	var err error
	for _, text := range []struct {
		from string
		to   **byte
	}{{c.Path, &p.path}, {c.Dir, &p.dir}, {"/proc/self/oom_score_adj", &p.score}} {
		if *text.to, err = syscall.BytePtrFromString(text.from); err != nil {
			return err
		}
	}
	if p.argv, err = syscall.SlicePtrFromStrings(c.Argv); err != nil {
		return err
	}
	if p.env, err = syscall.SlicePtrFromStrings(c.Env); err != nil {
		return err
	}
	if c.Identity != nil {
		p.group = uint32(c.Identity.Group)
	}
	runtime.LockOSThread() // the signals that are blocked are the thread's
	e := p.clone(pid)
	runtime.UnlockOSThread()
	runtime.KeepAlive(&p)
	if e != 0 {
		return e
	}
	return nil
}

const signalSet = unsafe.Sizeof(uint64(0))

// vfork is clone(2) for a child that borrows the stack. It returns twice; a negative number is an errno.
//
//go:noescape
func vfork(flags uintptr, pid *int32) uintptr

//go:linkname entersyscall runtime.entersyscall
func entersyscall()

//go:linkname exitsyscall runtime.exitsyscall
func exitsyscall()

// clone returns in the parent only. No signal may be handled in the child, and nothing of what runs there may need the Go
// runtime, whose other threads go on meanwhile.
//
//go:norace
//go:nosplit
//go:noinline
func (p *plan) clone(pid *int32) (e syscall.Errno) {
	const setMask = 2
	all := ^uint64(0)
	entersyscall()
	syscall.RawSyscall6(syscall.SYS_RT_SIGPROCMASK, setMask, uintptr(unsafe.Pointer(&all)), uintptr(unsafe.Pointer(&p.signals)), signalSet, 0, 0)
	r := vfork(syscall.CLONE_VM|syscall.CLONE_VFORK|syscall.CLONE_PARENT_SETTID|uintptr(syscall.SIGCHLD), pid)
	if r == 0 {
		p.become()
	}
	syscall.RawSyscall6(syscall.SYS_RT_SIGPROCMASK, setMask, uintptr(unsafe.Pointer(&p.signals)), 0, signalSet, 0, 0)
	exitsyscall()
	if int(r) < 0 {
		return syscall.Errno(-r)
	}
	return p.failed
}

// become is the way of the child. It ends in the program, or in its end with the errno left behind.
//
//go:norace
//go:nosplit
func (p *plan) become() {
	e := p.prepare()
	if e == 0 {
		_, _, e = syscall.RawSyscall(syscall.SYS_EXECVE, uintptr(unsafe.Pointer(p.path)),
			uintptr(unsafe.Pointer(&p.argv[0])), uintptr(unsafe.Pointer(&p.env[0])))
	}
	p.failed = e
	for {
		syscall.RawSyscall(syscall.SYS_EXIT_GROUP, 127, 0, 0)
	}
}

//go:norace
//go:nosplit
func (p *plan) prepare() (e syscall.Errno) {
	// Handlers before the mask: none of the guest's may run here.
	var byDefault [32]byte
	for signal := uintptr(1); signal <= 64; signal++ {
		syscall.RawSyscall6(syscall.SYS_RT_SIGACTION, signal, uintptr(unsafe.Pointer(&byDefault)), 0, signalSet, 0, 0)
	}
	const setMask = 2
	syscall.RawSyscall6(syscall.SYS_RT_SIGPROCMASK, setMask, uintptr(unsafe.Pointer(&p.signals)), 0, signalSet, 0, 0)
	p.expose()
	if p.child.Nice != 0 {
		syscall.RawSyscall(syscall.SYS_SETPRIORITY, syscall.PRIO_PROCESS, 0, uintptr(p.child.Nice))
	}
	if _, _, e = syscall.RawSyscall(syscall.SYS_SETSID, 0, 0, 0); e != 0 {
		return e
	}
	if who := p.child.Identity; who != nil {
		if _, _, e = syscall.RawSyscall(syscall.SYS_SETGROUPS, 1, uintptr(unsafe.Pointer(&p.group)), 0); e != 0 {
			return e
		}
		if _, _, e = syscall.RawSyscall(syscall.SYS_SETGID, uintptr(who.Gid), 0, 0); e != 0 {
			return e
		}
		if _, _, e = syscall.RawSyscall(syscall.SYS_SETUID, uintptr(who.Uid), 0, 0); e != 0 {
			return e
		}
	}
	if _, _, e = syscall.RawSyscall(syscall.SYS_CHDIR, uintptr(unsafe.Pointer(p.dir)), 0, 0); e != 0 {
		return e
	}
	for i := range uintptr(3) {
		if _, _, e = syscall.RawSyscall(syscall.SYS_DUP3, p.child.Files[i], i, 0); e != 0 {
			return e
		}
	}
	if p.child.Tty {
		if _, _, e = syscall.RawSyscall(syscall.SYS_IOCTL, 0, syscall.TIOCSCTTY, 1); e != 0 {
			return e
		}
	}
	return 0
}

// expose makes the child the OOM killer's choice instead of the guest, before it is anything else: the file is this user's,
// and a child that borrows memory has a score of its own. Where it fails the child only keeps the guest's.
//
//go:norace
//go:nosplit
func (p *plan) expose() {
	const here = ^uintptr(99) // AT_FDCWD
	fd, _, e := syscall.RawSyscall6(syscall.SYS_OPENAT, here, uintptr(unsafe.Pointer(p.score)), syscall.O_WRONLY|syscall.O_CLOEXEC, 0, 0, 0)
	if e != 0 {
		return
	}
	most := [4]byte{'1', '0', '0', '0'}
	syscall.RawSyscall(syscall.SYS_WRITE, fd, uintptr(unsafe.Pointer(&most)), uintptr(len(most)))
	syscall.RawSyscall(syscall.SYS_CLOSE, fd, 0, 0)
}
