package execs

import (
	"context"
	"errors"
	"path/filepath"
	"strings"
	"syscall"

	"chorus-sandbox/guest/internal/fault"
	"chorus-sandbox/guest/internal/proc"
)

// lookup finds a program as execvp would, with the rights of the commands: a root without capabilities sees less.
func (r *Registry) lookup(ctx context.Context, name, search, cwd string) (string, error) {
	if strings.Contains(name, "/") {
		return name, nil // relative to cwd, where the child already is when it executes
	}
	found, denied := "", false
	err := r.AsUser(ctx, func() {
		for _, dir := range filepath.SplitList(search) {
			if !filepath.IsAbs(dir) {
				dir = filepath.Join(cwd, dir)
			}
			var st syscall.Stat_t
			path := filepath.Join(dir, name)
			if syscall.Stat(path, &st) != nil || st.Mode&syscall.S_IFMT != syscall.S_IFREG {
				continue
			}
			if st.Mode&0o111 == 0 {
				denied = true
				continue
			}
			found = path
			return
		}
	})
	switch {
	case err != nil:
		return "", err
	case found != "":
		return found, nil
	case denied:
		return "", fault.New(fault.ExecNotStarted, "%s is on PATH but is not executable", fault.Clip(name, 128)).With("errno", "EACCES")
	}
	return "", fault.New(fault.ExecNotStarted, "%s: program not found on PATH", fault.Clip(name, 128)).With("errno", "ENOENT")
}

// explain says which of the steps of a start failed; the kernel only gives a number.
func (r *Registry) explain(ctx context.Context, err error, path, cwd string, byShell bool) error {
	var refused *fault.Error
	if errors.As(err, &refused) {
		return refused
	}
	if errors.Is(err, proc.ErrStuck) {
		return fault.New(fault.ExecNotStarted, "%s: %v; a program inside may hold it up", fault.Clip(path, 128), err).With("errno", "ETIMEDOUT")
	}
	path, name := fault.Clip(path, 128), errnoName(err)
	message := path + ": " + err.Error()
	var dirErr error
	_ = r.AsUser(ctx, func() {
		var st syscall.Stat_t
		if dirErr = syscall.Stat(cwd, &st); dirErr == nil && st.Mode&syscall.S_IFMT != syscall.S_IFDIR {
			dirErr = syscall.ENOTDIR
		}
	})
	kind := ""
	switch {
	case dirErr != nil:
		kind, name = "cwd", errnoName(dirErr)
		message = "cwd " + fault.Clip(cwd, 128) + ": " + dirErr.Error()
	case errors.Is(err, syscall.ENOENT) && byShell:
		kind = "shell"
		message = path + ": the image has no shell, or none that can start here"
	case errors.Is(err, syscall.ENOENT):
		message = path + ": no such program, or its interpreter (first line, dynamic loader) is missing"
	case errors.Is(err, syscall.EACCES):
		message = path + ": not executable for the sandbox's user, or the cwd may not be entered"
	case errors.Is(err, syscall.ENOEXEC):
		message = path + ": not a program this machine can execute"
	case errors.Is(err, syscall.E2BIG):
		message = "arguments and environment together are too long"
	case errors.Is(err, syscall.EAGAIN):
		message = "the sandbox has no room for another process (pids limit); kill running execs first"
	case errors.Is(err, syscall.ENOMEM):
		message = "not enough memory to start a process"
	}
	refused = fault.New(fault.ExecNotStarted, "%s", message).With("errno", name)
	if kind != "" {
		refused = refused.With("kind", kind)
	}
	return refused
}

var errnoNames = map[syscall.Errno]string{
	syscall.ENOENT: "ENOENT", syscall.EACCES: "EACCES", syscall.ENOEXEC: "ENOEXEC", syscall.E2BIG: "E2BIG",
	syscall.EAGAIN: "EAGAIN", syscall.ENOMEM: "ENOMEM", syscall.ENOTDIR: "ENOTDIR", syscall.EPERM: "EPERM",
	syscall.ELOOP: "ELOOP", syscall.ETXTBSY: "ETXTBSY", syscall.ENAMETOOLONG: "ENAMETOOLONG", syscall.EISDIR: "EISDIR",
	syscall.EMFILE: "EMFILE", syscall.ENFILE: "ENFILE", syscall.EINVAL: "EINVAL", syscall.EIO: "EIO", syscall.ENOSPC: "ENOSPC",
}

func errnoName(err error) string {
	var no syscall.Errno
	if !errors.As(err, &no) {
		return "UNKNOWN"
	}
	if name, ok := errnoNames[no]; ok {
		return name
	}
	return "E" + strings.ToUpper(strings.ReplaceAll(no.Error(), " ", "_"))
}
