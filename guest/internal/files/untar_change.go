package files

import (
	"strings"
	"syscall"

	"chorus-sandbox/guest/internal/fault"
	"chorus-sandbox/guest/internal/sys"
)

// change is one entry on its way to the disk. run may refuse it; kept hears that it did not.
type change struct {
	shown string
	name  string
	run   func(parent int, base string) error
	kept  func()
}

// submit queues a change. Borrowing a thread costs as much as writing a small file: it is done for many at once.
func (x *extractor) submit(c change) error {
	x.queue = append(x.queue, c)
	if len(x.queue) >= queueMax {
		return x.flush()
	}
	return nil
}

// flush makes the changes. Errors that concern one entry alone become refusals.
func (x *extractor) flush() error {
	if len(x.queue) == 0 {
		return nil
	}
	err := x.f.do(x.ctx, x.path, func() error {
		for _, c := range x.queue {
			dir, base := cutLast(c.name)
			err := x.enter(dir)
			if err == nil {
				err = c.run(x.parent, base)
			}
			if why, ok := ofEntry(err).(refusal); ok {
				x.refuse(c.shown, string(why))
			} else if err != nil {
				return fault.File(c.name, err)
			} else {
				c.kept()
			}
		}
		return nil
	})
	clear(x.queue)
	x.queue, x.used = x.queue[:0], 0
	return err
}

// ofEntry is the refusal an error amounts to, or nil.
func ofEntry(err error) error {
	switch err {
	case syscall.EACCES, syscall.EPERM:
		return refusal("permission denied for the sandbox's user")
	case syscall.EROFS:
		return refusal("a read-only file system")
	case syscall.ENAMETOOLONG:
		return refusal("the name is too long")
	case syscall.EISDIR, syscall.ENOTEMPTY, syscall.EEXIST:
		return refusal("a directory has this name")
	case syscall.ENOTDIR:
		return refusal("the name leads through a file")
	case syscall.ELOOP:
		return refusal("the name leads through a symlink")
	case syscall.ENOENT:
		return refusal("its directory went away meanwhile")
	case syscall.ETXTBSY, syscall.EBUSY, syscall.EINVAL, syscall.EILSEQ:
		return refusal(err.Error())
	}
	if _, ok := err.(refusal); ok {
		return err
	}
	return nil
}

// enter opens a directory, and makes what lacks on the way. A link on the way is an error, never followed.
func (x *extractor) enter(dir string) error {
	if x.parent >= 0 && dir == x.parentName {
		return nil
	}
	x.leaveParent()
	fd, err := sys.Dup(x.root)
	if err != nil {
		return err
	}
	for rest := dir; rest != ""; {
		var part string
		part, rest, _ = strings.Cut(rest, "/")
		next, err := enterDir(fd, part)
		syscall.Close(fd)
		if err != nil {
			return err
		}
		fd = next
	}
	x.parent, x.parentName = fd, dir
	return nil
}

func enterDir(fd int, name string) (int, error) {
	const flags = sys.OPath | syscall.O_DIRECTORY | syscall.O_NOFOLLOW | syscall.O_CLOEXEC
	next, err := syscall.Openat(fd, name, flags, 0)
	if err == syscall.ENOENT {
		if err = syscall.Mkdirat(fd, name, 0o755); err != nil && err != syscall.EEXIST {
			return -1, err
		}
		next, err = syscall.Openat(fd, name, flags, 0)
	}
	if err == syscall.ENOTDIR {
		var st syscall.Stat_t
		if sys.Fstatat(fd, name, &st) == nil && st.Mode&syscall.S_IFMT == syscall.S_IFLNK {
			err = syscall.ELOOP
		}
	}
	return next, err
}

func cutLast(name string) (dir, base string) {
	i := strings.LastIndexByte(name, '/')
	return name[:max(i, 0)], name[i+1:]
}

func (x *extractor) leaveParent() {
	if x.parent >= 0 {
		syscall.Close(x.parent)
		x.parent, x.parentName = -1, ""
	}
}

// finish gives the directories their modes and times, the innermost first.
func (x *extractor) finish() error {
	next := len(x.late)
	if next == 0 {
		return nil
	}
	return x.f.steps(x.ctx, x.path, func() (more bool, err error) {
		next--
		d := x.late[next]
		dir, base := cutLast(d.name)
		if x.enter(dir) == nil {
			const flags = syscall.O_RDONLY | syscall.O_DIRECTORY | syscall.O_NOFOLLOW | syscall.O_CLOEXEC
			if fd, err := syscall.Openat(x.parent, base, flags, 0); err == nil {
				_ = sys.SetModified(fd, d.at)
				_ = syscall.Fchmod(fd, d.mode)
				syscall.Close(fd)
			}
		}
		return next > 0, nil
	})
}
