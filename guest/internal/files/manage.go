package files

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"strings"
	"syscall"
	"time"

	"chorus-sandbox/guest/internal/fault"
	"chorus-sandbox/guest/internal/sys"
)

// manageMax is how long one call may take.
const manageMax = 40 * time.Second

// ManageRequest asks for a change to the tree of files.
type ManageRequest struct {
	Op        string  `json:"op"`
	Path      string  `json:"path"`
	Dest      *string `json:"dest"`
	Recursive bool    `json:"recursive"`
}

// Managed tells how many entries were made, moved, copied or deleted. A directory that moves is one entry.
type Managed struct {
	Path    string `json:"path"`
	Entries int    `json:"entries"`
}

// Manage makes directories, moves, copies and deletes. Where that fails midway, it tells what was done, too.
func (f *Files) Manage(parent context.Context, r ManageRequest) (*Managed, error) {
	needsDest := r.Op == "move" || r.Op == "copy"
	if needsDest != (r.Dest != nil) {
		return nil, fault.New(fault.InvalidArgument, "dest is for move and copy, which need it")
	}
	ctx, cancel, tell := limited(parent, manageMax)
	defer cancel()
	out := &Managed{Path: r.Path}
	var err error
	switch r.Op {
	case "mkdir":
		out.Entries, err = f.makeDir(ctx, r.Path)
	case "move":
		out.Path = *r.Dest
		out.Entries, err = f.move(ctx, r.Path, *r.Dest)
	case "copy":
		out.Path = *r.Dest
		out.Entries, err = f.copy(ctx, r.Path, *r.Dest, r.Recursive)
	case "delete":
		out.Entries, err = f.delete(ctx, r.Path, r.Recursive)
	default:
		return nil, fault.New(fault.InvalidArgument, "op is mkdir, move, copy or delete")
	}
	if err != nil {
		return out, tell(err)
	}
	return out, nil
}

func (f *Files) makeDir(ctx context.Context, path string) (made int, err error) {
	full, err := f.resolve(path)
	if err != nil {
		return 0, err
	}
	return made, f.do(ctx, path, func() (err error) {
		made, err = makeDirs("/" + strings.Trim(full, "/"))
		return err
	})
}

func (f *Files) move(ctx context.Context, path, dest string) (entries int, err error) {
	e, st, err := f.ends(ctx, path, dest, true)
	if err != nil {
		return 0, err
	}
	defer e.close()
	var failed error
	err = f.do(ctx, dest, func() error {
		failed = rename(e.source.dir, e.source.name, e, st.Mode&syscall.S_IFMT == syscall.S_IFDIR)
		switch failed {
		case syscall.EXDEV:
			return nil
		case syscall.EINVAL:
			return errInside(e)
		case syscall.EACCES, syscall.EPERM, syscall.EROFS:
			return fault.File(path, failed) // the right may lack on either side, and what is moved is named
		}
		return failed
	})
	if err != nil {
		return 0, err
	}
	if failed == nil {
		return 1, nil
	}
	// Another file system: the copy is complete before anything of the source goes.
	if _, err := f.copyInto(ctx, e, true); err != nil {
		return 0, err
	}
	fd, err := sys.Dup(e.source.dir)
	if err != nil {
		return 0, err
	}
	_, err = f.remove(ctx, fd, e.source.name, path, false)
	return 1, err
}

func (f *Files) copy(ctx context.Context, path, dest string, recursive bool) (entries int, err error) {
	e, _, err := f.ends(ctx, path, dest, false)
	if err != nil {
		return 0, err
	}
	defer e.close()
	return f.copyInto(ctx, e, recursive)
}

// copyInto copies beside the new name first, so that nobody sees half a copy.
func (f *Files) copyInto(ctx context.Context, e ends, recursive bool) (entries int, err error) {
	from, err := sys.Dup(e.source.dir)
	if err != nil {
		return 0, err
	}
	to, err := sys.Dup(e.dest.dir)
	if err != nil {
		syscall.Close(from)
		return 0, err
	}
	temp := tempName()
	entries, err = f.copyTo(ctx, from, e.source, to, temp, recursive)
	if err == nil {
		err = f.do(ctx, e.dest.path, func() error {
			var st syscall.Stat_t
			if err := sys.Fstatat(e.dest.dir, temp, &st); err != nil {
				return err
			}
			return rename(e.dest.dir, temp, e, st.Mode&syscall.S_IFMT == syscall.S_IFDIR)
		})
	}
	if err != nil {
		f.undo(ctx, e.dest.dir, temp)
	}
	return entries, err
}

// undo removes a copy that did not get its name, even when nobody waits for it any more.
func (f *Files) undo(ctx context.Context, dir int, temp string) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), manageMax)
	defer cancel()
	if fd, err := sys.Dup(dir); err == nil {
		_, _ = f.remove(ctx, fd, temp, temp, true)
	}
}

func tempName() string {
	var random [8]byte
	_, _ = rand.Read(random[:])
	return ".chorus-" + hex.EncodeToString(random[:])
}

func (f *Files) delete(ctx context.Context, path string, recursive bool) (entries int, err error) {
	var p *place
	again := false
	err = f.do(ctx, path, func() (err error) {
		if p, err = f.place(path, false); err != nil {
			return err
		}
		var st syscall.Stat_t
		if err = sys.Fstatat(p.dir, p.name, &st); err != nil {
			return err
		}
		if err = f.guardWorkdir(p); err != nil {
			return err
		}
		err = sys.Unlinkat(p.dir, p.name, st.Mode&syscall.S_IFMT == syscall.S_IFDIR)
		if err == syscall.ENOTEMPTY || err == syscall.EEXIST {
			if again = recursive; !again {
				return fault.New(fault.FileInvalid, "%s: the directory is not empty; deleting it needs recursive", path).With("kind", "needs_recursive")
			}
			return nil
		}
		return err
	})
	if p != nil {
		defer p.close()
	}
	if err != nil || !again {
		return 1, err
	}
	fd, err := sys.Dup(p.dir)
	if err != nil {
		return 0, err
	}
	return f.remove(ctx, fd, p.name, path, false)
}
