// Command attack tries one way out of a sandbox and says whether it worked. It exits 0 after a breach, 1 when it was
// refused, and 3 when it could not even be tried, so that a test cannot take a broken attack for a held wall.
package main

import (
	"errors"
	"fmt"
	"os"
	"sort"
	"strings"
	"syscall"
)

// attack returns what it got hold of, or the error it was refused with.
type attack func(args []string) (string, error)

// errUntried is for what is missing before the attack itself begins.
var errUntried = errors.New("cannot be tried")

func untried(format string, args ...any) error {
	return fmt.Errorf("%w: %s", errUntried, fmt.Sprintf(format, args...))
}

func main() {
	attacks := map[string]attack{}
	for _, group := range []map[string]attack{processes, kernel, ids, network, exhaustion, trees, races, helpers} {
		for name, run := range group {
			attacks[name] = run
		}
	}
	if len(os.Args) < 2 || attacks[os.Args[1]] == nil {
		names := make([]string, 0, len(attacks))
		for name := range attacks {
			names = append(names, name)
		}
		sort.Strings(names)
		fmt.Println("UNTRIED usage: attack", strings.Join(names, "|"))
		os.Exit(3)
	}
	got, err := attacks[os.Args[1]](os.Args[2:])
	switch {
	case err == nil:
		fmt.Println("BREACH", got)
	case errors.Is(err, errUntried):
		fmt.Println("UNTRIED", err)
		os.Exit(3)
	default:
		for _, refusal := range each(err) {
			fmt.Println("REFUSED", errnoName(refusal), refusal)
		}
		os.Exit(1)
	}
}

// each takes apart what firstBreach joined.
func each(err error) []error {
	if joined, ok := err.(interface{ Unwrap() []error }); ok {
		return joined.Unwrap()
	}
	return []error{err}
}

// errnoName is the kernel's own word for the refusal, which is what a test compares.
func errnoName(err error) string {
	var errno syscall.Errno
	if !errors.As(err, &errno) {
		return "-"
	}
	names := map[syscall.Errno]string{
		syscall.EPERM: "EPERM", syscall.EACCES: "EACCES", syscall.EROFS: "EROFS", syscall.ENOENT: "ENOENT",
		syscall.EAGAIN: "EAGAIN", syscall.ENOSPC: "ENOSPC", syscall.EMFILE: "EMFILE", syscall.ENETUNREACH: "ENETUNREACH",
		syscall.ECONNREFUSED: "ECONNREFUSED", syscall.ENOMEM: "ENOMEM", syscall.EAFNOSUPPORT: "EAFNOSUPPORT",
		syscall.ENOSYS: "ENOSYS", syscall.EINVAL: "EINVAL", syscall.EDQUOT: "EDQUOT",
	}
	if name, ok := names[errno]; ok {
		return name
	}
	return fmt.Sprintf("errno-%d", int(errno))
}

// firstBreach tries all ways, in the order of their names, and returns the first that works, else what each of them was
// refused with.
func firstBreach(ways map[string]func() error) (string, error) {
	names := make([]string, 0, len(ways))
	for name := range ways {
		names = append(names, name)
	}
	if len(names) == 0 {
		return "", untried("no way to try")
	}
	sort.Strings(names)
	var refusals []error
	for _, name := range names {
		err := ways[name]()
		if err == nil {
			return name, nil
		}
		refusals = append(refusals, fmt.Errorf("%s: %w", name, err))
	}
	return "", errors.Join(refusals...)
}

// writable opens for writing without writing: on a machine where that works, nothing is changed.
func writable(paths ...string) (string, error) {
	return firstOf(paths, func(path string) error {
		fd, err := syscall.Open(path, syscall.O_WRONLY|syscall.O_CLOEXEC, 0)
		if err == nil {
			syscall.Close(fd)
		}
		return err
	})
}

// firstOf gives the first path that works, else the refusal that says most: a kernel may lack the others.
func firstOf(paths []string, try func(path string) error) (string, error) {
	refusal := error(syscall.ENOENT)
	for _, path := range paths {
		err := try(path)
		if err == nil {
			return path, nil
		}
		if errors.Is(refusal, syscall.ENOENT) {
			refusal = fmt.Errorf("%s: %w", path, err)
		}
	}
	return "", refusal
}
