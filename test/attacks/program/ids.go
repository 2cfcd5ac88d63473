package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"syscall"
)

// Copies of this program in the image: one setuid root, one with capabilities of its own.
const (
	setuidCopy = "/attack-setuid"
	capsCopy   = "/attack-caps"
)

// ids try to become somebody with more rights.
var ids = map[string]attack{
	"setuid-binary": func([]string) (string, error) { return through(setuidCopy, "whoami") },
	"caps-binary":   func([]string) (string, error) { return through(capsCopy, "capable") },
	"own-setuid":    ownSetuid,
	"setuid-0":      func([]string) (string, error) { return "uid 0", alone(syscall.SYS_SETUID, 0, 0) },
	"setgid-0":      func([]string) (string, error) { return "gid 0", alone(syscall.SYS_SETGID, 0, 0) },
	"setgroups":     func([]string) (string, error) { return "no groups", alone(syscall.SYS_SETGROUPS, 0, 0) },
	"chown":         chown,
	"root-secret":   func([]string) (string, error) { return readable("/secrets/f") },
}

// helpers are what other attacks, or the tests, start.
var helpers = map[string]attack{
	"nothing": func([]string) (string, error) { return "", nil },
	"whoami":  whoami,
	"capable": capable,
	"connect": idle,
	"idle":    idle,
	"prepare": prepare,
}

// through runs the helper by way of a file that hands out rights, and passes on what it says.
func through(file, helper string) (string, error) {
	out, err := exec.Command(file, helper).Output()
	if err == nil {
		return strings.TrimSpace(string(out)), nil
	}
	if _, ran := err.(*exec.ExitError); ran {
		return "", fmt.Errorf("%w: it ran without them: %s", syscall.EPERM, out)
	}
	if errors.Is(err, syscall.EPERM) { // the kernel does not start at all what it would have to take rights from
		return "", err
	}
	return "", untried("%v", err)
}

func whoami([]string) (string, error) {
	if os.Geteuid() == 0 {
		return "root", nil
	}
	return "", fmt.Errorf("%w: uid %d", syscall.EPERM, os.Geteuid())
}

func capable([]string) (string, error) {
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return "", untried("%v", err)
	}
	for line := range strings.Lines(string(status)) {
		if value, ok := strings.CutPrefix(line, "CapEff:\t"); ok && strings.Trim(value, "0\n") != "" {
			return strings.TrimSpace(value), nil
		}
	}
	return "", fmt.Errorf("%w: no capability", syscall.EPERM)
}

// ownSetuid leaves a program that would run as its owner for whoever starts it next: a right only where the owner is root.
func ownSetuid([]string) (string, error) {
	self, err := os.ReadFile("/proc/self/exe")
	if err != nil {
		return "", untried("%v", err)
	}
	at := "/tmp/setuid"
	if err := os.WriteFile(at, self, 0o755); err != nil {
		return "", untried("%v", err)
	}
	defer os.Remove(at)
	if err := os.Chown(at, 0, 0); err != nil {
		return "", err
	}
	return at, os.Chmod(at, 0o755|os.ModeSetuid)
}

// alone changes the calling thread, which is all it takes.
func alone(number, a, b uintptr) error {
	runtime.LockOSThread()
	if _, _, e := syscall.RawSyscall(number, a, b, 0); e != 0 {
		return e
	}
	return nil
}

func chown([]string) (string, error) {
	at := "/tmp/chowned"
	if err := os.WriteFile(at, nil, 0o600); err != nil {
		return "", untried("%v", err)
	}
	defer os.Remove(at)
	return "to root", os.Chown(at, 0, 12_345)
}
