package main

import (
	"fmt"
	"os"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"unsafe"
)

// processes reach for PID 1 and for the bridges, which are all that a sandbox's commands find beside themselves.
var processes = map[string]attack{}

func init() {
	for name, try := range map[string]func(pid int) (string, error){
		"signal": signalAll, "ptrace": ptrace, "prlimit": prlimit, "mem": memory, "vm-write": vmWrite, "root": throughRoot,
		"fds": throughFds, "environ": environ, "renice": renice, "threads": signalThreads, "oom-score": oomScore,
		"namespaces": openNamespaces,
	} {
		processes[name+"-pid1"] = func([]string) (string, error) { return try(1) }
		processes[name+"-bridge"] = func([]string) (string, error) {
			pid, err := bridge()
			if err != nil {
				return "", err
			}
			return try(pid)
		}
	}
}

// bridge finds the process that carries the stream between a server and the guest.
func bridge() (int, error) {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return 0, untried("%v", err)
	}
	for _, entry := range entries {
		pid, err := strconv.Atoi(entry.Name())
		if err != nil || pid == 1 || pid == os.Getpid() {
			continue
		}
		line, _ := os.ReadFile("/proc/" + entry.Name() + "/cmdline")
		if args := strings.Split(string(line), "\x00"); len(args) > 1 && args[1] == "connect" {
			return pid, nil
		}
	}
	return 0, untried("there is no bridge")
}

func signalAll(pid int) (string, error) {
	return firstBreach(map[string]func() error{
		"KILL would be sent": func() error { return syscall.Kill(pid, 0) },
		"TERM":               func() error { return syscall.Kill(pid, syscall.SIGTERM) },
		"STOP": func() error {
			defer syscall.Kill(pid, syscall.SIGCONT)
			return syscall.Kill(pid, syscall.SIGSTOP)
		},
		"KILL": func() error { return syscall.Kill(pid, killSignal(pid)) },
	})
}

// killSignal is harmless where it would work: only PID 1 survives it, which the kernel protects in its own namespace.
func killSignal(pid int) syscall.Signal {
	if pid == 1 {
		return syscall.SIGKILL
	}
	return syscall.SIGURG
}

func signalThreads(pid int) (string, error) {
	tasks, err := os.ReadDir(fmt.Sprintf("/proc/%d/task", pid))
	if err != nil {
		return "", err
	}
	ways := map[string]func() error{}
	for _, task := range tasks {
		tid, _ := strconv.Atoi(task.Name())
		ways["signal to thread "+task.Name()] = func() error { return syscall.Kill(tid, syscall.SIGTERM) }
		ways["prlimit of thread "+task.Name()] = func() error { return setLimit(tid) }
		ways["ptrace of thread "+task.Name()] = func() error { _, err := ptrace(tid); return err }
	}
	return firstBreach(ways)
}

const ptraceSeize = 0x4206

func ptrace(pid int) (string, error) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	if _, _, e := syscall.RawSyscall6(syscall.SYS_PTRACE, ptraceSeize, uintptr(pid), 0, 0, 0, 0); e != 0 {
		return "", e
	}
	return "seized", nil
}

// setLimit writes back what it read, as any write is the breach.
func setLimit(pid int) error {
	var limit syscall.Rlimit
	if _, _, e := syscall.RawSyscall6(sysPrlimit64, uintptr(pid), 7, 0, uintptr(unsafe.Pointer(&limit)), 0, 0); e != 0 {
		return e
	}
	if _, _, e := syscall.RawSyscall6(sysPrlimit64, uintptr(pid), 7, uintptr(unsafe.Pointer(&limit)), 0, 0, 0); e != 0 {
		return e
	}
	return nil
}

func prlimit(pid int) (string, error) { return "open files", setLimit(pid) }

// memory opens what would let it rewrite the process.
func memory(pid int) (string, error) { return writable(fmt.Sprintf("/proc/%d/mem", pid)) }

// vmWrite asks to write nothing at all: the kernel checks the right first.
func vmWrite(pid int) (string, error) {
	text := []byte("x")
	local := syscall.Iovec{Base: &text[0], Len: 1}
	remote := local
	_, _, e := syscall.Syscall6(sysProcessVMWritev, uintptr(pid), uintptr(unsafe.Pointer(&local)), 1,
		uintptr(unsafe.Pointer(&remote)), 1, 0)
	// An address that means nothing there is the answer after the check of rights has passed.
	if e != 0 && e != syscall.EFAULT {
		return "", e
	}
	return "wrote", nil
}

func throughRoot(pid int) (string, error) {
	entries, err := os.ReadDir(fmt.Sprintf("/proc/%d/root/", pid))
	return fmt.Sprint(len(entries), " entries"), err
}

func throughFds(pid int) (string, error) {
	entries, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", pid))
	return fmt.Sprint(len(entries), " descriptors"), err
}

func environ(pid int) (string, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/environ", pid))
	return fmt.Sprint(len(text), " bytes"), err
}

func openNamespaces(pid int) (string, error) {
	fd, err := syscall.Open(fmt.Sprintf("/proc/%d/ns/net", pid), syscall.O_RDONLY|syscall.O_CLOEXEC, 0)
	if err != nil {
		return "", err
	}
	defer syscall.Close(fd)
	return "opened", nil
}

func renice(pid int) (string, error) {
	return "to 19", syscall.Setpriority(syscall.PRIO_PROCESS, pid, 19)
}

func oomScore(pid int) (string, error) { return writable(fmt.Sprintf("/proc/%d/oom_score_adj", pid)) }
