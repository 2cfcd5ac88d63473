package sys

import (
	"crypto/rand"
	"encoding/binary"
	"fmt"
	"runtime"
	"syscall"
	"unsafe"
)

const (
	answerAllow = 0x7fff0000
	answerErrno = 0x00050000

	setModeFilter   = 1
	allThreads      = 1
	prSetNoNewPrivs = 38

	// socketcallSocket is the first argument of socketcall, all of these calls in one, when it means socket.
	socketcallSocket = 1
	// x32Bit marks the calls of the x32 convention, which otherwise have the numbers of the native one.
	x32Bit  = 0x40000000
	afVsock = 40

	setLease      = 1024
	setDelegation = 1040 // a lease as well, since Linux 6.19
)

// families are what programs of a sandbox need: local sockets, loopback, and asking what interfaces there are. What the
// kernel refuses by rights, it goes on refusing by rights.
var families = []uint32{syscall.AF_UNSPEC, syscall.AF_UNIX, syscall.AF_INET, syscall.AF_INET6, syscall.AF_NETLINK, syscall.AF_PACKET}

// password goes with the guest's own prlimit in an argument that the kernel does not look at but the filter does: one
// limit has to stay the guest's to change and nobody else's. Nothing in the sandbox can read the guest's memory.
var password = func() (word [2]uint32) {
	var random [8]byte
	_, _ = rand.Read(random[:]) // never fails
	word[0], word[1] = binary.LittleEndian.Uint32(random[:4]), binary.LittleEndian.Uint32(random[4:])
	return word
}()

// Restrict puts a filter on this process and on all it will ever start:
//
// Only common kinds of sockets can be had. A container without a network still reaches the hypervisor of its host by
// AF_VSOCK, which no namespace holds back and not every engine's seccomp profile knows; the other kinds are kernel code that
// no sandbox needs.
//
// No leases on files can be taken: whoever opens such a file, or starts the program in it, waits until its holder gives it
// back, 45 s at most by default, and then it can be taken again. A command could so stop the guest.
//
// The limit of processes cannot be changed. The hard limit has to leave room for what sandbox_update may give later, so the
// soft one must not be a command's to raise: what lies between is the guest's reserve.
func Restrict() error {
	// The condition for a filter of one's own. Engines are asked for it anyway; set here, it does not hang on them alone.
	if err := prctl(prSetNoNewPrivs, 1); err != nil {
		return fmt.Errorf("no new privileges: %w", err)
	}
	filter := assemble(rules())
	program := syscall.SockFprog{Len: uint16(len(filter)), Filter: &filter[0]}
	_, _, e := syscall.Syscall(sysSeccomp, setModeFilter, allThreads, uintptr(unsafe.Pointer(&program)))
	runtime.KeepAlive(filter)
	// What counts is that such sockets cannot be had, not who refuses them: some kernels have neither filters nor them.
	fd, err := syscall.Socket(afVsock, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil
	}
	syscall.Close(fd)
	return fmt.Errorf("sockets that pass by the network cannot be refused: seccomp: %w", e)
}

// SetProcesses changes the limit of processes: the guest's own, which its children start with, where pid is 0.
func SetProcesses(pid int, limit syscall.Rlimit) error {
	_, _, e := syscall.RawSyscall6(sysPrlimit64, uintptr(pid), RlimitNproc, uintptr(unsafe.Pointer(&limit)), 0, 0,
		uintptr(uint64(password[1])<<32|uint64(password[0])))
	if e != 0 {
		return e
	}
	return nil
}

// rules is the filter. Offsets are those of struct seccomp_data; of arguments, the low half and the high half.
func rules() []rule {
	const number, arch = 0, 4
	low := func(arg uint32) uint32 { return 16 + 8*arg }
	high := func(arg uint32) uint32 { return low(arg) + 4 }
	code := []rule{
		load(arch), equal(arch32, "32-bit", ""),

		load(number), and(^uint32(x32Bit)),
		equal(syscall.SYS_SOCKET, "socket", ""), equal(sysSetrlimit, "setrlimit", ""),
		equal(syscall.SYS_FCNTL, "fcntl", ""), equal(sysPrlimit64, "prlimit", "allow"),

		// A filter does not see the arguments of socketcall, so that is refused where it means socket.
		load(number).at("32-bit"),
		equal(socket32, "socket", ""), equal(setrlimit32, "setrlimit", ""), equal(prlimit32, "prlimit", ""),
		equal(fcntl32, "fcntl", ""), equal(fcntl3264, "fcntl", ""),
		equal(socketcall32, "", "allow"), load(low(0)), equal(socketcallSocket, "no such kind", "allow"),

		load(low(1)).at("fcntl"), equal(setLease, "not yours", ""), equal(setDelegation, "not yours", "allow"),

		load(low(0)).at("setrlimit"), equal(RlimitNproc, "not yours", "allow"),

		load(low(1)).at("prlimit"), equal(RlimitNproc, "", "allow"),
		// Asking is everybody's.
		load(low(2)), equal(0, "", "change"), load(high(2)), equal(0, "allow", ""),
		load(low(5)).at("change"), equal(password[0], "", "not yours"), load(high(5)), equal(password[1], "allow", "not yours"),

		load(low(0)).at("socket"),
	}
	for _, family := range families {
		code = append(code, equal(family, "allow", ""))
	}
	return append(code,
		answer(answerErrno|uint32(syscall.EAFNOSUPPORT)).at("no such kind"),
		answer(answerErrno|uint32(syscall.EPERM)).at("not yours"),
		answer(answerAllow).at("allow"))
}
