package sys

import (
	"fmt"
	"runtime"
	"syscall"
	"unsafe"
)

const (
	// Offsets in struct seccomp_data.
	atNumber = 0
	atArch   = 4
	atArg0   = 16

	answerAllow = 0x7fff0000
	answerErrno = 0x00050000

	setModeFilter = 1
	allThreads    = 1

	// socketcallSocket is the first argument of socketcall, all of these calls in one, when it means socket.
	socketcallSocket = 1
	// x32Bit marks the calls of the x32 convention, which otherwise have the numbers of the native one.
	x32Bit = 0x40000000

	afVsock = 40

	prSetNoNewPrivs = 38
)

// families are what programs of a sandbox need: local sockets, loopback, and asking what interfaces there are. What the
// kernel refuses by rights, it goes on refusing by rights.
var families = []uint32{syscall.AF_UNSPEC, syscall.AF_UNIX, syscall.AF_INET, syscall.AF_INET6, syscall.AF_NETLINK, syscall.AF_PACKET}

// OnlyCommonSockets refuses every other kind of socket to this process and to all it ever starts. A container without a
// network still reaches the hypervisor of its host by AF_VSOCK, which no namespace holds back and not every engine's
// seccomp profile knows; the other kinds are kernel code that no sandbox needs.
func OnlyCommonSockets() error {
	// The condition for a filter of one's own. Engines are asked for it anyway; set here, it does not hang on them alone.
	if err := prctl(prSetNoNewPrivs, 1); err != nil {
		return fmt.Errorf("no new privileges: %w", err)
	}
	filter := socketFilter()
	program := syscall.SockFprog{Len: uint16(len(filter)), Filter: &filter[0]}
	_, _, e := syscall.Syscall(sysSeccomp, setModeFilter, allThreads, uintptr(unsafe.Pointer(&program)))
	runtime.KeepAlive(filter)
	// What counts is that they cannot be had, not who refuses them: some kernels have neither filters nor such sockets.
	fd, err := syscall.Socket(afVsock, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil
	}
	syscall.Close(fd)
	return fmt.Errorf("sockets that pass by the network cannot be refused: seccomp: %w", e)
}

// socketFilter is classic BPF; jumps count instructions from the next one.
func socketFilter() []syscall.SockFilter {
	load := func(at uint32) syscall.SockFilter {
		return syscall.SockFilter{Code: syscall.BPF_LD | syscall.BPF_W | syscall.BPF_ABS, K: at}
	}
	equal := func(k uint32, then, otherwise int) syscall.SockFilter {
		return syscall.SockFilter{Code: syscall.BPF_JMP | syscall.BPF_JEQ | syscall.BPF_K, K: k, Jt: uint8(then), Jf: uint8(otherwise)}
	}
	mask := syscall.SockFilter{Code: syscall.BPF_ALU | syscall.BPF_AND | syscall.BPF_K, K: ^uint32(x32Bit)}
	allow := syscall.SockFilter{Code: syscall.BPF_RET | syscall.BPF_K, K: answerAllow}
	refuse := syscall.SockFilter{Code: syscall.BPF_RET | syscall.BPF_K, K: answerErrno | uint32(syscall.EAFNOSUPPORT)}

	filter := []syscall.SockFilter{
		load(atArch),
		equal(arch32, 0, 7),
		// A 32-bit program: a filter does not see the arguments of socketcall, so that is refused where it means socket.
		load(atNumber),
		equal(socket32, 9, 0),
		equal(socketcall32, 0, 2),
		load(atArg0),
		equal(socketcallSocket, 1, 0),
		allow,
		refuse,
		// Any other.
		load(atNumber),
		mask,
		equal(syscall.SYS_SOCKET, 1, 0),
		allow,
		// The family.
		load(atArg0),
	}
	for i, family := range families {
		filter = append(filter, equal(family, len(families)-i, 0))
	}
	return append(filter, refuse, allow)
}
