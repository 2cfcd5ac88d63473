package sys

import (
	"encoding/binary"
	"runtime"
	"syscall"
	"unsafe"
)

// Child says what a child becomes before it executes its program.
type Child struct {
	Path, Dir string
	Argv, Env []string
	Files     [3]uintptr // its descriptors 0, 1 and 2; none of them is one of these here
	Identity  *Identity  // nil keeps the guest's
	Tty       bool       // descriptor 0 is a terminal, and becomes its own
	Traced    bool       // by the thread that forks; it stops when it has executed
}

// Identity is who a child runs as.
type Identity struct{ Uid, Gid, Group int }

// Birth is a child on the way to its program.
type Birth struct {
	Pid    int
	status int
}

// plan is all that the child needs, in a form that it needs no memory for.
type plan struct {
	path, dir *byte
	argv, env []*byte
	child     *Child
	group     uint32
	status    int
	signals   uint64 // those that were blocked here
	errno     [8]byte
}

// Fork starts a child with a copy of this process's memory, and returns when there is one. That of the standard library
// shares the memory and keeps a processor of the Go runtime until the child has executed, so a child that stands still on the
// way, which a program inside can make it do, stops the whole guest. Nobody reads the copy: it cannot be dumped either.
func Fork(c *Child) (Birth, error) {
	p := plan{child: c}
	var err error
	for _, text := range []struct {
		from string
		to   **byte
	}{{c.Path, &p.path}, {c.Dir, &p.dir}} {
		if *text.to, err = syscall.BytePtrFromString(text.from); err != nil {
			return Birth{}, err
		}
	}
	if p.argv, err = syscall.SlicePtrFromStrings(c.Argv); err != nil {
		return Birth{}, err
	}
	if p.env, err = syscall.SlicePtrFromStrings(c.Env); err != nil {
		return Birth{}, err
	}
	if c.Identity != nil {
		p.group = uint32(c.Identity.Group)
	}
	var status [2]int
	if err := syscall.Pipe2(status[:], syscall.O_CLOEXEC); err != nil {
		return Birth{}, err
	}
	p.status = status[1]
	runtime.LockOSThread() // the signals that are blocked are the thread's
	pid, e := p.clone()
	runtime.UnlockOSThread()
	runtime.KeepAlive(&p)
	syscall.Close(status[1])
	if e != 0 {
		syscall.Close(status[0])
		return Birth{}, e
	}
	return Birth{Pid: int(pid), status: status[0]}, nil
}

// Executed waits until the child has executed its program, or is dead: nil for both. The error is the errno of the step that
// failed.
func (b Birth) Executed() error {
	defer syscall.Close(b.status)
	var errno [8]byte
	for {
		n, err := syscall.Read(b.status, errno[:])
		if err == syscall.EINTR {
			continue
		}
		if err != nil {
			return err
		}
		if n == len(errno) {
			return syscall.Errno(binary.NativeEndian.Uint64(errno[:]))
		}
		return nil
	}
}

const signalSet = unsafe.Sizeof(uint64(0))

// clone returns in the parent only. No signal may be handled in the child, and nothing of what runs there may need the Go
// runtime: its other threads do not exist there.
//
//go:norace
//go:nosplit
//go:noinline
func (p *plan) clone() (pid uintptr, e syscall.Errno) {
	const setMask = 2
	all := ^uint64(0)
	syscall.RawSyscall6(syscall.SYS_RT_SIGPROCMASK, setMask, uintptr(unsafe.Pointer(&all)), uintptr(unsafe.Pointer(&p.signals)), signalSet, 0, 0)
	pid, _, e = syscall.RawSyscall6(syscall.SYS_CLONE, uintptr(syscall.SIGCHLD), 0, 0, 0, 0, 0)
	if e == 0 && pid == 0 {
		p.become()
	}
	syscall.RawSyscall6(syscall.SYS_RT_SIGPROCMASK, setMask, uintptr(unsafe.Pointer(&p.signals)), 0, signalSet, 0, 0)
	return pid, e
}

// become is the way of the child. It ends in the program, or with the errno in the pipe.
//
//go:norace
//go:nosplit
func (p *plan) become() {
	e := p.prepare()
	if e == 0 {
		_, _, e = syscall.RawSyscall(syscall.SYS_EXECVE, uintptr(unsafe.Pointer(p.path)),
			uintptr(unsafe.Pointer(&p.argv[0])), uintptr(unsafe.Pointer(&p.env[0])))
	}
	*(*uint64)(unsafe.Pointer(&p.errno)) = uint64(e)
	syscall.RawSyscall(syscall.SYS_WRITE, uintptr(p.status), uintptr(unsafe.Pointer(&p.errno)), uintptr(len(p.errno)))
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
	if p.child.Traced {
		_, _, e = syscall.RawSyscall(syscall.SYS_PTRACE, syscall.PTRACE_TRACEME, 0, 0)
	}
	return e
}
