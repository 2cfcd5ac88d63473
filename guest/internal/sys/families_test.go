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
	if os.Getenv("FAMILIES") == "" {
		os.Exit(m.Run())
	}
	if err := OnlyCommonSockets(); err != nil {
		panic(err)
	}
	if len(os.Args) > 1 && os.Args[1] == "again" {
		tryFamilies()
		return
	}
	tryFamilies()
	child := exec.Command("/proc/self/exe", "again")
	child.Stdout, child.Stderr = os.Stdout, os.Stderr
	if err := child.Run(); err != nil {
		panic(err)
	}
}

func tryFamilies() {
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

func TestOnlyCommonSocketsCanBeHad(t *testing.T) {
	child := exec.Command("/proc/self/exe")
	child.Env = append(os.Environ(), "FAMILIES=1")
	out, err := child.CombinedOutput()
	if err != nil || strings.TrimSpace(string(out)) != "" {
		t.Errorf("%v\n%s", err, out)
	}
}

// A run of the filter as the kernel does it, for architectures this machine has not.
func TestTheFilterAnswersForEveryConvention(t *testing.T) {
	const native, refused = 0xc000003e, answerErrno | uint32(syscall.EAFNOSUPPORT)
	for _, c := range []struct {
		name               string
		arch, number, arg0 uint32
		want               uint32
	}{
		{"socket unix", native, syscall.SYS_SOCKET, syscall.AF_UNIX, answerAllow},
		{"socket packet", native, syscall.SYS_SOCKET, syscall.AF_PACKET, answerAllow},
		{"socket vsock", native, syscall.SYS_SOCKET, afVsock, refused},
		{"x32 socket vsock", native, syscall.SYS_SOCKET | x32Bit, afVsock, refused},
		{"another call", native, syscall.SYS_READ, afVsock, answerAllow},
		{"32-bit socket unix", arch32, socket32, syscall.AF_UNIX, answerAllow},
		{"32-bit socket vsock", arch32, socket32, afVsock, refused},
		{"32-bit socketcall socket", arch32, socketcall32, socketcallSocket, refused},
		{"32-bit socketcall connect", arch32, socketcall32, 3, answerAllow},
		{"32-bit, another call", arch32, syscall.SYS_SOCKET, afVsock, answerAllow},
	} {
		data := [6]uint32{atNumber / 4: c.number, atArch / 4: c.arch, atArg0 / 4: c.arg0}
		if got := interpret(socketFilter(), data); got != c.want {
			t.Errorf("%s: %#x", c.name, got)
		}
	}
}

func interpret(filter []syscall.SockFilter, data [6]uint32) uint32 {
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
