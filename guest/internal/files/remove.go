package files

import (
	"context"
	"syscall"

	"chorus-sandbox/guest/internal/fault"
	"chorus-sandbox/guest/internal/sys"
)

// maxRepeats is how often a removal begins again with directories that others keep filling.
const maxRepeats = 100

// remover deletes a tree from its leaves on.
type remover struct {
	tree    *tree
	force   bool // open up directories that do not allow it
	entries int
	repeats int
}

// remove deletes a name and, if it is a directory, all that is in it. fd is taken over.
func (f *Files) remove(ctx context.Context, fd int, name, path string, force bool) (entries int, err error) {
	r := &remover{tree: &tree{ctx: ctx}, force: force}
	defer r.tree.close()
	if err := f.heavy.enter(ctx); err != nil {
		syscall.Close(fd)
		return 0, err
	}
	defer f.heavy.leave()
	var st syscall.Stat_t
	err = f.do(ctx, path, func() error {
		if err := sys.Fstatat(fd, name, &st); err != nil {
			syscall.Close(fd)
			return err
		}
		r.tree.at(fd, name, st.Mode&syscall.S_IFMT == syscall.S_IFDIR)
		return nil
	})
	if err != nil {
		return 0, err
	}
	err = f.steps(ctx, path, r.step)
	return r.entries, err
}

func (r *remover) step() (more bool, err error) {
	n, ok, err := r.tree.next()
	if !ok || err != nil {
		return false, err
	}
	if n.isDir && !n.leave {
		switch err := r.tree.descend(n); err {
		case nil:
			if r.force {
				_ = syscall.Fchmod(r.tree.levels[len(r.tree.levels)-1].fd, 0o700)
			}
			return true, nil
		case syscall.ENOENT:
			return true, nil
		case syscall.ENOTDIR, syscall.ELOOP:
			n.isDir = false // something else has taken its name
		default:
			// A directory that cannot be read can still be removed if it is empty.
			if r.unlink(n) == nil {
				return true, nil
			}
			return false, fault.File(n.path, err)
		}
	}
	err = r.unlink(n)
	if (err == syscall.ENOTEMPTY || err == syscall.EEXIST || err == syscall.EISDIR) && r.repeats < maxRepeats {
		r.repeats++
		if err = r.tree.descend(n); err == syscall.ENOENT {
			err = nil
		}
	}
	if err != nil {
		return false, fault.File(n.path, err)
	}
	return true, nil
}

func (r *remover) unlink(n node) error {
	err := sys.Unlinkat(n.dir, n.name, n.isDir)
	if err == syscall.ENOTDIR && n.isDir {
		err = sys.Unlinkat(n.dir, n.name, false)
	}
	switch err {
	case nil:
		r.entries++
	case syscall.ENOENT:
		err = nil
	}
	return err
}
