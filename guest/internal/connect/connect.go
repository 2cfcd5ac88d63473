// Package connect joins the process's standard streams to the guest's socket.
package connect

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"syscall"
	"time"
)

const (
	bufferSize = 256 << 10
	// bootWait is how long a guest gets to listen. The engine says that a sandbox has started before its guest has, on a busy
	// host by seconds.
	bootWait  = 10 * time.Second
	lookAgain = 5 * time.Millisecond
)

// Run copies until either side ends and returns the exit code. It counts to the sandbox's memory and processes, so it
// uses plain blocking calls, two threads and two buffers.
func Run(runDir string) int {
	runtime.GOMAXPROCS(1)
	debug.SetGCPercent(-1)
	fd, err := syscall.Socket(syscall.AF_UNIX, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err == nil {
		err = dial(fd, runDir)
	}
	if err != nil {
		fmt.Fprintf(os.Stderr, "connect to the guest: %v\n", err)
		return 1
	}
	_ = syscall.SetNonblock(0, false)
	_ = syscall.SetNonblock(1, false)
	go func() {
		forward(fd, 0)
		_ = syscall.Shutdown(fd, syscall.SHUT_WR)
	}()
	forward(1, fd)
	return 0
}

// dial connects to the guest's socket, and waits for one that is not there yet.
func dial(fd int, runDir string) error {
	address := &syscall.SockaddrUnix{Name: filepath.Join(runDir, "guest.sock")}
	for deadline := time.Now().Add(bootWait); ; time.Sleep(lookAgain) {
		err := syscall.Connect(fd, address)
		if err == syscall.EINTR {
			continue
		}
		booting := err == syscall.ENOENT || err == syscall.ECONNREFUSED
		if !booting || time.Now().After(deadline) {
			return err
		}
		if _, missing := os.Stat(runDir); missing != nil {
			return err
		}
	}
}

// forward copies until the source ends or the target is gone.
func forward(to, from int) {
	buf := make([]byte, bufferSize)
	for {
		n, err := syscall.Read(from, buf)
		if err == syscall.EINTR {
			continue
		}
		if err != nil || n <= 0 {
			return
		}
		for rest := buf[:n]; len(rest) > 0; {
			m, err := syscall.Write(to, rest)
			if err == syscall.EINTR {
				continue
			}
			if err != nil {
				return
			}
			rest = rest[m:]
		}
	}
}
