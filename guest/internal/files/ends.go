package files

import (
	"context"
	"syscall"

	"chorus-sandbox/guest/internal/fault"
	"chorus-sandbox/guest/internal/sys"
)

// source and dest are both ends of a move or a copy.
type ends struct{ source, dest *place }

func (e *ends) close() {
	for _, p := range []*place{e.source, e.dest} {
		if p != nil {
			p.close()
		}
	}
}

// ends opens both directories and looks whether the new name is free for what comes.
func (f *Files) ends(ctx context.Context, path, dest string, moves bool) (e ends, st syscall.Stat_t, err error) {
	err = f.do(ctx, path, func() (err error) {
		if e.source, err = f.place(path, false); err != nil {
			return err
		}
		if err = sys.Fstatat(e.source.dir, e.source.name, &st); err != nil {
			return err
		}
		if moves {
			return f.guardWorkdir(e.source)
		}
		return nil
	})
	if err == nil {
		err = f.do(ctx, dest, func() (err error) {
			if e.dest, err = f.place(dest, true); err != nil {
				return err
			}
			return f.checkDest(e, &st)
		})
	}
	if err != nil {
		e.close()
	}
	return e, st, err
}

func (f *Files) checkDest(e ends, source *syscall.Stat_t) error {
	isDir := source.Mode&syscall.S_IFMT == syscall.S_IFDIR
	if isDir {
		fd, err := syscall.Openat(e.source.dir, e.source.name, sys.OPath|syscall.O_NOFOLLOW|syscall.O_CLOEXEC, 0)
		if err != nil {
			return err
		}
		defer syscall.Close(fd)
		if within(e.dest.dir, fd) {
			return errInside(e)
		}
	}
	var st syscall.Stat_t
	err := sys.FstatatFollow(e.dest.dir, e.dest.name, &st)
	if err == nil && st.Mode&syscall.S_IFMT == syscall.S_IFDIR {
		return fault.New(fault.FileConflict, "%s: is an existing directory; dest is the new name, not the directory to put it in", e.dest.path).With("kind", "dir")
	}
	if err == nil && isDir {
		return fault.New(fault.FileConflict, "%s: exists already, and a directory does not replace it", e.dest.path).With("kind", kindOf(st.Mode))
	}
	return nil
}

func errInside(e ends) error {
	return fault.New(fault.InvalidArgument, "%s: a directory cannot go into itself", e.source.path)
}

// rename is the last step of moving and copying.
func rename(dir int, name string, e ends, isDir bool) error {
	if isDir {
		return sys.RenameNew(dir, name, e.dest.dir, e.dest.name)
	}
	return syscall.Renameat(dir, name, e.dest.dir, e.dest.name)
}
