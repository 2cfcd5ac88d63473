package sys

import (
	"os"
	"os/exec"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"unsafe"
)

// The filter stays with a process for ever, so a child of the test puts it on.
func TestMain(m *testing.M) {
	if os.Getenv("RESTRICTED") == "" {
		os.Exit(m.Run())
	}
	if err := Restrict(); err != nil {
		panic(err)
	}
	if len(os.Args) > 1 && os.Args[1] == "again" {
		tryAll()
		return
	}
	tryAll()
	child := exec.Command("/proc/self/exe", "again")
	child.Stdout, child.Stderr = os.Stdout, os.Stderr
	if err := child.Run(); err != nil {
		panic(err)
	}
}

func tryAll() {
	for name, family := range map[string]int{"unix": 1, "inet": 2, "inet6": 10, "netlink": 16} {
		kind := syscall.SOCK_STREAM
		if family == syscall.AF_NETLINK {
			kind = syscall.SOCK_RAW
		}
		fd, err := syscall.Socket(family, kind, 0)
		if err != nil {
			println("refused:", name)
			continue
		}
		syscall.Close(fd)
	}
	for name, family := range map[string]int{"vsock": 40, "alg": 38, "tipc": 30, "can": 29} {
		if _, err := syscall.Socket(family, syscall.SOCK_STREAM, 0); err != syscall.EAFNOSUPPORT {
			println("had:", name)
		}
	}
	tryLimit()
	tryLease()
	// On a thread of its own, and by the other convention of calls.
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread()
		if _, _, e := syscall.RawSyscall(syscall.SYS_SOCKET|x32Bit, afVsock, syscall.SOCK_STREAM, 0); e == 0 {
			println("had: vsock by x32")
		}
	}()
	<-done
}

func tryLimit() {
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(RlimitNproc, &limit); err != nil {
		println("the limit cannot be asked for")
	}
	limit.Cur--
	if syscall.Setrlimit(RlimitNproc, &limit) != syscall.EPERM {
		println("had: the limit of processes")
	}
	if _, _, e := syscall.RawSyscall(sysSetrlimit, RlimitNproc, uintptr(unsafe.Pointer(&limit)), 0); e != syscall.EPERM {
		println("had: the limit of processes by setrlimit")
	}
	if _, _, e := syscall.RawSyscall6(sysPrlimit64, 0, RlimitNproc, uintptr(unsafe.Pointer(&limit)), 0, 0, 1); e != syscall.EPERM {
		println("had: the limit of processes by a wrong password")
	}
	if err := syscall.Setrlimit(syscall.RLIMIT_CORE, &syscall.Rlimit{}); err != nil {
		println("another limit is refused")
	}
	if len(os.Args) == 1 && SetProcesses(0, limit) != nil {
		println("the guest's own change is refused")
	}
}

func tryLease() {
	file, err := os.CreateTemp("", "lease")
	if err != nil {
		println("there is no file to lease")
		return
	}
	defer os.Remove(file.Name())
	defer file.Close()
	for name, kind := range map[string]uintptr{"lease": setLease, "delegation": setDelegation} {
		if _, _, e := syscall.Syscall(syscall.SYS_FCNTL, file.Fd(), kind, syscall.F_WRLCK); e != syscall.EPERM {
			println("had:", name)
		}
	}
	if _, _, e := syscall.Syscall(syscall.SYS_FCNTL, file.Fd(), syscall.F_GETFD, 0); e != 0 {
		println("another command of fcntl is refused")
	}
}

func TestWhatIsRestrictedCannotBeHad(t *testing.T) {
	child := exec.Command("/proc/self/exe")
	child.Env = append(os.Environ(), "RESTRICTED=1")
	out, err := child.CombinedOutput()
	if err != nil || strings.TrimSpace(string(out)) != "" {
		t.Errorf("%v\n%s", err, out)
	}
}

