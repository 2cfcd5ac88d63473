package files

import (
	"context"
	"sync"
	"syscall"

	"chorus-sandbox/guest/internal/fault"
	"chorus-sandbox/guest/internal/sys"
)

// Files offers file work to the API.
type Files struct {
	pool      *Pool
	workdir   string
	heavy     gate
	transfers gate

	committing sync.Mutex // held from the last look at a target until another file is in its place
}

// New makes the file work of a sandbox with this workdir.
func New(pool *Pool, workdir string) *Files {
	return &Files{pool: pool, workdir: workdir, heavy: make(gate, 8), transfers: make(gate, 64)}
}

// do runs one job on the pool and names the path in its error.
func (f *Files) do(ctx context.Context, path string, job func() error) error {
	var failed error
	if err := f.pool.Do(ctx, func() { failed = job() }); err != nil {
		return err
	}
	if failed != nil && ctx.Err() == nil {
		return fault.File(path, failed)
	}
	return failed
}

// Stat describes a path; a symbolic link is described itself.
func (f *Files) Stat(ctx context.Context, path string) (s Stat, err error) {
	full, err := f.resolve(path)
	if err != nil {
		return s, err
	}
	err = f.do(ctx, path, func() error {
		var st syscall.Stat_t
		if err := syscall.Lstat(full, &st); err != nil {
			return err
		}
		s = describe(path, &st)
		if s.Type == "symlink" {
			s.Target = readlink(full)
		}
		return nil
	})
	return s, err
}

func readlink(path string) string {
	buf := make([]byte, maxPath)
	n, err := syscall.Readlink(path, buf)
	if err != nil {
		return ""
	}
	return string(buf[:n])
}

// openContent opens a regular file for reading. Anything else is refused before it is opened, and again after it, as
// the name may lead elsewhere by then; O_NONBLOCK makes that harmless.
func (f *Files) openContent(path, full string) (fd int, st syscall.Stat_t, err error) {
	if err = syscall.Stat(full, &st); err != nil {
		return -1, st, err
	}
	if err = onlyRegular(path, &st); err != nil {
		return -1, st, err
	}
	fd, err = sys.OpenPlain(full, syscall.O_RDONLY|syscall.O_NONBLOCK|syscall.O_NOCTTY)
	if err != nil {
		return -1, st, err
	}
	if err = syscall.Fstat(fd, &st); err == nil {
		if err = onlyRegular(path, &st); err == nil {
			err = f.guestOnly(fd)
		}
	}
	if err != nil {
		syscall.Close(fd)
		return -1, st, err
	}
	return fd, st, nil
}

func onlyRegular(path string, st *syscall.Stat_t) error {
	switch kind := kindOf(st.Mode); kind {
	case "file":
		return nil
	case "dir":
		return fault.New(fault.FileInvalid, "%s: is a directory", path).With("kind", kind)
	default:
		return fault.New(fault.FileInvalid, "%s: is a %s, not a regular file", path, kind).With("kind", kind)
	}
}
