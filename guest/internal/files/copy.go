package files

import (
	"bytes"
	"context"
	"syscall"

	"chorus-sandbox/guest/internal/fault"
	"chorus-sandbox/guest/internal/sys"
)

const copyChunk = 256 << 10

// copier copies one name with all that is below it.
type copier struct {
	f         *Files
	tree      *tree
	temp      string // what the copy is called until it is complete
	recursive bool
	entries   int

	dirs []madeDir // the open directories of the copy, beside the levels of the tree
	root syscall.Stat_t

	in, out int // the files whose content is under way
	left    int64
	at      int64
	mode    uint32
	path    string
	buf     []byte
}

type madeDir struct {
	fd   int
	mode uint32
}

// copyTo makes a copy of a name under the name temp in another directory. from and to are taken over.
func (f *Files) copyTo(ctx context.Context, from int, p *place, to int, temp string, recursive bool) (entries int, err error) {
	c := &copier{f: f, tree: &tree{ctx: ctx}, temp: temp, recursive: recursive, in: -1, out: -1, dirs: []madeDir{{fd: to}}}
	defer c.close()
	if err := f.heavy.enter(ctx); err != nil {
		syscall.Close(from)
		return 0, err
	}
	defer f.heavy.leave()
	err = f.do(ctx, p.path, func() error {
		var st syscall.Stat_t
		if err := sys.Fstatat(from, p.name, &st); err != nil {
			syscall.Close(from)
			return err
		}
		c.tree.at(from, p.name, st.Mode&syscall.S_IFMT == syscall.S_IFDIR)
		return nil
	})
	if err == nil {
		err = f.steps(ctx, p.path, c.step)
	}
	return c.entries, err
}

func (c *copier) close() {
	c.tree.close()
	for _, d := range c.dirs {
		syscall.Close(d.fd)
	}
	c.endFile()
}

func (c *copier) step() (more bool, err error) {
	if c.in >= 0 {
		return true, c.chunk()
	}
	n, ok, err := c.tree.next()
	if !ok || err != nil {
		return false, err
	}
	if n.leave {
		last := c.dirs[len(c.dirs)-1]
		c.dirs = c.dirs[:len(c.dirs)-1]
		err := syscall.Fchmod(last.fd, last.mode)
		syscall.Close(last.fd)
		return true, err
	}
	first := len(c.dirs) == 1
	name := n.name
	if first {
		name = c.temp
	}
	err = c.take(n, c.dirs[len(c.dirs)-1].fd, name)
	if err == syscall.ENOENT && !first {
		err = nil // gone meanwhile
	}
	if err != nil {
		return false, fault.File(n.path, err)
	}
	return true, nil
}

func (c *copier) take(n node, to int, name string) error {
	var st syscall.Stat_t
	if err := sys.Fstatat(n.dir, n.name, &st); err != nil {
		return err
	}
	switch kind := kindOf(st.Mode); kind {
	case "dir":
		return c.takeDir(n, to, name, &st)
	case "symlink":
		target, err := sys.Readlinkat(n.dir, n.name)
		if err != nil {
			return err
		}
		if err := sys.Symlinkat(target, to, name); err != nil {
			return err
		}
		c.entries++
		return nil
	case "file":
		return c.takeFile(n, to, name, &st)
	default:
		return fault.New(fault.FileInvalid, "%s: is a %s, which cannot be copied", n.path, kind).With("kind", kind)
	}
}

func (c *copier) takeDir(n node, to int, name string, st *syscall.Stat_t) error {
	if !c.recursive {
		return fault.New(fault.FileInvalid, "%s: is a directory; copying it needs recursive", n.path).With("kind", "needs_recursive")
	}
	if c.entries > 0 && same(st, &c.root) {
		return nil // the copy itself, which somebody has moved to where it is copied from
	}
	if err := c.tree.descend(n); err != nil {
		return err
	}
	if err := syscall.Mkdirat(to, name, 0o700); err != nil {
		return err
	}
	const flags = syscall.O_RDONLY | syscall.O_DIRECTORY | syscall.O_NOFOLLOW | syscall.O_CLOEXEC
	fd, err := syscall.Openat(to, name, flags, 0)
	if err != nil {
		return err
	}
	c.dirs = append(c.dirs, madeDir{fd, st.Mode & 0o1777})
	if c.entries++; c.entries == 1 {
		return syscall.Fstat(fd, &c.root)
	}
	return nil
}

func (c *copier) takeFile(n node, to int, name string, st *syscall.Stat_t) (err error) {
	if c.in, err = c.f.openAt(n.dir, n.name, n.path, st); err != nil {
		c.in = -1
		return err
	}
	const flags = syscall.O_WRONLY | syscall.O_CREAT | syscall.O_EXCL | syscall.O_NOFOLLOW | syscall.O_CLOEXEC
	if c.out, err = syscall.Openat(to, name, flags, 0o600); err != nil {
		c.out = -1
		c.endFile()
		return err
	}
	c.at, c.left, c.mode, c.path = 0, st.Size, st.Mode&0o1777, n.path
	if st.Size == 0 {
		c.left = 1 << 62 // files that the kernel makes up say 0 and have content
	}
	c.entries++
	return nil
}

// chunk copies a part of the content. Zeros become holes, as copying a sparse file would fill the disk otherwise.
func (c *copier) chunk() error {
	if c.buf == nil {
		c.buf = make([]byte, copyChunk)
	}
	n, err := sys.ReadFull(c.in, c.buf[:min(int64(len(c.buf)), c.left)], c.at)
	if err == nil && n > 0 && !allZero(c.buf[:n]) {
		err = pwriteFull(c.out, c.buf[:n], c.at)
	}
	c.at, c.left = c.at+int64(n), c.left-int64(n)
	if err == nil && n > 0 && c.left > 0 {
		return nil
	}
	if err == nil {
		err = syscall.Ftruncate(c.out, c.at)
	}
	if err == nil {
		err = syscall.Fchmod(c.out, c.mode)
	}
	c.endFile()
	if err != nil {
		return fault.File(c.path, err)
	}
	return nil
}

func (c *copier) endFile() {
	for _, fd := range []*int{&c.in, &c.out} {
		if *fd >= 0 {
			syscall.Close(*fd)
			*fd = -1
		}
	}
}

var zeros = make([]byte, 4<<10)

func allZero(p []byte) bool {
	for len(p) > len(zeros) {
		if !bytes.Equal(p[:len(zeros)], zeros) {
			return false
		}
		p = p[len(zeros):]
	}
	return bytes.Equal(p, zeros[:len(p)])
}

func pwriteFull(fd int, p []byte, at int64) error {
	for len(p) > 0 {
		n, err := syscall.Pwrite(fd, p, at)
		if err == syscall.EINTR {
			continue
		}
		if err != nil {
			return err
		}
		p, at = p[n:], at+int64(n)
	}
	return nil
}
