package main

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"syscall"
	"unsafe"
)

// exhaustion takes more than a sandbox is given. The first argument is how much; a breach got all of it.
var exhaustion = map[string]attack{
	"forks":     forks,
	"fork-bomb": forkBomb,
	"memory":    memoryHog,
	"disk":      disk,
	"inodes":    inodes,
	"fds":       fds,
}

func amount(args []string) int {
	if len(args) == 0 {
		return 0
	}
	n, _ := strconv.Atoi(args[0])
	return n
}

// fork makes a child that never comes back into the program: it does what the function does, and then ends.
func fork(child func()) (int, error) {
	pid, _, e := syscall.RawSyscall6(syscall.SYS_CLONE, uintptr(syscall.SIGCHLD), 0, 0, 0, 0, 0)
	if e != 0 {
		return 0, e
	}
	if pid == 0 {
		child()
		syscall.RawSyscall(syscall.SYS_EXIT_GROUP, 0, 0, 0)
	}
	return int(pid), nil
}

func sleepForever() {
	for {
		syscall.RawSyscall6(syscall.SYS_PPOLL, 0, 0, 0, 0, 0, 0)
	}
}

// forks counts how many children one can have at once.
func forks(args []string) (string, error) {
	// The soft limit is ours to raise.
	var limit syscall.Rlimit
	if syscall.Getrlimit(6, &limit) == nil {
		limit.Cur = limit.Max
		_ = syscall.Setrlimit(6, &limit)
	}
	var children []int
	defer func() {
		for _, pid := range children {
			_ = syscall.Kill(pid, syscall.SIGKILL)
		}
	}()
	for len(children) < amount(args) {
		pid, err := fork(sleepForever)
		if err != nil {
			return "", fmt.Errorf("%w after %d children", err, len(children))
		}
		children = append(children, pid)
	}
	return fmt.Sprint(len(children), " children"), nil
}

// forkBomb never stops: each child forks on, and a fork that is refused is tried again. It says so in system calls of its
// own: where there is no process to be had, there is none for the threads of this program either.
func forkBomb([]string) (string, error) {
	runtime.LockOSThread()
	full := []byte("full\n")
	bomb := func() {
		for {
			syscall.RawSyscall6(syscall.SYS_CLONE, uintptr(syscall.SIGCHLD), 0, 0, 0, 0, 0)
		}
	}
	for {
		if _, err := fork(bomb); err != nil {
			break
		}
	}
	syscall.RawSyscall(syscall.SYS_WRITE, 1, uintptr(unsafe.Pointer(&full[0])), uintptr(len(full)))
	bomb()
	return "", nil
}

// memoryHog takes MiB and touches every page.
func memoryHog(args []string) (string, error) {
	for range amount(args) {
		page, err := syscall.Mmap(-1, 0, 1<<20, syscall.PROT_READ|syscall.PROT_WRITE, syscall.MAP_PRIVATE|syscall.MAP_ANON)
		if err != nil {
			return "", err
		}
		for i := 0; i < len(page); i += 4096 {
			page[i] = 1
		}
	}
	return args[0] + " MiB", nil
}

func folder(args []string) string {
	if len(args) > 1 {
		return args[1]
	}
	return "/tmp"
}

// disk writes MiB.
func disk(args []string) (string, error) {
	file, err := os.CreateTemp(folder(args), "big")
	if err != nil {
		return "", err
	}
	defer os.Remove(file.Name())
	defer file.Close()
	block := make([]byte, 1<<20)
	for range amount(args) {
		if _, err := file.Write(block); err != nil {
			return "", err
		}
	}
	return args[0] + " MiB", nil
}

// inodes makes empty files.
func inodes(args []string) (string, error) {
	at, err := os.MkdirTemp(folder(args), "many")
	if err != nil {
		return "", err
	}
	defer os.RemoveAll(at)
	for n := range amount(args) {
		fd, err := syscall.Open(filepath.Join(at, strconv.Itoa(n)), syscall.O_CREAT|syscall.O_WRONLY, 0o600)
		if err != nil {
			return "", fmt.Errorf("%w after %d files", err, n)
		}
		syscall.Close(fd)
	}
	return args[0] + " files", nil
}

// fds opens the same file again and again.
func fds(args []string) (string, error) {
	for n := range amount(args) {
		if _, err := syscall.Open("/dev/null", syscall.O_RDONLY, 0); err != nil {
			return "", fmt.Errorf("%w after %d", err, n)
		}
	}
	return args[0] + " descriptors", nil
}
