package main

import (
	"bytes"
	"fmt"
	"os"
	"strconv"
	"syscall"
	"unsafe"
)

// trees try to outlive the end of the command that started them.
var trees = map[string]attack{
	"scatter":   scatter,
	"survivors": survivors,
	"linger":    func([]string) (string, error) { sleepForever(); return "", nil },
}

// scatter leaves children in every way there is to get away from a parent, says so, and goes on leaving more.
func scatter(args []string) (string, error) {
	if len(args) == 0 {
		return "", untried("no mark")
	}
	mark, name, setuid := cString("linger"), cString("/proc/self/exe"), cString(setuidCopy)
	argument := cString(args[0])
	argv := [4]uintptr{pointer(mark), pointer(mark), pointer(argument), 0}
	envp := [1]uintptr{0}
	call := func(number, a, b uintptr) { syscall.RawSyscall(number, a, b, 0) }
	again := func(child func()) {
		if pid, _, _ := syscall.RawSyscall6(syscall.SYS_CLONE, uintptr(syscall.SIGCHLD), 0, 0, 0, 0, 0); pid == 0 {
			child()
		}
	}
	ways := []func(){
		sleepForever,
		func() { call(syscall.SYS_SETSID, 0, 0); sleepForever() },
		func() { call(syscall.SYS_SETPGID, 0, 0); sleepForever() },
		// Twice over, so that its parent is PID 1 before anybody looks.
		func() { call(syscall.SYS_SETSID, 0, 0); again(sleepForever) },
		func() { again(func() { call(syscall.SYS_SETSID, 0, 0); again(sleepForever) }) },
		func() {
			syscall.RawSyscall(syscall.SYS_EXECVE, pointer(setuid), uintptr(unsafe.Pointer(&argv)), uintptr(unsafe.Pointer(&envp)))
		},
		func() {
			syscall.RawSyscall(syscall.SYS_EXECVE, pointer(name), uintptr(unsafe.Pointer(&argv)), uintptr(unsafe.Pointer(&envp)))
		},
		// Never the same process for long.
		func() {
			for {
				if pid, _, _ := syscall.RawSyscall6(syscall.SYS_CLONE, uintptr(syscall.SIGCHLD), 0, 0, 0, 0, 0); pid > 0 {
					return
				}
				call(syscall.SYS_SETSID, 0, 0)
			}
		},
	}
	for round := 0; ; round++ {
		// Bounded: where nobody ends them and nothing limits them, they would be the end of the machine.
		for _, way := range ways[:min(len(ways), max(0, 64-round*len(ways)))] {
			if _, err := fork(way); err != nil && round == 0 {
				return "", untried("%v", err)
			}
		}
		if round == 0 {
			fmt.Println("scattered")
		}
		if round > 8 {
			sleepForever()
		}
		for {
			pid, err := syscall.Wait4(-1, nil, syscall.WNOHANG, nil)
			if pid <= 0 || err != nil {
				break
			}
		}
	}
}

func cString(text string) []byte { return append([]byte(text), 0) }

func pointer(text []byte) uintptr { return uintptr(unsafe.Pointer(&text[0])) }

// survivors counts the processes that carry the mark.
func survivors(args []string) (string, error) {
	entries, err := os.ReadDir("/proc")
	if err != nil || len(args) == 0 {
		return "", untried("%v", err)
	}
	found := 0
	for _, entry := range entries {
		if pid, err := strconv.Atoi(entry.Name()); err != nil || pid == os.Getpid() {
			continue
		}
		line, _ := os.ReadFile("/proc/" + entry.Name() + "/cmdline")
		if bytes.Contains(line, []byte(args[0])) {
			found++
		}
	}
	if found == 0 {
		return "", fmt.Errorf("%w: nobody is left", syscall.ESRCH)
	}
	return fmt.Sprint(found, " of them"), nil
}