// A run of the filter as the kernel does it, for architectures this machine has not.
func TestTheFilterAnswersForEveryConvention(t *testing.T) {
	const native, noKind, notYours = 0xc000003e, answerErrno | uint32(syscall.EAFNOSUPPORT), answerErrno | uint32(syscall.EPERM)
	own := uint64(password[1])<<32 | uint64(password[0])
	for _, c := range []struct {
		name         string
		arch, number uint32
		args         [6]uint64
		want         uint32
	}{
		{"socket unix", native, syscall.SYS_SOCKET, [6]uint64{syscall.AF_UNIX}, answerAllow},
		{"socket packet", native, syscall.SYS_SOCKET, [6]uint64{syscall.AF_PACKET}, answerAllow},
		{"socket vsock", native, syscall.SYS_SOCKET, [6]uint64{afVsock}, noKind},
		{"socket vsock, with bits the kernel ignores", native, syscall.SYS_SOCKET, [6]uint64{1<<32 | afVsock}, noKind},
		{"x32 socket vsock", native, syscall.SYS_SOCKET | x32Bit, [6]uint64{afVsock}, noKind},
		{"another call", native, syscall.SYS_READ, [6]uint64{afVsock}, answerAllow},
		{"32-bit socket unix", arch32, socket32, [6]uint64{syscall.AF_UNIX}, answerAllow},
		{"32-bit socket vsock", arch32, socket32, [6]uint64{afVsock}, noKind},
		{"32-bit socketcall socket", arch32, socketcall32, [6]uint64{socketcallSocket}, noKind},
		{"32-bit socketcall connect", arch32, socketcall32, [6]uint64{3}, answerAllow},
		{"32-bit, another call", arch32, 4, [6]uint64{afVsock}, answerAllow},
		{"setrlimit processes", native, sysSetrlimit, [6]uint64{RlimitNproc, 1}, notYours},
		{"setrlimit processes, with bits the kernel ignores", native, sysSetrlimit, [6]uint64{1<<32 | RlimitNproc, 1}, notYours},
		{"setrlimit files", native, sysSetrlimit, [6]uint64{7, 1}, answerAllow},
		{"32-bit setrlimit processes", arch32, setrlimit32, [6]uint64{RlimitNproc, 1}, notYours},
		{"fcntl lease", native, syscall.SYS_FCNTL, [6]uint64{3, setLease}, notYours},
		{"fcntl lease, with bits the kernel ignores", native, syscall.SYS_FCNTL, [6]uint64{3, 1<<32 | setLease}, notYours},
		{"fcntl delegation", native, syscall.SYS_FCNTL, [6]uint64{3, setDelegation}, notYours},
		{"fcntl lock", native, syscall.SYS_FCNTL, [6]uint64{setLease, syscall.F_SETLK}, answerAllow},
		{"x32 fcntl lease", native, syscall.SYS_FCNTL | x32Bit, [6]uint64{3, setLease}, notYours},
		{"32-bit fcntl lease", arch32, fcntl32, [6]uint64{3, setLease}, notYours},
		{"32-bit fcntl64 lease", arch32, fcntl3264, [6]uint64{3, setLease}, notYours},
		{"prlimit asks", native, sysPrlimit64, [6]uint64{0, RlimitNproc, 0, 1}, answerAllow},
		{"prlimit of another limit", native, sysPrlimit64, [6]uint64{0, 7, 1}, answerAllow},
		{"prlimit with a low address", native, sysPrlimit64, [6]uint64{0, RlimitNproc, 1}, notYours},
		{"prlimit with a high address", native, sysPrlimit64, [6]uint64{0, RlimitNproc, 1 << 32}, notYours},
		{"prlimit with half the password", native, sysPrlimit64, [6]uint64{0, RlimitNproc, 1, 0, 0, own & 0xffffffff}, notYours},
		{"prlimit of the guest", native, sysPrlimit64, [6]uint64{0, RlimitNproc, 1, 0, 0, own}, answerAllow},
		{"32-bit prlimit processes", arch32, prlimit32, [6]uint64{0, RlimitNproc, 1}, notYours},
	} {
		data := make([]uint32, 16)
		data[0], data[1] = c.number, c.arch
		for i, arg := range c.args {
			data[4+2*i], data[5+2*i] = uint32(arg), uint32(arg>>32)
		}
		if got := interpret(assemble(rules()), data); got != c.want {
			t.Errorf("%s: %#x", c.name, got)
		}
	}
}

func interpret(filter []syscall.SockFilter, data []uint32) uint32 {
	var a uint32
	for at := 0; ; at++ {
		switch in := filter[at]; in.Code {
		case syscall.BPF_LD | syscall.BPF_W | syscall.BPF_ABS:
			a = data[in.K/uint32(unsafe.Sizeof(a))]
		case syscall.BPF_ALU | syscall.BPF_AND | syscall.BPF_K:
			a &= in.K
		case syscall.BPF_JMP | syscall.BPF_JEQ | syscall.BPF_K:
			if a == in.K {
				at += int(in.Jt)
			} else {
				at += int(in.Jf)
			}
		default:
			return in.K
		}
	}
}
