package files

import (
	"strconv"
	"strings"
	"syscall"

	"chorus-sandbox/guest/internal/fault"
	"chorus-sandbox/guest/internal/sys"
)

// place is a name in an open directory: what happens to the path meanwhile changes nothing about it.
type place struct {
	dir  int
	name string
	path string // as the caller wrote it
}

func (p *place) close() { syscall.Close(p.dir) }

// place finds the directory a path's last name is in, and makes it where makeParents says so.
func (f *Files) place(path string, makeParents bool) (*place, error) {
	full, err := f.resolve(path)
	if err != nil {
		return nil, err
	}
	full = strings.TrimRight(full, "/")
	dir, name := split(full)
	if name == "" || name == "." || name == ".." {
		var here, work syscall.Stat_t
		if syscall.Stat(full+"/", &here) == nil && syscall.Stat(f.workdir, &work) == nil && same(&here, &work) {
			return nil, errWorkdir(path)
		}
		return nil, fault.New(fault.InvalidArgument, "%s: the path has to end with a name", path)
	}
	if makeParents {
		if _, err := makeDirs(dir); err != nil {
			return nil, err
		}
	}
	fd, err := sys.OpenPlain(dir+"/", sys.OPath|syscall.O_DIRECTORY)
	if err != nil {
		return nil, err
	}
	if err := f.guestOnly(fd); err != nil {
		syscall.Close(fd)
		return nil, err
	}
	return &place{dir: fd, name: name, path: path}, nil
}

func same(a, b *syscall.Stat_t) bool { return a.Dev == b.Dev && a.Ino == b.Ino }

func errWorkdir(path string) error {
	return fault.New(fault.PermissionDenied, "%s: the workdir, or what it is in, cannot be moved or deleted", path)
}

// guardWorkdir refuses the workdir and the directories it is in.
func (f *Files) guardWorkdir(p *place) error {
	target, err := syscall.Openat(p.dir, p.name, sys.OPath|syscall.O_NOFOLLOW|syscall.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer syscall.Close(target)
	work, err := syscall.Open(f.workdir, sys.OPath|syscall.O_CLOEXEC, 0)
	if err != nil {
		return nil
	}
	defer syscall.Close(work)
	var a, b syscall.Stat_t
	if syscall.Fstat(target, &a) == nil && syscall.Fstat(work, &b) == nil && same(&a, &b) || within(work, target) {
		return errWorkdir(p.path)
	}
	return nil
}

// within tells whether one open file is another or below it, as far as /proc tells.
func within(inner, outer int) bool {
	in, out := nameOf(inner), nameOf(outer)
	return in != "" && out != "" && (in == out || strings.HasPrefix(in, strings.TrimSuffix(out, "/")+"/"))
}

// nameOf is the real path of an open file; empty where it cannot be told.
func nameOf(fd int) string { return readlink("/proc/self/fd/" + strconv.Itoa(fd)) }

// openAt opens a regular file in an open directory for reading.
func (f *Files) openAt(dir int, name, path string, st *syscall.Stat_t) (fd int, err error) {
	if err := sys.Fstatat(dir, name, st); err != nil {
		return -1, err
	}
	if err := onlyRegular(path, st); err != nil {
		return -1, err
	}
	const flags = syscall.O_RDONLY | syscall.O_NONBLOCK | syscall.O_NOCTTY | syscall.O_NOFOLLOW | syscall.O_CLOEXEC
	if fd, err = syscall.Openat(dir, name, flags, 0); err != nil {
		return -1, err
	}
	if err = syscall.Fstat(fd, st); err == nil {
		if err = onlyRegular(path, st); err == nil {
			err = f.guestOnly(fd)
		}
	}
	if err != nil {
		syscall.Close(fd)
		return -1, err
	}
	return fd, nil
}
