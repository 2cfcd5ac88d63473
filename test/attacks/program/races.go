package main

import (
	"fmt"
	"os"
	"path/filepath"
	"syscall"
)

// races change what a name means while somebody uses it.
var races = map[string]attack{
	"swap":  swap,
	"names": names,
	"cat":   cat,
}

// swap exchanges a folder and a link, both in the folder given, as fast as it can: `race` is now one, now the other.
func swap(args []string) (string, error) {
	if len(args) < 2 {
		return "", untried("where, and what the link leads to")
	}
	race, other := filepath.Join(args[0], "race"), filepath.Join(args[0], "other")
	if err := os.MkdirAll(race, 0o777); err != nil {
		return "", untried("%v", err)
	}
	if err := os.WriteFile(filepath.Join(race, "f"), []byte("harmless\n"), 0o644); err != nil {
		return "", untried("%v", err)
	}
	if err := os.Symlink(args[1], other); err != nil {
		return "", untried("%v", err)
	}
	from, to := cString(race), cString(other)
	at := ^uintptr(99)
	for said := false; ; {
		_, _, e := syscall.RawSyscall6(sysRenameat2, at, pointer(from), at, pointer(to), 2, 0)
		if e != 0 && e != syscall.ENOENT {
			return "", untried("%v", e)
		}
		if !said {
			fmt.Println("swapping")
			said = true
		}
		// The reader has to get a turn on a machine with one core.
		syscall.RawSyscall(syscall.SYS_SCHED_YIELD, 0, 0, 0)
	}
}

// names makes files whose names are words for a terminal or for a model.
func names(args []string) (string, error) {
	if len(args) == 0 {
		return "", untried("no folder")
	}
	for _, name := range args[1:] {
		if err := os.MkdirAll(filepath.Join(args[0], name), 0o755); err != nil {
			return "", untried("%v", err)
		}
	}
	return "made", nil
}

// cat is any program of root's that opens a path somebody else may change.
func cat(args []string) (string, error) {
	if len(args) == 0 {
		return "", untried("no path")
	}
	text, err := os.ReadFile(args[0])
	return string(text), err
}
