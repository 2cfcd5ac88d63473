package files

import (
	"context"
	"slices"
	"strings"
	"syscall"

	"chorus-sandbox/guest/internal/fault"
	"chorus-sandbox/guest/internal/sys"
)

const (
	// maxLevels bounds the open directories of a walk.
	maxLevels = 512
	// heldMax bounds the names a walk keeps in memory, and heldMin those of one directory; what is beyond is read again.
	heldMax = 8 << 20
	heldMin = 16 << 10
	// nameCost is what a name costs beside its bytes.
	nameCost = 24
)

// node is a name the walk came to.
type node struct {
	dir   int    // the open directory it is in
	name  string // in it
	path  string // from where the walk began
	isDir bool
	leave bool // all below this directory has been visited
}

// tree walks in the order of path bytes and stands on open directories: whatever becomes of their names, it neither
// follows a link nor leaves what it began in.
type tree struct {
	ctx    context.Context
	levels []level
	held   int
}

type level struct {
	node   node
	prefix string
	fd     int
	dev    uint64
	names  []string // in order; a directory ends with a slash
	held   int
	from   string // names up to this one are done with
	more   bool   // there are names that are not held
}

// close gives up all open directories.
func (t *tree) close() {
	for _, l := range t.levels {
		syscall.Close(l.fd)
	}
	t.levels = nil
}

// enter stands on an open directory, which the tree takes over.
func (t *tree) enter(l level) error {
	var st syscall.Stat_t
	err := syscall.Fstat(l.fd, &st)
	if err == nil {
		l.dev = st.Dev
		if n := len(t.levels); n == 0 || t.levels[n-1].dev != l.dev {
			err = noProc(l.fd)
		}
	}
	if err != nil {
		syscall.Close(l.fd)
		return err
	}
	t.levels = append(t.levels, l)
	return nil
}

// start opens what a walk was asked for: a directory, which the tree then is in and fd is -1, or the one file it is.
func (f *Files) start(path string, t *tree) (fd int, full string, st syscall.Stat_t, err error) {
	if full, err = f.resolve(path); err != nil {
		return -1, full, st, err
	}
	if err = syscall.Stat(full, &st); err != nil {
		return -1, full, st, err
	}
	if st.Mode&syscall.S_IFMT != syscall.S_IFDIR {
		fd, st, err = f.openContent(path, full)
		return fd, full, st, err
	}
	if fd, err = sys.OpenPlain(full, syscall.O_RDONLY|syscall.O_DIRECTORY); err != nil {
		return -1, full, st, err
	}
	return -1, full, st, t.enter(level{fd: fd, more: true})
}

// at begins a walk of one name in an open directory, which the tree takes over.
func (t *tree) at(fd int, name string, isDir bool) {
	if isDir {
		name += "/"
	}
	// No file system has the device number 0, so the first directory is looked at as one of another file system.
	t.levels = append(t.levels, level{fd: fd, names: []string{name}})
}

// next is the next name. A directory comes before what is below it, which comes only if the caller descends, and then
// once more.
func (t *tree) next() (n node, ok bool, err error) {
	for len(t.levels) > 0 {
		l := &t.levels[len(t.levels)-1]
		if len(l.names) == 0 && l.more {
			if err := t.load(l); err != nil {
				return n, false, err
			}
		}
		if len(l.names) == 0 {
			n = l.node
			n.leave = true
			syscall.Close(l.fd)
			t.held -= l.held
			t.levels = t.levels[:len(t.levels)-1]
			if n.name == "" {
				continue
			}
			return n, true, nil
		}
		l.from, l.names = l.names[0], l.names[1:]
		name, isDir := strings.CutSuffix(l.from, "/")
		return node{dir: l.fd, name: name, path: l.prefix + name, isDir: isDir}, true, nil
	}
	return n, false, nil
}

// skip gives up what is left of the directory the walk is in.
func (t *tree) skip() {
	if len(t.levels) > 0 {
		l := &t.levels[len(t.levels)-1]
		l.names, l.more = nil, false
	}
}

// descend goes into a directory that next has just come to.
func (t *tree) descend(n node) error {
	if len(t.levels) >= maxLevels {
		return fault.New(fault.LimitExceeded, "%s: more than %d directories deep", fault.Clip(n.path, 80), maxLevels).With("kind", "depth")
	}
	const flags = syscall.O_RDONLY | syscall.O_DIRECTORY | syscall.O_NOFOLLOW | syscall.O_CLOEXEC
	fd, err := syscall.Openat(n.dir, n.name, flags, 0)
	if err != nil {
		return err
	}
	return t.enter(level{node: n, prefix: n.path + "/", fd: fd, more: true})
}

// noProc keeps walks out of /proc: what is there belongs to processes, the guest among them, and is no tree of files.
func noProc(fd int) error {
	if onProc(fd) {
		return syscall.EACCES
	}
	return nil
}

// load reads the lowest names of a directory behind those that are done with.
func (t *tree) load(l *level) error {
	if _, err := syscall.Seek(l.fd, 0, 0); err != nil {
		return err
	}
	t.held -= l.held
	share := max(heldMin, (heldMax-t.held)/2)
	var names []string
	held, last := 0, ""
	cut := func() {
		slices.Sort(names)
		held = 0
		for i, name := range names {
			if held += len(name) + nameCost; held > share {
				clear(names[i:])
				names, last, l.more = names[:i], names[i-1], true
				return
			}
		}
	}
	l.more = false
	err := eachName(t.ctx, l.fd, func(name string, isDir bool) {
		if isDir {
			name += "/"
		}
		if name <= l.from || last != "" && name > last {
			return
		}
		names = append(names, name)
		if held += len(name) + nameCost; held > 2*share {
			cut()
		}
	})
	cut()
	l.names, l.held = names, min(held, share)
	t.held += l.held
	return err
}

// eachName calls visit with each name in a directory.
func eachName(ctx context.Context, fd int, visit func(name string, isDir bool)) error {
	buf := make([]byte, 32<<10)
	for {
		if err := ctx.Err(); err != nil {
			return err
		}
		n, err := syscall.ReadDirent(fd, buf)
		if err == syscall.ENOENT {
			return nil // the directory itself has been removed
		}
		if err != nil {
			return err
		}
		if n <= 0 {
			return nil
		}
		for rest := buf[:n]; len(rest) > 0; {
			size := int(rest[16]) | int(rest[17])<<8
			name, kind := direntName(rest[19:size]), rest[18]
			rest = rest[size:]
			if name == "." || name == ".." {
				continue
			}
			isDir := kind == syscall.DT_DIR
			if kind == syscall.DT_UNKNOWN {
				var st syscall.Stat_t
				isDir = sys.Fstatat(fd, name, &st) == nil && st.Mode&syscall.S_IFMT == syscall.S_IFDIR
			}
			visit(name, isDir)
		}
	}
}
